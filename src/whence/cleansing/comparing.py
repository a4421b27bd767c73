"""Paired differences of retrained models, with intervals for seeds and test instances both being samples.

Model r of a treatment and model r of its reference share a seed, and both are measured on the same M test instances: d[r, x] is
the difference on one. Seeds and instances are crossed random effects, so the variance of the mean difference is

    (MS_seeds + MS_instances − MS_residual) / (R·M)

by the mean squares of a two-way layout without replication, as in studies of many readers and cases (Dorfman, Berbaum and Metz
1992), but at least what either mean square alone gives; degrees of freedom are Satterthwaite's. The interval says what
another set of seeds and another test set of that size could have shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from whence.cleansing.measures import Measure
from whence.cleansing.treatments import DROPPED, NONE

__all__ = ["GAIN", "HARM", "MIXED", "UNSEEN", "Difference", "compare", "verdict_of"]

GAIN, UNSEEN, MIXED, HARM = "gain", "no detectable gain", "mixed", "harm"


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
    mean = float(differences.mean())
    error, freedom = crossed_error(differences)
    if not error > 0:
        return Difference(measure, against, mean, mean, mean, 1.0 if mean == 0 else 0.0, level)
    half = float(student.ppf(1 - level / 2, freedom)) * error
    p = float(2 * student.sf(abs(mean) / error, freedom))
    return Difference(measure, against, mean, mean - half, mean + half, p, level)


def crossed_error(values: np.ndarray) -> tuple[float, float]:
    """Of the mean of values [R, M], R seeds and M instances both drawn at random: its standard error and degrees of freedom."""
    seeds, instances = values.shape
    rows, columns, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    of_seeds = instances * float(np.square(rows - mean).sum()) / (seeds - 1)
    of_instances = seeds * float(np.square(columns - mean).sum()) / (instances - 1)
    rest = float(np.square(values - rows[:, None] - columns + mean).sum()) / ((seeds - 1) * (instances - 1))
    both = of_seeds + of_instances - rest
    parts = [(of_seeds, seeds - 1), (of_instances, instances - 1), (rest, (seeds - 1) * (instances - 1))]
    options = [(both, parts), (of_seeds, parts[:1]), (of_instances, parts[1:2])]
    square, terms = max(options, key=lambda option: option[0])
    spread = sum(term**2 / freedom for term, freedom in terms)
    return float(np.sqrt(max(square, 0) / values.size)), float(square**2 / spread) if spread > 0 else float(
        instances - 1
    )


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
