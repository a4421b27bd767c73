from __future__ import annotations

import shutil
import sys

import pytest

from tests.reliability.bench import Bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    """Needs a C compiler, and a system on which libraries can be laid over others."""
    if not sys.platform.startswith("linux") or shutil.which("cc") is None:
        pytest.skip("needs Linux and a C compiler")
    made = Bench(tmp_path_factory.mktemp("reliability"))
    yield made
    made.close()
