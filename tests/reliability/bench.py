"""Trials: a command is disturbed in a copy of a place, then given again, and what it leaves is held against an undisturbed one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import whence
from tests.reliability.commands import COMMANDS, write_data
from tests.reliability.contents import contents, left_over
from whence import WhenceError

__all__ = ["Action", "Bench", "Ended", "Kinds", "Zygote"]

ROOT = Path(__file__).parents[2]


class Action(IntEnum):
    """What happens at the n-th operation on a file; as in ``faults.c``."""

    COUNT, KILL_BEFORE, KILL_AFTER, KILL_HALFWAY, FAIL_ONCE, FAIL_FROM_THEN_ON, STOP = range(7)


class Kinds(IntEnum):
    TAKES_SPACE, OTHER, ALL = 1, 2, 3


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, negative where a signal killed it."""

    code: int
    counted: int
    seconds: float
    out: str
    err: str


class Zygote:
    """A process that gives commands, one at a time, each in a process that it forks.

    Args:
        root: where its log lies, and ``faults.so``.
        name: of the log.
    """

    def __init__(self, root: Path, name: str) -> None:
        self._log = root / name
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT), *sys.path]),
                       "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LD_PRELOAD": str(root / "faults.so")}  # fmt: skip
        self._process = subprocess.Popen([sys.executable, "-m", "tests.reliability.zygote"], cwd=ROOT, env=environment, text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        self._answer()
        self._waited_for = True

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def start(self, command: str, place: Path, *, kill_after: float | None = None, action: Action = Action.COUNT, number: int = 0,
              error: int = errno.ENOSPC, kinds: Kinds = Kinds.ALL, largest_file: int = 0) -> None:  # fmt: skip
        """Give a command.

        Args:
            place: where.
            kill_after: seconds after which it is killed.
            action, number, error, kinds: what happens at the n-th operation on a file of these kinds.
            largest_file: bytes, as a limit of the process.
        """
        self.settle()
        for part in ("out", "err", "pid"):
            Path(f"{self._log}.{part}").unlink(missing_ok=True)
        fault = {"action": action, "number": number, "error": error, "kinds": kinds}
        request = {"command": command, "place": str(place), "log": str(self._log), "kill_after": kill_after,
                   "largest_file": largest_file, "fault": fault}  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        self._waited_for = False

    def settle(self) -> None:
        """Wait for a command that nobody waited for, of a test that failed."""
        if not self._waited_for:
            self.wait()

    def wait(self) -> Ended:
        """How it ended."""
        self._waited_for = True
        return Ended(**self._answer(), out=self.said("out"), err=self.said("err"))

    def said(self, part: str) -> str:
        """What a command has written so far: "out", "err", or its process's number, "pid"."""
        file = Path(f"{self._log}.{part}")
        return file.read_text() if file.exists() else ""

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


class Bench:
    """Args:
    root: a directory for all that is made.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.trial = root, root / "trial"
        write_data(root)
        source = Path(__file__).with_name("faults.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", root / "faults.so", source, "-ldl"], check=True)
        self._zygotes = {"first": Zygote(root, "first")}
        self.state, self.result = cache(self._state), cache(self._result)

    def close(self) -> None:
        for zygote in self._zygotes.values():
            zygote.close()

    def zygote(self, name: str = "first") -> Zygote:
        """Those of other names give commands at the same time."""
        if name not in self._zygotes:
            self._zygotes[name] = Zygote(self.root, name)
        return self._zygotes[name]

    def run(self, command: str, **disturbed: Any) -> Ended:
        """Give a command in the place of trials, and wait for it."""
        self.zygote().start(command, self.trial, **disturbed)
        return self.zygote().wait()

    def prepare(self, command: str) -> None:
        """Put the place of trials in the state in which a command is given."""
        before = self.state(COMMANDS[command].after)
        for zygote in self._zygotes.values():
            zygote.settle()
        shutil.rmtree(self.trial, ignore_errors=True)
        shutil.copytree(before, self.trial)

    def _state(self, commands: tuple[str, ...]) -> Path:
        kept = self.root / "states" / ("-".join(commands) or "nothing")
        before = self.state(commands[:-1]) if commands else None
        shutil.rmtree(self.trial, ignore_errors=True)
        if before is not None:
            shutil.copytree(before, self.trial)
            ended = self.run(commands[-1])
            assert ended.code == 0, ended.err
        else:
            self.trial.mkdir()
        shutil.copytree(self.trial, kept)
        return kept

    def _result(self, command: str, kinds: Kinds = Kinds.ALL) -> tuple[dict[str, Any], int, float]:
        """What an undisturbed command leaves, its operations on files, and how long it takes."""
        self.prepare(command)
        ended = self.run(command, kinds=kinds)
        assert ended.code == 0, ended.err
        assert not (left := left_over(self.trial)), left
        return contents(self.trial), ended.counted, ended.seconds

    def check_whole(self) -> None:
        """No file that has its name is half written; what is read works, or says in one line how to go on."""
        contents(self.trial)
        run = self.trial / "run"
        try:
            whence.open_run(run)
        except WhenceError as error:
            if not error.mend:
                raise
        for path in run.glob("scores/[!.]*"):
            try:
                scores = whence.load_scores(path)
            except WhenceError as error:
                if not error.mend:
                    raise
            else:
                assert np.isfinite(scores.top(3).values).all() and np.isfinite(scores.mean_over_targets()).all()

    def finish(self, command: str) -> None:
        """Give the command again, undisturbed: all is as if nothing had been."""
        ended = self.run(command)
        assert ended.code == 0, ended.err
        self.check_same(command)

    def check_same(self, command: str) -> None:
        wanted, found = self.result(command)[0], contents(self.trial)
        assert sorted(found) == sorted(wanted)
        different = [name for name, content in wanted.items() if found[name] != content]
        assert not different, different
        assert not (left := left_over(self.trial)), left
