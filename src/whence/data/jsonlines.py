"""JSON Lines as Arrow: one object a line, every key a column."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.json

from whence.data.streams import grown, numbered_lines, undecodable
from whence.errors import WhenceError

__all__ = ["JsonLines"]

_KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list"}


class JsonLines:
    """An open JSON Lines file (see ``whence.data.tables.Reader``). A key that a line lacks is null there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table = self._parsed(None)
        try:
            self.names = tuple(self._table.schema.names)
        except UnicodeDecodeError as error:
            raise undecodable(path) from error

    def place(self, row: int) -> str:
        number, _ = next(islice(numbered_lines(self.path), row, None), (row + 1, b""))
        return f"line {number}"

    def read(self, columns: Sequence[str], exact: Sequence[str] = ()) -> pa.Table:
        schema = []
        for name in columns:
            kind = self._table.schema.field(name).type
            # Arrow takes text that looks like a date for one, and integers from 2^63 up for floats.
            if pa.types.is_timestamp(kind):
                schema.append(pa.field(name, pa.string()))
            elif pa.types.is_floating(kind) and name in exact:
                schema.append(pa.field(name, pa.decimal128(38, 0)))
        if not schema:
            return self._table.select(list(columns))
        try:
            return self._parsed(pa.schema(schema)).select(list(columns))
        except WhenceError:
            return self._table.select(list(columns))

    def _parsed(self, schema: pa.Schema | None) -> pa.Table:
        def read(stream: BinaryIO, size: int) -> pa.Table:
            options = pa.json.ReadOptions(use_threads=True, block_size=size)
            return pa.json.read_json(stream, options, pa.json.ParseOptions(explicit_schema=schema))

        try:
            return grown(self.path, read)
        except UnicodeDecodeError as error:
            raise undecodable(self.path) from error
        except (pa.ArrowException, MemoryError) as error:
            raise self._explained(str(error)) from error

    def _explained(self, message: str) -> WhenceError:
        """The first line that is not an object, or whose values are of another kind than before."""
        seen: dict[str, tuple[str, int]] = {}
        number = 0
        for number, line in numbered_lines(self.path):
            where = f"{self.path}, line {number}"
            try:
                record = json.loads(line, object_pairs_hook=_Pairs)
            except UnicodeDecodeError:
                return undecodable(self.path)
            except (ValueError, RecursionError) as error:
                return WhenceError("a line that is not JSON", where=where, got=str(error),
                                   expected="one object per line")  # fmt: skip
            if not isinstance(record, _Pairs):
                return WhenceError("a line that is not an object", where=where,
                                   got=_KINDS.get(type(record), "null"),
                                   expected="one object per line")  # fmt: skip
            for name, value in record:
                kind = "an object" if isinstance(value, _Pairs) else _KINDS.get(type(value))
                if kind is not None and (before := seen.setdefault(name, (kind, number)))[0] != kind:
                    return WhenceError("values of different kinds", where=f"{where}, key {name!r}", got=kind,
                                       expected=f"{before[0]} as in line {before[1]}",
                                       mend="Give a key the same kind of value in every line.")  # fmt: skip
            if len({name for name, _ in record}) < len(record):
                return WhenceError("a key that occurs twice", where=where, mend="Rename one of them.")
        if number == 0:
            return WhenceError("an empty file", where=self.path, got="0 lines",
                               expected="one object per line")  # fmt: skip
        return WhenceError("a table that cannot be read", where=self.path, got=message or "out of memory")


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that it is neither a list nor rid of repeated keys."""
