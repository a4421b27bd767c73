"""Intervals that hold for other seeds and other test instances, and verdicts that say no more than they show."""

import numpy as np
import pytest
from scipy import stats

from whence.cleansing.comparing import GAIN, HARM, MIXED, UNSEEN, Difference, compare, verdict_of
from whence.cleansing.intervals import by_cluster, surely_true
from whence.cleansing.measures import Measure
from whence.cleansing.treatments import DROPPED, NONE, RANDOM, SAME_LABELS

LOSS, AUC = Measure("loss", "nats", -1), Measure("AUC", "", 1)
ACCURACY = Measure("accuracy", "points", 1, ranks=False)


def crossed(generator, seeds, instances, of_seeds, of_instances, rest, mean=0.0):
    return (mean + of_seeds * generator.normal(size=(seeds, 1)) + of_instances * generator.normal(size=(1, instances))
            + rest * generator.normal(size=(seeds, instances)))  # fmt: skip


@pytest.mark.parametrize(
    "deviations", [(0.3, 1.0, 1.0), (1.0, 0.2, 1.0), (0.0, 1.0, 0.5), (0.0, 0.0, 1.0), (0.2, 3.0, 3.0)]
)
@pytest.mark.parametrize("size", [(5, 60), (3, 400)])
def test_95_percent_intervals_hold_the_truth_in_about_95_percent(deviations, size):
    generator, held, trials = np.random.default_rng(4), 0, 400
    for _ in range(trials):
        values = crossed(generator, *size, *deviations, mean=0.7)
        found = compare(LOSS, NONE, values, np.zeros(size), 0.05)
        held += found.low <= 0.7 <= found.high
    assert held / trials >= 0.925  # conservative where there is little of either


def test_seeds_alone_would_not_do():
    generator, held = np.random.default_rng(1), 0
    for _ in range(300):
        values = crossed(generator, 5, 60, 0.05, 1.0, 0.3)
        held += stats.ttest_1samp(values.mean(axis=1), 0).pvalue > 0.05
    assert held / 300 < 0.6  # what this would call a 95 % interval


def test_the_interval_is_that_of_the_plain_formula():
    values = crossed(np.random.default_rng(2), 4, 9, 1.0, 2.0, 0.5)
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    rest = sum((values[r, c] - rows[r] - columns[c] + values.mean()) ** 2 for r in range(4) for c in range(9)) / 24
    of_seeds, of_instances = 9 * rows.var(ddof=1), 4 * columns.var(ddof=1)
    assert of_instances > rest
    half = np.sqrt(stats.t.ppf(0.975, 3) ** 2 * of_seeds / 36 + stats.t.ppf(0.975, 8) ** 2 * (of_instances - rest) / 36)
    found = compare(LOSS, NONE, values, np.zeros((4, 9)), 0.05)
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))


def test_p_is_the_level_at_which_the_interval_reaches_zero():
    values = crossed(np.random.default_rng(3), 4, 50, 0.3, 1.0, 0.5, mean=0.8)
    found = compare(LOSS, NONE, values, np.zeros((4, 50)), 0.05)
    touching = compare(LOSS, NONE, values, np.zeros((4, 50)), found.p)
    assert touching.low == pytest.approx(0, abs=0.01 * found.mean)


def test_a_choice_at_random_is_seldom_better_than_draws_at_random():
    """The choice is one draw; controls are drawn anew for each seed. Draws differ as much as seeds do."""
    generator, trials = np.random.default_rng(5), 400
    plain = honest = 0
    for _ in range(trials):
        unchanged = crossed(generator, 10, 80, 0.5, 1.0, 0.5)
        noise = [0.3 * generator.normal(size=(10, 80)) for _ in range(2)]
        changed = unchanged + 0.5 * generator.normal() + noise[0]
        control = unchanged + 0.5 * generator.normal(size=(10, 1)) + noise[1]
        plain += compare(LOSS, RANDOM, changed, control, 0.05).sign != 0
        honest += compare(LOSS, RANDOM, changed, control, 0.05, unchanged).sign != 0
    assert plain / trials > 0.4 and honest / trials < 0.07


@pytest.mark.parametrize("alike", [0.0, 0.5])
def test_instances_of_one_group_are_not_independent(alike):
    generator, wrong, trials = np.random.default_rng(6), 0, 300
    groups = np.repeat(np.arange(20), 10)
    for _ in range(trials):
        shared = np.sqrt(alike) * generator.normal(size=20)[groups] + np.sqrt(1 - alike) * generator.normal(size=200)
        values = 0.2 * generator.normal(size=(5, 200)) + shared
        wrong += compare(LOSS, NONE, by_cluster(values, groups), np.zeros((5, 20)), 0.05).sign != 0
    assert wrong / trials < 0.08
    sizes = generator.integers(0, 7, 200)
    assert by_cluster(values, sizes).mean(axis=1) == pytest.approx(values.mean(axis=1))


def test_what_is_surely_true_is_so_of_any_choice():
    """Closed testing by brute force on few p-values; and of many the number is too large in at most a twentieth of samples."""
    generator = np.random.default_rng(7)
    for _ in range(60):
        p = generator.random(7) ** generator.integers(1, 5)
        subsets = [np.flatnonzero([mask >> bit & 1 for bit in range(7)]) for mask in range(1, 128)]
        kept = [s for s in subsets if not (np.sort(p[s]) * len(s) <= 0.05 * np.arange(1, len(s) + 1)).any()]
        for chosen in (np.arange(7), np.array([2, 5]), np.array([6])):
            largest = max((len(np.intersect1d(s, chosen)) for s in kept), default=0)
            assert surely_true(p, chosen) == len(chosen) - largest
    too_many = 0
    for _ in range(200):
        effects = np.where(np.arange(300) < 40, -3.0, 0.0)
        z = effects + generator.normal(size=300)
        chosen = np.argsort(z)[: int(generator.integers(5, 100))]
        too_many += surely_true(stats.norm.cdf(z), chosen) > (effects[chosen] < 0).sum()
    assert too_many <= 16


@pytest.mark.parametrize(("of_seeds", "of_instances", "limit"), [(1.0, 0.1, "seeds"), (0.01, 3.0, "test instances")])
def test_what_an_interval_is_wide_by(of_seeds, of_instances, limit):
    values = crossed(np.random.default_rng(8), 5, 50, of_seeds, of_instances, 0.1)
    assert compare(LOSS, NONE, values, np.zeros((5, 50)), 0.05).limit == limit


def test_without_any_spread_there_is_nothing_to_tell():
    same = compare(LOSS, NONE, np.ones((3, 5)), np.ones((3, 5)), 0.05)
    assert (same.mean, same.sign, same.p) == (0, 0, 1.0)
    better = compare(LOSS, NONE, np.zeros((3, 5)), np.ones((3, 5)), 0.05)
    assert (better.mean, better.sign) == (-1, 1)


def difference(measure, against, sign):
    """Better (1), worse (−1), or neither (0)."""
    middle = 2.0 * sign * measure.better
    return Difference(measure, against, middle, middle - 1, middle + 1, 0.01 if sign else 0.9, 0.05)


def against_all(measure, sign, **others):
    signs = {NONE: sign, RANDOM: sign, SAME_LABELS: sign, **others}
    return [difference(measure, name, value) for name, value in signs.items()]


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        (against_all(LOSS, 1) + against_all(AUC, 0), GAIN),
        (against_all(LOSS, 0) + against_all(AUC, 1), GAIN),
        (against_all(LOSS, 0) + against_all(AUC, 0), UNSEEN),
        (against_all(LOSS, 1, **{RANDOM: 0}), UNSEEN),  # removing anything would do as well
        (against_all(LOSS, 1, **{SAME_LABELS: 0}), UNSEEN),  # removing such labels would
        (against_all(LOSS, 1, **{NONE: 0}), UNSEEN),  # only random removal is worse
        (against_all(LOSS, 0) + against_all(ACCURACY, 1), UNSEEN),  # a shifted threshold gains accuracy
        (against_all(LOSS, 1) + against_all(AUC, -1), MIXED),
        (against_all(LOSS, 1, **{SAME_LABELS: 0}) + against_all(ACCURACY, -1), MIXED),
        (against_all(LOSS, 0) + against_all(ACCURACY, -1), HARM),
        ([*against_all(LOSS, 1), difference(LOSS, DROPPED, -1)], GAIN),  # relabeling, though dropping would be better
    ],
)
def test_a_gain_is_one_against_no_change_and_against_chance(differences, verdict):
    assert verdict_of(differences) == verdict
