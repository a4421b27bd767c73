"""Which rows are chosen, in which order, and how sure that is."""

import numpy as np
import pytest
from scipy import stats

import whence
from tests.cleansing.noisy import noisy
from tests.toys import trained
from whence.cleansing.amounts import Amount, amounts_of
from whence.cleansing.choosing import groups_by_effect, labels_to_mend, rows_by_harm, rows_by_suspicion, rows_given
from whence.cleansing.harm import harm, means_and_errors, pooled, scored
from whence.errors import WhenceError


@pytest.fixture(scope="module")
def run():
    return trained(n=150)


@pytest.fixture(scope="module")
def grouped():
    return noisy(n=160, groups=8)[0]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("1%", [Amount("1%", share=0.01)]),
        (0.02, [Amount("2%", share=0.02)]),
        ("1%, 5%,30", [Amount("1%", share=0.01), Amount("5%", share=0.05), Amount("30", count=30)]),
        (7, [Amount("7", count=7)]),
        (["significant"], [Amount("significant")]),
    ],
)
def test_amounts_are_shares_or_counts(given, found):
    assert list(amounts_of(given, "drop")) == found


@pytest.mark.parametrize("given", ["", "x", "-1%", "0", "60%", 1.5, "1%,", True, [], "nan", "inf", "1e400%", None])
def test_anything_else_is_no_amount(given):
    with pytest.raises(WhenceError, match=r"amount|share that cannot") as error:
        amounts_of(given, "drop")
    assert "drop" in str(error.value)


def test_an_amount_of_few_rows_is_at_least_one():
    assert [amount.of(40, 3) for amount in amounts_of("1%,10,significant", "drop")] == [1, 10, 3]


def test_of_one_run_p_is_that_of_a_t_test_over_dev(run):
    scores = scored(run, "kernel")
    weighted = np.asarray(scores, np.float64) * scores.weights
    wanted = stats.ttest_1samp(weighted, 0, axis=1, alternative="less").pvalue
    found = harm(run, "kernel")
    np.testing.assert_allclose(found.p, wanted, rtol=1e-6)
    np.testing.assert_allclose(found.mean, scores.mean_over_targets(even=True), rtol=1e-5)


def test_published_scores_are_held_against_masks_never_trained_on(run):
    found = harm(run, "turnover")
    judged = scored(run, "turnover").significance()
    np.testing.assert_array_equal(found.mean, judged.effect)
    low = judged.z < 0
    np.testing.assert_allclose(found.p[low], judged.p[low] / 2)
    assert "masks never trained on" in found.basis


def test_the_spread_over_runs_is_part_of_chance(run):
    scores = scored(run, "kernel")
    means, errors = means_and_errors(scores)
    agreeing = pooled(
        np.stack([means, 3 * means]), np.stack([errors, 3 * errors]), scores
    )  # another scale is no disagreement
    np.testing.assert_allclose(agreeing.mean, means)
    np.testing.assert_allclose(agreeing.p, harm(run, "kernel").p, atol=0.02)  # nearly as many degrees of freedom
    opposed = pooled(np.stack([means, means[::-1]]), np.stack([errors, errors[::-1]]), scores)
    assert opposed.p.min() > agreeing.p.min() and "2 runs" in opposed.basis


def test_only_rows_that_harm_are_dropped_the_worst_first(run):
    found = rows_by_harm(run, "kernel")
    means = harm(run, "kernel").mean
    assert (means[found.order] < 0).all() and len(found.order) == (means < 0).sum()
    assert (np.diff(means[found.order]) >= 0).all() and (np.diff(found.q[found.order]) >= 0).all()
    first = found.first(Amount("3", count=3))
    assert first.tolist() == found.order[:3].tolist()
    assert found.first(Amount("all", count=10**6)).tolist() == found.order.tolist()
    assert "mean influence on dev -" in found.reason(int(first[0]), 0) and "number 1 of 150" in found.reason(
        int(first[0]), 0
    )


def test_suspected_labels_are_those_of_the_audit(run):
    audit = whence.audit(run)
    for found in (rows_by_suspicion(run), labels_to_mend(run)):
        assert found.order.tolist() == audit.issues.tolist()
    wrong = 1 - audit.column("p_wrong")[audit.issues]
    np.testing.assert_allclose(found.q[found.order], np.cumsum(wrong) / np.arange(1, len(wrong) + 1))
    assert run.task.show(found.targets) == audit.table["suggested_label"].to_pylist()


def test_a_list_of_ones_own_keeps_its_order(run):
    ids = run.train.ids[[7, 3, 7]]
    found = rows_given(run, ids)
    assert found.order.tolist() == [7, 3] and np.isnan(found.false_share(found.order))
    with pytest.raises(WhenceError, match="no training instance of that id in rows: got 5"):
        rows_given(run, [5])


def test_groups_go_by_both_estimates(grouped):
    found = groups_by_effect(grouped, "auto")
    effects = whence.group_effects(grouped, "dev")
    assert found.level == "group" and len(found.names) == 8
    assert (effects.effect[found.order] < 0).all() and (effects.kernel[found.order] < 0).all()
    rows = found.rows(found.order[:1])
    assert set(grouped.train.groups[rows]) == {effects.ids[found.order[0]]} and rows.sum() == 20


def test_instances_whose_groups_share_masks_are_not_told_apart_by_masks(grouped):
    with pytest.raises(WhenceError, match=r"cannot be told apart in method turnover.*--groups"):
        rows_by_harm(grouped, "turnover")
    assert len(rows_by_harm(grouped, "kernel").names) == 160


def test_without_dev_there_is_nothing_to_choose_by():
    run = trained(n=60)
    del run.splits["dev"]
    with pytest.raises(WhenceError, match=r"no dev split to score on.*p_wrong"):
        rows_by_harm(run, "kernel")
    assert len(rows_by_suspicion(run).names) == 60
