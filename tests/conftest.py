"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.real_data import find_shared_data


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, where benchmarks find them too."""
    try:
        return find_shared_data()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
