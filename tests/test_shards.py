"""Scores made by several processes, in which nobody waits for anybody, and a lost one costs its own blocks only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import whence
from whence import WhenceError, load_scores
from whence.shards import shard_named

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("RANK", "WORLD", "SLURM", "OMPI"))},
    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT), *sys.path]),
    "OMP_NUM_THREADS": "1",
}


def whence_at(*arguments, **environment):
    return subprocess.Popen([sys.executable, "-m", "whence.cli", *map(str, arguments)], env={**ENVIRONMENT, **environment},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip


def ended(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "run"
    ended(whence_at("fit", "digits", "--out", out, "--epochs", 1, "--model", "mlp:32,32", "--limit", 600))
    return out


def agree(many, one):
    """To rounding, and the same rows at the top."""
    size = np.abs(one.top(1).values).mean()
    np.testing.assert_allclose(many.mean_over_targets(), one.mean_over_targets(), atol=1e-5 * size, rtol=1e-4)
    for harmful in (False, True):
        mine, theirs = many.top(10, harmful=harmful), one.top(10, harmful=harmful)
        np.testing.assert_allclose(mine.values, theirs.values, atol=1e-5 * size)
        for rows, others, values in zip(mine.rows, theirs.rows, mine.values, strict=True):
            apart = (
                np.abs(np.diff(values, append=np.inf, prepend=-np.inf)) > 2e-5 * size
            )  # from the next ones, beyond rounding
            assert (rows == others)[apart[1:] & apart[:-1]].all()
    if one.info["matrix"]:
        np.testing.assert_allclose(many, one, atol=1e-5 * size, rtol=1e-4)
    assert not [file for file in Path(many.path).parent.iterdir() if file.name.startswith(".")]


@pytest.mark.parametrize("method", ["turnover", "first_order", "kernel", "kronecker"])
@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("matrix", [True, False])
def test_shards_are_the_scores_of_one_process(run, method, world, matrix):
    options = {"method": method, "keep_matrix": matrix}
    parts = [
        whence.influence(
            whence.open_run(run), "test", name=f"many-{method}{world}{matrix}", shard=(rank, world), **options
        )
        for rank in reversed(range(world))
    ]
    assert not parts[-1].missing()
    agree(
        load_scores(parts[0].path),
        whence.influence(whence.open_run(run), "test", name=f"one-{method}{world}{matrix}", **options),
    )


@pytest.mark.parametrize(("world", "method", "matrix"), [(4, "kronecker", True), (2, "turnover", False)])
def test_processes_divide_the_work(run, world, method, matrix):
    """At the same time, as torchrun starts them: by RANK and WORLD_SIZE."""
    arguments = ["influence", run, "--targets", "test", "--method", method, "--name", f"many-{world}", "--json"]
    arguments += [] if matrix else ["--no-matrix"]
    workers = [whence_at(*arguments, "--shard", "auto", RANK=str(rank), WORLD_SIZE=str(world)) for rank in range(world)]
    said = [json.loads(ended(worker)) for worker in workers]
    assert sum(each["made_here"] for each in said) == said[0]["blocks"] >= world
    options = {"method": method, "keep_matrix": matrix, "name": f"alone-{world}"}
    agree(load_scores(said[0]["scores"]), whence.influence(whence.open_run(run), "test", **options))
    assert json.loads(ended(whence_at(*arguments)))["shape"][0] > 300


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_worker_costs_its_own_blocks_only(run, tmp_path):
    """Killed after its first block; the others end as if nothing had been, and a later process makes the rest."""
    script = tmp_path / "score.py"
    script.write_text("""
import os, signal, sys, whence
from whence.rundir import RunDirectory
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
real = RunDirectory.write_tensors
def write(self, name, tensors, metadata=None):
    real(self, name, tensors, metadata)
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
RunDirectory.write_tensors = write
whence.influence(whence.open_run(sys.argv[1]), "test", method="kernel", name="lost", shard=(rank, world))
""")
    workers = [subprocess.Popen([sys.executable, str(script), str(run)], env={**ENVIRONMENT, "RANK": str(rank), "WORLD_SIZE": "4"})
               for rank in range(4)]  # fmt: skip
    assert [worker.wait(timeout=120) for worker in workers] == [0, -signal.SIGKILL, 0, 0]
    path = run / "scores" / "lost"
    with pytest.raises(WhenceError, match="unfinished scores"):
        load_scores(path)
    stamps = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}
    time.sleep(0.02)
    opened = whence.open_run(run)
    scores = whence.influence(opened, "test", method="kernel", name="lost")
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps
    assert not scores.missing()
    np.testing.assert_allclose(
        scores, whence.influence(opened, "test", method="kernel", name="undisturbed"), rtol=1e-4, atol=1e-6
    )


def test_torchrun_starts_workers(run):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "-m", "whence.cli",
               "influence", str(run), "--targets", "dev", "--method", "first_order", "--shard", "auto"]  # fmt: skip
    subprocess.run(command, env=ENVIRONMENT, check=True, timeout=200, capture_output=True)
    options = {"method": "first_order", "name": "first_order-alone"}
    agree(load_scores(run / "scores" / "first_order-dev"), whence.influence(whence.open_run(run), "dev", **options))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("4/4", "no such shard in shard: got 4/4, expected a rank below"),
        ("1", "not a shard.*got '1', expected RANK/WORLD"),
        ("-1/2", "not a shard"),
        ("auto", "no launcher started this process in shard auto: expected RANK and WORLD_SIZE.*torchrun or srun"),
    ],
)
def test_bad_shards(run, given, message, monkeypatch):
    process = whence_at("influence", run, "--shard=" + given)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and len(err.strip().splitlines()) == 1
    with pytest.raises(WhenceError, match=message):
        for names in (
            ("RANK", "WORLD_SIZE"),
            ("SLURM_PROCID", "SLURM_NTASKS"),
            ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ):
            monkeypatch.delenv(names[0], raising=False)
        shard_named(given)
    with pytest.raises(WhenceError, match="no such shard in shard"):
        whence.influence(whence.open_run(run), shard=(2, 2))


def test_what_launchers_say(monkeypatch):
    for names in (
        ("SLURM_PROCID", "SLURM_NTASKS"),
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("RANK", "WORLD_SIZE"),
    ):
        monkeypatch.setenv(names[0], "3")
        monkeypatch.setenv(names[1], "8")
        assert shard_named("auto") == (3, 8)
    assert shard_named("0/1") == (0, 1)
