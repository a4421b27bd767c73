"""Columns of a table as ids, names, texts, pictures and numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from whence.data.roles import Roles, listed
from whence.data.tables import Reader
from whence.errors import WhenceError
from whence.masks import as_ids

__all__ = ["Place", "features_of", "ids_of", "images_of", "is_text", "lacking", "missing", "missing_error", "names_of",
           "numbers_of", "place_in", "refuse_missing", "refuse_repeated", "texts_of"]  # fmt: skip

MISSING = ("", "na", "n/a", "nan", "null", "none")
"""What stands for a missing number in a text table, whatever its case."""


_AT_ONCE = 2**16  # values of several columns that become numbers in one go


@dataclass(frozen=True)
class Place:
    """Where a person finds a column and, called with a row (0-based), that row of it."""

    column: str
    row: Callable[[int], str]

    def __call__(self, row: int) -> str:
        return f"{self.column}, {self.row(row)}"


def place_in(reader: Reader, name: str) -> Place:
    """The place of a table's column and its rows."""
    return Place(f"{reader.path}, column {name!r}", reader.place)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of that type holds text."""
    return bool(pa.types.is_large_string(kind) or pa.types.is_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def missing(column: pa.ChunkedArray, *, blank: bool = True) -> np.ndarray:
    """bool [N]: where a column is null; with ``blank`` also where its text is nothing but spaces."""
    found = pc.is_null(column)
    if blank and is_text(column.type):
        found = pc.or_kleene(found, pc.equal(pc.utf8_trim_whitespace(column), ""))
    array: np.ndarray = found.to_numpy()
    return array


def lacking(table: pa.Table, roles: Roles) -> np.ndarray:
    """bool [N]: rows whose label, text or any feature is missing."""
    found = np.zeros(table.num_rows, bool)
    # A column of words may hold "none" or "NA" as words; among numbers they stand for nothing.
    words = {roles.text, roles.text_pair, roles.image}
    for name in words.intersection((roles.label, *roles.inputs)):
        found |= missing(table.column(name))
    for name, numbers in _numbers_in(
        table, [name for name in dict.fromkeys((roles.label, *roles.inputs)) if name not in words]
    ):
        found |= missing(table.column(name)) if numbers is None else np.isnan(numbers)
    return found


def refuse_missing(column: pa.ChunkedArray, place: Place, *, blank: bool = True, droppable: bool = False) -> None:
    """Raise for the first null of a column; with ``blank`` also for text of nothing but spaces.

    Args:
        droppable: the rows may be left out with --drop-missing.
    """
    found = missing(column, blank=blank)
    if found.any():
        raise missing_error("a missing value", found, place, droppable=droppable)


def missing_error(what: str, found: np.ndarray, place: Place, *, got: str = "", also: str = "", droppable: bool = True,
                  **more: Any) -> WhenceError:  # fmt: skip
    """The error for rows (bool [N], at least one) without a value: the first of them, and how many they are."""
    count = int(found.sum())
    many = f"{count:,} such rows of {len(found):,}" if count > 1 else ""
    mend = f"Fill {'it' if count == 1 else 'them'} in, or remove the row{'' if count == 1 else 's'}{also}."
    mend += " --drop-missing leaves such rows out." if droppable else ""
    return WhenceError(what, where=place(int(found.argmax())), got="; ".join(filter(None, (got, many))) or None,
                       mend=mend, **more)  # fmt: skip


def texts_of(column: pa.ChunkedArray, place: Place) -> pa.ChunkedArray:
    """A column of text, checked.

    Raises:
        WhenceError: it holds something else than text, or nulls.
    """
    if is_text(column.type) or pa.types.is_null(column.type):
        refuse_missing(column, place, blank=False, droppable=True)
        return column
    raise WhenceError("a column that is not text", where=place.column, got=str(column.type), expected="text",
                      mend="Name text with --text, or columns of numbers with --features.")  # fmt: skip


def images_of(column: pa.ChunkedArray, place: Place, folder: Path) -> list[bytes | Path]:
    """A column of stored pictures: the content of each, or the path of its file.

    Args:
        column: binary; text, which is a path; or structs of either ("bytes" and "path", as Hugging Face datasets write them).
        folder: where relative paths begin.

    Raises:
        WhenceError: it holds something else, or a picture is missing.
    """
    kind, parts = column.type, [column]
    if pa.types.is_struct(kind):
        names = [kind.field(position).name for position in range(kind.num_fields)]
        parts = [pc.struct_field(column, [name]) for name in ("bytes", "path") if name in names]
    kinds = [str(part.type).replace("large_", "").replace("_view", "") for part in parts]
    if not parts or not set(kinds) <= {"binary", "string", "null"}:
        raise WhenceError("a column that holds no pictures", where=place.column, got=str(kind),
                          expected="bytes, paths, or structs of bytes and path",
                          mend="Name the column of pictures with --image.")  # fmt: skip
    present = (
        pc.coalesce(*[pc.is_valid(part) for part in parts]) if len(parts) == 1 else pc.or_(*map(pc.is_valid, parts))
    )
    refuse_missing(pc.if_else(present, True, None), place, droppable=True)
    found: list[bytes | Path] = []
    for values in zip(*(part.to_pylist() for part in parts), strict=True):
        value = next(value for value in values if value is not None)
        found.append(value if isinstance(value, bytes) else folder / value)
    return found


def numbers_of(column: pa.ChunkedArray) -> np.ndarray | None:
    """float64 [N], missing values as NaN; None when the column holds something else than numbers.

    Numbers may have spaces around them, and "true" and "false" in any case are 1 and 0.
    """
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if _is_number(kind) or pa.types.is_boolean(kind):
        numbers = pc.cast(column, pa.float64(), safe=False)
    elif is_text(kind):
        trimmed = pc.utf8_lower(pc.utf8_trim_whitespace(column))
        present = pc.if_else(pc.is_in(trimmed, value_set=pa.array(MISSING, trimmed.type)), None, trimmed)
        try:
            numbers = pc.cast(present, pa.float64())
        except pa.ArrowInvalid:
            truth = pa.array(["true", "false", None], trimmed.type)
            if not pc.all(pc.is_in(present, value_set=truth)).as_py():
                return None
            numbers = pc.cast(pc.equal(present, "true"), pa.float64())
    else:
        return None
    array: np.ndarray = pc.fill_null(numbers, np.nan).to_numpy()
    return array


def _numbers_in(table: pa.Table, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray | None]]:
    """Columns and what ``numbers_of`` says of them; of short ones many at a time, or calls take all the time."""
    for kind, alike in groupby(names, lambda name: table.schema.field(name).type):
        while block := list(islice(alike, max(1, _AT_ONCE // max(table.num_rows, 1)))):
            columns = [table.column(name) for name in block]
            joined = None
            if len(block) > 1:
                joined = numbers_of(pa.chunked_array([chunk for column in columns for chunk in column.chunks], kind))
            if joined is None:  # one of them is no numbers, perhaps
                yield from zip(block, map(numbers_of, columns), strict=True)
            else:
                yield from zip(block, joined.reshape(len(block), -1), strict=True)


def features_of(table: pa.Table, roles: Roles, reader: Reader) -> np.ndarray:
    """The inputs as float32 [N, F].

    Args:
        table: with all columns of ``roles.inputs``.
        roles: of its columns.
        reader: of the file, to name places in it.

    Raises:
        WhenceError: a column is not numbers, or a value is missing, NaN, infinite or too large for float32.
    """
    matrix = np.empty((table.num_rows, len(roles.inputs)), np.float32)
    words = []
    for position, (name, numbers) in enumerate(_numbers_in(table, roles.inputs)):
        with np.errstate(over="ignore"):
            matrix[:, position] = np.nan if numbers is None else numbers
        words += [name] if numbers is None else []
    if words:
        if roles.features is None:
            texts = [name for name in words if is_text(table.column(name).type)]
            longest = max(texts, key=lambda name: _length(table.column(name)), default="")
            mend = f"Name the text with --text {longest}, or the numbers with --features." if longest else (
                "Name the numbers with --features.")  # fmt: skip
            raise WhenceError("columns that are not numbers, so the inputs have to be named",
                              where=reader.path, got=listed(words), mend=mend)  # fmt: skip
        name, row = words[0], _first_word(table.column(words[0]))
        raise WhenceError("a feature that is not a number", where=place_in(reader, name)(row),
                          got=repr(table.column(name)[row].as_py()),
                          mend="Leave the column out of --features, or encode it as numbers.")  # fmt: skip
    # No sum of fewer than 2^896 float32 leaves the range of float64.
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~np.isfinite(matrix.sum(0, dtype=np.float64)))
    if bad.size:
        name, values = roles.inputs[bad[0]], matrix[:, bad[0]]
        gaps = np.isnan(values)
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        if gaps[row]:
            got = repr(table.column(name)[row].as_py())
            raise missing_error("a feature that is not a finite number", gaps, place_in(reader, name), got=got,
                                expected="a number", also=" or the column")  # fmt: skip
        raise WhenceError("a feature that is not a finite number", where=place_in(reader, name)(row),
                          got=repr(table.column(name)[row].as_py()),
                          expected="a number that float32 can hold",
                          mend="Fill it in, or remove the row or the column.")  # fmt: skip
    return matrix


def _length(column: pa.ChunkedArray) -> float:
    return float(pc.mean(pc.utf8_length(column)).as_py() or 0)


def _first_word(column: pa.ChunkedArray) -> int:
    """The first row that is not a number, in a column where there is one."""
    return next((row for row in range(len(column)) if numbers_of(column.slice(row, 1)) is None), 0)


def ids_of(column: pa.ChunkedArray, place: Place) -> tuple[np.ndarray, np.ndarray]:
    """A column of ids or groups.

    Text that is a plain integer in every row ("7" and "-7", but not "007" or "+7") stands for those integers,
    so that ids are the same in every file format; other text is hashed.

    Returns:
        int64 [N] (see ``whence.masks.as_ids``), and names as the user wrote them, str [N].

    Raises:
        WhenceError: values are missing, or are neither integers nor text.
    """
    refuse_missing(column, place)
    kind = column.type
    exact = pa.types.is_integer(kind) or is_text(kind) or pa.types.is_temporal(kind) or (
        pa.types.is_decimal(kind) and kind.scale <= 0)  # fmt: skip
    if not exact:
        raise WhenceError("not an id", where=place(0), got=f"{column[0].as_py()!r} ({kind})",
                          expected="an integer or text",
                          mend="Write ids as integers or text; floats lose ids above 2^53.")  # fmt: skip
    names = names_of(column, place)
    if pa.types.is_integer(kind):
        return as_ids(column.to_numpy()), names
    whole = is_text(kind) and pc.all(pc.match_substring_regex(column, r"^(0|-?[1-9][0-9]{0,19})$")).as_py()
    if not whole and not pa.types.is_decimal(kind):
        return as_ids(names), names
    values = np.array([int(name) for name in names], dtype=object)
    if np.all((values >= -(2**63)) & (values < 2**64)):
        return as_ids(values), names
    if whole:
        return as_ids(names), names
    row = int(np.flatnonzero((values < -(2**63)) | (values >= 2**64))[0])
    raise WhenceError("an id of more than 64 bits", where=place(row), got=names[row],
                      mend="Write it as text.")  # fmt: skip


def names_of(column: pa.ChunkedArray, place: Place) -> np.ndarray:
    """Any column of single values as text, str [N].

    Raises:
        WhenceError: values are missing, or are lists or objects.
    """
    refuse_missing(column, place)
    try:
        texts: np.ndarray = pc.cast(column, pa.large_string()).to_numpy()
    except pa.ArrowException as error:
        raise WhenceError("not a single value", where=place.column, got=str(column.type),
                          expected="text or a number") from error  # fmt: skip
    return texts


def refuse_repeated(ids: np.ndarray, names: np.ndarray, place: Place) -> None:
    """Raise for the first id (int64 [N]) that another row has, naming both rows."""
    order = np.argsort(ids, kind="stable")
    again = np.flatnonzero(ids[order][1:] == ids[order][:-1]) + 1
    if again.size:
        position = again[np.argmin(order[again])]
        first, second = int(order[position - 1]), int(order[position])
        got = " and ".join(dict.fromkeys(repr(names[row]) for row in (first, second)))
        before = place.row(first).partition(" (")[0]  # how rows are counted is said once
        raise WhenceError("an id that occurs twice",
                          where=f"{place.column}, {before} and {place.row(second)}", got=got,
                          expected="one row per id",
                          mend="Make ids unique; rows that share a mask need a group column.")  # fmt: skip
