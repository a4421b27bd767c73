"""Many columns at once agree with SciPy, one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, rankdata, spearmanr

from whence.evaluation.correlations import bootstrap_spearman, pearson, ranks, reliability, spearman, spearman_brown


@pytest.fixture
def pair():
    generator = np.random.default_rng(0)
    return generator.normal(size=(25, 6)), generator.integers(0, 5, (25, 6)).astype(float)  # the second has ties


def test_correlations_are_those_of_scipy(pair):
    first, second = pair
    np.testing.assert_array_equal(ranks(second), rankdata(second, axis=0))
    for column in range(6):
        a, b = first[:, column], second[:, column]
        np.testing.assert_allclose(pearson(first, second)[column], pearsonr(a, b)[0], rtol=1e-12)
        np.testing.assert_allclose(spearman(first, second)[column], spearmanr(a, b)[0], rtol=1e-12)


def test_constant_columns_are_undefined(pair):
    first, second = pair
    second[:, 2] = 0.1
    second[:, 3] = 0.1 + 1e-17 * np.arange(25)
    assert np.flatnonzero(np.isnan(spearman(first, second))).tolist() == [2, 3]
    assert np.isnan(pearson(second, first)[2])


def test_the_bootstrap_resamples_rows(pair):
    first, second = pair
    generator = np.random.default_rng(7)
    for found in bootstrap_spearman(first, second, 5, seed=7):
        drawn = generator.integers(0, 25, 25)
        np.testing.assert_allclose(
            found, [spearmanr(first[drawn, c], second[drawn, c])[0] for c in range(6)], rtol=1e-10
        )


def test_reliability_is_the_correlation_of_two_means():
    generator = np.random.default_rng(0)
    signal, noise = generator.normal(size=(4000, 1, 2)), generator.normal(size=(4000, 6, 2))
    values = signal + 2 * noise
    # Two means of three seeds correlate 1 / (1 + 4/3).
    assert reliability(values[:, :3], ranked=False) == pytest.approx(3 / 7, abs=0.03)
    assert pearson(values[:, :3].mean(1), values[:, 3:].mean(1)).mean() == pytest.approx(3 / 7, abs=0.03)
    assert np.isnan(reliability(values[:, :1]))
    assert spearman_brown(-0.3, 2) == 0
