"""Tables as Arrow: CSV, TSV, JSON Lines and Parquet behind one reader, every value as it is written.

Values of CSV and TSV are text and stay so ("NA", "" and "007" are themselves); the use of a column decides
whether they are numbers, see ``columns`` and ``labels``. In messages rows are counted from 1, without the
header and without blank lines; of JSON Lines the line in the file is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet

from whence.data.jsonlines import JsonLines
from whence.data.roles import listed
from whence.data.separated import Separated
from whence.data.streams import MOST_COLUMNS, too_wide, undecodable
from whence.errors import WhenceError
from whence.guarded import read_parquet, regular

__all__ = ["TABLES", "Reader", "open_table", "read_columns"]


class Reader(Protocol):
    """An open table.

    Attributes:
        path: of its file.
        names: of its columns.
    """

    @property
    def path(self) -> Path: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    def read(self, columns: Sequence[str], exact: Sequence[str] = ()) -> pa.Table:
        """The columns of that name, at least one, N rows; integers of those in ``exact`` keep all 64 bits.

        Raises:
            WhenceError: the content is damaged, ragged or not UTF-8.
        """
        ...

    def place(self, row: int) -> str:
        """Where a person finds a row (0-based) in the file."""
        ...


def open_table(path: Path) -> Reader:
    """The reader for a path with one of the endings in ``TABLES``.

    Raises:
        WhenceError: the file is missing, empty or damaged, its header is unreadable, a column name occurs
            twice, or there are more than ``MOST_COLUMNS``.
    """
    reader = next(kind for ending, kind in TABLES.items() if path.name.lower().endswith(ending))(path)
    if not any(reader.names):
        raise WhenceError("a table without columns", where=path,
                          mend="Check that this is the file you meant.")  # fmt: skip
    if len(reader.names) > MOST_COLUMNS:
        raise too_wide(path, len(reader.names))
    if twice := sorted(name for name, count in Counter(reader.names).items() if count > 1):
        raise WhenceError("a column name that occurs twice", where=path, got=listed(list(map(repr, twice))),
                          expected="one column per name", mend="Rename one of them.")  # fmt: skip
    return reader


def read_columns(
    reader: Reader, columns: Sequence[str], exact: Sequence[str] = (), raw: Sequence[str] = ()
) -> pa.Table:
    """Columns of an open table: at least one row, strings as large_string, no dictionaries, contents checked.

    Args:
        raw: columns whose bytes are no text and stay large_binary.

    Raises:
        WhenceError: as ``Reader.read``; or there are no rows.
    """
    table = reader.read(columns, exact)
    if table.num_rows == 0:
        raise WhenceError("a table without rows", where=reader.path, got="0 rows", expected="at least one",
                          mend="Check that this is the file you meant.")  # fmt: skip
    made = []  # one table of all at the end: to set a column copies the list of the others
    for position, name in enumerate(columns):
        try:
            made.append(_uniform(table.column(position), name in raw))
        except (pa.ArrowException, UnicodeDecodeError) as error:
            if "UTF8" not in str(error):
                raise WhenceError("damaged values", where=f"{reader.path}, column {name!r}",
                                  got=str(error)) from error  # fmt: skip
            if isinstance(reader, Parquet):
                raise WhenceError("text that is not UTF-8",
                                  where=f"{reader.path}, column {name!r}") from error  # fmt: skip
            raise undecodable(reader.path) from error
    return pa.Table.from_arrays(made, names=list(columns))


def _uniform(column: pa.ChunkedArray, raw: bool) -> pa.ChunkedArray:
    kind = column.type
    # A stranger's Parquet file may promise text or offsets that its bytes do not keep.
    column.validate(full=True)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    # By name, because early versions of pyarrow lack the tests for views.
    if raw and str(kind) in ("binary", "large_binary", "binary_view"):
        kind = pa.large_binary()
    elif str(kind) in ("string", "string_view", "binary", "large_binary", "binary_view"):
        kind = pa.large_string()
    elif pa.types.is_float16(kind):
        kind = pa.float32()
    return column if column.type == kind else column.cast(kind)


class Parquet:
    """An open Parquet file (see ``Reader``)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names = tuple(self._tried(self._schema).names)

    def place(self, row: int) -> str:
        return f"row {row + 1} of the data (the first is 1)"

    def read(self, columns: Sequence[str], exact: Sequence[str] = ()) -> pa.Table:
        return self._tried(lambda: read_parquet(self.path, columns, checked=True))

    def _schema(self) -> pa.Schema:
        regular(self.path)
        with pa.parquet.ParquetFile(self.path) as file:
            return file.schema_arrow

    def _tried(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except FileNotFoundError as error:
            raise WhenceError("no such file", where=self.path, mend="Check the path.") from error
        except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
            if isinstance(error, PermissionError):
                raise WhenceError("a file that cannot be read", where=self.path,
                                  got=error.strerror) from error  # fmt: skip
            if self.path.is_file() and self.path.stat().st_size == 0:
                raise WhenceError("an empty file", where=self.path, got="0 bytes",
                                  expected="Parquet") from error  # fmt: skip
            raise WhenceError("not a sound Parquet file", where=self.path, got=str(error).split("\n")[0],
                              expected="Parquet", mend="Write or copy it again.") from error  # fmt: skip


TABLES: dict[str, Callable[[Path], Reader]] = {
    ".csv": Separated, ".csv.gz": Separated, ".tsv": Separated, ".tsv.gz": Separated,
    ".jsonl": JsonLines, ".jsonl.gz": JsonLines, ".parquet": Parquet,
}  # fmt: skip
"""What reads each ending of a table's name."""
