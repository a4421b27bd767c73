"""Scores against removals: of each row alone, and of the rows that a prediction is said to rest on."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.arguments import instance_of, seed_of, whole
from whence.data import Classification
from whence.errors import WhenceError
from whence.estimators.dispatch import target_instances
from whence.evaluation.correlations import pearson, reliability, spearman
from whence.evaluation.ground_truth import GroundTruth
from whence.evaluation.matching import columns_of, score_matrix
from whence.evaluation.recipes import OwnLoop
from whence.evaluation.retraining import Level, retrain
from whence.evaluation.subsets import MOST, draw_rows
from whence.run import Run
from whence.scores import Scores

__all__ = ["Brittleness", "LeaveOneOut", "brittleness", "leave_one_out"]


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """How scores go with what leaving out each row alone really does.

    Attributes:
        rows: positions in the truth's rows that were left out one at a time: int64 [L].
        effect: float64 [L, M]: how much worse the target is without the row, averaged over seeds; positive: the row helps.
        pearson, spearman: float64 [M]: correlation over rows, target by target; NaN where either side is constant.
        mean_pearson, mean_spearman: of the means over targets.
        reliability: of single targets' effects, 0 to 1 (Spearman between seeds, stepped up); NaN with one seed.
        mean_reliability: of the effects' means over targets.
    """

    rows: np.ndarray
    effect: np.ndarray
    pearson: np.ndarray
    spearman: np.ndarray
    mean_pearson: float
    mean_spearman: float
    reliability: float
    mean_reliability: float

    def summary(self) -> str:
        """One line: rank correlations and reliabilities."""
        usable = np.isfinite(self.spearman)
        single = float(self.spearman[usable].mean()) if usable.any() else math.nan
        known = [
            "unknown with one seed" if math.isnan(r) else f"{r:.2f}" for r in (self.reliability, self.mean_reliability)
        ]
        return (f"leave-one-out over {len(self.rows)} rows: Spearman {single:.3f} per target (reliability {known[0]}), "
                f"{self.mean_spearman:.3f} of the mean over targets (reliability {known[1]})")  # fmt: skip


def leave_one_out(scores: Scores | Any, truth: GroundTruth, *, quantity: str = "loss") -> LeaveOneOut:
    """Correlate scores with the quantity without each row minus the quantity with all rows (sign: positive helps).

    Args:
        scores: ``Scores``, matched with the truth by ids; or an array [N, M] in its order.
        truth: of kind "leave_one_out", with at least three rows left out.
        quantity: "loss", "margin" or "correct".

    Raises:
        WhenceError: truth of another kind; ids that differ.
    """
    if instance_of(truth, GroundTruth, "truth").kind != "leave_one_out" or len(truth.members) < 4:
        raise WhenceError("a ground truth that leaves out no three rows one by one", where="leave_one_out",
                          got=f"{truth.kind} of {len(truth.members) - 1}", mend='Retrain with kind="leave_one_out".')  # fmt: skip
    goodness = truth.goodness(quantity)
    effects = goodness[:1] - goodness[1:]  # (L, R, M)
    rows = (~truth.members[1:]).argmax(axis=1)
    given, real = score_matrix(scores, truth)[rows], effects.mean(axis=1)
    means = given.mean(axis=1, keepdims=True), real.mean(axis=1, keepdims=True)
    return LeaveOneOut(
        rows=rows,
        effect=real,
        pearson=pearson(given, real),
        spearman=spearman(given, real),
        mean_pearson=float(pearson(*means)[0]),
        mean_spearman=float(spearman(*means)[0]),
        reliability=reliability(effects),
        mean_reliability=reliability(effects.mean(axis=2, keepdims=True)),
    )


@dataclass(frozen=True, eq=False)
class Brittleness:
    """Which predictions change when the rows that help them most are taken away.

    Attributes:
        ks: numbers of rows removed.
        helpful: float64 [len(ks), M]: share of seeds in which the target's prediction changes.
        random: float64 [len(ks), M]: the same when as many rows are removed at random.
    """

    ks: tuple[int, ...]
    helpful: np.ndarray
    random: np.ndarray

    def summary(self) -> str:
        """One line: share of predictions that change, for each number of rows."""
        cells = [f"{k} rows {helpful.mean():.0%} (at random {random.mean():.0%})"
                 for k, helpful, random in zip(self.ks, self.helpful, self.random, strict=True)]  # fmt: skip
        return "predictions that change without the most helpful " + ", ".join(cells)


def brittleness(
    run: Run,
    scores: Scores,
    targets: Any = "test",
    *,
    ks: Sequence[int] = (10, 40, 160),
    seeds: int = 3,
    controls: int = 3,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    fit: OwnLoop | None = None,
    progress: bool = False,
) -> Brittleness:
    """Remove the k most helpful rows of each target, retrain, and see whether its prediction changes.

    A change is against the model of the same seed trained on all rows. Trainings: seeds · (1 + len(ks) · (M + controls)).

    Args:
        run: of a classifier.
        scores: of this run.
        targets: some of the targets of the scores: a split's name or a ``Dataset``, such as ``run.dataset("test").select([3])``.
        ks: how many rows to remove (groups, when the scores are of groups).
        seeds: trainings of each.
        controls: random removals for each k, shared by the targets.
        seed, out, jobs, fit, progress: as for ``retrain``.

    Raises:
        WhenceError: a regression; a k that leaves nothing; targets that were not scored.
    """
    if not isinstance(instance_of(run, Run, "run").task, Classification):
        raise WhenceError("predictions of a regression do not flip", where="brittleness", expected="a classifier")
    rows = len(instance_of(scores, Scores, "scores").ids)
    seeds, controls, seed = whole(seeds, "seeds", high=MOST), whole(controls, "controls", high=MOST), seed_of(seed)
    if not isinstance(ks, Sequence) or not ks:
        raise WhenceError(
            "no numbers of rows to remove", where="ks", got=f"{ks!r:.60}", expected=f"some from 1 to {rows - 1}"
        )
    ks = tuple(whole(k, "ks", high=rows - 1) for k in ks)
    data = target_instances(run, targets)
    columns = columns_of(scores.targets, data.ids, "targets", all_of=False)
    best = scores.top(max(ks)).ids[columns]  # (M, k)
    lists = [best[target, :k] for k in ks for target in range(len(data))]
    lists += [draw_rows(scores.ids, k, seed + control) for k in ks for control in range(controls)]
    level: Level = "group" if scores.info.get("level") == "group" else "instance"
    truth = retrain(run, data, kind="removal", level=level, rows=lists, seeds=seeds, seed=seed, out=out, jobs=jobs,
                    fit=fit, progress=progress)  # fmt: skip
    prediction = truth.values["prediction"]
    changed = prediction[1:] != prediction[:1]  # (lists, R, M)
    own = changed[: len(ks) * len(data)].reshape(len(ks), len(data), seeds, len(data))
    other = changed[len(ks) * len(data) :].reshape(len(ks), controls, seeds, len(data))
    helpful = np.einsum("ktrt->ktr", own).mean(axis=2)
    return Brittleness(ks, helpful, other.mean(axis=(1, 2)))
