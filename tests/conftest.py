"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: WHENCE_DATA, or shared/data in or beside the checkout."""
    checkout = Path(__file__).resolve().parents[1]
    places = [checkout / "shared" / "data", checkout.parent / "shared" / "data"]
    if given := os.environ.get("WHENCE_DATA"):
        places = [Path(given)]
    for place in places:
        if place.is_dir():
            return place
    pytest.skip(f"no real data sets in {' or '.join(map(str, places))}; set WHENCE_DATA to their folder")
