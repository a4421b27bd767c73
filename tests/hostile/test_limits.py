"""Bombs, pipes and endless files cost little memory and little time, and are refused in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.limited import SECONDS

PEAK = 4_000  # MiB; of which some 500 are a process that does nothing
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")


def outcomes_of(made: Path, place: Path, *options: str) -> list[dict[str, Any]]:
    shutil.copytree(made, place / "run")
    (place / "data").mkdir()
    command = [sys.executable, "-m", "tests.hostile.limited", str(place / "run"), str(place / "data"), *options]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=1700
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found[0]["case"] == "nothing" and found[0]["outcome"] == "taken"
    for one in found[1:]:
        assert one["outcome"].startswith("refused: "), one
        assert "\n" not in one["outcome"]
        assert one["peak"] < PEAK and one["seconds"] < SECONDS, one
    return found


@linux
def test_pipes_keep_nobody_waiting(made: Path, tmp_path: Path) -> None:
    """In place of every file of a run and of data of every kind: about twenty cases."""
    assert len(outcomes_of(made, tmp_path, "quick")) > 20


@linux
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_bombs_are_refused_cheaply(made: Path, tmp_path: Path) -> None:
    """About eighty cases, each in a process of its own with 8 GiB of address space and two minutes."""
    assert len(outcomes_of(made, tmp_path)) > 70
