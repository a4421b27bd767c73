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
    ("method", "shared", "row", "target", "score"),
    [
        ("kronecker", 2.5, 0.007, 0.003, 2e-6),  # pictures by kronecker
        ("kronecker", 2.5, 0.007, 0.0, 0.0),
        ("kernel", 0.02, 1e-4, 2e-5, 2e-8),  # a small perceptron
        ("turnover", 0.0, 0.0, 1e-3, 1e-4),  # two passes for each score
        ("turnover", 0.5, 1e-4, 1e-3, 1e-4),
    ],
)
def test_scores_within_a_factor_of_two(monkeypatch, method, shared, row, target, score):
    run = SimpleNamespace(train=range(5000))
    random = np.random.default_rng(0)
    null, spent = 512 * (method == "turnover"), 0.0  # masks never trained on are scored too

    def scored(sample, among, method, level, n, m, folder):
        nonlocal spent
        noisy = random.lognormal(0, 0.08, 2)
        preparing, scoring = noisy * [shared + row * n + target * m, score * (n + null) * m]
        spent += preparing + scoring
        return _Tried(preparing, scoring, 1000 * n + 100 * m)

    monkeypatch.setattr(costs, "_scored", scored)
    rows, targets = 20_000, 4000
    ratios = []
    for _ in range(20):
        seconds, held = _score(run, run.train, method, "instance", rows, targets, null, None, Bar())
        ratios.append(seconds / (shared + row * rows + target * targets + score * (rows + null) * targets))
        assert held == pytest.approx(1000 * rows + 100 * targets, rel=1e-3)
    assert min(ratios) > 1 / 2 and max(ratios) < 2, ratios
    assert spent / 20 < 15 + 20 * shared


def test_more_targets_than_there_are(monkeypatch):
    """Ten instances to try: what each target costs is seen all the same."""
    monkeypatch.setattr(costs, "_scored", lambda *args: _Tried(0.1 + 1e-3 * args[4] + 0.01 * args[5], 0.0, 0))
    seconds, _ = _score(SimpleNamespace(train=range(30)), range(10), "kernel", "instance", 30, 5000, 0, None, Bar())
    assert seconds == pytest.approx(0.1 + 0.03 + 50, rel=1e-6)
