"""Files read within limits: whoever wrote them, they run nothing, keep nobody waiting, and cost about what they weigh.

    regular         a file with an end: no directory, and no pipe or device, which may never give one
    refuse_bomb     what unpacks to far more than it weighs
    strict_json     no NaN, no infinity, no key twice
    npy_header      what an array says of itself
    read_array      .npy without objects, whose header agrees with the file's size
    read_parquet    flat Parquet, counted as it unpacks

All raise OSError or ValueError, which those who know what the file is for turn into a ``WhenceError``.
"""

from __future__ import annotations

import json
import math
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

__all__ = ["FREE", "npy_header", "read_array", "read_parquet", "refuse_bomb", "regular", "strict_json"]

FREE = 2**28
"""Bytes that anything may unpack to."""

_RATIO = 200  # beyond these, how many times its size; texts and numbers shrink to a tenth, one-hot rows to a hundredth
_LARGEST_JSON = 2**26  # bytes; what whence writes is a thousand times smaller
_ROWS = 2**16  # that are unpacked at a time


def regular(path: Path) -> int:
    """The size of a regular file, bytes.

    Raises:
        OSError: there is no such file, or it is something else.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise OSError(f"{kinds.get(stat.S_IFMT(found.st_mode), 'a device')} in place of a file")
    return found.st_size


def refuse_bomb(packed: int, unpacked: int, free: int = FREE) -> None:
    """Raise ValueError where bytes unpack to more than ``free`` bytes and more than 200 times their size."""
    if unpacked > max(free, _RATIO * packed):
        raise ValueError(f"{packed:,} bytes that unpack to {unpacked:,} or more")


def strict_json(path: Path) -> Any:
    """The value of a JSON file."""
    if (size := regular(path)) > _LARGEST_JSON:
        raise ValueError(f"{size:,} bytes, more than {_LARGEST_JSON:,}")
    try:
        return json.loads(
            path.read_text(encoding="utf-8"), object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        count = Counter(name for name, _ in pairs)
        raise ValueError(f"the key {next(name for name in count if count[name] > 1)!r} twice")
    return record


def _no_number(word: str) -> None:
    raise ValueError(f"{word}, which is no JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:20]}, which is too large")
    return value


def npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """What an .npy file says of itself, up to where its data begin: shape, whether in Fortran order, and dtype.

    Raises:
        ValueError: it makes no sense.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        old = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (TypeError, SyntaxError, TokenError, RecursionError, MemoryError, OverflowError) as error:
        raise ValueError(str(error) or "a header that makes no sense") from error
    return tuple(int(size) for size in shape), bool(fortran), dtype


def read_array(path: Path) -> np.ndarray:
    """The array of an .npy file; no memory is taken for what the file does not hold."""
    size = regular(path)
    with open(path, "rb") as file:
        shape, fortran, dtype = npy_header(file)
        promised, found = math.prod(shape) * dtype.itemsize, size - file.tell()
        if dtype.hasobject:
            raise ValueError("Python objects, which are pickles")
        if min(shape, default=0) < 0 or promised != found:
            raise ValueError(f"{found:,} bytes for shape {list(shape)} of {dtype}")
        flat = np.fromfile(file, dtype, math.prod(shape))
    return flat.reshape(shape, order="F" if fortran else "C")


def read_parquet(
    path: Path, columns: Sequence[str] | None = None, *, nested: bool = True, free: int = FREE, checked: bool = False
) -> pa.Table:
    """Columns of a Parquet file, all by default, unpacked part by part until they turn out to be a bomb.

    Text comes as dictionaries first: a long value that stands in every row weighs next to nothing until it is written out.

    Args:
        nested: whether lists and structs are taken.
        free: bytes that may be unpacked from a file of any size.
        checked: hold pages against their checksums.

    Raises:
        OSError, ValueError, KeyError: the file is no Parquet, or a bomb, or has no such columns.

    Returns:
        The columns in the order asked for, text as large_string.
    """
    packed = regular(path)
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    wanted = [schema.field(name) for name in (schema.names if columns is None else columns)]
    if not nested and (others := [field.name for field in wanted if pa.types.is_nested(field.type)]):
        raise ValueError(f"lists or structs in column {others[0]!r}")
    texts = {field.name for field in wanted if str(field.type) in ("string", "large_string")}
    parts, total = [], 0
    with pq.ParquetFile(path, read_dictionary=list(texts), page_checksum_verification=checked) as file:
        for batch in file.iter_batches(_ROWS, columns=[field.name for field in wanted]):
            total += sum(_unpacked(column) for column in batch.columns)
            refuse_bomb(packed, total, free)
            parts.append(batch)
        found = file.schema_arrow  # made anew whenever it is asked for
        rest = pa.schema([found.field(field.name) for field in wanted])
    # Asked for "a", Parquet also gives a column "a.b".
    table = pa.Table.from_batches([part.select(rest.names) for part in parts], rest if not parts else None)
    # 65,536 long texts may be more than the 2 GiB that a plain string array holds.
    written = [
        column.cast(pa.large_string()) if field.name in texts else column
        for field, column in zip(wanted, table.columns, strict=True)
    ]
    return pa.Table.from_arrays(written, names=rest.names)


def _unpacked(column: pa.Array) -> int:
    """Bytes of a column once it is written out."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    column.validate(full=True)  # before positions are believed
    lengths = pc.take(pc.binary_length(column.dictionary), column.indices)
    return int(pc.sum(lengths, min_count=0).as_py() or 0) + 8 * len(column)
