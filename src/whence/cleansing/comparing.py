"""Paired differences of retrained models, with intervals for seeds and test instances both being samples, and verdicts.

Model r of a treatment and model r of its reference share a seed, and both are measured on the same test instances: d[r, x] is
the difference on one (``intervals.py``). The interval says what another set of seeds and another test set of that size could show.

A change is one choice of rows, while a random removal is drawn anew for each seed: its mean over seeds says what draws do on
average, and any single one can be better than that. For a choice to be better than chance it has to be better than a draw, so
differences from random removals have the variance of one draw in them too, as far as draws vary more over seeds than the change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.cleansing.intervals import Term, crossed, half_width, two_sided
from whence.cleansing.measures import Measure
from whence.cleansing.treatments import DROPPED, NONE

__all__ = ["GAIN", "HARM", "MIXED", "UNSEEN", "Difference", "beats_all", "compare", "difference_of", "verdict_of"]

GAIN, UNSEEN, MIXED, HARM = "gain", "no detectable gain", "mixed", "harm"


@dataclass(frozen=True)
class Difference:
    """A measure with a change of the data minus that with a reference: mean over seeds and test instances.

    Attributes:
        measure: what is compared; against: the reference's name.
        mean: in the measure's unit; low, high: of the interval.
        p: two-sided, of no difference.
        level: one minus the confidence of the interval.
        limit: what most of its width is due to: few "seeds", or few "test instances".
    """

    measure: Measure
    against: str
    mean: float
    low: float
    high: float
    p: float
    level: float
    limit: str = "seeds"

    @property
    def sign(self) -> int:
        """1: better beyond chance; −1: worse; 0: neither can be told."""
        if self.low > 0 or self.high < 0:
            return self.measure.better * (1 if self.low > 0 else -1)
        return 0

    @property
    def same(self) -> bool:
        """Whether there is no difference on any instance, for any seed, so that nothing says how large one might be."""
        return self.low == self.mean == self.high == 0

    def to_json(self) -> dict[str, Any]:
        return {"measure": self.measure.name, "against": self.against, "mean": self.mean, "low": self.low, "high": self.high,
                "p": self.p, "confidence": 1 - self.level}  # fmt: skip


def compare(measure: Measure, against: str, changed: np.ndarray, reference: np.ndarray, level: float,
            unchanged: np.ndarray | None = None) -> Difference:  # fmt: skip
    """The difference of two treatments, measured as [R, M] each, R and M at least 2.

    Args:
        unchanged: [R, M], with no change, where the reference is drawn at random for each seed.
    """
    differences = changed - reference
    mean, terms = float(differences.mean()), crossed(differences)
    if unchanged is not None:
        draws, seeds = (crossed(values - unchanged)[0].variance for values in (reference, changed))
        terms.append(Term(max(float(draws) - float(seeds), 0.0) * len(differences), len(differences) - 1))
    half = half_width(terms, level)
    limit = "test instances" if half_width(terms[1:2], level) > half / 2**0.5 else "seeds"
    p = float(two_sided(terms, np.array([abs(mean)]))[0])
    return Difference(measure, against, mean, mean - half, mean + half, p, level, limit)


def verdict_of(differences: list[Difference]) -> str:
    """What one change of the data did.

    "gain": some measure that knows no threshold is better than with no change and than with every random removal, and none is worse
    than with no change; "mixed": some measure is better than with no change, and some is worse; "harm": some is worse, and none is
    better; "no detectable gain": else.
    """
    first = [one for one in differences if one.against == NONE]
    if any(one.sign < 0 for one in first):
        return MIXED if any(one.sign > 0 for one in first) else HARM
    return GAIN if any(one.measure.ranks and beats_all(differences, one.measure) for one in first) else UNSEEN


def difference_of(differences: list[Difference], measure: str, against: str = NONE) -> Difference:
    """One of them by name."""
    return next(one for one in differences if (one.measure.name, one.against) == (measure, against))


def beats_all(differences: list[Difference], measure: Measure) -> bool:
    """Whether a measure is better than with no change and than with every random removal."""
    return all(one.sign > 0 for one in differences if one.measure == measure and one.against != DROPPED)
