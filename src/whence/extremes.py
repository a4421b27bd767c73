"""The most extreme entries of each column of a block, kept as its rows come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["Extremes", "extreme", "merge"]

_TOGETHER = 8  # rows of a tile, of which the most extreme is looked at first
_FEW = 24  # a tile's extremes are few where they are at most one in so many of its entries


class Extremes:
    """The k largest (sign 1) or smallest (−1) entries of each of M columns; of equal ones the first rows'.

    What is more extreme than the k-th of its column waits until there is as much of it as is kept, since to put a little of it
    in its place costs nearly as much as much of it.
    """

    def __init__(self, first: torch.Tensor, start: int, k: int, sign: int) -> None:
        """Begin with a tile float32 [r, M], whose first row is number ``start``."""
        self._k, self._sign = k, sign
        self._rows, self._values = extreme(first, start, k, sign)  # [k, M], the most extreme first
        self._waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # rows, columns and values

    def take(self, tile: torch.Tensor, start: int) -> None:
        """Take the next tile."""
        if len(self._rows) == self._k:
            rows, columns, values = self._beyond(tile)
            if len(rows) * _FEW <= tile.numel():
                self._waiting.append((rows + start, columns, values))
                if sum(len(some[0]) for some in self._waiting) > self._values.numel():
                    self._settle()
                return
        self._settle()
        found, more = extreme(tile, start, self._k, self._sign)
        both, of_both = torch.cat([self._values, more]), torch.cat([self._rows, found])
        order = (both * self._sign).sort(dim=0, descending=True, stable=True).indices[: self._k]
        self._rows, self._values = of_both.gather(0, order), both.gather(0, order)

    def kept(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows int64 [k, M] and values float32 [k, M], the most extreme first."""
        self._settle()
        return self._rows, self._values

    def _beyond(self, tile: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, columns and values of what in a tile is more extreme than the k-th of its column; those of a column in order.

        Few are. The most extreme of every few rows are compared first, and before them the most extreme of every few of these.
        """
        few = _leading(tile, self._sign)
        fewest = _leading(few, self._sign).numpy()
        bounds, steps = self._values[-1].numpy(), np.arange(_TOGETHER) * tile.shape[1]
        more = np.greater if self._sign > 0 else np.less
        places = np.flatnonzero(more(fewest, bounds))
        for level in (few.numpy().reshape(-1), tile.numpy().reshape(-1)):
            rows, columns = np.divmod(places, len(bounds))
            places = (rows * (_TOGETHER * len(bounds)) + columns)[:, None] + steps
            these = bounds[columns][:, None]
            if places.size and level.size < (rows.max() + 1) * _TOGETHER * len(bounds):  # the last are of fewer
                there = places < level.size
                places, these = places[there], np.broadcast_to(these, there.shape)[there]
            values = level[places]
            found = np.flatnonzero(more(values, these))
            places, values = places.reshape(-1)[found], values.reshape(-1)[found]
        return *np.divmod(places, len(bounds)), values

    def _settle(self) -> None:
        """Put what waits in its place: columns of which about as much waits together."""
        if not self._waiting:
            return
        rows, columns, values = (np.concatenate(of_all) for of_all in zip(*self._waiting, strict=True))
        self._waiting = []
        short = self._values.shape[1] <= 2**16  # which is sorted by radix
        order = np.argsort(columns.astype(np.uint16) if short else columns, kind="stable")
        counts = np.bincount(columns)
        touched = np.flatnonzero(counts)
        counts = counts[touched]
        first = np.cumsum(counts) - counts
        widths = 2 ** np.ceil(np.log2(counts)).astype(np.int64)
        for width in np.unique(widths):
            some = widths == width
            places = first[some, None] + np.arange(width)  # (n, width)
            there = np.arange(width) < counts[some, None]
            chosen = order[np.where(there, places, 0)]
            more = torch.from_numpy(np.where(there, values[chosen] * np.float32(self._sign), -np.float32(np.inf)))
            of_more, these = torch.from_numpy(rows[chosen]), torch.from_numpy(touched[some])
            both = torch.cat([self._values[:, these].T * self._sign, more], dim=1)
            of_both = torch.cat([self._rows[:, these].T, of_more], dim=1)
            best = both.sort(dim=1, descending=True, stable=True)
            self._values[:, these] = best.values[:, : self._k].T * self._sign
            self._rows[:, these] = of_both.gather(1, best.indices[:, : self._k]).T


def extreme(block: torch.Tensor, start: int, k: int, sign: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows int64 [k, M] and values float32 [k, M] of the largest (sign 1) or smallest (−1) entries of each column.

    Of equal ones the first rows are taken.
    """
    signed, k = block * sign, min(k, len(block))
    values, rows = signed.topk(min(k + 1, len(block)), dim=0)  # one more, as it may be as extreme as the last
    tied = (values[1:] == values[:-1]).any(dim=0)
    values, rows = values[:k], rows[:k]
    if tied.any():
        best = signed[:, tied].sort(dim=0, descending=True, stable=True)
        values[:, tied], rows[:, tied] = best.values[:k], best.indices[:k]
    return rows + start, values * sign


def merge(parts: Sequence[tuple[torch.Tensor, torch.Tensor]], k: int, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows int64 [M, k] and values float32 [M, k]: the extremes of what ``extreme`` found in blocks, given in order."""
    rows, values = torch.cat([r for r, _ in parts]), torch.cat([v for _, v in parts])
    best = (values * sign).sort(dim=0, descending=True, stable=True).indices[:k]
    return rows.gather(0, best).T.contiguous().numpy(), values.gather(0, best).T.contiguous().numpy()


def _leading(tile: torch.Tensor, sign: int) -> torch.Tensor:
    """The largest (sign 1) or smallest (−1) of every few rows of each column of a tile [r, M]: [⌈r/8⌉, M]."""
    even, most = len(tile) // _TOGETHER * _TOGETHER, torch.amax if sign > 0 else torch.amin
    found = most(tile[:even].reshape(-1, _TOGETHER, tile.shape[1]), 1)
    return found if even == len(tile) else torch.cat([found, most(tile[even:], 0, keepdim=True)])
