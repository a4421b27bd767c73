"""What rankings and means need of a block of scores: the extremes of each target, and the sums of rows.

A plain mean over targets says what a row does to the mean loss, and is mostly about the few targets with the largest losses,
which a network that has overfitted gets surely wrong. In an even mean every target counts alike: its weight is inverse to how
large its scores typically are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

__all__ = ["ENTRIES", "even_weights", "extreme", "merge", "summarize", "typical_sizes"]

ENTRIES = {"row_sum", "even_sum", "helpful_rows", "helpful_values", "harmful_rows", "harmful_values"}
_LEAST = 0.1  # of the median, is added to typical sizes: targets that hardly anything moves are not all that counts
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
        return null.std(axis=0, ddof=1, dtype=np.float64)
    rows = np.sort(np.random.default_rng(0).permutation(count)[:_SAMPLE])  # at random, as neighbors may be alike
    return np.sqrt(np.square(of_rows(rows), dtype=np.float64).mean(axis=0))


def summarize(block: np.ndarray, start: int, k: int, weights: np.ndarray) -> dict[str, torch.Tensor]:
    """The summary of a block float32 [R, M] whose first row is ``start``; ``weights`` [M] are those of an even mean.

    Returns:
        row_sum, even_sum: float64 [R], plain and weighted; helpful_rows, harmful_rows: int64 [k, M], k at most R;
        helpful_values, harmful_values: float32, alike.
    """
    values = torch.from_numpy(np.ascontiguousarray(block))
    helpful, harmful = extreme(values, start, k, 1), extreme(values, start, k, -1)
    return {"row_sum": values.sum(dim=1, dtype=torch.float64), "even_sum": values.double() @ torch.from_numpy(weights),
            "helpful_rows": helpful[0], "helpful_values": helpful[1], "harmful_rows": harmful[0],
            "harmful_values": harmful[1]}  # fmt: skip


def extreme(block: torch.Tensor, start: int, k: int, sign: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows int64 [k, M] and values float32 [k, M] of the largest (sign 1) or smallest (−1) entries of each column.

    Of equal ones the first rows are taken.
    """
    signed, k = block * sign, min(k, len(block))
    values, rows = signed.topk(k, dim=0)
    tied = ((signed >= values[-1:]).sum(dim=0) > k) | (values[1:] == values[:-1]).any(dim=0)
    if tied.any():
        best = signed[:, tied].sort(dim=0, descending=True, stable=True)
        values[:, tied], rows[:, tied] = best.values[:k], best.indices[:k]
    return rows + start, values * sign


def merge(parts: Sequence[tuple[torch.Tensor, torch.Tensor]], k: int, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows int64 [M, k] and values float32 [M, k]: the extremes of what ``extreme`` found in blocks, given in order."""
    rows, values = torch.cat([r for r, _ in parts]), torch.cat([v for _, v in parts])
    best = (values * sign).sort(dim=0, descending=True, stable=True).indices[:k]
    return rows.gather(0, best).T.contiguous().numpy(), values.gather(0, best).T.contiguous().numpy()
