"""Audits find planted label errors, suggest the right label and say what kind each instance is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

import whence
from tests.toys import blobs, network, trained
from whence.auditing import KINDS, _outlier_posterior
from whence.estimators.memorization import memories


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    data = blobs(400, spread=2.5)
    wrong = np.zeros(400, bool)
    wrong[::16] = True
    noisy = replace(data, targets=np.where(wrong, (data.targets + 1) % 3, data.targets))
    run = whence.fit(network(6, 128, 3), noisy, dev=blobs(80, seed=1, start=1000, spread=2.5), epochs=30, learning_rate=5e-3, device="cpu",
                     out=tmp_path_factory.mktemp("audit") / "run")  # fmt: skip
    return run, data, wrong, whence.audit(run)


def test_planted_errors_are_found(planted):
    run, clean, wrong, audit = planted
    assert roc_auc_score(wrong, audit.column("p_wrong")) > 0.95
    found = audit.issues
    assert wrong[found].mean() > 0.7
    suggested = audit.column("suggested_label")
    right = [suggested[row] == clean.task.classes[clean.targets[row]] for row in found if wrong[row]]
    assert np.mean(right) > 0.9
    assert (np.diff(audit.column("p_wrong")[found]) <= 0).all()
    assert repr(run) == f"Run(400 train, 80 dev instances, classification, {run.directory.path})"
    assert (
        repr(audit).startswith(f"Audit(400 training instances: {len(found)} label_issue, ") and len(repr(audit)) < 100
    )


def test_memorized_instances_are_those_known_by_heart(planted):
    """Unless the label is suspected; and not, as by own and flipped masks, most of the wrong labels."""
    run, _, wrong, audit = planted
    kind, memory = audit.column("kind"), memories(run)
    np.testing.assert_array_equal(audit.column("memorization"), memory.memorization)
    right = whence.subnetworks.probabilities(run).argmax(1) == run.train.targets
    np.testing.assert_array_equal(kind == "memorized", memory.by_heart & right & (kind != "label_issue"))
    assert (kind == "memorized").any()
    assert wrong[kind == "memorized"].mean() < wrong.mean()


def test_wrong_labels_harm_dev(planted):
    _, _, wrong, audit = planted
    influence = audit.column("influence_on_dev")
    assert audit.method == "kronecker"
    assert influence[wrong].mean() < 0 < influence[~wrong].mean()
    assert roc_auc_score(wrong, -influence) > 0.8


def test_the_table_is_the_contract(planted):
    run, _, _, audit = planted
    table = pq.read_table(run.directory.path / "audit.parquet")
    assert table.equals(audit.table)
    assert table.column_names[:8] == [
        "id",
        "name",
        "given_label",
        "suggested_label",
        "p_wrong",
        "memorization",
        "influence_on_dev",
        "kind",
    ]
    assert table["id"].to_pylist() == run.train.ids.tolist()
    assert set(table["kind"].to_pylist()) <= set(KINDS)
    assert sum(audit.counts().values()) == 400
    p = audit.column("p_wrong")
    assert (p >= 0).all()
    assert (p <= 1).all()
    issue = audit.column("kind") == "label_issue"
    assert (audit.column("given_label")[issue] != audit.column("suggested_label")[issue]).all()


def test_without_dev_and_with_groups():
    alone = whence.fit(network(6, 32, 3), blobs(60), epochs=2, device="cpu")
    audit = whence.audit(alone)
    assert audit.method is None
    assert np.isnan(audit.column("influence_on_dev")).all()
    grouped = trained(groups=5, epochs=2)
    audit = whence.audit(grouped)
    assert audit.method == "kronecker"
    assert len(np.unique(audit.column("influence_on_dev"))) == len(grouped.train)
    influence = whence.audit(grouped, method="turnover").column("influence_on_dev")
    assert len(np.unique(influence)) == 5
    assert influence[0] == influence[5]


def test_regression_outliers():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 6)).astype(np.float32)
    y = x @ generator.normal(size=6).astype(np.float32) + 0.1 * generator.normal(size=300).astype(np.float32)
    wrong = np.zeros(300, bool)
    wrong[:12] = True
    y[wrong] += np.where(generator.random(12) < 0.5, -1, 1) * 6
    y = ((y - y.mean()) / y.std()).astype(np.float32)
    run = whence.fit(network(6, 256, 1), (np.arange(300), x, y), epochs=60, learning_rate=5e-3, device="cpu")
    audit = whence.audit(run)
    assert roc_auc_score(wrong, audit.column("p_wrong")) > 0.95


def test_outlier_posterior():
    generator = np.random.default_rng(0)
    clean = generator.normal(size=2000)
    assert (_outlier_posterior(clean) > 0.5).mean() < 0.01
    mixed = np.r_[clean, 15 * generator.normal(size=100)]
    posterior = _outlier_posterior(mixed)
    assert (posterior[2000:] > 0.5).mean() > 0.6
    assert (posterior[:2000] > 0.5).mean() < 0.01
    np.testing.assert_allclose(_outlier_posterior(mixed * 1000), posterior, atol=1e-6)
    assert np.isfinite(_outlier_posterior(np.zeros(5))).all()


def test_means_alone_are_kept_on_disk(planted):
    run, _, _, audit = planted
    folder = run.directory.path / "scores" / "audit-kronecker-dev"
    assert not (folder / "matrix").exists()
    scores = whence.influence(run, "dev")  # whole scores of dev have their own name
    np.testing.assert_allclose(audit.column("influence_on_dev"), scores.mean_over_targets(), rtol=1e-6)
    assert (run.directory.path / "scores" / "kronecker-dev" / "matrix").is_dir()


def test_a_caveat_where_the_model_errs_far_more_often_than_labels_seem_wrong(planted):
    run, _, _, audit = planted
    dev = run.splits["dev"]
    error = float((whence.subnetworks.probabilities(run, dev).argmax(1) != dev.targets).mean())
    assert audit.dev_error == pytest.approx(error)
    assert audit.expected_errors == pytest.approx(audit.column("p_wrong").sum())
    share = audit.expected_errors / 400
    assert replace(audit, dev_error=share * 2.9).caveat is None
    assert replace(audit, dev_error=None).caveat is None
    told = replace(audit, dev_error=share * 3.1).caveat
    assert told.startswith(f"The model errs on {310 * share:.1f} % of unseen instances (dev). Where that is so, ")
    assert f"{100 * share:.1f} % of the training labels" in told


def test_wrong_labels_are_told_from_blends_of_two_classes():
    """A blend under the label of one of its halves is hard, but its label is not wrong."""
    digits = load_digits()
    random, labels = np.random.default_rng(0), digits.target.astype(np.int64)
    pictures, order = digits.images * 15, random.permutation(len(labels))
    wrong, blends = order[:90], order[90:180]
    given = labels.copy()
    given[wrong] = (labels[wrong] + random.integers(1, 10, 90)) % 10
    others = [random.choice(order[180:][labels[order[180:]] != labels[row]]) for row in blends]
    shown = pictures.copy()
    shown[blends] = (pictures[blends] + pictures[others]) / 2
    data = whence.Dataset.of((np.arange(len(labels)), shown.astype(np.uint8), given))
    model, data = whence.prepare(data, "mlp:256")
    kinds = whence.audit(whence.fit(model, data, epochs=10, device="cpu")).column("kind")
    share = {(name, kind): (kinds[rows] == kind).mean() for name, rows in (("wrong", wrong), ("blends", blends), ("rest", order[180:]))
             for kind in KINDS}  # fmt: skip
    assert share["wrong", "label_issue"] > 0.8
    assert share["blends", "label_issue"] < 0.1
    assert share["rest", "label_issue"] < 0.01
    assert share["blends", "ambiguous"] > 5 * share["rest", "ambiguous"]
    assert share["wrong", "ambiguous"] + share["wrong", "memorized"] < 0.1
