"""What lies in a directory, so that two can be compared; every file that has its name must be whole."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load

__all__ = ["contents", "left_over"]

_TIMES = {"seconds"}


def contents(place: Path) -> dict[str, Any]:
    """Path → content of all files but temporary ones and locks; times are left out.

    Raises:
        Exception: of whatever kind, where a file is not whole.
    """
    found = {}
    for file in sorted(place.rglob("*")):
        name = file.relative_to(place).as_posix()
        if file.is_file() and not any(part.startswith(".") for part in Path(name).parts):
            found[name] = _read(file)
    return found


def left_over(place: Path) -> list[str]:
    """Temporary files and directories, and locks."""
    return [
        file.relative_to(place).as_posix()
        for file in place.rglob("*")
        if file.name.startswith(".") or file.suffix in (".tmp", ".lock")
    ]


def _read(file: Path) -> Any:
    raw = file.read_bytes()
    if file.suffix == ".json":
        return _timeless(json.loads(raw))
    if file.suffix == ".parquet":
        table = pq.read_table(pa.BufferReader(raw))
        return (
            table.drop_columns([name for name in table.column_names if name in _TIMES])
            .combine_chunks()
            .to_pydict()
            .__repr__()
        )
    if file.suffix == ".safetensors":
        tensors = load(raw)
        if file.name == "checkpoint.safetensors":
            return sorted(tensors)
        return {name: (value.dtype.str, value.shape, value.tobytes()) for name, value in tensors.items()}
    if file.suffix == ".npy":
        np.load(io.BytesIO(raw), allow_pickle=False)
    if file.suffix == ".html":
        assert raw.rstrip().endswith(b"</html>")
        return re.sub(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC", b"", raw)
    return raw


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(entry) for key, entry in value.items() if key not in _TIMES}
    return [_timeless(entry) for entry in value] if isinstance(value, list) else value
