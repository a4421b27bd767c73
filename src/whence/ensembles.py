"""Scores of several runs as one: their noise averages out, and their spread says how much of it is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from whence.arguments import all_of
from whence.errors import WhenceError
from whence.scores import Labels, Scores
from whence.significance import MaskNull, RunNull

__all__ = ["Ensemble", "ensemble"]


@dataclass(eq=False)
class Ensemble(Scores):
    """The mean of K runs' scores, each target of each scaled to a mean square of 1. Blocks are made when they are asked for.

    Attributes:
        members: the scores of each run.
        places: for each run, where the ensemble's rows and targets are in its scores.
        scales: float64 [K, M], the root mean square of each target's scores in each run, by which they are divided.
    """

    members: list[Scores] = field(default_factory=list)
    places: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    scales: np.ndarray = field(default_factory=lambda: np.ones(0))

    def standard_errors(self) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, float32 [rows, M]) in order: the standard error of each mean score, from its spread over runs."""
        for _, start, stop in self.ranges():
            yield start, _mean_and_error(self._of_runs(start, stop))[1]

    def mean_of_runs(self) -> np.ndarray:
        """float64 [N, K]: the mean over targets of each row in each run, scaled."""
        return np.concatenate([self._of_runs(start, stop).mean(axis=2).T for _, start, stop in self.ranges()])

    def _of_runs(self, start: int, stop: int) -> np.ndarray:
        """Scaled scores of some rows in each run: float64 [K, rows, M]."""
        members = zip(self.members, self.places, self.scales, strict=True)
        return np.stack(
            [one.at(rows[start:stop]).astype(np.float64)[:, columns] / scale for one, (rows, columns), scale in members]
        )

    def _read(self, number: int, start: int, stop: int) -> np.ndarray:
        return self._of_runs(start, stop).mean(axis=0).astype(np.float32)

    def _has_chance(self) -> None:
        """There is the null where all members have one, and else there are the runs."""

    def _pair_chance(self) -> MaskNull | RunNull:
        return RunNull(len(self.members)) if self.null is None else MaskNull(self.null)

    def _judged(self) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        if self.null is not None:
            yield from super()._judged()
            return
        chance = RunNull(len(self.members))
        for _, start, stop in self.ranges():
            mean, error = _mean_and_error(self._of_runs(start, stop))
            yield start, mean, *chance.judge(mean, error)

    def _judged_means(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        return super()._judged_means() if self.null is not None else self._over_runs(self.mean_of_runs())

    def _judged_sums(self, member: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        if self.null is not None:
            return super()._judged_sums(member, groups)
        sums = np.zeros((groups, len(self.members)))
        np.add.at(sums, member, self.mean_of_runs())
        return self._over_runs(sums)

    def _over_runs(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        """effect, z, p of statistics [·, K]."""
        chance = RunNull(len(self.members))
        mean, error = values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(len(self.members))
        return mean, *chance.judge(mean, error), chance.basis


def ensemble(scores: Sequence[Scores]) -> Ensemble:
    """The mean of scores of the same rows and targets by K runs that differ in their seed.

    Rows and targets meet by id, in the order of the first. Each target of
    each run is divided by the root mean square of its scores, since losses of one target can differ between runs by orders of
    magnitude, and the largest would be all that is averaged; zero stays zero and a positive score still helps. So the
    signal-to-noise ratio grows with √K. Nothing but the scales is held: scores are read anew whenever they are asked for.

    Where all runs have scores of masks never trained on, so has the ensemble: the means of theirs. Its significance goes
    by them, and else by the spread over runs.

    Args:
        scores: two or more, with their matrices, of one method, quantity and level.

    Raises:
        WhenceError: fewer than two; the same run twice; another method, quantity or level; rows or targets that differ.
    """
    scores = all_of(scores, Scores, "scores")
    if len(scores) < 2:
        raise WhenceError(
            "too few runs to average", where="ensemble", got=len(scores), expected="scores of at least 2 runs"
        )
    first = scores[0]
    for key in ("method", "quantity", "level"):
        if (found := {str(one.info.get(key)) for one in scores}) != {str(first.info.get(key))}:
            raise WhenceError(f"scores of more than one {key}", where="ensemble", got=", ".join(sorted(found)),
                              mend=f"Average runs of one {key}.")  # fmt: skip
    runs = [one.info.get("run") for one in scores if one.info.get("run") is not None]
    if len(set(runs)) < len(runs):
        raise WhenceError(
            "the same run twice", where="ensemble", mend="Train again with another seed, and score that run."
        )
    places = [
        (_places(one.rows, first.rows, "training rows"), _places(one.columns, first.columns, "targets"))
        for one in scores
    ]
    scales = np.stack([_root_mean_squares(one)[columns] for one, (_, columns) in zip(scores, places, strict=True)])
    null = None
    if all(one.null is not None for one in scores):
        # Masks of other seeds are independent of one another, so any pairing of null rows is as good as another.
        count = min(len(one.null) for one in scores if one.null is not None)
        null = np.mean([one.null[:count, columns] / scale for one, (_, columns), scale in zip(scores, places, scales, strict=True)
                        if one.null is not None], axis=0).astype(np.float32)  # fmt: skip
    info = {
        **first.info,
        "unit": "root mean squares of a target's scores",
        "runs": len(scores),
        "run": runs,
        "matrix": True,
    }
    return Ensemble(first.rows, first.columns, info, null=null, members=list(scores), places=places, scales=scales)


def _mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error over the first axis, float32."""
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return values.mean(axis=0).astype(np.float32), error.astype(np.float32)


def _places(theirs: Labels, wanted: Labels, what: str) -> np.ndarray:
    order = np.argsort(theirs.ids)
    found = order[np.minimum(np.searchsorted(theirs.ids, wanted.ids, sorter=order), len(theirs) - 1)]
    if len(theirs) != len(wanted) or not np.array_equal(theirs.ids[found], wanted.ids):
        raise WhenceError(f"{what} that differ between runs", where="ensemble", got=f"{len(theirs)} and {len(wanted)}",
                          mend="Score runs of the same data on the same targets.")  # fmt: skip
    return found


def _root_mean_squares(scores: Scores) -> np.ndarray:
    """float64 [M], 1 for a target that nothing moves."""
    squares = sum(np.square(block, dtype=np.float64).sum(axis=0) for _, block in scores.blocks())
    roots = np.sqrt(squares / len(scores.rows))
    return np.where(roots > 0, roots, 1.0)
