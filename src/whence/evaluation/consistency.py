"""Whether two runs say the same: what a second seed would have said."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from whence.arguments import instance_of
from whence.errors import WhenceError
from whence.evaluation.correlations import spearman
from whence.evaluation.matching import columns_of
from whence.scores import Scores

__all__ = ["Agreement", "agreement"]


@dataclass(frozen=True, eq=False)
class Agreement:
    """Rank correlations of two runs' scores over training rows.

    Attributes:
        per_target: float64 [M]; NaN where either is constant.
        value: mean over targets.
        of_means: of the mean over targets.
    """

    per_target: np.ndarray = field(repr=False)
    value: float
    of_means: float

    def __float__(self) -> float:
        return self.value


def agreement(first: Scores, second: Scores) -> Agreement:
    """Spearman correlation of two runs' scores, rows and targets matched by id.

    Raises:
        WhenceError: their rows or targets differ, or one scores groups and the other instances.
    """
    instance_of(first, Scores, "first")
    instance_of(second, Scores, "second")
    levels = first.info.get("level", "instance"), second.info.get("level", "instance")
    if levels[0] != levels[1]:
        raise WhenceError("scores of different levels", got=levels[1], expected=levels[0])
    rows = columns_of(second.ids, first.ids, "training rows")
    columns = columns_of(second.targets, first.targets, "targets")
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)[np.ix_(rows, columns)]
    per_target = spearman(a, b)
    value = float(np.nanmean(per_target)) if np.isfinite(per_target).any() else float("nan")
    return Agreement(per_target, value, float(spearman(a.mean(axis=1)[:, None], b.mean(axis=1)[:, None])[0]))
