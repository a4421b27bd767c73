"""One answer for the command line: retrain in the run's directory, judge scores, say in plain words what the numbers mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whence.errors import WhenceError
from whence.evaluation.counterfactuals import LeaveOneOut, leave_one_out
from whence.evaluation.datamodeling import LDS, lds
from whence.evaluation.ground_truth import GroundTruth
from whence.evaluation.recipes import recipe_of
from whence.evaluation.retraining import check_retraining, retrain, rows_of
from whence.evaluation.subsets import draw_rows
from whence.run import Run
from whence.rundir import folder_name
from whence.scores import Scores

__all__ = ["Evaluation", "check", "evaluate"]

_MEANINGS = {
    "random": "An LDS of 1 means that for every target, the summed scores of what each model was trained on put the models in "
    "their true order; 0 is chance. The ceiling is what scores without error would reach: retraining itself varies with the seed.",
    "leave_one_out": "A correlation of 1 means that scores order rows as leaving each out really does; 0 is chance. Where the "
    "reliability is low, other seeds would have given another truth, and no scores could agree with it.",
}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What retraining said of some methods' scores.

    Attributes:
        truth: of the retrainings.
        results: method → its score.
        path: the directory of the retrainings.
        target_set: the name of the targets.
    """

    truth: GroundTruth
    results: Mapping[str, LDS | LeaveOneOut]
    path: Path
    target_set: str

    def lines(self) -> list[str]:
        """What was done, one line per method, and what the numbers mean."""
        truth, n = self.truth, len(self.truth.members)
        if truth.kind == "random":
            kept = f"{n} random subsets of {truth.settings['fraction']:.0%} of {len(truth.rows):,} {truth.level}s"
        else:
            kept = f"all of {len(truth.rows):,} {truth.level}s and all but one of {n - 1}"
        seeds = f"{truth.seeds} seed{'s' if truth.seeds > 1 else ''} each"
        width = max(map(len, self.results))
        return [f"retrained on {kept}, {seeds}; {len(truth.targets):,} targets ({self.target_set})",
                *(f"{method:<{width}}  {result.summary()}" for method, result in self.results.items()),
                _MEANINGS[truth.kind]]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The settings of the truth and the numbers of each method."""
        settings = {
            name: self.truth.settings[name] for name in ("kind", "level", "fraction", "subsets", "seeds", "seed")
        }
        return {**settings, "target_set": self.target_set, "targets": len(self.truth.targets),
                "methods": {name: _numbers(result) for name, result in self.results.items()}}  # fmt: skip


def check(run: Run, kind: str, level: str | None, **numbers: Any) -> None:
    """Refuse what ``evaluate`` cannot do, before scores are made for it.

    Raises:
        WhenceError: a number out of range; a level that the run has not; a training that cannot be repeated.
    """
    check_retraining(kind, **numbers)
    rows_of(run.train, level or _level_of(run))
    recipe_of(run)


def evaluate(run: Run, scores: Mapping[str, Scores], targets: str = "test", *, kind: Any = "random", level: Any = None,
             subsets: int = 50, fraction: float = 0.5, seeds: int = 2, seed: int = 0, jobs: int = 1, name: str | None = None,
             progress: bool = False) -> Evaluation:  # fmt: skip
    """Retrain into RUN/truth/NAME, or go on there, and judge the scores of each method.

    Args:
        run: with a directory.
        scores: method → its scores of ``targets``.
        kind: "random", or "leave_one_out": of ``subsets`` instances drawn at random, or of all groups.
        level: by default "group" where the run has groups.
        name: of the directory; by default kind, level and targets.
        others: as for ``retrain``.
    """
    if run.directory is None:
        raise WhenceError("a run without a directory", where="evaluate", mend="Call whence.evaluation.retrain itself.")
    level = level or _level_of(run)
    if level == "instance" and (grouped := [m for m, one in scores.items() if one.info["level"] == "group"]):
        raise WhenceError("scores of groups cannot foretell what single instances do", where=f"method {grouped[0]}",
                          mend="Evaluate at level group.")  # fmt: skip
    name = f"{kind}-{level}-{targets}" if name is None else name
    path = run.directory.place(f"truth/{folder_name(name, 'retrainings')}")
    rows = None
    if kind == "leave_one_out" and level == "instance":
        rows = draw_rows(run.train.ids, subsets, seed).tolist()
    truth = retrain(run, targets, kind=kind, level=level, subsets=subsets, fraction=fraction, seeds=seeds, rows=rows, seed=seed,
                    out=path, jobs=jobs, progress=progress)  # fmt: skip
    judge = lds if truth.kind == "random" else leave_one_out
    return Evaluation(truth, {method: judge(one, truth) for method, one in scores.items()}, path, targets)


def _level_of(run: Run) -> str:
    return "instance" if run.train.groups is None else "group"


def _numbers(result: LDS | LeaveOneOut) -> dict[str, Any]:
    if isinstance(result, LDS):
        return {
            "lds": result.value,
            "standard_error": result.standard_error,
            "ceiling": result.ceiling,
            "left_out": result.left_out,
        }
    usable = result.spearman[np.isfinite(result.spearman)]
    return {"spearman": float(usable.mean()) if len(usable) else float("nan"), "reliability": result.reliability,
            "spearman_of_means": result.mean_spearman, "reliability_of_means": result.mean_reliability}  # fmt: skip
