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
_TAKEN = {"a number of 10^400"}


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
def test_bombs_are_refused_cheaply(made: Path, tmp_path: Path) -> None:
    """About eighty cases, each in a process of its own with 8 GiB of address space and a minute."""
    shutil.copytree(made, tmp_path / "run")
    (tmp_path / "data").mkdir()
    command = [sys.executable, "-m", "tests.hostile.limited", str(tmp_path / "run"), str(tmp_path / "data")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert found[0]["case"] == "nothing" and found[0]["outcome"] == "taken"
    assert len(found) > 70
    for one in found[1:]:
        assert one["outcome"].startswith("refused: "), one
        assert "\n" not in one["outcome"]
        assert one["peak"] < PEAK and one["seconds"] < SECONDS, one
