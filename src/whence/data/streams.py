"""Bytes of a text file: gzip unpacked, byte-order mark dropped, and what is wrong with them said exactly."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import pyarrow as pa

from whence.errors import WhenceError
from whence.guarded import refuse_bomb, regular

__all__ = ["MOST_COLUMNS", "Appended", "grown", "numbered_lines", "opened", "too_wide", "undecodable"]

MOST_COLUMNS = 2**18
"""Of a table. Each costs some 10 kB, however little it holds."""

_BOM = b"\xef\xbb\xbf"
_FOREIGN = {  # the first bytes of what is often taken for a text table, and how to mend it
    b"\xff\xfe": ("UTF-16", "Save it as UTF-8."),
    b"\xfe\xff": ("UTF-16", "Save it as UTF-8."),
    b"\x1f\x8b": ("gzip", "Add .gz to its name; if it ends in .gz already it is packed twice."),
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "Unpack it, or save it as CSV."),
    b"PAR1": ("Parquet", "Let its name end in .parquet."),
}
_FIRST_BLOCK, _LARGEST_BLOCK = 1 << 24, (1 << 31) - 1  # bytes; Arrow needs a row to fit in a block
_OF_COLUMN = 1 << 10  # bytes of a block for each column: about what Arrow notes of a column's part in it

Read = TypeVar("Read")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The unpacked bytes of a text file, after its byte-order mark if it has one.

    Raises:
        WhenceError: the file is missing, unreadable, empty, not gzip though named .gz, damaged or cut off, or
            starts like something that is not UTF-8 text. Also for what reading inside the block meets.
    """
    try:
        size = regular(path)
        with _unpacked(path, size) if path.name.lower().endswith(".gz") else open(path, "rb") as file:
            start = file.peek(4)[:4]
            if not start:
                raise WhenceError("an empty file", where=path, got="0 bytes", expected="a table")
            for magic, (kind, mend) in _FOREIGN.items():
                if start.startswith(magic):
                    raise WhenceError("not UTF-8 text", where=path, got=kind, expected="UTF-8", mend=mend)
            if start.startswith(_BOM):
                file.read(len(_BOM))
            yield cast(BinaryIO, file)
    except FileNotFoundError as error:
        raise WhenceError("no such file", where=path, mend="Check the path.") from error
    except EOFError as error:
        raise WhenceError("a gzip file that is cut off", where=path,
                          mend="Copy or download it again.") from error  # fmt: skip
    except (gzip.BadGzipFile, zlib.error) as error:
        raise WhenceError("not a sound gzip file", where=path, got=str(error), expected="gzip",
                          mend="Copy it again; if it is not packed, drop .gz.") from error  # fmt: skip
    except OSError as error:
        raise WhenceError("a file that cannot be read", where=path,
                          got=error.strerror or str(error)) from error  # fmt: skip


@contextmanager
def _unpacked(path: Path, size: int) -> Iterator[io.BufferedReader]:
    with gzip.open(path, "rb") as file:
        yield io.BufferedReader(_Counted(file, path, size))


class _Counted(io.RawIOBase):
    """What a gzip file unpacks to, up to where it turns out to be a bomb."""

    def __init__(self, file: BinaryIO | gzip.GzipFile, path: Path, size: int) -> None:
        self._file, self._path, self._size, self._count = file, path, size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._file.read(len(buffer))
        buffer[: len(block)] = block
        self._count += len(block)
        try:
            refuse_bomb(self._size, self._count)
        except ValueError as error:
            raise WhenceError("a gzip file that unpacks to far more than it weighs", where=self._path, got=str(error),
                              mend="If that is right, unpack it first.") from error  # fmt: skip
        return len(block)


def grown(path: Path, read: Callable[[BinaryIO, int], Read], columns: int = 0) -> Read:
    """What ``read(stream, block_size)`` gives of so many columns, in larger blocks while a row does not fit into one."""
    size = max(_FIRST_BLOCK, columns * _OF_COLUMN)
    while True:
        try:
            with opened(path) as stream:
                return read(stream, size)
        except pa.ArrowInvalid as error:
            if "straddl" not in str(error):
                raise
            if size == _LARGEST_BLOCK:
                raise WhenceError("a row of more than 2 GiB", where=path,
                                  mend="Look for a quote that never closes.") from error  # fmt: skip
            size = min(size * 8, _LARGEST_BLOCK)


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers in the file (the first is 1)."""
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def too_wide(path: Path, count: int) -> WhenceError:
    """The error for a table of more than ``MOST_COLUMNS`` columns."""
    return WhenceError("a table of too many columns", where=path, got=f"{count:,} or more", expected=f"at most {MOST_COLUMNS:,}",
                       mend="Store the features as one array x beside the labels y, with numpy.savez.")  # fmt: skip


def undecodable(path: Path) -> WhenceError:
    """The error for a text file that is not UTF-8: its first bad byte, found by reading it once more."""
    offset, bad = 0, None
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                bad = f"byte 0x{line[error.start]:02x} in line {number}, at offset {offset + error.start}"
                break
            offset += len(line)
    return WhenceError("not UTF-8 text", where=path, got=bad, expected="UTF-8",
                       mend="Save it as UTF-8, as with iconv -f latin1 -t utf-8.")  # fmt: skip


class Appended(io.RawIOBase):
    """A stream with some bytes after its end."""

    def __init__(self, stream: BinaryIO, tail: bytes) -> None:
        self._stream, self._tail = stream, io.BytesIO(tail)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        # Arrow takes a short read for a whole block, so the tail has to come with the stream's last bytes.
        block = self._stream.read(len(buffer))
        if len(block) < len(buffer):
            block += self._tail.read(len(buffer) - len(block))
        buffer[: len(block)] = block
        return len(block)
