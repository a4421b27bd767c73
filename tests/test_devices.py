"""What ``on_another_device.py`` asserts, in a process of its own: a device that was registered stays for all that torch does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


def test_models_on_another_device():
    root = Path(__file__).parents[1]
    file = str(Path(__file__).with_name("on_another_device.py"))
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", file]
    made = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600, check=False)
    if "this torch takes no device" in made.stdout:
        pytest.skip("this torch takes no device written in Python")
    assert made.returncode == 0, made.stdout + made.stderr
    assert int(re.search(r"(\d+) passed", made.stdout)[1]) > 20, made.stdout
