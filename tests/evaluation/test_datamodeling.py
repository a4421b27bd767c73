"""The linear datamodeling score against a slow oracle, and where its value is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.evaluation.truths import planted, scores_of, truth_of
from whence import WhenceError
from whence.evaluation import lds


def oracle(matrix, truth):
    """Target by target, subset by subset."""
    found = []
    for target in range(matrix.shape[1]):
        ahead, real = [], []
        for subset in range(len(truth.members)):
            ahead.append(sum(float(matrix[row, target]) for row in range(len(matrix)) if truth.members[subset, row]))
            real.append(-sum(float(loss) for loss in truth.values["loss"][subset, :, target]) / truth.seeds)
        found.append(spearmanr(ahead, real)[0])
    return np.array(found)


def test_it_equals_the_oracle():
    effects, truth = planted(noise=1.0)
    matrix = (effects + np.random.default_rng(1).normal(size=effects.shape)).astype(np.float32)
    found = lds(matrix, truth)
    np.testing.assert_allclose(found.per_target, oracle(matrix, truth), rtol=1e-12)
    assert float(found) == pytest.approx(oracle(matrix, truth).mean())


def test_scores_that_made_the_truth_are_perfect():
    effects, truth = planted()
    found = lds(effects, truth)
    assert float(found) == pytest.approx(1) and found.standard_error < 1e-12
    assert found.ceiling == pytest.approx(1) and found.left_out == 0
    assert float(lds(-effects, truth)) == pytest.approx(-1)


def test_order_and_scale_do_not_matter():
    effects, truth = planted(noise=1.0)
    generator = np.random.default_rng(2)
    matrix = (effects + generator.normal(size=effects.shape)).astype(np.float32)
    rows, columns = generator.permutation(30), generator.permutation(7)
    shuffled = scores_of(matrix[np.ix_(rows, columns)], truth.rows.ids[rows], truth.targets.ids[columns], block_rows=8)
    np.testing.assert_allclose(lds(shuffled, truth).per_target, lds(matrix, truth).per_target, rtol=1e-12)
    scaled = matrix * generator.uniform(0.5, 20, 7)
    np.testing.assert_allclose(lds(scaled, truth).per_target, lds(matrix, truth).per_target, rtol=1e-12)


def test_random_scores_are_chance():
    _, truth = planted(m=200, subsets=50)
    found = lds(np.random.default_rng(3).normal(size=(30, 200)), truth)
    assert abs(float(found)) < 4 / math.sqrt(200 * 30)


@pytest.mark.parametrize(("noise", "seeds"), [(1.0, 2), (1.0, 4), (2.0, 3)])
def test_the_ceiling_is_what_perfect_scores_reach(noise, seeds):
    effects, truth = planted(noise=noise, seeds=seeds, m=60, subsets=200)
    found = lds(effects, truth)
    assert found.ceiling == pytest.approx(1 / math.sqrt(1 + noise**2 / seeds), abs=0.03)
    assert found.ceiling == pytest.approx(float(found), abs=0.03)
    assert math.isnan(lds(effects, truth_of(-truth.values["loss"][:, :1], truth.members)).ceiling)


def test_the_standard_error_is_the_deviation_over_subsets():
    values, errors = [], []
    for seed in range(60):
        effects, truth = planted(noise=2.0, m=3, subsets=40, n=12, seed=seed)
        found = lds(effects, truth, rounds=60)
        values.append(float(found))
        errors.append(found.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.35)
    assert lds(effects, truth, seed=4).standard_error == lds(effects, truth, seed=4).standard_error
    assert lds(effects, truth, seed=4).standard_error != lds(effects, truth, seed=5).standard_error


def test_constant_truth_is_left_out_and_constant_scores_are_chance():
    effects, truth = planted()
    truth.values["loss"][:, :, 2] = 0.7
    found = lds(np.where(np.arange(7) == 4, 0.1, effects), truth)
    assert found.left_out == 1 and np.isnan(found.per_target[2])
    assert found.per_target[4] == 0
    assert float(found) == pytest.approx(5 / 6)
    assert "1 targets of constant loss left out" in found.summary()
    truth.values["loss"][:] = 1.0
    with pytest.raises(WhenceError, match="a ground truth that never changes"):
        lds(effects, truth)


def test_instances_are_summed_over_groups():
    effects, groups_truth = planted()
    owners = np.random.default_rng(0).integers(0, 30, 100)
    owners[:30] = np.arange(30)
    truth = truth_of(-groups_truth.values["loss"], groups_truth.members, owners=owners)
    shares = effects[owners] / np.bincount(owners)[owners][:, None]
    order = np.random.default_rng(1).permutation(100)
    scores = scores_of(shares[order], truth.instances.ids[order], truth.targets.ids, block_rows=33)
    assert float(lds(scores, truth)) > 0.999
    assert float(lds(shares, truth)) > 0.999
    assert float(lds(scores_of(effects, truth.rows.ids, truth.targets.ids, level="group"), truth)) > 0.999


def test_mistakes():
    effects, truth = planted()
    with pytest.raises(WhenceError, match="training rows that do not match by id"):
        lds(scores_of(effects, truth.rows.ids + 1, truth.targets.ids), truth)
    with pytest.raises(WhenceError, match="targets that do not match by id"):
        lds(scores_of(effects[:, :6], truth.rows.ids, truth.targets.ids[:6]), truth)
    with pytest.raises(WhenceError, match="scores of groups, but a ground truth of instances"):
        lds(scores_of(effects, truth.rows.ids, truth.targets.ids, level="group"), truth)
    with pytest.raises(WhenceError, match="another shape"):
        lds(effects[:5], truth)
    with pytest.raises(WhenceError, match="a quantity that was not measured"):
        lds(effects, truth, quantity="margin")
    with pytest.raises(WhenceError, match="not of random subsets"):
        lds(effects, truth_of(-truth.values["loss"], truth.members, kind="removal"))
