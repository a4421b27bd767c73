"""Whether scores are more than chance: a comparison with scores of masks that were never trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import mannwhitneyu

from whence.errors import WhenceError

__all__ = ["FEWEST_MASKS", "NoiseFloor", "noise_floor"]

FEWEST_MASKS = 100
_LEVEL = 0.01
_MOSTLY_NOISE = 0.5


@dataclass(frozen=True)
class NoiseFloor:
    """How scores compare with those of masks that were never trained on: as a whole, and row by row.

    If training left no trace of its masks, rows and null rows are draws of one distribution. As a whole that is tested on
    two numbers per row, its mean and its mean square over targets (scores standardized by the null, target by target), which
    are independent between rows however much targets resemble each other. Their ranks are compared (Mann and Whitney 1947), so
    k of N rows, however strong, move the statistic by k/2N, and its standard error is at least √(1/12S'), S' half of the null
    masks: below about a tenth of all rows they are seldom seen. Of few rows ``significance`` tells: the smallest of its q is
    Simes' (1986) p-value for "no row means anything", so that some row is called exactly where that is rejected.

    Attributes:
        standard_deviation: float32 [M], of a score that means nothing, per target.
        significant: share of all N×M scores beyond the null's central 95 %; 0.05 is chance.
        excess: median over targets of the mean square / that of the null, both about the null's mean; 1 is chance.
        p_value: of the scores as a whole, by the two Mann–Whitney tests with Bonferroni's correction.
        masks: how many null masks.
        called: how many rows ``significance`` calls, with a q of at most 0.05; rows: of how many.
    """

    standard_deviation: np.ndarray = field(repr=False)
    significant: float
    excess: float
    p_value: float
    masks: int
    called: int
    rows: int

    @property
    def is_noise(self) -> bool:
        """Whether the scores as a whole cannot be told from chance (p at least 0.01). Rows that are ``called`` can be even so."""
        return self.p_value >= _LEVEL

    @property
    def signal(self) -> float:
        """The share of the scores' mean square that is not noise, 0 to 1. Its square root bounds any correlation with truth."""
        return max(0.0, 1 - 1 / self.excess) if self.excess > 0 else 0.0

    @property
    def is_mostly_noise(self) -> bool:
        """Whether less than half of the scores' variance is signal."""
        return self.is_noise or self.signal < _MOSTLY_NOISE

    @property
    def exceptions(self) -> str:
        """Which share of rows is beyond chance, in words: "2 of 339"; empty where none is."""
        return f"{self.called:,} of {self.rows:,}" if self.called else ""

    def verdict(self) -> str:
        """The same in plain words."""
        share = f"{100 * self.significant:.1f} % of scores lie beyond the 95 % range of masks never trained on (chance: 5 %)"
        few = f" By their mean over targets, {self.exceptions} rows are beyond chance (q ≤ 0.05)."
        rows = few if self.called else ""
        if self.is_noise:
            return f"Not distinguishable from chance{' as a whole' if self.called else ''}: {share}.{rows}"
        part = f"{f'about {100 * self.signal:.0f}' if self.signal >= 0.01 else 'less than 1'} % of their variance is signal"
        if self.is_mostly_noise:
            return f"Mostly noise, {part}: {share}. Single scores and rankings are not to be trusted.{rows}"
        return f"More than chance, {part}: {share}.{rows}"


def noise_floor(null: np.ndarray, blocks: Iterable[np.ndarray], called: int) -> NoiseFloor:
    """Compare scores, given as blocks of rows [·, M], with null scores [S, M]. Holds one block at a time.

    Args:
        called: how many rows are significant.

    Raises:
        WhenceError: fewer than 100 null masks.
    """
    if len(null) < FEWEST_MASKS:
        raise WhenceError("too few null masks", where="null_masks", got=len(null), expected=f"at least {FEWEST_MASKS}")
    low, high = np.quantile(null, [0.025, 0.975], axis=0, method="weibull")  # its coverage is unbiased
    center, variance = null.mean(axis=0, dtype=np.float64), null.var(axis=0, ddof=1, dtype=np.float64)
    known = variance > 0  # a target that no mask moves says nothing
    # Half of the null sets the scale of the tests, the other half stands against the rows: both are then measured out of
    # sample. With one and the same half, rows would look larger than a null that is standardized by itself.
    scale, control = null[::2], null[1::2]
    middle, deviation = scale.mean(axis=0, dtype=np.float64)[known], scale.std(axis=0, ddof=1, dtype=np.float64)[known]
    deviation = np.where(deviation > 0, deviation, 1)

    def of_rows(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        standardized = (block[:, known] - middle) / deviation
        return standardized.mean(axis=1), np.square(standardized).mean(axis=1)

    beyond, count = 0, 0
    squares = np.zeros(null.shape[1])
    means, powers = [], []
    for block in blocks:
        beyond += int(((block < low) | (block > high)).sum())
        count += len(block)
        squares += np.square(block - center).sum(axis=0)
        if known.any():
            mean, power = of_rows(np.asarray(block))
            means.append(mean)
            powers.append(power)
    excess, p_value = 1.0, 1.0
    if known.any():
        excess = float(np.median(squares[known] / count / variance[known]))
        tests = zip((np.concatenate(means), np.concatenate(powers)), of_rows(control), strict=True)
        p_value = min(1.0, 2 * min(float(mannwhitneyu(ours, theirs).pvalue) for ours, theirs in tests))
    share = beyond / (count * null.shape[1])
    return NoiseFloor(np.sqrt(variance).astype(np.float32), share, excess, p_value, len(null), called, count)
