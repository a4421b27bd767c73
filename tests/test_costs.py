"""Costs are foretold from trials that are noisy, and of which most may be the same for any number of rows and targets."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from whence import costs
from whence.costs import _score, _Tried


class Bar:
    def update(self):
        pass


@pytest.mark.parametrize(
    ("shared", "row", "target", "score"),
    [
        (2.5, 0.007, 0.003, 2e-6),  # pictures by kronecker
        (2.5, 0.007, 0.0, 0.0),
        (0.02, 1e-4, 2e-5, 2e-8),  # a small perceptron
        (0.0, 0.0, 1e-3, 1e-4),  # two passes for each score
    ],
)
def test_scores_within_a_factor_of_two(monkeypatch, shared, row, target, score):
    run = SimpleNamespace(train=range(5000))
    random = np.random.default_rng(0)
    spent = 0.0

    def scored(sample, among, method, level, n, m, folder):
        nonlocal spent
        noisy = random.lognormal(0, 0.08, 2)
        preparing, scoring = noisy * [shared + row * n + target * m, score * n * m]
        spent += preparing + scoring
        return _Tried(preparing, scoring, 1000 * n + 100 * m)

    monkeypatch.setattr(costs, "_scored", scored)
    rows, targets = 20_000, 4000
    ratios = []
    for _ in range(20):
        seconds, held = _score(run, run.train, "kernel", "instance", rows, targets, None, Bar())
        ratios.append(seconds / (shared + row * rows + target * targets + score * rows * targets))
        assert held == pytest.approx(1000 * rows + 100 * targets, rel=1e-3)
    assert min(ratios) > 1 / 2 and max(ratios) < 2, ratios
    assert spent / 20 < 15 + 20 * shared
