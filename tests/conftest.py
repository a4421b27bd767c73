"""Fixtures for all tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from benchmarks.real_data import find_shared_data

from whence.cli import main


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, where benchmarks find them too."""
    try:
        return find_shared_data()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def whence(capsys, monkeypatch):
    """Run the command line in this process: (exit code, standard output, standard error)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["whence", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
