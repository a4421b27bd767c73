"""Runs whose masks are in one layer, in the first or the last, or in both."""

from __future__ import annotations

import pytest

from tests.toys import trained

ARCHITECTURES = {
    "last layer masked": {"where": ["3"], "widths": (6, 16, 24, 3)},
    "first layer masked": {"where": ["1"], "widths": (6, 24, 16, 3)},
    "both masked": {"where": ["1", "3"], "widths": (6, 16, 24, 3)},
}


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=str)
def run(request):
    return trained(**ARCHITECTURES[request.param])
