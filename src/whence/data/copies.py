"""A copy of a table with some values replaced and columns added, in the format of the table.

All other values stay: text of CSV and TSV letter by letter (quotes are put where they are needed), values of Parquet with their
types, and of JSON as values (numbers may be written with fewer digits than they had).
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from whence.data.streams import numbered_lines
from whence.data.tables import TABLES, open_table
from whence.errors import WhenceError
from whence.whole_files import replaceable, write_aside

__all__ = ["copy_table", "fitting_ending", "inert"]

_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")  # what spreadsheets run, by OWASP's list
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)

_SLICE = 50_000  # rows that are text at once
_QUOTED = re.compile('[,"\r\n]')

Column = Mapping[int, Any]  # row → value, of the rows where it differs


def fitting_ending(source: Path, out: Path) -> None:
    """Refuse a copy in another format than its source, or in its place.

    Raises:
        WhenceError: so it is, or something else than a file is there.
    """
    if out.is_dir():
        raise WhenceError("a directory in the place of a table", where=out, mend="Give the name of a file.")
    replaceable(out)
    kind = _kind(source)
    if _kind(out) != kind:
        raise WhenceError("a copy in another format than its table", where=out, expected=f"a name that ends in {kind}",
                          mend="Convert it afterwards.")  # fmt: skip
    if out.exists() and out.samefile(source):
        raise WhenceError("a copy in the place of its table", where=out, mend="Give another name.")


def copy_table(source: Path, out: Path, replaced: Mapping[str, Column], added: Mapping[str, list[str]]) -> Path:
    """Write the copy; it is whole or absent.

    Args:
        source: of the table; out: of the copy, with the same ending (packed by gzip or not).
        replaced: column → row from 0 → its new value, of a type that the column holds.
        added: column → text of each row. One that the table has already is replaced.

    Raises:
        WhenceError: another ending, or as ``open_table``.
    """
    fitting_ending(source, out)
    kind = _kind(source)
    with write_aside(out) as aside:
        if kind == ".parquet":
            pq.write_table(_arrow_copy(source, replaced, added), aside, compression="zstd")
        else:
            with _writing(aside, packed=out.name.lower().endswith(".gz")) as file:
                if kind == ".jsonl":
                    file.writelines(_json_lines(source, replaced, added))
                else:
                    _separated(source, file, "\t" if kind == ".tsv" else ",", replaced, added)
    return out


def inert(text: str, path: Path) -> str:
    """Text for a column that a copy adds: in CSV and TSV an apostrophe stands before what a spreadsheet would run.

    The table's own columns are copied as they are, or the copy would be other data.
    """
    runs = _kind(path) in (".csv", ".tsv") and _FORMULA.match(text) and not _NUMBER.fullmatch(text)
    return f"'{text}" if runs else text


def _kind(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return next(
        (ending for ending in (".csv", ".tsv", ".jsonl", ".parquet") if name.endswith(ending)),
        "none of " + ", ".join(TABLES),
    )


@contextmanager
def _writing(path: Path, packed: bool) -> Iterator[TextIO]:
    if packed:
        with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
            yield file
    else:
        with open(path, "w", encoding="utf-8", newline="") as file:
            yield file


def _arrow_copy(source: Path, replaced: Mapping[str, Column], added: Mapping[str, list[str]]) -> pa.Table:
    table = pq.read_table(source)
    for name, values in replaced.items():
        position = table.schema.get_field_index(name)
        table = table.set_column(position, table.field(position).with_type(_held(table, name, values)),
                                 _with(table.column(name).cast(_held(table, name, values)), values))  # fmt: skip
    for name, texts in added.items():
        column = pa.array(texts, pa.string())
        position = table.schema.get_field_index(name)
        table = table.append_column(name, column) if position < 0 else table.set_column(position, name, column)
    return table


def _held(table: pa.Table, name: str, values: Column) -> pa.DataType:
    """The type of a column that holds its new values too: integers of which some are no longer whole become floats."""
    kind = table.schema.field(name).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return (
        pa.float64()
        if pa.types.is_integer(kind) and any(isinstance(value, float) for value in values.values())
        else kind
    )


def _with(column: pa.ChunkedArray, values: Column) -> pa.Array:
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks)
    rows = np.arange(len(whole))
    changed = np.array(sorted(values), np.int64)
    rows[changed] = len(whole) + np.arange(len(changed))
    new = pa.array([values[row] for row in changed.tolist()]).cast(whole.type)
    return pa.concat_arrays([whole, new]).take(pa.array(rows))


def _json_lines(source: Path, replaced: Mapping[str, Column], added: Mapping[str, list[str]]) -> Iterator[str]:
    for row, (_, line) in enumerate(numbered_lines(source)):
        record = json.loads(line)
        record |= {name: values[row] for name, values in replaced.items() if row in values}
        record |= {name: texts[row] for name, texts in added.items()}
        yield json.dumps(record, ensure_ascii=False) + "\n"


def _separated(
    source: Path, file: TextIO, delimiter: str, replaced: Mapping[str, Column], added: Mapping[str, list[str]]
) -> None:
    reader = open_table(source)
    table = reader.read(reader.names)
    names = list(dict.fromkeys([*reader.names, *added]))
    line = _with_tabs if delimiter == "\t" else _with_commas
    file.write(line(names))
    for start in range(0, table.num_rows, _SLICE):
        rows = range(start, min(start + _SLICE, table.num_rows))
        columns = []
        for name in names:
            texts = (
                added[name][start : rows.stop] if name in added else table.column(name).slice(start, _SLICE).to_pylist()
            )
            for row in rows if name in replaced else ():
                if row in replaced[name]:
                    texts[row - start] = str(replaced[name][row])
            # A line of a TSV cannot hold tabs or line breaks, and none of its own values does.
            columns.append([" ".join(text.split()) for text in texts] if name in added and delimiter == "\t" else texts)
        file.writelines(map(line, zip(*columns, strict=True)))


def _with_tabs(cells: Sequence[str]) -> str:
    return "\t".join(cells) + "\n"


def _with_commas(cells: Sequence[str]) -> str:
    return ",".join('"' + cell.replace('"', '""') + '"' if _QUOTED.search(cell) else cell for cell in cells) + "\n"
