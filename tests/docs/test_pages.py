"""What README and the pages of the documentation show is what happens."""

from __future__ import annotations

import re
import shutil

import pytest

import whence
from tests.docs.execution import DOCS, ROOT, Page, blocks, commands, matches
from tests.toys import blobs

OTHERS_WARN = pytest.mark.filterwarnings("ignore")  # transformers, peft and Lightning about each other
PAGES = [
    "tutorials/csv.md",
    "tutorials/plain_loop.md",
    pytest.param("tutorials/lightning.md", marks=OTHERS_WARN),
    pytest.param("tutorials/trainer.md", marks=OTHERS_WARN),
    "tutorials/pictures.md",
    "how_to/reading_scores.md",
    pytest.param("how_to/choosing_a_method.md", marks=pytest.mark.long),
    "how_to/groups.md",
    "reference/files.md",
    "reference/masks.md",
]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_does_what_it_shows(name, tmp_path):
    if "lightning" in name:
        pytest.importorskip("lightning")
    if "trainer" in name:
        pytest.importorskip("transformers")
        pytest.importorskip("peft")
    Page(DOCS / name, tmp_path).run()
