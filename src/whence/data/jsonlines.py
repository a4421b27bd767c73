"""JSON Lines as Arrow: one object a line, every key a column.

Every line gets a value for every key that any line has, so a small file of keys that occur once would become a huge table: keys are
counted before the table is made.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import pyarrow as pa
import pyarrow.json

from whence.data.streams import MOST_COLUMNS, grown, numbered_lines, opened, too_wide, undecodable
from whence.errors import WhenceError
from whence.guarded import FREE

__all__ = ["JsonLines"]

_PART = 2**20  # bytes of lines after which they are counted
_CELL, _WIDENED = (
    8,
    8,
)  # bytes of a value, and how many times the text beyond ``FREE``: dense numbers take no more than once
_DECODER = json.JSONDecoder(
    parse_int=len, parse_float=len, parse_constant=len, strict=False
)  # numbers are not looked at
_KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list"}

_Place: TypeAlias = tuple[str, ...]  # names of a column and of objects in it; "" for the entries of a list


class JsonLines:
    """An open JSON Lines file (see ``whence.data.tables.Reader``). A key that a line lacks is null there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fields = self._looked_through()
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

    def _looked_through(self) -> int:
        """How many columns there are, with the fields of objects in them.

        Raises:
            WhenceError: too many; lines lack so many of them that the table is far larger than the file; or a line is no JSON.
        """
        shape, size = _Shape(), 0
        with opened(self.path) as stream:
            while lines := stream.readlines(_PART):
                for line in filter(bytes.strip, lines):
                    try:
                        shape.add(_DECODER.decode(line.decode("utf-8", "surrogateescape")))
                    except (ValueError, RecursionError, MemoryError) as error:
                        raise self._explained(str(error)) from error
                size += sum(map(len, lines))
                if shape.fields > MOST_COLUMNS:
                    raise too_wide(self.path, shape.fields)
                most = max(FREE, _WIDENED * size)
                if (widened := _CELL * shape.cells) > most:
                    lines_so_far = f"{shape.lengths[()]:,} lines or more"
                    raise WhenceError("keys that most lines lack", where=self.path,
                                      got=f"{shape.fields:,} keys in {lines_so_far}, a table of {widened:,} bytes",
                                      expected=f"at most {most:,} from {size:,} bytes of text",
                                      mend="Put what few lines have under one key as text.")  # fmt: skip
        return shape.fields

    def _parsed(self, schema: pa.Schema | None) -> pa.Table:
        def read(stream: BinaryIO, size: int) -> pa.Table:
            options = pa.json.ReadOptions(use_threads=True, block_size=size)
            return pa.json.read_json(stream, options, pa.json.ParseOptions(explicit_schema=schema))

        try:
            return grown(self.path, read, self._fields)
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


class _Shape:
    """What columns the lines make, with the fields of objects in them.

    Attributes:
        lengths: of the axes there are: how many lines, at (), and how many entries the lists at one place have together.
        names: of the columns and fields on each axis.
    """

    def __init__(self) -> None:
        self.lengths: Counter[_Place] = Counter()
        self.names: defaultdict[_Place, set[Any]] = defaultdict(set)

    @property
    def fields(self) -> int:
        return sum(map(len, self.names.values()))

    @property
    def cells(self) -> int:
        """Values of the whole table, nulls included."""
        return sum(self.lengths[axis] * len(names) for axis, names in self.names.items())

    def add(self, line: Any) -> None:
        """Count the value of a line."""
        self.lengths[()] += 1
        ahead: list[tuple[Any, _Place, _Place]] = [(line, (), ())]  # a list or object, its place and its axis
        while ahead:
            value, place, axis = ahead.pop()
            if isinstance(value, dict):
                # A name beside the place of its object: a column's is that of the line, which is none.
                self.names[axis].update(value if not place else [(place, name) for name in value])
                ahead += [
                    (inner, (*place, name), axis) for name, inner in value.items() if isinstance(inner, dict | list)
                ]
            elif isinstance(value, list):
                place = axis = (*place, "")
                self.lengths[axis] += len(value)
                self.names[axis].add(axis)
                ahead += [(inner, place, axis) for inner in value if isinstance(inner, dict | list)]


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that it is neither a list nor rid of repeated keys."""
