"""What rankings and means need of a block of scores: the extremes of each target, and the sums of rows.

A plain mean over targets says what a row does to the mean loss, and is mostly about the few targets with the largest losses,
which a network that has overfitted gets surely wrong. In an even mean every target counts alike: its weight is inverse to how
large its scores typically are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

__all__ = ["ENTRIES", "Summary", "even_weights", "extreme", "merge", "typical_sizes"]

ENTRIES = {"row_sum", "even_sum", "helpful_rows", "helpful_values", "harmful_rows", "harmful_values"}
_LEAST = 0.1  # of the median, is added to typical sizes: targets that hardly anything moves are not all that counts
_SUMMED = 1024  # targets that are summed in single precision
_TOGETHER = 8  # rows of a tile that are compared with bounds by their largest
_FEW = 24  # a tile's extremes are few where they are at most one in so many of its entries
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
    return np.sqrt(np.square(of_rows(rows), dtype=np.float64).mean(axis=0))


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
        self._weights = torch.from_numpy(np.stack([np.ones(len(weights)), weights], axis=1)).float()  # (M, 2)
        self._sums = torch.zeros(count, 2, dtype=torch.float64)
        self._best: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def fold(self, tile: np.ndarray) -> bool:
        """Take the next rows, float32 [r, M]; False where a score is not finite, and then nothing is taken."""
        values = torch.from_numpy(tile)
        sums = torch.zeros(len(tile), 2, dtype=torch.float64)
        for left in range(0, tile.shape[1], _SUMMED):
            sums += values[:, left : left + _SUMMED] @ self._weights[left : left + _SUMMED]
        if not sums.isfinite().all():  # they are less to look through
            if not np.isfinite(tile).all():
                return False
            sums = values.double() @ self._weights.double()  # too large for single precision
        self._sums[self._row - self._start : self._row - self._start + len(tile)] = sums
        for sign in (1, -1):
            self._take(values, sign)
        self._row += len(tile)
        return True

    def entries(self) -> dict[str, torch.Tensor]:
        """row_sum, even_sum: float64 [R], plain and weighted; helpful_rows, harmful_rows: int64 [k, M]; helpful_values,
        harmful_values: float32, alike."""
        helpful, harmful = self._best[1], self._best[-1]
        plain, even = self._sums.T.contiguous()
        return {"row_sum": plain.clone(), "even_sum": even.clone(), "helpful_rows": helpful[0], "helpful_values": helpful[1],
                "harmful_rows": harmful[0], "harmful_values": harmful[1]}  # fmt: skip

    def _take(self, tile: torch.Tensor, sign: int) -> None:
        """Put what is more extreme in a tile in the place of what was kept."""
        if sign not in self._best:
            self._best[sign] = extreme(tile, self._row, self._k, sign)
            return
        rows, values = self._best[sign]
        if len(rows) == self._k:
            places = _beyond(tile, values[-1], sign)
            if len(places) * _FEW <= tile.numel():
                self._insert(places, tile, sign)
                return
        found, more = extreme(tile, self._row, self._k, sign)
        both, of_both = torch.cat([values, more]), torch.cat([rows, found])
        order = (both * sign).sort(dim=0, descending=True, stable=True).indices[: self._k]
        self._best[sign] = of_both.gather(0, order), both.gather(0, order)

    def _insert(self, places: np.ndarray, tile: torch.Tensor, sign: int) -> None:
        """A few entries of a tile, at ascending flat positions, into the k kept of their columns."""
        if not len(places):
            return
        width = tile.shape[1]
        columns = (places % width).astype(
            np.uint16 if width <= 2**16 else np.int64
        )  # the short type is sorted by radix
        order = np.argsort(columns, kind="stable")
        columns, places = columns[order], places[order]
        first = np.flatnonzero(np.r_[True, columns[1:] != columns[:-1]])
        counts = np.diff(np.r_[first, len(columns)])
        touched = torch.from_numpy(columns[first].astype(np.int64))
        row_of, column = np.repeat(np.arange(len(first)), counts), np.arange(len(columns)) - np.repeat(first, counts)
        rows, values = self._best[sign]
        k = len(rows)
        both = torch.full((len(first), k + int(counts.max())), -torch.inf)
        of_both = torch.zeros(both.shape, dtype=torch.int64)
        both[:, :k], of_both[:, :k] = values[:, touched].T * sign, rows[:, touched].T
        both[row_of, k + column] = tile.reshape(-1)[torch.from_numpy(places)] * sign
        of_both[row_of, k + column] = torch.from_numpy(places // width) + self._row
        chosen = both.sort(dim=1, descending=True, stable=True)
        values[:, touched] = chosen.values[:, :k].T * sign
        rows[:, touched] = of_both.gather(1, chosen.indices[:, :k]).T


def _beyond(tile: torch.Tensor, bounds: torch.Tensor, sign: int) -> np.ndarray:
    """Flat positions in a tile [r, M] of what lies beyond the bounds [M] of its columns, those of a column ascending.

    Few do. The largest of every eight rows are compared first, which is fast where comparing all of them is not.
    """
    width, found = tile.shape[1], []
    even = len(tile) // _TOGETHER * _TOGETHER
    for start, together, size in ((0, _TOGETHER, even), (even, len(tile) - even, len(tile) - even)):
        if not size:
            continue
        rows = tile[start : start + size].view(-1, together, width)
        best = rows.amax(1) if sign > 0 else rows.amin(1)
        places = np.flatnonzero((best > bounds if sign > 0 else best < bounds).numpy())  # faster than nonzero()
        pieces, columns = np.divmod(places, width)
        first = (start + pieces * together) * width + columns
        each = first[:, None] + width * np.arange(together)  # (n, together)
        chosen, those = tile.view(-1)[torch.from_numpy(each)], bounds[torch.from_numpy(columns)][:, None]
        found.append(each.reshape(-1)[np.flatnonzero((chosen > those if sign > 0 else chosen < those).numpy())])
    return np.concatenate(found)


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
