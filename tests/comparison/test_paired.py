"""Paired differences: exact tests and intervals against brute force, closed forms and simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from whence.comparison.paired import accuracy_difference, bootstrap_interval


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_counts_all_ways_in_which_the_sides_could_have_changed(pairs: list[tuple[bool, bool]]) -> None:
    first, second = np.array(pairs, dtype=bool).T
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    found = accuracy_difference(first, second)
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert found.low <= found.high
    changed = gained + lost
    if 0 < changed <= 12:
        far = abs(gained - changed / 2)
        extreme = [sum(ways) for ways in product((0, 1), repeat=changed)]
        assert found.p == pytest.approx(np.mean([abs(ways - changed / 2) >= far for ways in extreme]))
    swapped = accuracy_difference(second, first)
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx((-found.value, -found.high, -found.low))
    assert swapped.p == pytest.approx(found.p)
    assert swapped.verdict == -found.verdict


def test_nothing_changed_is_no_certainty() -> None:
    same = np.arange(50) % 5 > 0
    found = accuracy_difference(same, same)
    assert found.p == 1.0 and found.verdict == 0
    assert -0.1 < found.low < 0 < found.high < 0.1


def test_the_interval_of_accuracies_covers_the_truth() -> None:
    generator, covered, rounds = np.random.default_rng(0), 0, 2000
    cells, truth = [0.62, 0.14, 0.06, 0.18], 0.14 - 0.06  # both right, only the first, only the second, neither
    for _ in range(rounds):
        drawn = generator.choice(4, size=150, p=cells)
        found = accuracy_difference(np.isin(drawn, (0, 1)), np.isin(drawn, (0, 2)))
        covered += found.low <= truth <= found.high
    assert 0.935 < covered / rounds < 0.975


def test_the_bootstrap_is_a_paired_t_interval_where_that_holds() -> None:
    generator = np.random.default_rng(1)
    common = generator.normal(0, 5, 400)
    first, second = common + generator.normal(0.3, 1, 400), common + generator.normal(0, 1, 400)
    wanted = ttest_rel(first, second).confidence_interval(0.95)
    assert bootstrap_interval(first, second) == pytest.approx((wanted.low, wanted.high), abs=0.02)
    low, high = bootstrap_interval(first, second)
    assert bootstrap_interval(second, first) == pytest.approx((-high, -low))


def test_the_bootstrap_of_a_root_mean_square() -> None:
    squares = np.random.default_rng(2).chisquare(1, (2, 3000))
    first, second = 4 * squares[0], squares[1]
    roots = [np.sqrt(values.mean()) for values in (first, second)]
    # The delta method: √(mean of s) varies as the mean of s / (2√(mean of s)).
    error = (first / (2 * roots[0]) - second / (2 * roots[1])).std() / np.sqrt(len(first))
    value = roots[0] - roots[1]
    assert bootstrap_interval(first, second, np.sqrt) == pytest.approx(
        (value - 1.96 * error, value + 1.96 * error), abs=0.1 * error
    )
