"""A loop of one's own, and what importing whence costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from examples import plain_loop as example

ROOT = Path(__file__).parents[2]


def test_the_example(tmp_path, capsys):
    run = example.main(["--out", str(tmp_path / "run"), "--epochs", "2"])
    assert "the training digits that help most" in capsys.readouterr().out
    assert (tmp_path / "run" / "report.html").exists() and len(run.train) == 1400


def test_whence_imports_no_training_library():
    code = "import sys, whence; print({'transformers', 'lightning', 'pytorch_lightning', 'accelerate', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT / "src")})  # fmt: skip
    assert done.stdout.strip() == "set()"
