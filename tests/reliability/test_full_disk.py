"""A disk that is full, or takes nothing: one line says so, where and how to go on; given again, a command leaves what it should."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess

import pytest

import whence
from tests.reliability.bench import Action, Bench, Kinds
from tests.reliability.contents import left_over
from tests.reliability.test_kills import DISTURBED, EVERY
from tests.toys import blobs, network, trained
from whence import WhenceError
from whence.evaluation import retrain
from whence.rundir import RunDirectory
from whence.training import _Loop


def said(bench, ended, what, mend):
    """One line, the reason, the place, the way on."""
    assert ended.code == 2, ended.err
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    assert f"whence: {what} in {bench.trial}" in ended.err and mend in ended.err


def filled_at(bench, command, numbers):
    for count, number in enumerate(numbers):
        bench.prepare(command)
        action = (Action.FAIL_FROM_THEN_ON, Action.FAIL_ONCE)[count % 2]
        ended = bench.run(command, action=action, number=number, kinds=Kinds.TAKES_SPACE)
        if ended.code or action == Action.FAIL_FROM_THEN_ON:  # the lock's signature may fail once, and nothing is lost
            said(bench, ended, "no space left on the disk", "bytes free. Free some. Give the same command again")
        assert left_over(bench.trial) == []
        bench.check_whole()
        bench.finish(command)


@pytest.mark.parametrize("command", ["fit", "blocks", "audit of groups", "evaluate"])
def test_full_at_operations_on_files(bench, command):
    count = bench.result(command, Kinds.TAKES_SPACE)[1]
    filled_at(bench, command, random.Random(command).sample(range(1, count + 1), 3))


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("command", DISTURBED)
def test_full_at_all_operations_on_files(bench, command):
    filled_at(bench, command, range(1, bench.result(command, Kinds.TAKES_SPACE)[1] + 1, EVERY))


@pytest.mark.parametrize(
    ("error", "what", "mend"),
    [
        (errno.EROFS, "a disk that can only be read", "Name a place that can be written to"),
        (errno.EACCES, "no permission to write", "change its permissions"),
        (errno.EDQUOT, "the quota of the disk is used up", "Free some"),
        (errno.EIO, "the disk does not take what is written", "Look after the disk"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "kernel"])
def test_disks_that_take_nothing(bench, command, error, what, mend):
    bench.prepare(command)
    ended = bench.run(command, action=Action.FAIL_FROM_THEN_ON, number=1, error=error)
    said(bench, ended, what, mend)
    bench.finish(command)


def test_a_finished_run_is_read_from_a_disk_that_takes_nothing(bench):
    bench.prepare("rest of a shard")
    assert bench.run("kernel").code == 0
    (bench.trial / "run" / "scores" / "kernel-test" / "top.parquet").unlink()
    ended = bench.run("export", action=Action.FAIL_FROM_THEN_ON, number=1, error=errno.EROFS)
    said(bench, ended, "a disk that can only be read", "Name a place")
    assert bench.run("finished", action=Action.FAIL_FROM_THEN_ON, number=1, error=errno.EROFS).code == 0


def test_files_larger_than_a_process_may_write(bench):
    for command in ("fit", "blocks"):
        bench.prepare(command)
        ended = bench.run(command, largest_file=700)
        said(bench, ended, "a file larger than this process may write", "ulimit -f")
        assert left_over(bench.trial) == []
        bench.finish(command)


@pytest.fixture(scope="module")
def small_disk(bench, tmp_path_factory):
    """A file system of its own, in memory."""
    place = tmp_path_factory.mktemp("disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    made = Bench(place)
    yield made
    made.close()
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("command", ["fit", "blocks", "audit of groups", "report", "evaluate", "cleanse"])
@pytest.mark.parametrize("kept_free", [0, 1, 2])
def test_a_small_disk(small_disk, command, kept_free):
    """Pages of 4 KiB are left for it, fewer than any of these commands takes."""
    small_disk.result(command)
    small_disk.prepare(command)
    filler = small_disk.root / "filler"
    with open(filler, "wb") as file:
        file.write(bytes(shutil.disk_usage(small_disk.root).free - 4096 * (kept_free + 3)))  # logs take three
    ended = small_disk.run(command)
    filler.unlink()
    assert ended.code == 2 and "no space left on the disk" in ended.err, ended.err
    small_disk.check_whole()
    small_disk.finish(command)


def test_a_run_directory_that_vanishes(tmp_path, monkeypatch):
    step = _Loop._step

    def vanishing(self, batches):
        if self.progress.step == 20:
            shutil.rmtree(tmp_path / "run")
        step(self, batches)

    monkeypatch.setattr(_Loop, "_step", vanishing)
    with pytest.raises(WhenceError, match=r"a directory that is gone in .*run.*removed or moved while.*again"):
        trained(out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_scores_that_vanish(tmp_path, monkeypatch):
    run = trained(out=tmp_path / "run", epochs=1)
    real, path = RunDirectory.write_tensors, tmp_path / "run" / "scores" / "kernel-test"

    def vanishing(self, name, tensors, metadata=None):
        real(self, name, tensors, metadata)
        if name == "block-00002.safetensors":
            shutil.rmtree(path)

    monkeypatch.setattr(RunDirectory, "write_tensors", vanishing)
    for matrix in (True, False):
        with pytest.raises(WhenceError, match=r"a directory that is gone in .*kernel-test.*again"):
            whence.influence(run, "test", method="kernel", block_rows=10, keep_matrix=matrix)
        assert not path.exists()


def test_retrainings_that_vanish(tmp_path):
    run = trained(epochs=1)

    def vanishing(instances, seed):
        shutil.rmtree(tmp_path / "truth", ignore_errors=True)
        return network(6, 32, 3)

    with pytest.raises(WhenceError, match=r"a directory that is gone in .*truth.*again"):
        retrain(run, subsets=2, seeds=1, fit=vanishing, out=tmp_path / "truth")
    assert os.listdir(tmp_path) == []


def test_what_is_where_a_directory_should_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WhenceError, match=r"a file where a directory should be.*Name another place"):
        whence.fit(network(6, 8, 3), blobs(20), epochs=1, device="cpu", out=tmp_path / "file" / "run")
    with pytest.raises(WhenceError, match=r"not a path.*File name too long"):
        whence.fit(network(6, 8, 3), blobs(20), epochs=1, device="cpu", out=tmp_path / ("n" * 300))
