"""The noise floor: its level, what it sees and what it cannot see, and that it never denies what significance calls."""

from __future__ import annotations

import numpy as np
import pytest

from tests.test_scores import scores_of

SEED = np.random.default_rng


def long_tailed(generator, rows):
    """Scores of 20 targets that move together, with tails as long as those of losses."""
    return generator.standard_t(3, (rows, 4)) @ SEED(99).normal(size=(4, 20))


def floor_of(matrix, null):
    return scores_of(matrix, null=null.astype(np.float32)).noise_floor()


def test_p_holds_its_level_wherever_it_is_read():
    """p of the scores as a whole is that of two tests with Bonferroni's correction: never too small, and little too large."""
    floors = []
    for seed in range(400):
        generator = SEED(seed)
        floors.append(floor_of(long_tailed(generator, 200), long_tailed(generator, 128)))
    p = np.array([floor.p_value for floor in floors])
    for level in (0.01, 0.05, 0.2):
        assert (p <= level).mean() <= level + 3 * (level * (1 - level) / 400) ** 0.5
    assert (p <= 0.2).mean() > 0.1
    # Whoever reads both, the whole at .01 and rows at .05, is alarmed by nothing at most six times in a hundred.
    alarms = np.mean([not floor.is_noise or floor.called > 0 for floor in floors])
    assert alarms <= 0.06 + 3 * (0.06 * 0.94 / 400) ** 0.5


@pytest.mark.parametrize(
    ("share", "size", "whole", "rows"),
    [
        (0.01, 60, False, True),
        (0.01, 1e6, False, True),
        (0.3, 3, True, None),
        (1, 0.5, True, None),
        (0, 0, False, False),
    ],
)
def test_few_strong_rows_are_seen_by_rows_and_many_weak_ones_as_a_whole(share, size, whole, rows):
    seen = []
    for seed in range(10):
        generator = SEED(seed)
        null, matrix = long_tailed(generator, 512), long_tailed(generator, 400)
        matrix[: round(share * 400)] += size * null.std(0)
        floor = floor_of(matrix, null)
        seen.append((not floor.is_noise, floor.called > 0))
    often = np.mean(seen, axis=0)
    assert often[0] >= 0.9 if whole else often[0] <= 0.1
    assert rows is None or (often[1] >= 0.9 if rows else often[1] <= 0.2)


def test_the_verdict_never_denies_what_significance_calls():
    with_calls = 0
    for seed in range(30):
        generator = SEED(seed)
        null, matrix = long_tailed(generator, 512), long_tailed(generator, 150)
        matrix[:2] += generator.choice([0, 10, 40]) * null.std(0)
        scores = scores_of(matrix, null=null.astype(np.float32))
        called, floor = len(scores.significance().called()), scores.noise_floor()
        assert (floor.called, floor.rows) == (called, 150)
        denied = floor.verdict().startswith("Not distinguishable from chance:")
        assert denied == (floor.is_noise and not called)
        assert (f"By their mean over targets, {called} of 150 rows are beyond chance" in floor.verdict()) == (
            called > 0
        )
        with_calls += called > 0
    assert 5 < with_calls < 30


def test_inputs_that_leave_little_to_compare():
    generator = SEED(0)
    null = generator.normal(size=(512, 1))
    for matrix in (generator.normal(size=(300, 1)), generator.normal(size=(2, 1)), np.full((300, 1), null.mean())):
        floor = floor_of(matrix, null)
        assert floor.called == 0 and 0 <= floor.p_value <= 1
    assert not floor.is_noise  # all rows alike are no draws of that null
    assert floor_of(np.full((2, 1), 1e3), null).called == 2
    ties = [generator.integers(-1, 2, size=(rows, 3)) for rows in (300, 512)]
    assert floor_of(*ties).is_noise and floor_of(*ties).called == 0
    still = floor_of(np.ones((50, 2)), np.zeros((100, 2)))  # targets that no mask moves say nothing
    assert still.is_noise and still.called == 0


def test_a_floor_shows_as_a_line():
    shown = repr(floor_of(long_tailed(SEED(0), 50), long_tailed(SEED(1), 200)))
    assert "standard_deviation" not in shown
    assert "masks=200" in shown
