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
from whence.significance import false_discovery_rates


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
    assert [amount.of(40) for amount in amounts_of("1%,10", "drop")] == [1, 10]


def test_of_one_run_p_is_that_of_a_t_test_over_dev(run):
    scores = scored(run, "kernel")
    weighted = np.asarray(scores, np.float64) * scores.weights
    wanted = stats.ttest_1samp(weighted, 0, axis=1, alternative="less").pvalue
    found = harm(run, "kernel")
    np.testing.assert_allclose(found.p, wanted, rtol=0.02)
    np.testing.assert_allclose(found.mean, scores.mean_over_targets(even=True), rtol=1e-5)


def test_published_scores_are_held_against_masks_never_trained_on(run):
    found = harm(run, "turnover")
    judged = scored(run, "turnover").significance()
    null = scored(run, "turnover").null @ scored(run, "turnover").weights / 40
    np.testing.assert_allclose(found.mean, judged.effect - null.mean(), atol=1e-9)
    low = judged.z < 0
    np.testing.assert_allclose(found.p[low], judged.p[low] / 2)
    assert "masks never trained on" in found.basis


def test_the_spread_over_runs_is_part_of_chance(run):
    scores = scored(run, "kernel")
    means, errors = means_and_errors(run, scores)
    agreeing = pooled(
        np.stack([means, 3 * means]), np.stack([errors, 3 * errors]), scores
    )  # another scale is no disagreement
    np.testing.assert_allclose(agreeing.mean, means)
    np.testing.assert_allclose(agreeing.p, harm(run, "kernel").p, rtol=1e-6)
    opposed = pooled(np.stack([means, means[::-1]]), np.stack([errors, errors[::-1]]), scores)
    assert opposed.p.min() > agreeing.p.min() and "2 runs" in opposed.basis
    # Rows without an effect, whose runs differ more than dev instances do: few runs are few degrees of freedom.
    generator = np.random.default_rng(0)
    nothing = pooled(generator.normal(size=(3, 20000)), np.full((3, 20000), 0.1), scores)
    assert (nothing.p < 1e-3).mean() < 2e-3 and (false_discovery_rates(nothing.p) <= 0.05).sum() < 5


def test_only_rows_that_harm_are_dropped_the_worst_first(run):
    found = rows_by_harm(run, "kernel")
    means = harm(run, "kernel").mean
    assert (means[found.order] < 0).all() and len(found.order) == (means < 0).sum()
    assert (np.diff(means[found.order]) >= 0).all()
    np.testing.assert_allclose(found.q, false_discovery_rates(harm(run, "kernel").p))
    significant = found.first(Amount("significant"))
    assert set(significant) == set(np.flatnonzero((found.q <= 0.05) & (means < 0)))
    assert 0 <= found.sure(found.order[:10]) <= found.sure(found.order)
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
    assert (
        found.order.tolist() == [7, 3] and found.sure(found.order) is None and np.isnan(found.false_share(found.order))
    )
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
