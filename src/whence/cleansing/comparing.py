"""Paired differences of retrained models, with intervals for seeds and test instances both being samples.

Model r of a treatment and model r of its reference share a seed, and both are measured on the same M test instances: d[r, x] is
the difference on one. Seeds and instances are crossed random effects, and the mean difference has the variance

    MS_seeds / (R·M)  +  max(MS_instances − MS_residual, 0) / (R·M)

by the mean squares of a two-way layout without replication, as in studies of many readers and cases (Dorfman, Berbaum and Metz
1992). Each term has a half-width of its own, Student's with R − 1 and with M − 1 degrees of freedom, and that of the interval is
the root of the sum of their squares: a common number of degrees of freedom (Satterthwaite's) would give intervals that are too
narrow for three seeds, as a test shows. The interval says what another set of seeds and another test set of that size could have
shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from whence.cleansing.measures import Measure
from whence.cleansing.treatments import DROPPED, NONE

__all__ = ["GAIN", "HARM", "MIXED", "UNSEEN", "Difference", "compare", "verdict_of"]

GAIN, UNSEEN, MIXED, HARM = "gain", "no detectable gain", "mixed", "harm"
_SMALLEST = 1e-30  # p that is told


@dataclass(frozen=True)
class Difference:
    """A measure with a change of the data minus that with a reference: mean over seeds and test instances.

    Attributes:
        measure: what is compared; against: the reference's name.
        mean: in the measure's unit; low, high: of the interval.
        p: two-sided, of no difference.
        level: one minus the confidence of the interval.
    """

    measure: Measure
    against: str
    mean: float
    low: float
    high: float
    p: float
    level: float

    @property
    def sign(self) -> int:
        """1: better beyond chance; −1: worse; 0: neither can be told."""
        if self.low > 0 or self.high < 0:
            return self.measure.better * (1 if self.low > 0 else -1)
        return 0

    def to_json(self) -> dict[str, Any]:
        return {"measure": self.measure.name, "against": self.against, "mean": self.mean, "low": self.low, "high": self.high,
                "p": self.p, "confidence": 1 - self.level}  # fmt: skip


def compare(measure: Measure, against: str, changed: np.ndarray, reference: np.ndarray, level: float) -> Difference:
    """The difference of two treatments, measured as [R, M] each, R and M at least 2."""
    differences = changed - reference
    mean, terms = float(differences.mean()), crossed_variance(differences)
    half = _half_width(terms, level)
    return Difference(measure, against, mean, mean - half, mean + half, _p(terms, abs(mean)), level)


def crossed_variance(values: np.ndarray) -> list[tuple[float, int]]:
    """What makes up the variance of the mean of values [R, M], R seeds and M instances both drawn at random: each term and its
    degrees of freedom."""
    seeds, instances = values.shape
    rows, columns, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    of_seeds = instances * float(np.square(rows - mean).sum()) / (seeds - 1)
    of_instances = seeds * float(np.square(columns - mean).sum()) / (instances - 1)
    rest = float(np.square(values - rows[:, None] - columns + mean).sum()) / ((seeds - 1) * (instances - 1))
    return [(of_seeds / values.size, seeds - 1), (max(of_instances - rest, 0.0) / values.size, instances - 1)]


def _half_width(terms: list[tuple[float, int]], level: float) -> float:
    return float(np.sqrt(sum(variance * student.isf(level / 2, freedom) ** 2 for variance, freedom in terms)))


def _p(terms: list[tuple[float, int]], distance: float) -> float:
    """The level at which the interval would just reach so far."""
    if distance == 0:
        return 1.0
    low, high = math.log(_SMALLEST), 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _half_width(terms, math.exp(middle)) < distance else (middle, high)
    return math.exp(high)


def verdict_of(differences: list[Difference]) -> str:
    """What one change of the data did.

    "gain": some measure that knows no threshold is better than with no change and than with every random removal, and none is worse
    than with no change; "harm": some measure is worse than with no change, and none is so much better; "mixed": both;
    "no detectable gain": neither.
    """
    judged = [one for one in differences if one.against != DROPPED]
    gains = any(all(one.sign > 0 for one in of) for of in _by_measure(judged) if of[0].measure.ranks)
    worse = any(one.sign < 0 for one in differences if one.against == NONE)
    if gains:
        return MIXED if worse else GAIN
    return HARM if worse else UNSEEN


def _by_measure(differences: list[Difference]) -> list[list[Difference]]:
    names = dict.fromkeys(one.measure.name for one in differences)
    return [[one for one in differences if one.measure.name == name] for name in names]
