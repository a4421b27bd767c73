"""Whether two runs name the same training rows for the same targets."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from whence.comparison.shared import Shared
from whence.errors import WhenceError
from whence.estimators.derived import derived
from whence.estimators.dispatch import choose
from whence.evaluation.correlations import spearman
from whence.fingerprints import digest
from whence.run import Run
from whence.scores import Scores

__all__ = ["Rankings", "compare_rankings"]

_FEWEST_ROWS = 10
_MATRIX = 2**25  # most scores held of each run: 128 MiB


@dataclass(frozen=True, eq=False)
class Rankings:
    """Agreement of the scores of two runs on the same targets, over the N training rows (or groups) that both have.

    Attributes:
        method, level: of the scores; "" where there are none.
        unit: of this run's.
        per_target: float64 [M], Spearman correlations; NaN where a run's scores of a target are constant.
        overlap: mean share of a target's ``top`` helpful and harmful rows that are among those of the other run; NaN where
            they are half of all rows or more.
        chance: what share rows drawn at random would have.
        top: how many rows of each end were compared.
        rows: int64 [N] twice, positions of the shared rows among the scores of each run.
        values: float32 [N, M] twice.
        scores: of the two runs; empty where there are none.
        unknown: why there is no comparison, in words; None where there is one.
    """

    method: str = ""
    level: str = ""
    unit: str = ""
    per_target: np.ndarray = field(default_factory=lambda: np.zeros(0))
    overlap: float = float("nan")
    chance: float = float("nan")
    top: int = 0
    rows: tuple[np.ndarray, ...] = ()
    values: tuple[np.ndarray, ...] = ()
    scores: tuple[Scores, ...] = ()
    unknown: str | None = None

    @property
    def agreement(self) -> float:
        """The mean Spearman correlation over targets; NaN where it is not known."""
        known = self.per_target[np.isfinite(self.per_target)]
        return float(known.mean()) if len(known) else float("nan")

    def ends(self, column: int, *, harmful: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """int64, at most ``top`` each: the shared rows that each run calls most helpful (or harmful) for a target."""
        sign = -1 if harmful else 1
        found = [np.argsort(-sign * values[:, column], kind="stable")[: self.top] for values in self.values]
        ours, theirs = (rows[sign * values[rows, column] > 0] for rows, values in zip(found, self.values, strict=True))
        return ours, theirs


def compare_rankings(
    run: Run,
    other: Run,
    shared: Shared,
    targets: np.ndarray,
    *,
    method: str = "auto",
    top: int = 8,
    progress: bool = False,
) -> Rankings:
    """Score the same targets in both runs, and compare.

    Args:
        targets: int64 [M], positions among the shared held-out instances.
    """
    if run.loss.fingerprint(run.task) != other.loss.fingerprint(other.task):
        return Rankings(unknown="the runs were trained on different losses")
    by_group = run.train.groups is not None and other.train.groups is not None
    targets = targets[: max(1, _MATRIX // max(len(run.train), len(other.train)))]
    pairs = shared.held_out.keep(targets)
    methods = {choose(one, one.loss) for one in (run, other)} if method == "auto" else {method}
    wanted = methods.pop() if len(methods) == 1 else "turnover"
    asked = "group" if by_group else "auto"
    found = []
    for one, rows in ((run, pairs.first), (other, pairs.second)):
        data = one.splits[shared.split].select(rows)
        name = f"compared-{wanted}-{asked}-{digest(one.fingerprint(), data.fingerprint())[:8]}"
        try:
            found.append(derived(one, data, method=wanted, level=asked, name=name, progress=progress))
        except WhenceError as error:
            return Rankings(unknown=f"{wanted} scores cannot be had of both: {error}")
    levels = [str(scores.info["level"]) for scores in found]
    if levels[0] != levels[1]:
        return Rankings(unknown="one run scores groups and the other single instances")
    _, first, second = np.intersect1d(found[0].ids, found[1].ids, assume_unique=True, return_indices=True)
    if levels[0] == "instance":
        keep = np.isin(found[0].ids[first], run.train.ids[shared.train.first])
        first, second = first[keep], second[keep]
    if len(first) < _FEWEST_ROWS and levels[0] == "instance":
        return Rankings(unknown=f"only {len(first)} training instances are in both runs")
    if len(first) < 3:
        return Rankings(unknown=f"only {len(first)} groups are in both runs")
    values = tuple(scores.at(rows) for scores, rows in zip(found, (first, second), strict=True))
    per_target = spearman(*(one.astype(np.float64) for one in values))
    top = min(top, len(first))
    compared = Rankings(wanted, levels[0], str(found[0].info["unit"]), per_target, top=top, rows=(first, second), values=values,
                        scores=tuple(found), chance=top / len(first))  # fmt: skip
    shares = [
        len(np.intersect1d(*ends)) / max(min(map(len, ends)), 1)
        for column in range(len(targets))
        for ends in (compared.ends(column), compared.ends(column, harmful=True))
        if all(map(len, ends))
    ]
    # Of few rows, most are among the first whatever the scores.
    overlap = float(np.mean(shares)) if shares and 2 * top < len(first) else float("nan")
    return Rankings(**{**vars(compared), "overlap": overlap})
