"""Comparing instances with targets, class by class: products of what is known of each, on all cores.

Each core has targets of its own, in whose columns no other core adds anything, so that none waits for another between classes. What
is between is small enough for its cache, in memory that is used again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from whence.estimators.base import ROUND, round_up, rounded
from whence.estimators.cores import a_core_each
from whence.estimators.reused import Reused

__all__ = ["Asked", "Compared", "Comparison", "Desk"]

_TARGETS, _INSTANCES = 1024, 2048  # that a core looks at at a time; other devices look at all


class Asked:
    """What the targets that ask of a class are compared by: of each class a matrix, which grows while targets are met."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._met: list[list[torch.Tensor]] = [[] for _ in range(classes)]
        self._whole: list[torch.Tensor] = []

    def add(self, c: int, rows: torch.Tensor) -> None:
        """The next targets that ask of class c: [m, d]."""
        self._met[c].append(rows)

    def close(self, orders: list[torch.Tensor]) -> None:
        """All have been added; of each class, in which order they are wanted: int64 [M_c]."""
        for met, order in zip(self._met, orders, strict=True):
            self._whole.append(rounded(torch.cat(met)[order].T).contiguous())  # (d, M_c)
            met.clear()

    def of(self, c: int, some: slice) -> torch.Tensor:
        """Some columns of class c: [d, m]; behind the last target there are zeros up to a round number."""
        return self._whole[c][:, some]


class Desk:
    """What one core works in."""

    def __init__(self, device: torch.device) -> None:
        self.total, self.first, self.second = Reused(device), Reused(device), Reused(device)
        self.places = Reused(device, torch.int64)


@dataclass(frozen=True, eq=False)
class Compared:
    """Instances to which a class matters.

    Attributes:
        c: the class.
        rows: where their scores are, int64 [R].
        residuals: for the class, float32 [R].
        add: adds to a matrix [r, m] how alike some of them and some of the class's targets are.
    """

    c: int
    rows: torch.Tensor
    residuals: torch.Tensor
    add: Callable[[slice, slice, torch.Tensor, Desk], None]


class Comparison:
    """Of instances with M targets, of which some ask of each class.

    Args:
        asking: of each class, the targets that ask of it, ascending: int64 [M_c].
        counts: to how many training instances each class matters, [C].
        targets: M.
        device: where products are made.
    """

    def __init__(self, asking: list[torch.Tensor], counts: Sequence[int], targets: int, device: torch.device) -> None:
        self.asking, self._targets, self._device = asking, targets, device
        self._few = device.type == "cpu"
        work = np.zeros(targets)
        for theirs, count in zip(asking, counts, strict=True):
            work[theirs.numpy()] += count
        self._desks = [Desk(device) for _ in range(torch.get_num_threads() if self._few else 1)]
        shares = np.linspace(0, work.sum(), len(self._desks) + 1)[1:-1]
        self._bounds = [0, *np.searchsorted(work.cumsum(), shares).tolist(), targets]

    def add_to(self, scores: torch.Tensor, compared: list[Compared]) -> None:
        """Add what the classes do to scores, float32 [R, M]."""

        def work(desk: Desk, first: int, last: int) -> None:
            for some in compared:
                begin, end = np.searchsorted(self.asking[some.c].numpy(), (first, last)).tolist()
                targets, instances = (_TARGETS, _INSTANCES) if self._few else (round_up(end), len(some.rows))
                for columns in _pieces(begin, end, targets):
                    for top in range(0, len(some.rows), instances):
                        self._add(scores, some, slice(top, top + instances), columns, (begin, end), desk)

        with a_core_each(scores.device) as over:
            list(over(work, self._desks, self._bounds[:-1], self._bounds[1:]))

    def _add(
        self, scores: torch.Tensor, some: Compared, part: slice, columns: slice, own: tuple[int, int], desk: Desk
    ) -> None:
        rows, residuals = some.rows[part].to(self._device), some.residuals[part].to(self._device)
        total = desk.total.empty(len(rows), columns.stop - columns.start).zero_()
        some.add(part, columns, total, desk)
        mine = slice(max(columns.start, own[0]), min(columns.stop, own[1]))
        theirs = self.asking[some.c][mine].to(self._device)
        places = desk.places.empty(len(rows), len(theirs))
        torch.add(rows[:, None] * self._targets, theirs, out=places)
        values = total.mul_(residuals[:, None])[:, mine.start - columns.start : mine.stop - columns.start]
        scores.view(-1).scatter_add_(0, places.view(-1), values.reshape(-1))


def _pieces(begin: int, end: int, most: int) -> list[slice]:
    """Columns begin … end − 1 and some beside them, as products of round numbers of columns are faster, in pieces about alike."""
    if begin == end:
        return []
    left, right = begin - begin % ROUND, round_up(end)
    step = round_up(-(-(right - left) // -(-(right - left) // most)))
    return [slice(at, min(at + step, right)) for at in range(left, right, step)]
