"""Estimates of memorization against Feldman and Zhang's own: trained with the instance, and without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.arguments import instance_of, numbers, seed_of, whole
from whence.errors import WhenceError
from whence.evaluation.correlations import constant, pearson, spearman, spearman_brown
from whence.evaluation.ground_truth import GroundTruth

__all__ = ["MemorizationAgreement", "memorization_agreement"]


@dataclass(frozen=True, eq=False)
class MemorizationAgreement:
    """How an estimate goes with retrained memorization.

    Attributes:
        memorization: float64 [I]: P(correct; trained with it) − P(correct; without); NaN where one side is empty.
        pearson, spearman: over the instances that have both sides.
        reliability: of the truth, 0 to 1: the Pearson correlation of halves of the subsets, stepped up by Spearman–Brown.
    """

    memorization: np.ndarray
    pearson: float
    spearman: float
    reliability: float


def memorization_agreement(
    estimate: Any, truth: GroundTruth, *, halves: int = 20, seed: int = 0
) -> MemorizationAgreement:
    """Correlate an estimate of memorization with P(correct; in) − P(correct; out) over random subsets.

    Feldman and Zhang 2020, *What Neural Networks Memorize and Why*, arXiv 2008.03703, equation 1 and section 3.

    Args:
        estimate: [I], in the order of the training instances, such as ``whence.memorization(run)``.
        truth: of random subsets, of a classifier.
        halves: random divisions of the subsets into two halves, for the reliability.
        seed: of these.

    Raises:
        WhenceError: a truth without judged training instances; an estimate of another length.
    """
    halves, seed = whole(halves, "halves", low=0), seed_of(seed)
    if instance_of(truth, GroundTruth, "truth").train_correct is None:
        raise WhenceError("a ground truth that does not judge training instances", where="memorization_agreement",
                          expected="random subsets of a classifier")  # fmt: skip
    given = numbers(estimate, "estimate")
    if given.shape != (len(truth.instances),):
        raise WhenceError(
            "not one estimate per training instance", got=f"shape {given.shape}", expected=f"({len(truth.instances)},)"
        )
    every = np.arange(len(truth.members))
    real = _memorization(truth, every)
    generator = np.random.default_rng(seed % 2**64)  # NumPy takes no negative seed
    agreed = []
    for _ in range(halves):
        shuffled = generator.permutation(every)
        pair = (_memorization(truth, shuffled[0::2]), _memorization(truth, shuffled[1::2]))
        agreed.append(_correlate(*pair)[0])
    found = np.array(agreed)
    both = spearman_brown(float(np.nanmean(found)), 2) if np.isfinite(found).any() else float("nan")
    return MemorizationAgreement(real, *_correlate(given, real), both)


def _memorization(truth: GroundTruth, subsets: np.ndarray) -> np.ndarray:
    assert truth.train_correct is not None
    inside = truth.instance_members()[subsets].astype(np.float64)  # (K, I)
    correct = truth.train_correct[subsets].mean(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        kept, out = ((side * correct).sum(axis=0) / side.sum(axis=0) for side in (inside, 1 - inside))
    difference: np.ndarray = kept - out
    return difference


def _correlate(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    both = np.isfinite(first) & np.isfinite(second)
    a, b = first[both][:, None], second[both][:, None]
    if len(a) < 3 or constant(a)[0] or constant(b)[0]:
        return float("nan"), float("nan")
    return float(pearson(a, b)[0]), float(spearman(a, b)[0])
