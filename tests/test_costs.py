"""Costs are foretold from trials that are noisy, and of which most may be the same for any number of rows and targets."""

from __future__ import annotations

import numpy as np
import pytest

from whence.costs import _score, _Tried


@pytest.mark.parametrize(
    ("null", "shared", "row", "target", "score"),
    [
        (0, 2.5, 0.007, 0.003, 2e-6),  # pictures by kronecker
        (0, 2.5, 0.007, 0.0, 0.0),
        (0, 0.02, 1e-4, 2e-5, 2e-8),  # a small perceptron
        (512, 0.0, 0.0, 1e-3, 1e-4),  # two passes for each score
        (512, 0.5, 1e-4, 1e-3, 1e-4),
    ],
)
def test_scores_within_a_factor_of_two(null, shared, row, target, score):
    random = np.random.default_rng(0)
    spent = 0.0

    def trial(n, m):
        nonlocal spent
        noisy = random.lognormal(0, 0.08, 2)
        preparing, scoring = noisy * [shared + row * n + target * m, score * (n + null) * m]
        spent += preparing + scoring
        return _Tried(preparing, scoring, 1000 * n + 100 * m)

    rows, targets = 20_000, 4000
    ratios = []
    for _ in range(20):
        seconds, held = _score(trial, (5000, 5000), (rows, targets), null=null)
        ratios.append(seconds / (shared + row * rows + target * targets + score * (rows + null) * targets))
        assert held == pytest.approx(1000 * rows + 100 * targets, rel=1e-3)
    assert min(ratios) > 1 / 2 and max(ratios) < 2, ratios
    assert spent / 20 < 15 + 20 * shared


def test_more_targets_than_there_are():
    """Ten instances to try: what each target costs is seen all the same."""
    seconds, _ = _score(lambda n, m: _Tried(0.1 + 1e-3 * n + 0.01 * m, 0.0, 0), (30, 10), (30, 5000), null=0)
    assert seconds == pytest.approx(0.1 + 0.03 + 50, rel=1e-6)
