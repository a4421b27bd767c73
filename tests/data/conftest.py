"""Writing small files in every format."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def encoded(ending: str, columns: dict[str, list[Any]]) -> bytes:
    """A table in the format that the ending names."""
    rows = list(zip(*columns.values(), strict=True))
    if ending.startswith(".csv"):
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([list(columns), *rows])
        content = text.getvalue().encode()
    elif ending.startswith(".tsv"):
        content = "".join("\t".join(map(str, row)) + "\n" for row in [list(columns), *rows]).encode()
    elif ending.startswith(".jsonl"):
        content = "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows).encode()
    else:
        sink = io.BytesIO()
        pq.write_table(pa.table(columns), sink)
        content = sink.getvalue()
    return gzip.compress(content) if ending.endswith(".gz") else content


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """write(name, content): a file of text, bytes or {column: values}."""

    def write(name: str, content: str | bytes | dict[str, list[Any]]) -> Path:
        path = tmp_path / name
        if isinstance(content, dict):
            path.write_bytes(encoded(name[name.index(".") :], content))
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
