"""Correlations of many columns at once, in float64; NaN where a column is constant."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["bootstrap_spearman", "constant", "pearson", "ranks", "reliability", "spearman", "spearman_brown"]

_TIED = 1e-12  # spread over largest size below which a column is constant but for rounding


def constant(values: np.ndarray) -> np.ndarray:
    """Whether each column of [K, M] is constant but for rounding: bool [M]."""
    return np.ptp(values, axis=0) <= _TIED * np.abs(values).max(axis=0)


def pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson correlation, column by column, of two arrays [K, M]: float64 [M]."""
    return _weighted_pearson(first, second, np.ones(len(first)))


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman correlation, column by column, of two arrays [K, M]; ties share their mean rank: float64 [M]."""
    found = pearson(ranks(first), ranks(second))
    found[constant(first) | constant(second)] = np.nan
    return found


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each entry within its column, from 1; ties share their mean: float64 [K, M]."""
    return _Ranking(values).under(np.ones(len(values)))


def bootstrap_spearman(first: np.ndarray, second: np.ndarray, rounds: int, seed: int) -> Iterator[np.ndarray]:
    """Spearman correlations of resampled rows, the same rows for all columns: float64 [M], ``rounds`` times.

    To draw a row twice is to weigh it twice, so each column is sorted only once.
    """
    generator = np.random.default_rng(seed % 2**64)  # NumPy takes no negative seed
    rankings = _Ranking(first), _Ranking(second)
    for _ in range(rounds):
        weights = np.bincount(generator.integers(0, len(first), len(first)), minlength=len(first)).astype(np.float64)
        yield _weighted_pearson(rankings[0].under(weights), rankings[1].under(weights), weights)


def spearman_brown(correlation: float, times: float) -> float:
    """The reliability of a mean of ``times`` measurements, of which two single ones correlate so; at least 0."""
    kept = max(correlation, 0.0)
    return times * kept / (1 + (times - 1) * kept)


def reliability(values: np.ndarray, *, ranked: bool = True) -> float:
    """How well the mean over seeds would agree with that over as many others: 0 to 1, NaN with a single seed.

    The correlation of two seeds, averaged over pairs of seeds and over columns, stepped up by Spearman–Brown.

    Args:
        values: [K, R, M].
        ranked: Spearman, else Pearson.
    """
    seeds = values.shape[1]
    pairs = [(a, b) for a in range(seeds) for b in range(a)]
    correlate = spearman if ranked else pearson
    found = np.array([correlate(values[:, a], values[:, b]) for a, b in pairs])
    return spearman_brown(float(np.nanmean(found)), seeds) if np.isfinite(found).any() else float("nan")


class _Ranking:
    """The order of each column of [K, M], from which ranks under any weights of rows follow."""

    def __init__(self, values: np.ndarray) -> None:
        self.order = np.argsort(values, axis=0, kind="stable")
        ordered = np.take_along_axis(values, self.order, axis=0)
        begins = np.ones(values.shape, bool)
        begins[1:] = ordered[1:] != ordered[:-1]
        ends = np.ones(values.shape, bool)
        ends[:-1] = begins[1:]
        position = np.arange(len(values))[:, None]
        # The first and last sorted position of the entries that an entry is tied with.
        self.first = np.maximum.accumulate(np.where(begins, position, 0), axis=0)
        self.last = np.minimum.accumulate(np.where(ends, position, len(values) - 1)[::-1], axis=0)[::-1]

    def under(self, weights: np.ndarray) -> np.ndarray:
        """Ranks [K, M] when row k is there ``weights[k]`` times."""
        below = np.zeros((len(weights) + 1, self.order.shape[1]))
        np.cumsum(weights[self.order], axis=0, out=below[1:])
        mean = (np.take_along_axis(below, self.first, 0) + np.take_along_axis(below, self.last + 1, 0) + 1) / 2
        given = np.empty_like(mean)
        np.put_along_axis(given, self.order, mean, axis=0)
        return given


def _weighted_pearson(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    share = (weights / weights.sum())[:, None]
    a, b = (values.astype(np.float64) - (share * values).sum(axis=0) for values in (first, second))
    spread = np.sqrt((share * a * a).sum(axis=0) * (share * b * b).sum(axis=0))
    flat = constant(first[weights > 0]) | constant(second[weights > 0])
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = np.where(flat, np.nan, (share * a * b).sum(axis=0) / spread)
    return found
