"""What is done to the training data before it is trained on again: the change, and its controls.

Every treatment is trained with the same R seeds, and seed number r is the same for all of them: initialization, masks and order
are shared, so that what differs is the data. Controls are drawn anew for every seed, so that their spread holds that of the draw.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from whence.cleansing.choosing import Ranking
from whence.data import Classification, Dataset
from whence.evaluation.subsets import draw_rows, training_seed
from whence.fingerprints import digest

__all__ = ["CHANGED", "DROPPED", "NONE", "OTHER_GROUPS", "RANDOM", "SAME_LABELS", "Treatment", "controls", "treated"]

NONE, CHANGED, DROPPED = "no change", "changed", "the same rows dropped"
RANDOM, OTHER_GROUPS, SAME_LABELS = "random removal", "random other groups removed", "random removal, same labels"
_BINS = 10  # of a regression's targets, which stand for labels
_ABOUT = 0.25  # how far a draw of groups may be from as many rows


@dataclass(frozen=True, eq=False)
class Treatment:
    """Training data as each of R trainings is given it.

    Attributes:
        name: of the treatment.
        kept: bool [R, N], the instances; [1, N] where all trainings are given the same.
        targets: [N], their targets; None for those they have.
    """

    name: str
    kept: np.ndarray
    targets: np.ndarray | None = None

    def data(self, train: Dataset, number: int) -> Dataset:
        """The training data of one training."""
        changed = train if self.targets is None else replace(train, targets=self.targets)
        kept = self.kept[number % len(self.kept)]
        return changed if kept.all() else changed.select(kept)

    def fingerprint(self, number: int) -> str:
        """What tells the data of one training from others of the same run: 32 hexadecimal digits."""
        kept = np.packbits(self.kept[number % len(self.kept)]).tobytes().hex()
        return digest(kept, None if self.targets is None else self.targets.tobytes().hex())


def treated(ranking: Ranking, units: np.ndarray, train: Dataset) -> Treatment:
    """The change of some units."""
    rows = ranking.rows(units)
    if ranking.targets is None:
        return Treatment(CHANGED, ~rows[None])
    return Treatment(CHANGED, np.ones((1, len(rows)), bool), np.where(rows, ranking.targets, train.targets))


def controls(ranking: Ranking, units: np.ndarray, train: Dataset, *, seeds: int, seed: int) -> list[Treatment]:
    """What a change is held against, beside no change at all.

    Removals of as many instances: at random (of groups: other groups that hold about as many, where there are such), and at random
    with the same labels, as many of each (of a regression, of each tenth of the targets). Of a relabeling also the removal of its
    rows.
    """
    rows = ranking.rows(units)
    strata, count = _strata(train), int(rows.sum())
    first: list[np.ndarray | None] = []
    second = np.ones((seeds, len(rows)), bool)
    for number in range(seeds):
        one, other = (training_seed(seed, -1 - 2 * number - control) for control in (0, 1))  # no training has these
        if ranking.level == "group":
            first.append(_other_groups(ranking, units, count, one))
        else:
            first.append(_drawn(train.ids, np.ones(len(rows), bool), count, one))
        for stratum in np.unique(strata[rows]):
            within = strata == stratum
            second[number] &= ~_drawn(train.ids, within, int((rows & within).sum()), other)
    found = [] if ranking.targets is None else [Treatment(DROPPED, ~rows[None])]
    drawn = [removed for removed in first if removed is not None]
    if len(drawn) == seeds:
        found.append(Treatment(OTHER_GROUPS if ranking.level == "group" else RANDOM, ~np.stack(drawn)))
    return [*found, Treatment(SAME_LABELS, second)]


def _strata(train: Dataset) -> np.ndarray:
    """int64 [N]: the label of each instance, or the tenth of the targets that it lies in."""
    if isinstance(train.task, Classification):
        return train.targets
    edges = np.quantile(train.targets, np.linspace(0, 1, _BINS + 1)[1:-1])
    found: np.ndarray = np.searchsorted(edges, train.targets)
    return found


def _drawn(ids: np.ndarray, among: np.ndarray, count: int, seed: int) -> np.ndarray:
    """bool [N]: ``count`` of the rows in ``among``, by their ids."""
    return np.isin(ids, draw_rows(ids[among], count, seed))


def _other_groups(ranking: Ranking, units: np.ndarray, count: int, seed: int) -> np.ndarray | None:
    """bool [N]: the rows of groups that are not changed, drawn at random so that they are about ``count``; None where none are.

    A group that would take the sum too far is passed over.
    """
    sizes = np.bincount(ranking.owner, minlength=len(ranking.names))
    taken, total = np.zeros(len(sizes), bool), 0
    for unit in np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(len(sizes)), units)):
        if total < (1 - _ABOUT) * count and total + sizes[unit] <= (1 + _ABOUT) * count:
            taken[unit], total = True, total + sizes[unit]
    return taken[ranking.owner] if total >= (1 - _ABOUT) * count else None
