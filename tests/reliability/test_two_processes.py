"""Two processes in one run directory: who comes second waits, shards do not, readers never do, and the dead hold nobody up."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import whence
from tests.reliability.bench import Action
from tests.reliability.contents import left_over
from tests.toys import assert_same_weights, stopping_before, trained, weights
from whence import WhenceError
from whence.locks import locked, writer

ROOT = Path(__file__).parents[2]


@contextmanager
def stopped(bench, command, number):
    """A process that is stopped in the middle of a command, at its n-th operation on a file."""
    zygote = bench.zygote()
    zygote.start(command, bench.trial, action=Action.STOP, number=number)
    until = time.monotonic() + 60
    while (
        not (told := zygote.said("pid")) or Path(f"/proc/{told}/stat").read_text().rpartition(")")[2].split()[0] != "T"
    ):
        assert time.monotonic() < until
        time.sleep(0.01)
    try:
        yield int(told)
    finally:
        with suppress(ProcessLookupError):  # it was killed
            os.kill(int(told), signal.SIGCONT)


def waits(bench, command):
    """Start a second process, which says for whom it waits."""
    other = bench.zygote("second")
    other.start(command, bench.trial)
    until = time.monotonic() + 60
    while "waiting for it" not in other.said("err"):
        assert time.monotonic() < until, other.said("err")
        time.sleep(0.05)
    return other


@pytest.mark.parametrize(
    ("first", "second", "number", "where"),
    [
        ("fit", "fit", 120, "run"),
        ("blocks", "blocks", 134, "kernel-test"),
        ("audit", "audit", 60, "audit-kronecker-dev"),
        ("audit", "report", 60, "audit-kronecker-dev"),
        ("evaluate", "evaluate", 150, "random-instance-test"),
        ("cleanse", "cleanse", 150, "run"),
        ("shard", "rest of a shard", 80, "kernel-test"),
        ("audit again", "audit again", 60, "audit-kronecker-dev"),
    ],
)
@pytest.mark.parametrize("killed", [False, True])
def test_the_second_waits(bench, first, second, number, where, killed):
    """The first ends, or is killed; the second ends as if it had been alone, and a process gone holds nobody up."""
    bench.result(first), bench.result(second)
    bench.prepare(first)
    with stopped(bench, first, number) as process:
        other = waits(bench, second)
        said = other.said("err")
        assert f"is in use by process {process} on " in said and where in said
        assert len(said.splitlines()) == 1
        if killed:
            os.kill(process, signal.SIGKILL)
    ended = bench.zygote().wait()
    assert ended.code == (-signal.SIGKILL if killed else 0), ended.err
    after = other.wait()
    assert after.code == 0, after.err
    if killed and second == first:
        bench.finish(first)
    elif killed:
        assert bench.run(first).code == 0
    if second == "report":
        bench.finish("report after an audit")
    else:
        bench.check_same(second)


def test_shards_do_not_wait(bench):
    bench.result("kernel")
    bench.prepare("shard")
    other = bench.zygote("second")
    with stopped(bench, "shard", 110) as process:
        other.start("other shard", bench.trial)
        ended = other.wait()
        assert (ended.code, ended.err) == (0, "")
        assert Path(f"/proc/{process}").exists()
    assert bench.zygote().wait().code == 0
    whence.load_scores(bench.trial / "run" / "scores" / "kernel-test")
    assert left_over(bench.trial) == []


def test_readers_never_wait(bench):
    """While another fits, or scores: what is there can be read, and what is not there is said to be under way."""
    bench.prepare("audit")
    assert bench.run("kernel").code == 0
    other = bench.zygote("second")
    with stopped(bench, "audit", 100):
        for reader in ("finished", "verify"):
            other.start(reader, bench.trial)
            ended = other.wait()
            assert (ended.code, ended.err) == (0, ""), ended
    assert bench.zygote().wait().code == 0
    bench.prepare("fit")
    with (
        stopped(bench, "fit", 60) as process,
        pytest.raises(WhenceError, match=f"not trained yet.*got training by process {process} on .*Wait for it"),
    ):
        whence.open_run(bench.trial / "run")
    assert bench.zygote().wait().code == 0
    bench.check_same("fit")


def test_another_fit_is_refused_at_once(bench):
    bench.prepare("fit")
    other = bench.zygote("second")
    with stopped(bench, "fit", 60):
        other.start("fit with early stopping", bench.trial)
        ended = other.wait()
        assert ended.code == 2 and "the directory holds another run" in ended.err and "other patience" in ended.err
    assert bench.zygote().wait().code == 0
    bench.check_same("fit")


def test_a_run_is_not_replaced_while_it_is_scored(bench):
    """The replacement waits for the scores; who then opened the old run does not write into the new one."""
    bench.result("replace")
    bench.prepare("blocks")
    with stopped(bench, "blocks", 100):
        opened = whence.open_run(bench.trial / "run")
        other = waits(bench, "replace")
    assert bench.zygote().wait().code == 0
    assert other.wait().code == 0
    assert not (bench.trial / "run" / "scores").exists()
    with pytest.raises(WhenceError, match="another run was put in the place of this one.*Open it again"):
        whence.influence(opened, "test", method="kernel")
    assert not (bench.trial / "run" / "scores").exists()


def test_workers_that_keep_the_same_run_do_not_wait_for_scores(tmp_path):
    """As under torchrun, where each process makes the run itself: it lies there already, and is only shared."""
    run = trained(out=tmp_path / "run", epochs=1)
    with run.in_use():
        script = (
            "import sys, whence; from tests.toys import trained; r = trained(epochs=1);"
            "whence.Run(r.model, r.train, dev=r.splits['dev'], test=r.splits['test'], out=sys.argv[1])"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src"), *sys.path])}
        ended = subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], env=environment, timeout=120,
                               capture_output=True, text=True)  # fmt: skip
        assert (ended.returncode, ended.stderr) == (0, "")
    assert left_over(tmp_path) == []


def test_locks_nest_and_leave_nothing(tmp_path):
    lock = tmp_path / ".lock"
    with locked(lock, tmp_path), locked(lock, tmp_path, shared=True), locked(lock, tmp_path):
        assert lock.exists()
    assert not lock.exists()
    with locked(lock, tmp_path, shared=True):
        with locked(lock, tmp_path, shared=True):
            pass
        assert lock.exists()
        with (
            pytest.raises(WhenceError, match="a directory that this process is using.*before it is replaced"),
            locked(lock, tmp_path),
        ):
            pass
    assert not lock.exists()


def test_a_lock_that_was_removed_is_made_anew(tmp_path):
    """Somebody deletes the run directory, lock and all, while it is held."""
    lock = tmp_path / "run" / ".lock"
    lock.parent.mkdir()
    with locked(lock, lock.parent):
        shutil.rmtree(lock.parent)
        lock.parent.mkdir()
        assert writer(lock) is None
        lock.write_text("of the next")
    assert lock.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_holds_nothing(tmp_path):
    """Such as a loader's worker, which outlives a process that is killed."""
    lock = tmp_path / ".lock"
    read, write = os.pipe()
    holder = os.fork()
    if not holder:
        with locked(lock, tmp_path):
            worker = os.fork()
            if not worker:
                time.sleep(60)
                os._exit(0)
            os.write(write, str(worker).encode())
            time.sleep(60)
        os._exit(0)
    worker = int(os.read(read, 100))
    try:
        assert f"process {holder} on" in (writer(lock) or "")
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        with locked(lock, tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
    assert not lock.exists()


def test_file_systems_without_locks(tmp_path, monkeypatch, caplog):
    import errno
    import fcntl

    def unknown(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    run = trained(out=tmp_path / "run", epochs=1)
    whence.influence(run, "test", method="kernel")
    assert "the file system has no locks" in caplog.text
    assert left_over(tmp_path) == []


def test_windows_shares_bytes_of_a_range(tmp_path, monkeypatch):
    """Its locks are exclusive: those who share hold a byte each, who is alone all of them."""
    from whence.locks import _SHARERS, _tried_bytes

    taken: dict[int, int] = {}

    def locking(file, mode, count):
        first = os.lseek(file, 0, os.SEEK_CUR)
        if any(byte in taken for byte in range(first, first + count)):
            raise OSError(13, "Permission denied")
        taken.update(dict.fromkeys(range(first, first + count), file))

    files = [os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(3)]
    assert _tried_bytes(files[0], True, locking, 2) and _tried_bytes(files[1], True, locking, 2)
    assert not _tried_bytes(files[2], False, locking, 2)
    assert len(taken) == 2
    taken.clear()
    assert _tried_bytes(files[2], False, locking, 2)
    assert len(taken) == _SHARERS
    assert not _tried_bytes(files[0], True, locking, 2)
    for file in files:
        os.close(file)


def test_a_checkpoint_of_another_training_is_not_gone_on_from(tmp_path):
    """A directory was deleted and begun anew while an old process wrote a last checkpoint into it."""
    with pytest.MonkeyPatch.context() as patch:
        for out, seed in (("old", 5), ("new", 0)):
            with stopping_before(9, patch):
                trained(out=tmp_path / out, seed=seed, checkpoint_seconds=0)
    shutil.copy(tmp_path / "old" / "checkpoint.safetensors", tmp_path / "new" / "checkpoint.safetensors")
    assert_same_weights(weights(trained(out=tmp_path / "new", checkpoint_seconds=0)), weights(trained()))
