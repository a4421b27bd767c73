"""Which scores are more than chance: z, p and false-discovery rates of rows, groups and single pairs.

What chance is, comes from one of two places:

    masks   scores of masks never trained on: draws of what a score is when training left no trace of its mask. Published
            scores (turnover, first_order) have them.
    runs    the spread of the same score over K runs of other seeds (``whence.ensemble``): what a score of kronecker, kernel
            or any other method without masks is measured by. A score that all runs repeat is no accident of the seed, which is not
            to say that it is right.

p is two-sided. Against masks it is counted as far as null scores reach, which is exact, since a row whose mask left no trace is
one more draw of them. Beyond them all no count can tell, and p falls as a power of the distance from the null's median, with
the exponent of its most extreme twentieth (Hill 1975), widened by the error of that exponent. Nothing lighter will do: a mask
that happens to leave out what a class rests on moves all targets of that class by many nats, and an exponential tail called
rows that meant nothing in most sets of some thousand. Of a single target of which the network is sure, most masks change
nothing at all; its tail is then that of the masks that do, with the error of so few. What rarer masks do than there are in the
null, no tail can know; docs/estimators.md has what that costs single pairs. Groups of rows are judged by the sum over members
of asinh(distance from the null's median in half interquartile ranges): of such sums the tails are short, and p is Student's,
widened by the error of the null's mean and standard deviation. Against runs p is Student's with K − 1 degrees of freedom.

q is the false-discovery rate of Benjamini and Hochberg (1995): among all with q ≤ 0.05, about 5 % are there by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.stats import t as student

from whence.errors import WhenceError
from whence.noise import FEWEST_MASKS

__all__ = [
    "MaskNull",
    "PairSignificance",
    "RunNull",
    "Significance",
    "false_discovery_rates",
    "rows_against_masks",
    "sums_against_masks",
]

_FEWEST_BEYOND = 10  # null scores that lie beyond the point from which the fitted tail falls
_TAIL = 20  # the most extreme twentieth of the null fits the tail
_BINS_PER_E = 100  # of the histogram of −ln p: a bin is one percent wide
_SMALLEST = 1e-300


@dataclass(frozen=True, eq=False)
class Significance:
    """The even mean influence of N rows over targets (or the sum of G groups' members), against chance.

    Chance has long tails: a z of ten can be less than it seems, which p and q allow for.

    Attributes:
        ids: int64 [N]; names: as the user writes them.
        effect: float64 [N], the even mean over targets (``Scores.mean_over_targets(even=True)``), in units of the scores;
            positive helps. Of a group: the sum over its members.
        z: float64 [N], distance from chance in its standard deviations; of a group's members, of the sum of their logarithms.
        p: float64 [N], two-sided.
        q: float64 [N], the false-discovery rate at which the row is called.
        basis: what p rests on, in words.
    """

    ids: np.ndarray
    names: list[str]
    effect: np.ndarray
    z: np.ndarray
    p: np.ndarray
    q: np.ndarray
    basis: str

    def called(self, level: float = 0.05) -> np.ndarray:
        """int64: positions with q at most ``level``, the surest first."""
        order = np.lexsort((-np.abs(self.z), self.p))
        found: np.ndarray = order[self.q[order] <= level]
        return found


@dataclass(frozen=True, eq=False)
class PairSignificance:
    """N×M single scores against chance. Nothing of that size is held: blocks are judged as they stream by.

    Attributes:
        ids, targets: int64 [N], [M].
        basis: what p rests on, in words.
    """

    ids: np.ndarray
    targets: np.ndarray
    basis: str
    stream: Callable[[], Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]] = field(repr=False)

    def blocks(self) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        """(first row, scores, z, p), each [rows, M], in order."""
        return self.stream()

    def counts(self, level: float = 0.05) -> np.ndarray:
        """int64 [M]: how many rows have p at most ``level`` for each target; ``level``·N are expected by chance."""
        total = np.zeros(len(self.targets), np.int64)
        for _, _, _, p in self.blocks():
            total += (p <= level).sum(axis=0)
        return total

    def discoveries(self, level: float = 0.05) -> np.ndarray:
        """int64 [M]: how many rows have q at most ``level`` for each target, q being of all N×M pairs."""
        limit = self._rates().largest_p(level)
        return self.counts(limit) if limit > 0 else np.zeros(len(self.targets), np.int64)

    def top(self, k: int = 100) -> dict[str, np.ndarray]:
        """The k surest pairs of all: arrays [k] named row, column, id, target, score, z, p and q, the surest first.

        q is that of all N×M pairs, never too small, and too large by one percent at most.
        """
        best: list[np.ndarray] = []
        for start, scores, z, p in self.blocks():
            flat = p.ravel()
            near = np.argpartition(flat, k - 1)[:k] if k < flat.size else np.arange(flat.size)
            rows, columns = np.unravel_index(near, p.shape)
            best.append(np.stack([rows + start, columns, scores[rows, columns], z[rows, columns], flat[near]]))
            if len(best) > 1:
                merged = np.concatenate(best, axis=1)
                best = [merged[:, np.lexsort((-np.abs(merged[3]), merged[4]))[:k]]]
        table = best[0][:, np.lexsort((-np.abs(best[0][3]), best[0][4]))[:k]]
        row, column = table[0].astype(np.int64), table[1].astype(np.int64)
        return {"row": row, "column": column, "id": self.ids[row], "target": self.targets[column], "score": table[2],
                "z": table[3], "p": table[4], "q": self._rates().of(table[4])}  # fmt: skip

    def _rates(self) -> _Histogram:
        return _Histogram.of_blocks(p for _, _, _, p in self.blocks())


class MaskNull:
    """Scores of masks never trained on, column by column.

    Args:
        null: [S, M].
        tail: how p falls beyond all of them: as a "power" of the score; or, of statistics that are logarithms of scores already,
            as an "exponential", which is smoother than counts from the tenth most extreme null score on.

    Raises:
        WhenceError: fewer than 100 masks.
    """

    def __init__(self, null: np.ndarray, *, tail: Literal["power", "exponential"] = "power") -> None:
        if len(null) < FEWEST_MASKS:
            raise WhenceError(
                "too few null masks", where="null_masks", got=len(null), expected=f"at least {FEWEST_MASKS}"
            )
        self.sorted = np.sort(np.asarray(null, np.float64), axis=0)  # (S, M)
        self.masks = len(null)
        self.center, deviation = self.sorted.mean(axis=0), self.sorted.std(axis=0, ddof=1)
        self.known = deviation > 0  # a target that no mask moves says nothing
        self.deviation = np.where(self.known, deviation, 1)
        self.tail = tail
        low, self.median, high = np.quantile(self.sorted, [0.25, 0.5, 0.75], axis=0)
        # Where most masks leave a target as it is, its tail is made of all that move it, and begins at the least of them.
        self.spread = np.where(high > low, (high - low) / 2, _least_distance(self.sorted - self.median))
        extreme = max(_FEWEST_BEYOND, self.masks // _TAIL)
        scaled = self.scaled(self.sorted)
        self.upper = _Tail.fitted(scaled[-extreme:] - scaled[-extreme], scaled[-_FEWEST_BEYOND])
        self.lower = _Tail.fitted(scaled[extreme - 1] - scaled[:extreme], -scaled[_FEWEST_BEYOND - 1])
        self.basis = (f"scores of {self.masks:,} masks never trained on: counted as far as they reach "
                      f"(p ≥ {2 / (self.masks + 1):.2g}), further out by the tail fitted to them")  # fmt: skip

    def judge(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """z and p, [R, M] each, of scores [R, M]."""
        values = np.asarray(values, np.float64)
        p = np.empty(values.shape)
        for column, null in enumerate(self.sorted.T):
            own = values[:, column]
            above = self.masks - np.searchsorted(null, own, "left")  # null scores at least as large
            below = np.searchsorted(null, own, "right")
            p[:, column] = np.minimum(1, 2 * (1 + np.minimum(above, below)) / (self.masks + 1))
        scaled = self.scaled(values)
        share = np.minimum(self.upper.share_beyond(scaled), self.lower.share_beyond(-scaled))
        fitted = np.maximum(share * 2 * _FEWEST_BEYOND / (self.masks + 1), _SMALLEST)
        beyond = share < 1
        if self.tail == "power":  # raw scores are counted wherever they can be
            beyond &= (values > self.sorted[-1]) | (values < self.sorted[0])
            fitted = np.minimum(fitted, p)
        z = (values - self.center) / self.deviation
        return np.where(self.known, z, 0.0), np.where(self.known, np.where(beyond, fitted, p), 1.0)

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Scores on a scale on which the tail is exponential: of one that falls as a power, near the logarithm of its scores."""
        if self.tail == "exponential":
            return values
        logarithms: np.ndarray = np.arcsinh((values - self.median) / self.spread)
        return logarithms


def _least_distance(values: np.ndarray) -> np.ndarray:
    """float64 [M]: of each column, the least distance from 0 of the values [S, M] that differ from it; 1 if none does."""
    least = np.abs(values).min(axis=0, where=values != 0, initial=np.inf)
    return np.where(np.isfinite(least), least, 1)


@dataclass(frozen=True, eq=False)
class _Tail:
    """How scores fall off on one side, target by target: exponentially, on the scale of ``MaskNull.scaled``.

    Attributes:
        start: [M], the tenth most extreme null score.
        decay: [M], the mean excess; 0 where extremes are equal, which have no tail.
        excesses: [M], how many are averaged.
    """

    start: np.ndarray
    decay: np.ndarray
    excesses: np.ndarray

    @classmethod
    def fitted(cls, excesses: np.ndarray, start: np.ndarray) -> _Tail:
        """Of the most extreme scores, by how much they exceed the least of them [·, M].

        Those that equal the least are left out: where few masks move a target, the others say nothing of how far it moves.
        """
        count = np.maximum((excesses > 0).sum(axis=0), 1)
        return cls(start, excesses.sum(axis=0) / count, count)

    def share_beyond(self, values: np.ndarray) -> np.ndarray:
        """[R, M]: the share of chance beyond ``start`` that is also beyond values [R, M]; 1 of those that are not beyond it."""
        with np.errstate(divide="ignore", invalid="ignore"):
            out = np.nan_to_num((values - self.start) / self.decay, nan=0.0, posinf=0.0, neginf=0.0)
        # An excess over the mean of n others follows an F distribution: (1 + x/n)^−n, which is exp(−x) for many.
        share: np.ndarray = (1 + np.maximum(out, 0) / self.excesses) ** -self.excesses.astype(np.float64)
        return share


def rows_against_masks(null: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """z and p, [R] each, of how far rows move targets as a whole.

    The statistic is the mean over targets of asinh(score in standard deviations of chance), so that every target counts alike
    and large scores by their logarithm: losses of single targets have tails that are too long for p to be had from some
    thousand masks.

    Args:
        null: scores [S, M] of masks never trained on; scores: [R, M].
    """
    center, deviation = null.mean(axis=0, dtype=np.float64), null.std(axis=0, ddof=1, dtype=np.float64)
    known = deviation > 0
    if not known.any():
        return np.zeros(len(scores)), np.ones(len(scores))

    def statistic(values: np.ndarray) -> np.ndarray:
        standardized = (values[:, known] - center[known]) / deviation[known]
        means: np.ndarray = np.arcsinh(standardized).mean(axis=1)
        return means[:, None]

    z, p = MaskNull(statistic(null), tail="exponential").judge(statistic(scores))
    return z[:, 0], p[:, 0]


def sums_against_masks(null: np.ndarray, sums: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """z and p, [G] each, of sums over rows whose masks are independent.

    Args:
        null: [S], the statistic of a single row of masks never trained on.
        sums: [G], sums over the members of each group; sizes: [G], how many they are.
    """
    masks = len(null)
    center, deviation = null.mean(dtype=np.float64), null.std(ddof=1, dtype=np.float64)
    if not deviation > 0:
        return np.zeros(len(sums)), np.ones(len(sums))
    shift = sums - sizes * center
    # The null's mean is itself known to deviation / √S only, and that error is the same for all members.
    p = 2 * student.sf(np.abs(shift) / (deviation * np.sqrt(sizes + sizes**2 / masks)), masks - 1)
    return shift / (deviation * np.sqrt(sizes)), np.maximum(p, _SMALLEST)


@dataclass(frozen=True)
class RunNull:
    """The mean over K runs against its standard error over them.

    Attributes:
        runs: K, at least 2.
    """

    runs: int

    @property
    def basis(self) -> str:
        return f"the spread over {self.runs} runs: Student's t with {self.runs - 1} degrees of freedom"

    def judge(self, values: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """z (Student's t) and p of means, given their standard errors, of any one shape."""
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.nan_to_num(np.asarray(values, np.float64) / errors, nan=0.0)
        return z, np.maximum(2 * student.sf(np.abs(z), self.runs - 1), _SMALLEST)


def false_discovery_rates(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's q of p-values [N]: the least m·p₍ⱼ₎/j among those no smaller than each. float64 [N]."""
    order = np.argsort(p)
    rates = p[order] * (len(p) / np.arange(1, len(p) + 1))
    q = np.empty(len(p))
    q[order] = np.minimum(1, np.minimum.accumulate(rates[::-1])[::-1])
    return q


class _Histogram:
    """p-values by their logarithm, each bin with its count and its largest p: enough for q, in one pass and 1 MiB."""

    def __init__(self) -> None:
        bins = int(-np.log(_SMALLEST) * _BINS_PER_E) + 2
        self.counts, self.largest = np.zeros(bins, np.int64), np.zeros(bins)

    @classmethod
    def of_blocks(cls, blocks: Iterable[np.ndarray]) -> _Histogram:
        made = cls()
        for p in blocks:
            flat = p.ravel()
            place = made._bins(flat)
            made.counts += np.bincount(place, minlength=len(made.counts))
            np.maximum.at(made.largest, place, flat)
        below = made.counts[::-1].cumsum()[::-1]  # p-values in this bin or one of smaller p
        filled = made.counts > 0
        rates = np.full(len(filled), np.inf)
        rates[filled] = made.largest[filled] * made.counts.sum() / below[filled]
        made.rates = np.minimum(1, np.minimum.accumulate(rates))  # bin 0 holds the largest p
        return made

    rates: np.ndarray

    def of(self, p: np.ndarray) -> np.ndarray:
        """q of each p among them all."""
        found: np.ndarray = self.rates[self._bins(p)]
        return found

    def largest_p(self, level: float) -> float:
        """The largest p whose q is at most ``level``; 0 if there is none."""
        within = (self.rates <= level) & (self.counts > 0)
        return float(self.largest[within].max()) if within.any() else 0.0

    def _bins(self, p: np.ndarray) -> np.ndarray:
        place: np.ndarray = (-np.log(np.maximum(p, _SMALLEST)) * _BINS_PER_E).astype(np.int64)
        return place
