"""Leave-one-out, memorization, wrong labels and agreement where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import roc_auc_score

from tests.evaluation.truths import planted, scores_of, truth_of
from whence import WhenceError
from whence.evaluation import agreement, leave_one_out, memorization_agreement, mislabel_auc
from whence.evaluation.subsets import left_out, random_subsets

ROWS = 100 + np.arange(20)


def removals(noise, seeds=3):
    """Effects of leaving out each of rows 4 … 15 by a model that loses just its effect."""
    generator = np.random.default_rng(0)
    effects = generator.normal(size=(20, 5))
    members = left_out(ROWS, [[row] for row in ROWS[4:16]])
    goodness = (members @ effects)[:, None] + noise * generator.normal(size=(len(members), seeds, 5))
    return effects, truth_of(goodness, members, kind="leave_one_out")


def test_leave_one_out_of_an_additive_model():
    effects, truth = removals(noise=0)
    found = leave_one_out(scores_of(effects[::-1], ROWS[::-1], truth.targets.ids), truth)
    np.testing.assert_array_equal(found.rows, np.arange(4, 16))
    np.testing.assert_allclose(found.effect, effects[4:16], atol=1e-5)
    np.testing.assert_allclose([*found.pearson, *found.spearman, found.mean_pearson, found.mean_spearman], 1)
    assert found.reliability == pytest.approx(1)
    assert "Spearman 1.000 per target" in found.summary()


def test_leave_one_out_correlates_over_the_rows_left_out():
    effects, truth = removals(noise=1.0)
    found = leave_one_out(effects, truth)
    real = -truth.values["loss"].astype(float)
    real = (real[:1] - real[1:]).mean(axis=1)
    for target in range(5):
        assert found.pearson[target] == pytest.approx(pearsonr(effects[4:16, target], real[:, target])[0])
        assert found.spearman[target] == pytest.approx(spearmanr(effects[4:16, target], real[:, target])[0])
    assert found.mean_spearman == pytest.approx(spearmanr(effects[4:16].mean(1), real.mean(1))[0])
    assert 0.3 < found.reliability < 0.95
    with pytest.raises(WhenceError, match="leaves out no three rows"):
        leave_one_out(effects, planted()[1])


def test_memorization_of_planted_probabilities():
    generator = np.random.default_rng(0)
    members = random_subsets(ROWS, 400, 0.5, 0)
    memorized = np.linspace(0, 0.9, 20)
    chance = 0.05 + memorized * members
    correct = generator.random((400, 2, 20)) < chance[:, None]
    truth = truth_of(np.zeros((400, 2, 3)), members, train_correct=correct)
    found = memorization_agreement(memorized, truth)
    np.testing.assert_allclose(found.memorization, memorized, atol=0.12)
    assert found.pearson > 0.98 and found.spearman > 0.97 and found.reliability > 0.98
    assert memorization_agreement(-memorized, truth).pearson < -0.98
    noise = truth_of(np.zeros((400, 2, 3)), members, train_correct=generator.random((400, 2, 20)) < 0.5)
    assert memorization_agreement(memorized, noise).reliability < 0.6
    with pytest.raises(WhenceError, match="does not judge training instances"):
        memorization_agreement(memorized, planted()[1])
    with pytest.raises(WhenceError, match="not one estimate per training instance"):
        memorization_agreement(memorized[:-1], truth)


def test_an_instance_always_in_has_no_memorization():
    members = random_subsets(ROWS, 30, 0.5, 0)
    members[:, 3] = True
    truth = truth_of(np.zeros((30, 1, 2)), members, train_correct=members[:, None] | (ROWS % 2 == 0))
    found = memorization_agreement(np.where(ROWS % 2, 1.0, 0.0), truth)
    assert np.flatnonzero(np.isnan(found.memorization)).tolist() == [3]
    assert found.pearson == pytest.approx(1)


def test_wrong_labels():
    suspicion, wrong = np.array([0.9, 0.1, 0.8, 0.4, 0.35]), np.array([1, 0, 0, 1, 0], bool)
    found = mislabel_auc(suspicion, wrong)
    assert float(found) == pytest.approx(5 / 6) == roc_auc_score(wrong, suspicion)
    assert found.average_precision == pytest.approx((1 + 2 / 3) / 2)
    with pytest.raises(WhenceError, match="all right or all wrong"):
        mislabel_auc(suspicion, wrong & False)
    with pytest.raises(WhenceError, match="not one finite suspicion per label"):
        mislabel_auc(np.array([np.nan] * 5), wrong)


def test_agreement_matches_ids():
    generator = np.random.default_rng(0)
    a = generator.normal(size=(20, 6)).astype(np.float32)
    b = (a + generator.normal(size=a.shape)).astype(np.float32)
    rows, columns = generator.permutation(20), generator.permutation(6)
    targets = 900 + np.arange(6)
    found = agreement(
        scores_of(a, ROWS, targets), scores_of(b[np.ix_(rows, columns)], ROWS[rows], targets[columns], block_rows=7)
    )
    np.testing.assert_allclose(found.per_target, [spearmanr(a[:, m], b[:, m])[0] for m in range(6)])
    assert found.of_means == pytest.approx(spearmanr(a.mean(1), b.mean(1))[0])
    assert float(found) == pytest.approx(found.per_target.mean())
    with pytest.raises(WhenceError, match="training rows that do not match by id"):
        agreement(scores_of(a, ROWS, targets), scores_of(b, ROWS + 1, targets))
    with pytest.raises(WhenceError, match="different levels"):
        agreement(scores_of(a, ROWS, targets), scores_of(b, ROWS, targets, level="group"))
