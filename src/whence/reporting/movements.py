"""From a training instance, or a group, to the explained targets that it moves most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from whence.data.tasks import well_formed
from whence.reporting.cards import number
from whence.reporting.explanations import SUMMARY, Explanations
from whence.run import Run
from whence.scores import Scores

__all__ = ["Moved", "Moves", "moved_targets"]

Moves: TypeAlias = list[list[float | None]]  # [[target, score]]: those helped, most first; then those hurt, most first
_MOST = 3  # targets helped, and as many hurt
_ROWS = 4096  # scored rows looked at together


@dataclass(frozen=True)
class Moved:
    """Attributes:
    by_instance: training row → its targets, by number among the explanations; empty where rows are groups.
    by_group: name of a group → its targets; empty where rows are instances.
    complete: whether all scores were looked at, or only the 100 most extreme rows of each target.
    """

    by_instance: dict[int, Moves] = field(default_factory=dict)
    by_group: dict[str, Moves] = field(default_factory=dict)
    complete: bool = True


def moved_targets(explanations: Explanations, run: Run, rows: np.ndarray) -> Moved:
    """The targets that each of some training rows, or each group, moves most, in the unit of the explanations."""
    scores = explanations.scores
    if scores is None:
        return Moved()
    complete = bool(scores.info.get("matrix", True))
    if explanations.level == "group":
        found = dict(_moves(scores, np.arange(len(scores.rows)), explanations.factor, complete))
        names = map(well_formed, scores.rows.names)
        return Moved(by_group={name: found.get(row, []) for row, name in enumerate(names)}, complete=complete)
    return Moved(by_instance=dict(_moves(scores, rows, explanations.factor, complete)), complete=complete)


def _moves(scores: Scores, rows: np.ndarray, factor: float, complete: bool) -> Iterator[tuple[int, Moves]]:
    if complete:
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            values = scores.at(part)
            targets = np.arange(values.shape[1])
            yield from ((int(row), _ends(targets, mine, factor)) for row, mine in zip(part, values, strict=True))
        return
    extremes = [scores.top(SUMMARY), scores.top(SUMMARY, harmful=True)]
    owners = np.concatenate([one.rows.ravel() for one in extremes])
    values = np.concatenate([one.values.ravel() for one in extremes])
    targets = np.concatenate([np.repeat(np.arange(len(one.rows)), one.rows.shape[1]) for one in extremes])
    order = np.argsort(owners, kind="stable")
    begin, end = np.searchsorted(owners[order], rows, "left"), np.searchsorted(owners[order], rows, "right")
    for row, first, last in zip(rows.tolist(), begin, end, strict=True):
        if first < last:
            mine = order[first:last]
            yield row, _ends(targets[mine], values[mine], factor)


def _ends(targets: np.ndarray, values: np.ndarray, factor: float) -> Moves:
    """The targets of the largest positive and of the smallest negative values."""
    order = np.argsort(-values, kind="stable")
    helped = [place for place in order[:_MOST] if values[place] > 0]
    hurt = [place for place in order[::-1][:_MOST] if values[place] < 0]
    return [[int(targets[place]), number(values[place] * factor, 4)] for place in [*helped, *hurt]]
