"""The linear datamodeling score: do scores add up to what retraining on random subsets really gives?

Park et al. 2023, *TRAK: Attributing Model Behavior at Scale*, arXiv 2303.14186, definition 2.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whence.arguments import instance_of, seed_of, whole
from whence.errors import WhenceError
from whence.evaluation.correlations import bootstrap_spearman, constant, reliability, spearman
from whence.evaluation.ground_truth import GroundTruth
from whence.evaluation.matching import predicted
from whence.scores import Scores

__all__ = ["LDS", "lds"]


@dataclass(frozen=True, eq=False)
class LDS:
    """A linear datamodeling score, −1 to 1; ``float(...)`` gives its value.

    Attributes:
        value: mean over targets.
        per_target: float64 [M]: the rank correlation of each target; NaN where the truth is constant.
        standard_error: of the value, by a bootstrap over subsets; it does not tell how another training of the scored
            model would do.
        ceiling: what perfect scores would reach in the mean against truth this noisy; NaN with one seed.
        left_out: targets whose truth is constant.
        quantity: that was predicted.
        subsets, seeds: of the ground truth.
    """

    value: float
    per_target: np.ndarray = field(repr=False)
    standard_error: float
    ceiling: float
    left_out: int
    quantity: str
    subsets: int
    seeds: int

    def __float__(self) -> float:
        return self.value

    def summary(self) -> str:
        """One line: value, standard error, ceiling."""
        ceiling = "unknown with one seed" if math.isnan(self.ceiling) else f"{self.ceiling:.3f}"
        line = f"LDS {self.value:.3f} ± {self.standard_error:.3f} (ceiling {ceiling})"
        return line + (f", {self.left_out} targets of constant {self.quantity} left out" if self.left_out else "")


def lds(scores: Scores | Any, truth: GroundTruth, *, quantity: str = "loss", rounds: int = 200, seed: int = 0) -> LDS:
    """The linear datamodeling score of scores.

    For each target, the Spearman correlation over subsets of (the sum of the scores of the rows kept) with (the quantity
    after retraining on them, signed so that larger is better, averaged over seeds); then the mean over targets.
    Scores that are constant for a target correlate 0.

    Args:
        scores: ``Scores``, matched with the truth by ids; or an array [N, M] in its order.
        truth: of kind "random". For groups, scores of instances are summed over each group.
        quantity: "loss", "margin" or "correct".
        rounds: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        WhenceError: truth of another kind; ids that differ; a truth that is constant for all targets.
    """
    rounds, seed = whole(rounds, "rounds", low=0), seed_of(seed)
    if instance_of(truth, GroundTruth, "truth").kind != "random":
        raise WhenceError("a ground truth that is not of random subsets", where="lds", got=truth.kind,
                          mend='Retrain with kind="random".')  # fmt: skip
    goodness = truth.goodness(quantity)
    ahead, real = predicted(scores, truth), goodness.mean(axis=1)
    if not np.isfinite(ahead).all():
        raise WhenceError("scores that are not finite", where="lds")
    flat = constant(real)
    if flat.all():
        raise WhenceError("a ground truth that never changes", where="lds", got=f"{quantity} of {len(flat)} targets",
                          mend="Take more subsets, or a quantity that is not counted in whole numbers.")  # fmt: skip
    per_target = np.where(np.isnan(found := spearman(ahead, real)), 0.0, found)
    per_target[flat] = np.nan
    kept_ahead, kept_real = ahead[:, ~flat], real[:, ~flat]
    means = [np.nan_to_num(one).mean() for one in bootstrap_spearman(kept_ahead, kept_real, rounds, seed)]
    return LDS(
        value=float(np.nanmean(per_target)),
        per_target=per_target,
        standard_error=float(np.std(means, ddof=1)) if rounds > 1 else math.nan,
        ceiling=math.sqrt(reliability(goodness[:, :, ~flat])),
        left_out=int(flat.sum()),
        quantity=quantity,
        subsets=len(truth.members),
        seeds=truth.seeds,
    )
