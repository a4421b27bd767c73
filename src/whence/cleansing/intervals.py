"""Means over two things that are samples, runs and instances: their intervals, p-values, and how many of many are surely true.

The mean of values d[r, x] of R seeds crossed with M instances, both drawn at random, has the variance

    MS_seeds / (R·M)  +  max(MS_instances − MS_residual, 0) / (R·M)

by the mean squares of a two-way layout without replication, as in studies of many readers and cases (Dorfman, Berbaum and Metz
1992). Each term has a half-width of its own, Student's with its own degrees of freedom, and that of the interval is the root of the
sum of their squares, which holds what it promises for three seeds too, as a test shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

__all__ = ["Term", "by_cluster", "crossed", "half_width", "one_sided", "surely_true", "two_sided"]

_SMALLEST = 1e-30  # p that is told
_LEVELS = np.exp(np.linspace(np.log(_SMALLEST), 0, 4097))  # a percent and a half apart


@dataclass(frozen=True)
class Term:
    """A part of a variance, a number or [N] of them, and the degrees of freedom of its estimate."""

    variance: np.ndarray | float
    freedom: int


def crossed(values: np.ndarray) -> list[Term]:
    """What makes up the variance of the mean of values [R, M], R and M at least 2."""
    seeds, instances = values.shape
    rows, columns, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    of_seeds = instances * float(np.square(rows - mean).sum()) / (seeds - 1)
    of_instances = seeds * float(np.square(columns - mean).sum()) / (instances - 1)
    rest = float(np.square(values - rows[:, None] - columns + mean).sum()) / ((seeds - 1) * (instances - 1))
    return [Term(of_seeds / values.size, seeds - 1), Term(max(of_instances - rest, 0.0) / values.size, instances - 1)]


def by_cluster(values: np.ndarray, clusters: np.ndarray | None) -> np.ndarray:
    """Values [R, M] as [R, G] of G clusters, with the same mean: sums over members times G/M; as they are without clusters.

    Args:
        clusters: int64 [M], of instances that were drawn together, such as the texts of an author.
    """
    if clusters is None:
        return values
    names, member = np.unique(clusters, return_inverse=True)
    sums = np.zeros((len(names), len(values)))
    np.add.at(sums, member, values.T)
    return sums.T * (len(names) / values.shape[1])


def half_width(terms: list[Term], level: float) -> float:
    """Of the interval of confidence 1 − level."""
    return float(np.sqrt(sum(float(term.variance) * student.isf(level / 2, term.freedom) ** 2 for term in terms)))


def two_sided(terms: list[Term], distance: np.ndarray) -> np.ndarray:
    """The level at which the interval of a mean would just reach zero: float64 [N], exact within two percent.

    Args:
        terms: of each mean, [N]; distance: float64 [N], the mean's absolute value.
    """
    squares = [student.isf(_LEVELS / 2, term.freedom) ** 2 for term in terms]
    low, high = np.zeros(len(distance), np.int64), np.full(len(distance), len(_LEVELS) - 1)
    while (high - low > 1).any():  # wider at low, as far as the distance or narrower at high
        middle = (low + high) // 2
        reaches = (
            sum(term.variance * square[middle] for term, square in zip(terms, squares, strict=True)) >= distance**2
        )
        low, high = np.where(reaches, middle, low), np.where(reaches, high, middle)
    p: np.ndarray = np.where(distance == 0, 1.0, _LEVELS[high])
    return p


def one_sided(terms: list[Term], means: np.ndarray) -> np.ndarray:
    """p of means so far below zero: float64 [N]."""
    half = two_sided(terms, np.abs(means)) / 2
    p: np.ndarray = np.where(means < 0, half, 1 - half)
    return p


def surely_true(p: np.ndarray, chosen: np.ndarray, level: float = 0.05) -> int:
    """How many of the chosen hypotheses are true discoveries, at least, with confidence 1 − level, however they were chosen.

    Closed testing with Simes' tests (Goeman, Meijer, Krebs and Solari 2019): max over u of 1 − u + #{chosen i: h·pᵢ ≤ u·level},
    where h is the largest number of hypotheses that Simes' test of the largest p-values does not reject. It holds where Benjamini
    and Hochberg's rate does.

    Args:
        p: float64 [N], of all; chosen: int64 [K], positions.
    """
    ordered, count = np.sort(p), len(p)

    def kept(size: int) -> bool:
        largest = ordered[count - size :]
        return not bool((size * largest <= level * np.arange(1, size + 1)).any())

    low, high = 0, count  # the largest size that is not rejected: what is rejected stays so in larger ones
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if kept(middle) else (low, middle - 1)
    if low == 0:
        return len(chosen)
    least = np.sort(np.ceil(low * p[chosen] / level - 1e-9))  # u from which on each counts
    ranks = np.arange(1, len(chosen) + 1)
    return int(np.maximum(0, 1 - np.maximum(least, 1) + ranks).max(initial=0))
