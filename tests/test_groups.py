"""Group effects: planted harmful groups are found, groups without a trace are not called, and two estimates have to agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

import whence
from tests.toys import blobs, network, trained
from whence import groups
from whence.groups import VERDICTS, group_effects
from whence.significance import false_discovery_rates, rows_against_masks


def corrupted(seed=0, groups=10, bad=(0, 1), share=0.8, keep=0.5, where=("1",), epochs=30, **options):
    """A run on blobs of which most labels of some groups are wrong, its groups numbered from zero."""
    data = blobs(300, seed=seed, groups=groups, spread=1.2)
    generator = np.random.default_rng(seed)
    members = data.groups - 10**12
    wrong = np.isin(members, bad) & (generator.random(300) < share)
    data = replace(data, groups=members, targets=np.where(wrong, (data.targets + 1) % 3, data.targets))
    return whence.fit(network(6, 256, 3, keep=keep, where=where, seed=seed), data, dev=blobs(80, seed=1, start=1000, spread=1.2),
                      test=blobs(30, seed=2, start=2000, spread=1.2), epochs=epochs, learning_rate=5e-3, device="cpu", **options)  # fmt: skip


@pytest.fixture(scope="module")
def planted():
    run = corrupted()
    return run, group_effects(run)


def called(effects, verdict):
    return {int(group) for group, said in zip(effects.ids, effects.verdicts, strict=True) if said == verdict}


def test_planted_harmful_groups_are_found_and_no_other(planted):
    run, effects = planted
    assert called(effects, "harms") == {0, 1}
    bad = np.isin(effects.ids, (0, 1))
    assert (effects.effect[bad] < 0).all()
    assert (effects.kernel[bad] < 0).all()
    assert (effects.z[bad] < 0).all()
    assert set(effects.ids[effects.ranking()[:2]].tolist()) == {0, 1}
    assert effects.members.tolist() == [30] * 10
    assert effects.sentence().startswith("2 of 10 groups harm and ") and effects.sentence() in repr(effects)


def test_effects_are_the_means_of_both_estimators(planted):
    run, effects = planted
    published = whence.influence(run, "dev", method="turnover", null_masks=1024)
    expected = np.average(np.asarray(published) - published.null.mean(0), axis=1, weights=published.weights)
    np.testing.assert_allclose(effects.effect, expected, atol=1e-6)
    kernel = whence.influence(run, "dev", method="kronecker", level="group")
    assert kernel.ids.tolist() == effects.ids.tolist()
    np.testing.assert_allclose(effects.kernel, kernel.mean_over_targets(even=True), rtol=1e-4, atol=1e-8)
    assert effects.unit == "nats"
    np.testing.assert_allclose(effects.q, false_discovery_rates(effects.p))


def test_p_is_counted_on_the_side_of_the_kernel(planted):
    run, effects = planted
    alone = group_effects(run, kernel=None)
    np.testing.assert_array_equal(alone.z, effects.z)
    np.testing.assert_array_equal(alone.p, rows_against_masks(alone.published.null, np.asarray(alone.published))[1])
    same = np.sign(effects.kernel) == np.sign(effects.z)
    np.testing.assert_allclose(effects.p, np.where(same, alone.p / 2, 1 - alone.p / 2))
    assert alone.alone == "no kernel scores were asked for"


def test_a_verdict_takes_all_signs_and_the_level(planted):
    effects = planted[1]
    row = int(np.flatnonzero(effects.ids == 0)[0])
    assert effects.verdicts[row] == "harms"
    for name in ("effect", "z", "kernel"):
        other = getattr(effects, name).copy()
        other[row] *= -1
        assert replace(effects, **{name: other}).verdicts[row] == "not distinguishable"
    assert replace(effects, level=effects.q[row] / 2).verdicts[row] == "not distinguishable"
    flipped = {name: -getattr(effects, name) for name in ("effect", "z", "kernel")}
    assert replace(effects, **flipped).verdicts[row] == "helps"


def test_groups_without_a_trace_are_called_at_no_more_than_the_level():
    """New group ids after training: their masks were never trained on. Each draw is called at all with probability 0.05."""
    draws, anyone, small = 0, 0, []
    for seed in range(6):
        generator = np.random.default_rng(seed)
        model_run = trained(groups=10, widths=(6, 64, 3), n=200, epochs=20 if seed % 2 else 4, seed=seed)
        for _ in range(25):
            owners = generator.choice(2**40, 20, replace=False)[generator.integers(0, 20, 200)].astype(np.int64)
            run = whence.Run(model_run.model, replace(model_run.train, groups=owners), dev=model_run.splits["dev"])
            effects = group_effects(run, kernel="kernel")
            anyone += effects.counts()["not distinguishable"] < len(effects)
            small.append((effects.p < 0.05).mean())
            draws += 1
    assert anyone <= 16  # of 150, where 7.5 are expected: as many by chance in 3 of 1,000 cases
    assert 0.03 < np.mean(small) < 0.07


def test_clean_groups_at_random_are_not_said_to_harm():
    judged = [group_effects(corrupted(seed=seed, bad=(), epochs=15)) for seed in range(12)]
    assert sum(effects.counts()["harms"] > 0 for effects in judged) <= 2  # three or more by chance: 2 in 100


def test_a_metric_without_a_gradient_has_published_effects_alone():
    run = corrupted(share=1.0)
    effects = group_effects(run, quantity="accuracy")
    assert effects.kernel is None
    assert effects.alone == "accuracy has no gradient"
    assert effects.basis().endswith("alone, because accuracy has no gradient")
    assert (effects.effect[np.isin(effects.ids, (0, 1))] < 0).all()  # more accuracy is better: positive still helps
    assert called(effects, "harms") <= {0, 1}
    assert effects.table()["kernel_effect"].null_count == 10
    with pytest.raises(whence.WhenceError, match=r"only one estimate.*accuracy has no gradient.*effects\.published"):
        effects.agreed()


def test_other_keep_rates_have_no_bias():
    run = corrupted(keep=0.8, share=1.0)
    raw = whence.influence(run, "dev", method="turnover")
    assert raw.null.mean() > 0.1  # flipped masks have fewer units and do worse, whoever was trained on them
    effects = group_effects(run)
    bad = np.isin(effects.ids, (0, 1))
    assert (np.asarray(raw).mean(1)[bad] > effects.effect[bad]).all()
    assert called(effects, "helps").isdisjoint({0, 1})


def test_agreed_scores_are_those_of_the_kernel_or_zero(planted):
    run, _ = planted
    effects = group_effects(run, "test")
    agreed = effects.agreed()
    published, kernel = np.asarray(effects.published) - effects.published.null.mean(0), np.asarray(effects.summed)
    same = published * kernel > 0
    assert 0 < same.mean() < 1
    np.testing.assert_array_equal(np.asarray(agreed), np.where(same, kernel, 0))
    assert agreed.info["level"] == "group"
    assert agreed.info["method"] == "kronecker where turnover agrees"
    top = agreed.top(3)
    assert top.values.shape == (30, 3)
    assert (np.diff(top.values, axis=1) <= 0).all()
    assert agreed.rows.names == effects.names
    np.testing.assert_allclose(agreed.mean_over_targets(), np.asarray(agreed).mean(1), atol=1e-6)


def test_kernel_scores_that_are_made_already(planted):
    run, effects = planted
    instances = whence.influence(run, "dev", method="kronecker", level="instance")
    given = group_effects(run, kernel=instances)
    sums = np.zeros(10)
    np.add.at(sums, instances.rows.groups, instances.mean_over_targets(even=True))
    np.testing.assert_allclose(given.kernel, sums[given.ids], rtol=1e-4)
    assert (
        np.corrcoef(given.kernel, effects.kernel)[0, 1] > 0.98
    )  # instances and groups differ in which targets they move
    assert given.verdicts == effects.verdicts
    np.testing.assert_allclose(np.asarray(given.agreed()), np.asarray(effects.agreed()), rtol=1e-3, atol=1e-6)
    with pytest.raises(whence.WhenceError, match=r"kernel scores of other targets.*all 80 targets"):
        group_effects(run, kernel=whence.influence(run, "test", method="kronecker"))
    with pytest.raises(whence.WhenceError, match=r"kernel scores of another run or quantity.*quantity_fingerprint"):
        group_effects(run, kernel=whence.influence(run, "dev", method="kronecker", quantity="margin"))
    with pytest.raises(whence.WhenceError, match=r"kernel scores of another run or quantity.*got run"):
        group_effects(corrupted(seed=3, epochs=1), kernel=instances)
    with pytest.raises(whence.WhenceError, match=r"scores of masks in place of kernel scores.*turnover"):
        group_effects(run, kernel=whence.influence(run, "dev", method="turnover"))


def test_many_targets_are_sampled_evenly(planted, monkeypatch):
    run, whole = planted
    monkeypatch.setattr(groups, "_PRODUCTS", (10 + 1024) * 40)
    effects = group_effects(run, kernel=whence.influence(run, "dev", method="kronecker"))
    assert (effects.targets, effects.among) == (40, 80)
    dev = run.splits["dev"].ids
    assert effects.published.targets.tolist() == dev[np.linspace(0, 79, 40).round().astype(int)].tolist()
    assert "(loss on dev, 40 of 80 instances)" in effects.sentence()
    assert called(effects, "harms") == {0, 1}
    columns = [dev.tolist().index(target) for target in effects.published.targets]
    kernel = np.asarray(effects.summed.for_groups())[:, columns]
    agreed = np.asarray(effects.agreed())
    np.testing.assert_array_equal(agreed[agreed != 0], kernel[agreed != 0])
    assert whole.targets == whole.among == 80


def test_masks_before_further_layers_cost_passes(monkeypatch):
    run = trained(groups=4, widths=(6, 16, 8, 3), where=("1",), epochs=2)
    monkeypatch.setattr(groups, "_PASSES", 204 * 33)
    effects = group_effects(run, null_masks=200)
    assert (effects.targets, effects.among) == (33, 40)


@pytest.mark.parametrize("count", [1, 120])
def test_one_group_and_groups_of_one(count):
    run = trained(groups=count, epochs=3)
    effects = group_effects(run)
    assert len(effects) == count
    assert effects.members.sum() == 120
    assert set(effects.verdicts) <= set(VERDICTS)
    assert np.isfinite(np.stack([effects.effect, effects.z, effects.p, effects.q, effects.kernel])).all()
    assert ((effects.p >= 0) & (effects.p <= 1)).all()


def test_groups_of_dev_alone_are_not_judged():
    train, dev = blobs(90, groups=3), blobs(40, seed=1, start=1000, groups=5)
    run = whence.fit(network(6, 32, 3), train, dev=dev, epochs=2, device="cpu")
    effects = group_effects(run)
    assert sorted(effects.ids.tolist()) == sorted(set(train.groups.tolist()))


def test_regression_is_judged_too():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 6)).astype(np.float32)
    y = x @ np.ones(6, np.float32) / 2
    owners = np.arange(300) % 8
    clean = y.copy()
    y[owners == 0] *= -1
    data = replace(whence.Dataset.of((np.arange(240), x[:240], y[:240])), groups=owners[:240])
    run = whence.fit(network(6, 256, 1), data, dev=(np.arange(1000, 1060), x[240:], clean[240:]), epochs=30, learning_rate=5e-3,
                     device="cpu")  # fmt: skip
    effects = group_effects(run)
    assert effects.unit == "squared error over the training variance"
    assert called(effects, "harms") == {0}
    assert effects.kernel[effects.ids == 0] < 0


def test_splits_of_any_name_are_targets(tmp_path):
    run = trained(groups=3, epochs=1, out=tmp_path / "run")
    run.splits["../b c"] = run.splits["dev"]
    assert group_effects(run, "../b c").target_set == "../b c"
    assert {path.parent for path in (tmp_path / "run" / "scores").iterdir()} == {tmp_path / "run" / "scores"}


def test_stored_runs_judge_again_alike(tmp_path):
    run = trained(groups=5, epochs=3, out=tmp_path / "run")
    first = group_effects(run)
    again = group_effects(run)
    assert again.table().equals(first.table())
    for other in (
        group_effects(run, quantity="margin"),
        group_effects(run, "test"),
        group_effects(run, null_masks=200),
    ):
        assert len(other) == 5  # scores of other settings have other names, so none are refused
    assert len({path.name for path in (tmp_path / "run" / "scores").iterdir()}) >= 6


def test_lines_are_safe_for_a_terminal(planted):
    effects = replace(planted[1], names=["a\x1b[31m\u202e b\nc", *planted[1].names[1:]])
    lines = effects.lines(show=10)
    assert all(line.isprintable() for line in lines)
    assert lines[0] == effects.sentence()
    assert "a\ufffd[31m\ufffd b c" in "\n".join(lines)
    assert len(lines) == 13
    assert effects.lines(show=3)[-2] == "… and 7 more groups in the table"
    assert len(effects.lines(show=0)) == 2
    assert lines[2].endswith("harms")
    assert lines[-1] == ("positive effects help, in nats; by published turn-over against 1,024 masks never trained on, q ≤ 0.05, "
                         "and summed kronecker scores of the same sign")  # fmt: skip


def test_bad_input_is_refused():
    run, alone = trained(groups=3, epochs=1), trained(epochs=1)
    with pytest.raises(whence.WhenceError, match=r"no groups.*whence fit --group COLUMN"):
        group_effects(alone)
    for level in (0.0, 1.0):
        with pytest.raises(whence.WhenceError, match=r"out of range.*level.*between 0 and 1"):
            group_effects(run, level=level)
    with pytest.raises(whence.WhenceError, match=r"unknown kernel.*'first_order'.*auto, kronecker, kernel"):
        group_effects(run, kernel="first_order")
    with pytest.raises(whence.WhenceError, match="no split named 'deb'"):
        group_effects(run, "deb")


def test_an_audit_judges_groups(tmp_path):
    run = corrupted(out=tmp_path / "run")
    audit = whence.audit(run)
    assert called(audit.groups, "harms") == {0, 1}
    again = whence.influence(run, "dev", level="instance").mean_over_targets(even=True)
    members = run.train.groups == audit.groups.ids[0]
    np.testing.assert_allclose(audit.groups.kernel[0], again[members].sum(), rtol=1e-5)
    table = pq.read_table(tmp_path / "run" / "groups.parquet")
    judged = ["id", "name", "members", "effect", "z", "p", "q", "kernel_effect", "verdict", "effect_low",
              "effect_high"]  # fmt: skip
    assert table.column_names == [*judged, "suspected", "expected_errors"]
    assert table.select(judged).equals(audit.groups.table().take(audit.groups.ranking()))
    for group, expected in zip(table["id"].to_pylist(), table["expected_errors"].to_pylist(), strict=True):
        assert expected == pytest.approx(audit.column("p_wrong")[run.train.groups == group].sum())
    assert sum(table["suspected"].to_pylist()) == len(audit.issues)
    assert set(table["id"].to_pylist()[:2]) == {0, 1}
    by_masks = whence.audit(run, method="turnover").groups
    assert by_masks.summed.info["method"] == "kronecker"
    without = whence.open_run(tmp_path / "run", model=network(6, 256, 3), train=run.train)
    unjudged = whence.audit(without)
    assert unjudged.groups is None
    table = pq.read_table(tmp_path / "run" / "groups.parquet")
    assert table.equals(unjudged.sources)
    assert set(table["id"].to_pylist()[:2]) == {0, 1}, "the corrupted ones have the most wrong labels"


def test_another_run_in_its_place_has_no_verdicts_of_the_old(tmp_path):
    old = trained(groups=3, epochs=1, out=tmp_path / "run")
    whence.audit(old)
    assert (tmp_path / "run" / "groups.parquet").exists()
    new = trained(groups=3, epochs=2)
    whence.Run(new.model, new.train, dev=new.splits["dev"], out=tmp_path / "run", replace=True)
    assert not (tmp_path / "run" / "groups.parquet").exists()


def test_an_audit_without_groups_or_dev_judges_none():
    assert whence.audit(trained(epochs=1)).groups is None
    alone = whence.fit(network(6, 32, 3), blobs(60, groups=3), epochs=1, device="cpu")
    assert whence.audit(alone).groups is None


def test_intervals_are_as_wide_as_masks_never_trained_on_scatter(planted):
    _, effects = planted
    low, high = effects.interval()
    null = np.asarray(effects.published.null, np.float64) @ effects.published.weights / effects.targets
    np.testing.assert_allclose(effects.effect - low, np.quantile(null, 0.975) - null.mean())
    np.testing.assert_allclose(high - effects.effect, null.mean() - np.quantile(null, 0.025))
    narrow = effects.interval(0.5)
    assert (narrow[0] > low).all() and (narrow[1] < high).all()
    assert (high[np.isin(effects.ids, (0, 1))] < 0).all(), "the corrupted groups harm"


def test_intervals_of_groups_without_a_trace_contain_zero(planted):
    """Scores of masks never trained on, taken for groups: 95 % of their intervals hold zero, as they should."""
    _, effects = planted
    null = np.asarray(effects.published.null)
    half = len(null) // 2
    published = replace(effects.published, null=null[:half])
    drawn = (null[half:] - null[:half].mean(axis=0, dtype=np.float64)) @ published.weights / effects.targets
    low, high = replace(effects, effect=drawn, published=published).interval()
    assert 0.92 < ((low <= 0) & (high >= 0)).mean() < 0.98
