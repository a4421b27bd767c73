"""Two runs: what they share, what differs, and whether they agree; and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import whence
from tests.reporting.conftest import corrupted, numbers, pictures, texts, trained
from whence import auditing
from whence.comparison import Comparison, compare
from whence.comparison.shared import pairs_of
from whence.data import Classification, Regression
from whence.data.inputs import TextInputs
from whence.errors import WhenceError
from whence.evaluation import agreement
from whence.run import Run
from whence.subnetworks import losses, probabilities


@pytest.fixture(scope="module")
def first() -> Run:
    return trained(pictures(), epochs=3)


@pytest.fixture(scope="module")
def other_seed() -> Run:
    return trained(pictures(), epochs=3, seed=1)


@pytest.fixture(scope="module")
def seeds(first: Run, other_seed: Run) -> Comparison:
    return compare(first, other_seed, limit=12)


def test_predictions_meet_by_id(seeds: Comparison, first: Run, other_seed: Run) -> None:
    test = first.splits["test"]
    right = [probabilities(run, run.splits["test"]).argmax(1) == test.targets for run in (first, other_seed)]
    main = seeds.paired.main
    assert repr(seeds) == f"Comparison({seeds.sentence()})"
    assert (main.first, main.second) == (right[0].mean(), right[1].mean())
    loss = seeds.paired.differences[1]
    assert loss.first == pytest.approx(losses(first, "full", test).mean(), rel=1e-5)
    assert loss.second == pytest.approx(losses(other_seed, "full", other_seed.splits["test"]).mean(), rel=1e-5)
    assert sorted(seeds.paired.gained) == np.flatnonzero(right[0] & ~right[1]).tolist()
    assert sorted(seeds.paired.lost) == np.flatnonzero(~right[0] & right[1]).tolist()
    assert sorted(seeds.paired.both_wrong) == np.flatnonzero(~right[0] & ~right[1]).tolist()
    assert sum(row.instances for row in seeds.paired.classes) == len(test)
    assert sum(row.gained for row in seeds.paired.classes) == len(seeds.paired.gained)


def test_changed_predictions_are_explained_first(seeds: Comparison) -> None:
    changed = {*seeds.paired.gained.tolist(), *seeds.paired.lost.tolist()}
    assert len(seeds.targets) == 12 == len(set(seeds.targets.tolist()))
    assert set(seeds.targets[: len(changed)].tolist()) >= changed or set(seeds.targets.tolist()) <= changed


def test_scores_agree_as_evaluation_says(seeds: Comparison, first: Run, other_seed: Run) -> None:
    targets = [run.splits["test"].select(seeds.targets) for run in (first, other_seed)]
    wanted = agreement(whence.influence(first, targets[0]), whence.influence(other_seed, targets[1]))
    assert seeds.rankings.per_target == pytest.approx(wanted.per_target)
    assert seeds.rankings.agreement == pytest.approx(wanted.value)
    assert seeds.rankings.method == "kronecker"
    assert seeds.rankings.chance == 8 / 120
    tops = [whence.influence(run, data).top(8) for run, data in zip((first, other_seed), targets, strict=True)]
    for column in range(12):
        for ids, rows, run in zip(
            (top.ids[column] for top in tops), seeds.rankings.ends(column), (first, other_seed), strict=True
        ):
            assert run.train.ids[rows].tolist() == ids.tolist()


def test_issues_are_those_of_the_audits(seeds: Comparison, first: Run, other_seed: Run) -> None:
    found = [set(auditing.audit(run).issues.tolist()) for run in (first, other_seed)]
    issues = seeds.issues
    assert set(issues.both.tolist()) == found[0] & found[1]
    assert set(issues.only_first.tolist()) == found[0] - found[1]
    assert set(issues.only_second.tolist()) == found[1] - found[0]
    assert issues.overlap == len(found[0] & found[1]) / len(found[0] | found[1])
    assert issues.expected == len(found[0]) * len(found[1]) / 120
    assert issues.compared == 120


def test_only_seeds_differ(seeds: Comparison) -> None:
    assert seeds.only_seeds
    assert {setting.name for setting in seeds.settings} == {"model: seed", "training: seed", "masks: seed"}
    assert (seeds.settings[0].first, seeds.settings[0].second) == ("0", "1")


def test_another_model_and_other_epochs_are_said(first: Run) -> None:
    other = compare(first, trained(pictures(), epochs=1, model="mlp:16"), limit=2)
    assert not other.only_seeds
    named = {setting.name: (setting.first, setting.second) for setting in other.settings}
    assert named["training: epochs"] == ("3", "1")
    assert named["model: name"] == ("mlp:48", "mlp:16")
    assert "masks: layers" in named
    assert "model: seed" not in named


def test_after_cleansing_rows_are_missing_and_others_have_new_labels(first: Run) -> None:
    data = pictures()
    train = np.flatnonzero(data.splits == "train")
    targets = data.targets.copy()
    targets[train[4:10]] = (targets[train[4:10]] - 1) % 3  # the planted errors are mended
    keep = np.ones(len(data), bool)
    keep[train[:4]] = False  # or removed
    clean = trained(replace(data, targets=targets).select(keep), epochs=3)
    found = compare(clean, first, limit=3)
    assert len(found.shared.train) == 116
    assert found.shared.only_second.tolist() == [0, 1, 2, 3]
    assert len(found.shared.only_first) == 0
    assert clean.train.ids[found.shared.train.first[found.issues.relabeled]].tolist() == data.ids[train[4:10]].tolist()
    assert found.issues.compared == 110
    assert not found.only_seeds
    assert "data: train instances" in {setting.name for setting in found.settings}
    assert len(found.rankings.rows[0]) == 116


def test_classes_in_another_order_are_the_same_classes(first: Run) -> None:
    data = pictures()
    order = np.array([2, 0, 1])  # a, b, c are c, a, b now
    renamed = replace(data, targets=np.argsort(order)[data.targets], task=Classification(("c", "a", "b")))
    other = trained(renamed, epochs=3, seed=1)
    found = compare(first, other, limit=2)
    wanted = probabilities(other, other.splits["test"])
    assert found.paired.predicted[1] == pytest.approx(wanted[:, np.argsort(order)])
    right = wanted.argmax(1) == other.splits["test"].targets
    assert found.paired.main.second == right.mean()


def test_a_regression_is_compared_in_its_own_units(number_run: Run) -> None:
    data = numbers()
    assert isinstance(data.task, Regression)
    values = data.targets * data.task.scale + data.task.mean
    other = trained(replace(data, targets=((values - 90) / 20).astype(np.float32), task=Regression(90.0, 20.0)), seed=1)
    found = compare(number_run, other, limit=3)
    test = number_run.splits["test"]
    main = found.paired.main
    errors = (probabilities(number_run, test)[:, 0] - test.targets) * number_run.task.scale  # type: ignore[union-attr]
    assert main.name == "RMSE"
    assert main.first == pytest.approx(np.sqrt(np.square(errors).mean()), rel=1e-4)
    assert main.low <= main.value <= main.high
    assert len(found.shared.held_out) == len(test)


def test_groups_are_compared_as_groups(corrupted_run: Run) -> None:
    found = compare(corrupted_run, trained(corrupted(), epochs=2, model="mlp:512", seed=1), limit=3)
    assert found.rankings.level == "group"
    assert len(found.rankings.rows[0]) == 10
    assert np.isnan(found.rankings.overlap)  # eight of ten rows are among the first eight whatever the scores


def test_held_out_instances_that_changed_are_left_out(first: Run) -> None:
    data = pictures()
    test = np.flatnonzero(data.splits == "test")
    images, targets = np.array(data.images), data.targets.copy()
    images[test[0], 0, 0] += 1
    targets[test[1]] = (targets[test[1]] + 1) % 3
    other = trained(replace(data, images=images, targets=targets), epochs=1, seed=1)
    found = compare(first, other, limit=2)
    assert found.shared.changed == 2
    assert not np.isin(data.ids[test[:2]], first.splits["test"].ids[found.shared.held_out.first]).any()
    assert len(found.shared.held_out) == len(test) - 2


def test_refusals_say_what_and_how_to_mend(first: Run, text_run: Run, number_run: Run, train_only_run: Run) -> None:
    with pytest.raises(WhenceError, match="a run compared with itself in against: got fingerprint .* twice"):
        compare(first, first)
    with pytest.raises(
        WhenceError, match="runs of tasks that do not compare in against: got classification and regression"
    ):
        compare(first, number_run)
    with pytest.raises(
        WhenceError,
        match="runs of different classes in against: got only one has .*Fit both on data with the same labels",
    ):
        compare(first, text_run)
    with pytest.raises(
        WhenceError,
        match="no held-out instances to compare on in against: got no test or dev split that both runs have",
    ):
        compare(first, train_only_run)
    data = pictures()
    elsewhere = trained(replace(data, ids=data.ids + 10_000), epochs=1)
    with pytest.raises(WhenceError, match="no test instances in common in against: got no id in both, expected .*--id"):
        compare(first, elsewhere)
    dark = trained(replace(data, images=255 - np.asarray(data.images)), epochs=1)
    with pytest.raises(
        WhenceError,
        match="no test instances in common in against: got 60 ids in both, all of them with another label or content",
    ):
        compare(first, dark)
    with pytest.raises(WhenceError, match="an option out of range in limit: got 0"):
        compare(first, elsewhere, limit=0)


def test_texts_with_one_id_must_be_one_text() -> None:
    data = texts(60)
    assert data.texts is not None
    written = data.texts.copy()
    written[3] += "!"
    pairs = pairs_of(data, replace(data, texts=written, inputs=TextInputs(written)).select(np.arange(60)[::-1]))
    assert np.flatnonzero(~pairs.contents).tolist() == [3]
    assert (pairs.second == 59 - np.arange(60)).all()
    assert pairs.labels.all()


def test_different_losses_are_not_scored(first: Run) -> None:
    other = Run(trained(pictures(), epochs=1, seed=2).model, first.train, dev=first.splits["dev"], test=first.splits["test"],
                loss=lambda outputs, targets: 2 * whence.quantities.loss_of(first.task)(outputs, targets))  # fmt: skip
    found = compare(first, other, limit=2)
    assert found.rankings.unknown == "the runs were trained on different losses"
    assert [one.name for one in found.paired.differences] == ["accuracy"]


def test_public_names(tmp_path: Path) -> None:
    assert whence.compare is compare
    assert whence.Comparison is Comparison
