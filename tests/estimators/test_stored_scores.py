"""Stored scores are read where they are those asked for, gone on with where they are unfinished, and refused where they are others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import whence
from tests.toys import blobs, network, trained
from whence import WhenceError, influence
from whence.estimators.dispatch import METHODS
from whence.estimators.kernel import Kernel

EVERY_METHOD = pytest.mark.parametrize("method", ["auto", *METHODS])


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def deaf(run):
    """The run, its model unable to answer."""

    def forward(*inputs):
        raise AssertionError("the model was asked")

    run.model.forward = forward
    return run


@EVERY_METHOD
@pytest.mark.parametrize("targets", ["dev", "errors"])
@pytest.mark.parametrize("groups", [None, 5])
def test_finished_scores_do_not_ask_the_model(tmp_path, method, targets, groups):
    run = trained(out=tmp_path / "run", epochs=1, groups=groups)
    scores = np.asarray(influence(run, targets, method=method))
    folder = next((tmp_path / "run" / "scores").iterdir())
    stamps = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    np.testing.assert_array_equal(influence(deaf(run), targets, method=method), scores)
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == stamps
    with pytest.raises(AssertionError, match="the model was asked"):
        influence(run, "test", method=method)


@EVERY_METHOD
def test_killed_scores_go_on_to_the_same_bits(tmp_path, method, monkeypatch):
    """Killed before the null, and again after some of the blocks; the errors that were found stay the targets."""
    run = trained(out=tmp_path / "run", epochs=1, groups=30)
    whole, killed = (tmp_path / "run" / "scores" / name for name in ("whole", "killed"))
    arguments = {"targets": "errors", "method": method, "block_rows": 7}
    expected = influence(run, name="whole", **arguments)
    estimator = METHODS[expected.info["method"]]

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    of_members = hasattr(estimator, "of_rows") and expected.info["level"] == "group"
    block = "of_rows" if of_members else "block"
    for part, at, least in (("null", 0, 0), (block, 3, 1)):
        if not hasattr(estimator, part):
            continue
        real, calls = getattr(estimator, part), []

        def stopping(self, *given, real=real, calls=calls, at=at, **named):
            calls.append(given)
            return interrupted() if len(calls) > at else real(self, *given, **named)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(estimator, part, stopping)
            influence(run, name="killed", **arguments)
        assert least <= len(list(killed.glob("block-*"))) < len(list(whole.glob("block-*")))
        assert killed.exists() == bool(least)  # what is not of a block is there at once
        assert not list(killed.parent.glob(".*"))
    with monkeypatch.context() as patch:
        patch.setattr("whence.estimators.dispatch.target_instances", interrupted)
        np.testing.assert_array_equal(influence(run, name="killed", **arguments), expected)
    assert contents(killed) == contents(whole)


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {root!r})
import whence
from tests.toys import blobs, network
from whence.rundir import RunDirectory
run = whence.open_run(sys.argv[1], model=network(6, 32, 3), train=blobs(), test=blobs(30, seed=2, start=2000))
real, written = RunDirectory.write_tensors, []
def write(self, name, tensors, metadata=None):
    real(self, name, tensors, metadata)
    written.append(name)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
RunDirectory.write_tensors = write
for method in ("turnover", "kronecker"):
    whence.influence(run, "test", method=method, block_rows=30)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_processes_leave_the_same_bits(tmp_path):
    """Two methods of four blocks each, kill -9 after every third."""
    run = trained(out=tmp_path / "run", epochs=1)
    script = tmp_path / "score.py"
    script.write_text(SCRIPT.format(root=str(Path(__file__).parents[2])))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), str(tmp_path / "run")]
    assert [subprocess.run(command, env=environment).returncode for _ in range(3)] == [-signal.SIGKILL] * 2 + [0]
    for method in ("turnover", "kronecker"):
        whole = influence(run, "test", method=method, block_rows=30, name="whole-" + method)
        assert contents(tmp_path / "run" / "scores" / f"{method}-test") == contents(whole.path)


def test_what_cannot_be_scored_leaves_nothing_behind(tmp_path):
    run = trained(out=tmp_path / "run", epochs=1)
    for options in ({"method": "kernel", "damping": -1.0}, {"method": "first_order", "quantity": "accuracy"}):
        with pytest.raises(WhenceError, match="out of range|without a gradient"):
            influence(run, name="mine", **options)
    assert not (tmp_path / "run" / "scores").exists()
    influence(run, name="mine", method="kernel")


def test_other_defaults_and_versions_are_refused(tmp_path, monkeypatch):
    class Later(Kernel):
        def __init__(self, run, targets, quantity, *, residual="auto", damping=0.2, subnetworks=8):
            super().__init__(run, targets, quantity, residual=residual, damping=damping, subnetworks=subnetworks)

    run = trained(out=tmp_path / "run", epochs=1)
    influence(run, method="kernel")
    influence(run, method="kernel", damping=0.2)
    where = "in .*kernel-test: "
    with monkeypatch.context() as patch:
        patch.setitem(METHODS, "kernel", Later)
        with pytest.raises(
            WhenceError, match=f"another run, data or setting {where}got damping 0.1, expected 0.2.*delete"
        ):
            influence(run, method="kernel")
    with monkeypatch.context() as patch:
        patch.setattr(Kernel, "version", 10)
        with pytest.raises(WhenceError, match=f"{where}got version of the method 2, expected 10"):
            influence(run, method="kernel")
    assert len(list((tmp_path / "run" / "scores").iterdir())) == 2


def test_options_that_are_the_defaults_make_the_same_scores(tmp_path):
    run = trained(out=tmp_path / "run", epochs=1)
    scores = influence(run, method="kernel")
    same = influence(deaf(run), method="kernel", damping=np.float64(0.1), residual="auto")
    assert same.path == scores.path == tmp_path / "run" / "scores" / "kernel-test"
    assert scores.info["options"] == {"residual": "auto", "damping": 0.1, "subnetworks": 8}
    assert scores.info["version"] == Kernel.version


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"method": "turnover"}, "got method kernel, expected turnover"),
        ({"damping": 0.5}, "got damping 0.1, expected 0.5"),
        ({"residual": "full"}, "got residual auto, expected full"),
        ({"quantity": "margin"}, "got quantity loss, expected margin"),
        ({"targets": "dev"}, "got target set test, expected dev"),
        ({"level": "group"}, "got level instance, expected group"),
        ({"block_rows": 9}, "got rows in a block 120, expected 9"),
        ({"keep_matrix": False}, "got matrix kept True, expected False"),
    ],
)
def test_the_refusal_says_what_differs(tmp_path, asked, message):
    run = trained(out=tmp_path / "run", epochs=1, groups=5)
    influence(run, "test", method="kernel", name="mine")
    with pytest.raises(
        WhenceError, match=f"scores of another run, data or setting in .*mine: {message}. Give another name"
    ):
        influence(run, **{"targets": "test", "method": "kernel", "name": "mine", **asked})


def test_errors_of_a_split_that_has_grown_are_looked_for_again(tmp_path):
    run = trained(out=tmp_path / "run", epochs=1)
    influence(run, "errors", method="kernel")
    grown = whence.Run(run.model, blobs(), test=blobs(60, seed=2, start=2000), out=tmp_path / "run")
    with pytest.raises(WhenceError, match="got targets of fingerprint [0-9a-f]{8}, expected [0-9a-f]{8}"):
        influence(grown, "errors", method="kernel")


def test_damaged_errors_are_refused(tmp_path):
    run = trained(out=tmp_path / "run", epochs=1)
    path = influence(run, "errors", method="kernel").path
    table = pa.table({"id": np.array([3, 5]), "name": ["3", "5"]})
    pq.write_table(table, path / "targets.parquet")
    with pytest.raises(WhenceError, match="a damaged file in .*targets.parquet: expected instances of the run"):
        influence(run, "errors", method="kernel")


FROZEN = {  # three training instances by three targets
    ("turnover", 1): [-4.4414, 2.7966, 3.6779, -4.1671, 3.8489, 4.8691, 4.5163, -0.2118, 0.8059],
    ("first_order", 1): [-4.8609, 2.7719, 4.0558, -4.5026, 3.8466, 5.5493, 4.9249, -0.0773, 0.8626],
    ("kernel", 2): [0.21797, -0.00695, -0.00906, -0.14607, 0.62356, 0.83542, 0.72912, -0.02547, -0.02907],
    ("kronecker", 3): [0.33869, -0.01329, -0.01527, -0.13824, 0.34891, 0.52230, 0.85052, -0.06071, -0.05942],
}


@pytest.mark.parametrize("method", METHODS)
def test_numbers_belong_to_a_version(method):
    """Where this fails because a method was bettered, raise its ``version`` and freeze the new numbers."""
    generator = np.random.default_rng(0)
    model = network(6, 16, 3)
    for parameter in model.parameters():
        parameter.data.copy_(torch.from_numpy(generator.normal(size=tuple(parameter.shape)) / 2))
    run = whence.Run(model, blobs(30), test=blobs(3, seed=2, start=2000))
    scores = np.asarray(influence(run, method=method))
    np.testing.assert_allclose(scores[[0, 7, 29]].ravel(), FROZEN[method, METHODS[method].version], atol=1e-3)
