"""What is called significant: five percent of what means nothing, and what was planted."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import false_discovery_control, kstest
from scipy.stats import t as student

import whence
from tests.test_scores import scores_of
from tests.toys import network, trained
from whence import WhenceError
from whence.score_making import compute
from whence.scores import Labels
from whence.significance import MaskNull, RunNull, false_discovery_rates, rows_against_masks

SEED = np.random.default_rng


@pytest.fixture(scope="module")
def untrained():
    """Published scores of ids that the run never trained on: masks of the rows' own domain, which left no trace."""
    run = trained(n=100, widths=(6, 128, 3))
    strangers = replace(run.train, ids=np.arange(100) + 5)
    many = whence.data.Dataset(np.arange(4000) + 5, type(strangers.inputs)(np.repeat(strangers.inputs.array, 40, axis=0)),
                               np.repeat(strangers.targets, 40), strangers.task)  # fmt: skip
    return whence.influence(
        whence.Run(run.model, many, test=run.splits["test"]), "test", method="turnover", null_masks=4000
    )


def test_masks_never_trained_on_are_called_as_often_as_chance_says(untrained):
    rows = untrained.significance("rows")
    assert (rows.p < 0.05).mean() == pytest.approx(0.05, abs=0.01)
    assert kstest(rows.p, "uniform").pvalue > 0.01
    groups = untrained.significance("groups", groups=np.arange(4000) % 1000)
    assert (groups.p < 0.05).mean() == pytest.approx(0.05, abs=0.02)
    assert kstest(groups.p, "uniform").pvalue > 0.01
    pairs = untrained.significance("pairs")
    assert pairs.counts(0.05).sum() / (4000 * 30) == pytest.approx(0.05, abs=0.01)
    assert np.std(rows.z) == pytest.approx(1, abs=0.05)
    assert len(rows.called()) <= 1 and len(groups.called()) <= 1
    assert pairs.discoveries().sum() <= 12  # of 120,000


@pytest.mark.parametrize("tail", ["normal", "t2", "t3", "skewed", "flat"])
def test_nothing_is_called_of_what_means_nothing_however_long_the_tails(tail):
    """Any row of a set is called in at most five percent of sets: where tails are as long as those of losses, too."""
    draw = {
        "normal": lambda g, n: g.normal(size=n),
        "t2": lambda g, n: g.standard_t(2, n),
        "t3": lambda g, n: g.standard_t(3, n),
        "skewed": lambda g, n: g.pareto(2, n) - 0.2 * g.pareto(3, n),
        "flat": lambda g, n: g.uniform(size=n),
    }[tail]
    generator, alarms = SEED(0), 0
    for count in (30, 300, 3000) * 60:
        null, rows = draw(generator, (512, 1)), draw(generator, (count, 1))
        alarms += len(scores_of(rows, null=null.astype(np.float32)).significance().called()) > 0
    assert alarms <= 180 * 0.05 + 3 * (180 * 0.05 * 0.95) ** 0.5


def test_groups_of_what_means_nothing_are_not_called_though_tails_are_long():
    generator, alarms = SEED(0), 0
    for size in (2, 5, 40) * 50:
        null, rows = generator.standard_t(2, (512, 1)), generator.standard_t(2, (20 * size, 1))
        scores = scores_of(rows, null=null.astype(np.float32))
        alarms += len(scores.significance("groups", groups=np.arange(20 * size) % 20).called()) > 0
    assert alarms <= 150 * 0.05 + 3 * (150 * 0.05 * 0.95) ** 0.5


def test_masks_of_a_trained_network_without_meaning_are_not_called():
    """Sets of 1,000 masks of a run against 512 others: neither was trained on. Losses of such masks have long tails."""
    run = trained(n=100, epochs=30, widths=(6, 128, 3))
    null = whence.influence(run, "test", method="turnover", null_masks=20_000).null
    generator, called = SEED(0), []
    for _ in range(60):
        drawn = null[generator.permutation(len(null))[:1512]]
        called.append(len(scores_of(drawn[512:], null=drawn[:512]).significance().called()))
    assert np.count_nonzero(called) <= 60 * 0.05 + 3 * (60 * 0.05 * 0.95) ** 0.5


@pytest.mark.shared_data
def test_published_scores_of_single_instances_are_said_to_be_noise(shared_data):
    """5,000 instances on 512 units, under the ids that were trained on and under ids dealt anew after training."""
    with np.load(shared_data / "fashion_mnist.npz") as file:
        x, y = (
            file["x_train"][:5000].reshape(5000, -1).astype(np.float32) / 255,
            file["y_train"][:5000].astype(np.int64),
        )
        test = (np.arange(60) + 10**6, file["x_test"][:60].reshape(60, -1).astype(np.float32) / 255,
                file["y_test"][:60].astype(np.int64))  # fmt: skip
    run = whence.fit(network(784, 128, 512, 10, where=["3"]), (np.arange(5000), x, y), test=test, epochs=4, batch_size=50,
                     learning_rate=1e-3, device="cpu")  # fmt: skip
    for ids in (np.arange(5000), SEED(0).permutation(5000)):
        scores = whence.influence(whence.Run(run.model, (ids, x, y), test=test), "test", method="turnover")
        assert scores.noise_floor().is_noise
        assert scores.noise_floor().verdict().startswith("Not distinguishable from chance")
        assert (scores.significance().p < 0.05).mean() <= 0.06
        assert scores.significance("pairs").counts(0.05).mean() / 5000 <= 0.06


def test_single_pairs_are_uniform_under_the_null():
    """Independent pairs, of a skewed null with heavy tails."""
    draw = SEED(0).standard_gamma(2, (20_000 + 2000, 4)) ** 1.3
    scores = scores_of(draw[20_000:], null=draw[:20_000].astype(np.float32), block_rows=500)
    judged = np.concatenate([p for _, _, _, p in scores.significance("pairs").blocks()])
    assert all(kstest(column, "uniform").pvalue > 0.001 for column in judged.T)
    assert (judged < 0.05).mean() == pytest.approx(0.05, abs=0.01)
    assert (judged < 0.001).mean() <= 0.002
    assert scores.significance("pairs").discoveries().sum() == 0


def test_q_is_that_of_benjamini_and_hochberg():
    p = np.concatenate([SEED(1).random(500), SEED(2).random(60) * 1e-4, [0.5, 0.5]])
    np.testing.assert_allclose(false_discovery_rates(p), false_discovery_control(p), rtol=1e-12)
    matrix, null = SEED(3).normal(size=(200, 5)), SEED(4).normal(size=(1000, 5)).astype(np.float32)
    matrix[:30] += 5
    pairs = scores_of(matrix, null=null, block_rows=33).significance("pairs")
    flat = np.concatenate([block for _, _, _, block in pairs.blocks()])
    exact = false_discovery_control(flat.ravel()).reshape(flat.shape)
    top = pairs.top(300)
    assert np.all(np.diff(top["p"]) >= 0)
    wanted = exact[top["row"], top["column"]]
    assert np.all(top["q"] >= wanted * (1 - 1e-9)) and np.all(top["q"] <= wanted * 1.011)
    assert pairs.discoveries(0.05).tolist() == (exact <= 0.05).sum(axis=0).tolist()
    assert pairs.counts(0.01).tolist() == (flat <= 0.01).sum(axis=0).tolist()


def test_what_is_planted_is_found():
    null = SEED(0).normal(size=(512, 20)).astype(np.float32)
    matrix = SEED(1).normal(size=(400, 20))
    matrix[7] += 2.5
    matrix[11] -= 2.5
    matrix[200, 3] = 60
    scores = scores_of(matrix, null=null)
    rows = scores.significance()
    assert set(rows.called()) >= {7, 11} and len(rows.called()) <= 4
    assert rows.z[7] > 4 and rows.z[11] < -4
    assert rows.effect[7] == pytest.approx(np.average(matrix[7], weights=scores.weights), abs=1e-5)
    pairs = scores.significance("pairs").top(3)
    assert (pairs["row"][0], pairs["column"][0]) == (200, 3)
    assert pairs["q"][0] < 0.05 and pairs["id"][0] == 2000 and pairs["target"][0] == 1003
    groups = np.arange(400) % 10
    weak = scores_of(SEED(1).normal(size=(400, 20)) + 0.3 * (groups == 4)[:, None], null=null)
    found = weak.significance("groups", groups=groups)
    assert found.called().tolist() == [4] and found.ids[4] == 4
    assert found.effect[4] == pytest.approx(weak.mean_over_targets(even=True)[groups == 4].sum())
    assert weak.for_groups(groups).info["level"] == "group"


def test_p_is_counted_near_and_fitted_far():
    null = SEED(0).normal(size=(512, 1))
    chance = MaskNull(null)
    ordered = np.sort(null[:, 0])
    assert chance.judge(ordered[256:257, None])[1][0, 0] == pytest.approx(1, abs=0.01)
    for beyond in (20, 3, 0):  # whatever the shape of the null
        assert chance.judge(ordered[511 - beyond :][:1, None])[1][0, 0] == pytest.approx(2 * (beyond + 2) / 513)
        assert chance.judge(ordered[beyond : beyond + 1, None])[1][0, 0] == pytest.approx(2 * (beyond + 2) / 513)
    grid = np.linspace(0, 30, 3000)[:, None]
    p = chance.judge(grid)[1][:, 0]
    assert np.all(np.diff(p) <= 0) and 0 < p[-1] < 2e-6
    twice = MaskNull(7 * null - 3).judge(7 * grid - 3)[1][:, 0]
    np.testing.assert_allclose(twice, p, rtol=1e-9)  # of no unit, about no origin
    flat = MaskNull(np.zeros((100, 1))).judge(np.array([[3.0]]))
    assert flat[0] == 0 and flat[1] == 1  # a target that no mask moves says nothing


def test_the_tail_is_that_of_a_power():
    """Beyond the null p is right to a factor, where the tail is a power with an exponent of two."""
    found = []
    for seed in range(40):
        found.append(MaskNull(SEED(seed).standard_t(2, (512, 1))).judge(np.array([[100.0]]))[1][0, 0])
    assert 1 < np.exp(np.mean(np.log(found))) / (2 * student.sf(100, 2)) < 4  # it errs upwards


def test_few_values_have_no_tail_to_fit():
    """Accuracy changes by −1, 0 or 1: where null scores do so too, a score of 1 is nothing."""
    some = np.zeros((512, 2))
    some[:3, 0], some[:3, 1] = 1, -1
    p = MaskNull(some).judge(np.array([[1.0, 1.0], [0.0, -1.0]]))[1]
    np.testing.assert_allclose(p, [[2 * 4 / 513, 2 / 513], [1, 2 * 4 / 513]])


def saturated(seed, rows, share=0.1):
    """Losses of targets of which the network is sure: most masks change nothing at all, a few by orders of magnitude."""
    generator = SEED(seed)
    moved = generator.random((rows, 40)) < share
    size = np.exp(4 * generator.exponential(size=moved.shape))
    return np.where(moved, generator.choice([-1, 1], moved.shape) * size, 0)


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1, 0.4, 0.6])
def test_targets_that_most_masks_do_not_move_have_tails_too(share):
    """Masks without meaning are called as seldom there as elsewhere, in whatever unit."""
    alarms, beyond = 0, []
    for seed in range(20):
        null, rows = saturated(seed, 512, share), saturated(seed + 100, 300, share)
        alarms += scores_of(rows, null=null.astype(np.float32)).significance("pairs").discoveries().sum() > 0
        p = MaskNull(null).judge(rows)[1]
        beyond.append((p < 1e-4).mean())
    assert alarms <= 20 * 0.05 + 3 * (20 * 0.05 * 0.95) ** 0.5
    assert np.mean(beyond) < 1.5e-4
    np.testing.assert_allclose(MaskNull(1e-5 * null).judge(1e-5 * rows)[1], p, rtol=1e-9)
    np.testing.assert_allclose(MaskNull(-null).judge(-rows)[1], p, rtol=1e-9)


def test_planted_pairs_are_called_beside_targets_that_most_masks_do_not_move():
    null, rows = saturated(0, 512), saturated(1, 1000)
    null[:, 20:], rows[:, 20:] = SEED(2).normal(size=(512, 20)), SEED(3).normal(size=(1000, 20))
    planted = [(5, 25), (5, 26), (5, 27), (300, 30), (999, 39)]
    for row, column in planted:
        rows[row, column] = -1000
    pairs = scores_of(rows, null=null.astype(np.float32)).significance("pairs")
    assert np.flatnonzero(pairs.discoveries()).tolist() == [25, 26, 27, 30, 39]
    top = pairs.top(rows.size)
    assert set(zip(top["row"][:5], top["column"][:5], strict=True)) == set(planted)
    assert np.all(np.diff(top["q"]) >= 0) and top["q"][0] > 0 and top["q"][-1] <= 1


def test_the_tail_of_few_masks_is_wide():
    """Of 512 masks one moves the target, or three do: how far the next one does is not known from that."""
    null = np.zeros((512, 3))
    null[0, 0], null[:3, 1], null[:, 2] = 1, [1, 2, 5], 0
    p = MaskNull(null).judge(np.full((1, 3), 1e6))[1][0]
    assert 5e-4 < p[0] <= 2 / 513 and 5e-5 < p[1] < 2 / 513 and p[2] == 1


def test_without_masks_the_way_out_is_named():
    scores = scores_of(SEED(0).normal(size=(10, 3)))
    for of in ("rows", "pairs", "groups"):
        with pytest.raises(WhenceError, match="nothing to compare scores of one run with.*whence.ensemble"):
            scores.significance(of)
    with_null = scores_of(np.zeros((10, 3)), null=np.zeros((100, 3), np.float32))
    with pytest.raises(WhenceError, match="no groups.*groups=run.train.groups"):
        with_null.significance("groups")
    with pytest.raises(WhenceError, match="nothing of that name.*got 'columns'"):
        with_null.significance("columns")
    with pytest.raises(WhenceError, match="not one group per row in groups: got 3, expected 10"):
        with_null.significance("groups", groups=[1, 2, 3])
    with pytest.raises(WhenceError, match="too few null masks"):
        scores_of(np.zeros((10, 3)), null=np.zeros((99, 3), np.float32)).significance()


def test_rows_need_no_matrix(tmp_path):
    null = SEED(0).normal(size=(200, 4)).astype(np.float32)
    matrix = SEED(1).normal(size=(50, 4))
    kept = scores_of(matrix, tmp_path / "a", block_rows=10, null=null).significance()
    lean = scores_of(matrix, tmp_path / "b", block_rows=10, null=null, keep_matrix=False).significance()
    assert np.array_equal(kept.p, lean.p)


def heavy(seed, rows):
    """Scores whose targets differ in size by orders of magnitude and have long tails."""
    return SEED(seed).standard_t(3, size=(rows, 60)) * np.geomspace(1e-4, 1e2, 60)


def test_rows_against_masks_hold_their_level_where_losses_have_long_tails():
    small = [(rows_against_masks(heavy(seed, 1024), heavy(seed + 100, 2000))[1] < 0.01).mean() for seed in range(10)]
    assert 0.007 < np.mean(small) < 0.013


def test_rows_against_masks_see_what_moves_most_targets_and_what_moves_few():
    null, rows = heavy(0, 1024), heavy(1, 3)
    rows[0] += 0.6 * null.std(0)  # most targets a little, which the mean over targets of plain scores does not show
    rows[1, :12] -= 25 * null.std(0)[:12]  # a fifth of them much
    z, p = rows_against_masks(null, rows)
    assert z[0] > 3 and z[1] < -3 and (p[:2] < 0.003).all() and p[2] > 0.05
    unit = np.geomspace(1, 1e6, 60)
    np.testing.assert_allclose(rows_against_masks(null * unit, rows * unit), (z, p), rtol=1e-6)
    still = np.where(np.arange(60) < 30, 0.0, null)
    assert (
        rows_against_masks(still, np.where(np.arange(60) < 30, 1.0, rows))[1][2] > 0.05
    )  # what nothing moves says nothing
    np.testing.assert_array_equal(rows_against_masks(0 * null, rows), ([0, 0, 0], [1, 1, 1]))


def test_pairs_do_not_hold_the_matrix():
    """20,000 × 100 scores: z and p of all would be 32 MB."""
    rows, columns = Labels(np.arange(20_000), [""] * 20_000), Labels(np.arange(100), [""] * 100)
    null = SEED(9).normal(size=(200, 100)).astype(np.float32)
    scores = compute(lambda a, b: SEED(a).normal(size=(b - a, 100)).astype(np.float32), rows, columns, {"method": "m"},
                     block_rows=500, null=lambda: null)  # fmt: skip
    pairs = scores.significance("pairs")
    tracemalloc.start()
    pairs.top(50), pairs.counts(), pairs.discoveries()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24e6


def test_against_runs():
    z, p = RunNull(5).judge(np.array([2.776, 0.0, 1.0]), np.array([1.0, 0.0, 0.0]))
    assert p[0] == pytest.approx(0.05, abs=1e-4)  # the table's t of four degrees of freedom
    assert p[1] == 1 and p[2] < 1e-12
