"""The tables of the page on label errors are those of the results in the repository."""

from __future__ import annotations

import json
import re

from benchmarks.label_error_tables import overview
from benchmarks.paper.material import RESULTS

from benchmarks import reviews
from tests.docs.execution import DOCS


def rows(name):
    return [json.loads(line) for line in (RESULTS / name).read_text(encoding="utf-8").splitlines()]


def test_tables_are_what_was_measured():
    page = (DOCS / "label_errors.md").read_text(encoding="utf-8")
    tables = overview(rows("image_label_errors.jsonl")) | {"reviews": reviews.table(rows("reviews.jsonl"))}
    for name, table in tables.items():
        written = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", page, re.S)
        assert written is not None and written[1].splitlines() == table, name
