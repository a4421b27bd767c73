"""What rankings and means need of a block of scores: the extremes of each target, and the sums of rows.

A plain mean over targets says what a row does to the mean loss, and is mostly about the few targets with the largest losses,
which a network that has overfitted gets surely wrong. In an even mean every target counts alike: its weight is inverse to how
large its scores typically are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from whence.extremes import Extremes

__all__ = ["ENTRIES", "Summary", "even_weights", "typical_sizes"]

ENTRIES = {"row_sum", "even_sum", "helpful_rows", "helpful_values", "harmful_rows", "harmful_values"}
_LEAST = 0.1  # of the median, is added to typical sizes: targets that hardly anything moves are not all that counts
_SUMMED = 2**14  # targets that are summed in single precision
_SAMPLE = 512  # rows that say how large a target's scores typically are


def even_weights(sizes: np.ndarray) -> np.ndarray:
    """Weights of targets [M] with which they count alike, given how large their scores typically are: float64 [M].

    Inverse to the sizes (plus a tenth of their median), and 1 on average over the targets that anything moves: a weighted mean
    of scores, in their unit.
    """
    moved = sizes > 0
    if not moved.any():
        return np.ones(len(sizes))
    weights: np.ndarray = 1 / (sizes + _LEAST * np.median(sizes[moved]))
    return weights / weights[moved].mean()


def typical_sizes(null: np.ndarray | None, of_rows: Callable[[np.ndarray], np.ndarray], count: int) -> np.ndarray:
    """How large the scores of each target typically are: float64 [M].

    Args:
        null: scores of masks never trained on [S, M], whose standard deviation it is; or None.
        of_rows: scores [R, M] of rows int64 [R], which are asked for without a null: their root mean square.
        count: how many rows there are.
    """
    if null is not None:
        return torch.from_numpy(null).double().std(0).numpy()
    rows = np.sort(np.random.default_rng(0).permutation(count)[:_SAMPLE])  # at random, as neighbors may be alike
    scores = torch.from_numpy(of_rows(rows))
    return torch.linalg.vector_norm(scores, dim=0, dtype=torch.float64).numpy() / np.sqrt(len(rows))


class Summary:
    """The summary of a block of rows, folded in tile by tile, so that the block is never whole in memory.

    Args:
        start: the block's first row.
        count: R, how many rows it has.
        k: extremes that are kept per target, at most R.
        weights: float64 [M], those of an even mean.
    """

    def __init__(self, start: int, count: int, k: int, weights: np.ndarray) -> None:
        self._row, self._start, self._k = start, start, min(k, count)
        self._weights = torch.from_numpy(weights).float()
        self._sums = torch.zeros(2, count, dtype=torch.float64)
        self._extremes: dict[int, Extremes] = {}

    def fold(self, tile: np.ndarray) -> bool:
        """Take the next rows, [r, M]; False where a score is not finite, and then nothing is taken."""
        values = torch.from_numpy(np.ascontiguousarray(tile, np.float32))
        sums = torch.zeros(2, len(tile), dtype=torch.float64)
        for part, weights in zip(torch.split(values, _SUMMED, 1), torch.split(self._weights, _SUMMED), strict=True):
            sums[0] += part.sum(1)
            sums[1] += part @ weights
        if not sums.isfinite().all():  # they are less to look through
            if not values.isfinite().all():
                return False
            exact = values.double()  # too large for single precision
            sums = torch.stack([exact.sum(1), exact @ self._weights.double()])
        self._sums[:, self._row - self._start : self._row - self._start + len(tile)] = sums
        for sign in (1, -1):
            if sign in self._extremes:
                self._extremes[sign].take(values, self._row)
            else:
                self._extremes[sign] = Extremes(values, self._row, self._k, sign)
        self._row += len(tile)
        return True

    def entries(self) -> dict[str, torch.Tensor]:
        """row_sum, even_sum: float64 [R], plain and weighted; helpful_rows, harmful_rows: int64 [k, M]; helpful_values,
        harmful_values: float32, alike."""
        helpful, harmful = self._extremes[1].kept(), self._extremes[-1].kept()
        plain, even = self._sums
        return {"row_sum": plain.clone(), "even_sum": even.clone(), "helpful_rows": helpful[0], "helpful_values": helpful[1],
                "harmful_rows": harmful[0], "harmful_values": harmful[1]}  # fmt: skip
