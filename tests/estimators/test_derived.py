"""Scores that audits and reports make for themselves are theirs to make again."""

from __future__ import annotations

import json

import numpy as np
import pytest

import whence
from tests.toys import blobs, network, trained
from whence.errors import StaleScoresError, WhenceError
from whence.estimators.derived import derived
from whence.estimators.kernel import Kernel
from whence.reporting import assess, findings


def test_an_audit_makes_scores_of_an_older_method_again(tmp_path, monkeypatch):
    run = trained(out=tmp_path / "run", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(Kernel, "version", 0)
        before = whence.audit(run, method="kernel")
    told = tmp_path / "run" / "scores" / "audit-kernel-dev" / "scores.json"
    assert json.loads(told.read_text())["version"] == 0
    after = whence.audit(run, method="kernel")
    assert json.loads(told.read_text())["version"] == Kernel.version
    np.testing.assert_array_equal(after.column("influence_on_dev"), before.column("influence_on_dev"))


def test_only_names_of_its_own_are_made_again(tmp_path):
    run = trained(out=tmp_path / "run", epochs=1)
    whence.influence(run, "test", method="kernel", name="mine")
    with pytest.raises(StaleScoresError, match="delete the directory") as caught:
        whence.influence(run, "test", method="kernel", name="mine", damping=0.3)
    assert caught.value.directory == tmp_path / "run" / "scores" / "mine"
    again = derived(run, "test", method="kernel", name="mine", damping=0.3)
    np.testing.assert_array_equal(again, whence.influence(run, "test", method="kernel", damping=0.3))
    with pytest.raises(WhenceError, match="unknown method"):
        derived(run, "test", method="guess", name="mine")
    assert (tmp_path / "run" / "scores" / "mine" / "scores.json").is_file()


def test_a_comparison_that_fails_says_why(tmp_path, monkeypatch):
    def fails(*given, **named):
        raise WhenceError("scores that are not finite", where="rows 0 to 9", mend="Look for extreme weights.")

    monkeypatch.setattr("whence.reporting.trust.derived", fails)
    trust = assess(trained(epochs=1))
    assert trust.floor is None
    assert "could not be made. Scores that are not finite in rows 0 to 9. Look for" in findings(trust)[1].text


def test_scores_belong_to_what_was_trained(tmp_path):
    run = trained(out=tmp_path / "run", epochs=1, widths=(6, 8, 7, 3))
    scores = whence.influence(run, "test", method="kronecker", name="all layers")
    run.model[0].requires_grad_(False)
    with pytest.raises(StaleScoresError, match="weights, masks and training data"):
        whence.influence(run, "test", method="kronecker", name="all layers")
    half = whence.influence(run, "test", method="kronecker", name="without the first")
    assert not np.allclose(half, scores)


def test_a_run_opens_with_what_was_frozen(tmp_path):
    model = network(6, 8, 7, 3)
    model[0].requires_grad_(False)
    run = whence.fit(model, blobs(), test=blobs(30, start=2000), epochs=1, device="cpu", out=tmp_path / "run")
    scores = whence.influence(run, "test", name="mine")
    again = whence.open_run(tmp_path / "run", model=network(6, 8, 7, 3), train=blobs(), test=blobs(30, start=2000))
    assert [p.requires_grad for p in again.model.parameters()] == [False, False, True, True, True, True]
    np.testing.assert_array_equal(whence.influence(again, "test", name="mine"), scores)
