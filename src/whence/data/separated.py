"""CSV and TSV as Arrow, every value a string exactly as it is written.

CSV is RFC 4180: commas; a value may stand in double quotes and then hold commas, line breaks, doubled quotes.
TSV is IANA's text/tab-separated-values: one record a line and no quoting at all.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv

from whence.data.streams import Appended, grown, opened, undecodable
from whence.errors import WhenceError

__all__ = ["Separated"]

_END = "\x03end of table\x03"


class Separated:
    """An open CSV or TSV file (see ``whence.data.tables.Reader``)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tabs = path.name.lower().removesuffix(".gz").endswith(".tsv")
        try:
            with opened(path) as stream:
                self.names = self._header(stream)
        except UnicodeDecodeError as error:
            raise undecodable(path) from error
        except csv.Error as error:
            raise WhenceError("a header that cannot be read", where=path, got=str(error),
                              expected="column names separated by commas") from error  # fmt: skip

    def _header(self, stream: BinaryIO) -> tuple[str, ...]:
        lines = (text for line in stream if (text := line.decode("utf-8")).strip("\r\n"))
        if self._tabs:
            return tuple(text.rstrip("\r\n").split("\t")) if (text := next(lines, "")) else ()
        return tuple(next(csv.reader(lines, strict=True), ()))

    def place(self, row: int) -> str:
        return f"row {row + 1} of the data (the first after the header is 1)"

    def read(self, columns: Sequence[str], exact: Sequence[str] = ()) -> pa.Table:
        delimiter = "\t" if self._tabs else ","
        # A quote that never closes takes the rest of the file for its value, and Arrow is silent about it: a
        # last row of our own shows whether that happened.
        end = ("\n" + delimiter.join([_END] * len(self.names)) + "\n").encode()
        parse = pa.csv.ParseOptions(
            delimiter=delimiter, quote_char=False if self._tabs else '"', double_quote=not self._tabs,
            escape_char=False, newlines_in_values=not self._tabs)  # fmt: skip
        convert = pa.csv.ConvertOptions(
            include_columns=list(columns), strings_can_be_null=False,
            column_types={name: pa.large_string() for name in columns})  # fmt: skip

        def read(stream: BinaryIO, size: int) -> pa.Table:
            # Errors name the row in one thread only.
            options = pa.csv.ReadOptions(use_threads=False, block_size=size)
            return pa.csv.read_csv(Appended(stream, end), options, parse, convert)

        try:
            table = grown(self.path, read, len(self.names))
        except (pa.ArrowException, UnicodeDecodeError, MemoryError) as error:
            raise self._explained(error) from error
        rows = table.num_rows - 1
        if any(table.column(name)[rows].as_py() != _END for name in columns):
            raise self._unclosed(rows)
        return table.slice(0, rows)

    def _explained(self, error: BaseException) -> WhenceError:
        if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error):
            return undecodable(self.path)
        ragged = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", str(error))
        if ragged is None:
            message = str(error) or "out of memory"
            return WhenceError("a table that cannot be read", where=self.path, got=message)
        row, expected, got = map(int, ragged.groups())
        if not self._tabs and self._runs_on(row):
            return self._unclosed(row - 2)
        mend = ("Put single tabs between values; no value can hold a tab or a line break." if self._tabs
                else "Put values that hold commas, quotes or line breaks in double quotes.")  # fmt: skip
        return WhenceError("a row of another length", where=f"{self.path}, {self.place(row - 2)}",
                           got=f"{got} values", expected=str(expected), mend=mend)  # fmt: skip

    def _runs_on(self, row: int) -> bool:
        """Whether a quote in this row (the header is 1) is open at the end of the file."""
        with opened(self.path) as stream:
            rows = filter(None, csv.reader((line.decode("utf-8", "replace") for line in stream), strict=True))
            try:
                next(islice(rows, row - 1, None), None)
            except csv.Error as error:
                return "end of data" in str(error) or "limit" in str(error)
        return False

    def _unclosed(self, row: int) -> WhenceError:
        return WhenceError("a quote that never closes", where=f"{self.path}, {self.place(row)}",
                           mend='Close it; inside a quoted value a quote is written twice: "".')  # fmt: skip
