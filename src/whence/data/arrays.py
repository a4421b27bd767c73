"""Arrays from .npz archives, read without pickle and without trusting a word of their headers.

A member's array is allocated only after its header, its size in the archive and the archive's own size have
been found to agree, and it is filled piece by piece: an archive that lies costs no memory beyond what it
really holds.
"""

from __future__ import annotations

import io
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from whence.errors import WhenceError
from whence.guarded import FREE, npy_header, refuse_bomb, regular

__all__ = ["MAX_BYTES", "PAIRS", "SPLITS", "Arrays", "read_npz"]

MAX_BYTES = 64 << 30
"""The largest array that is read, in bytes: of what it becomes, if that is more."""

SPLITS = ("train", "dev", "test")
PAIRS = (("x", "y"), ("X", "Y"), ("X", "y"), ("images", "labels"))
"""Names of inputs and labels that are not divided into splits yet."""

# Bytes that arrays may become together, of whatever size they are: deflate shrinks one-hot rows to a thousandth. LZMA shrinks
# zeros to a seven-thousandth, and gets what any file gets.
_FREE = 2 << 30
_WHOLE = ""  # the split of what has none
_HEADER = 16_384  # bytes; NumPy itself refuses headers above 10,000
_DEFLATE = 1_032  # how many times its size deflate can unpack to, at most
_PIECE = 1 << 20
_TIGHT_PIECE = 1 << 12  # zipfile unpacks LZMA without a limit, as many packed bytes at once as are asked for
# bzip2 shrinks zeros to a millionth, so that even a few packed bytes are too many to unpack at once; NumPy writes the first two.
_PACKED_BY = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)
# What zipfile meets damage with; passwords give RuntimeError, unknown packing NotImplementedError.
_DAMAGE = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError,
           OSError, ValueError, RuntimeError, NotImplementedError, IndexError, OverflowError)  # fmt: skip


@dataclass(frozen=True)
class Arrays:
    """Inputs and labels of all splits, one after the other.

    Attributes:
        x: uint8 [N, H, W] or [N, H, W, C] (pictures), or float32 [N, F] (features).
        y: [N] of integers, floats, booleans or strings.
        splits: str [N]: "train", "dev", "test"; None when there is no such division.
        starts: the first row of each split that is there; empty without splits.
    """

    x: np.ndarray
    y: np.ndarray
    splits: np.ndarray | None
    starts: dict[str, int]

    def place(self, row: int) -> str:
        """Split and position of a row (0-based)."""
        if not self.starts:
            return f"row {row + 1} (the first is 1)"
        split = max((name for name in self.starts if self.starts[name] <= row), key=self.starts.__getitem__)
        return f"{split} row {row - self.starts[split] + 1} (the first is 1)"


@dataclass(frozen=True)
class _Member:
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    offset: int  # of the data behind the header
    packed: int  # bytes in the archive
    tight: bool  # packed by LZMA
    becomes: np.dtype  # what it is read as

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def cost(self) -> int:
        return math.prod(self.shape) * max(self.dtype.itemsize, self.becomes.itemsize)


def read_npz(path: Path) -> Arrays:
    """The arrays x_train, y_train and, if they are there, x_dev, y_dev, x_test, y_test of an archive; else one of ``PAIRS``.

    Args:
        path: of the archive. x of dtype uint8 and shape [N, H, W] or [N, H, W, C] with C 1, 3 or 4 are
            pictures, [N, F] are features; y has the shape [N] or [N, 1].

    Raises:
        WhenceError: the archive is missing, damaged or inconsistent; an array is missing, holds objects or
            values that are not numbers, has an unfit shape, or is larger than ``MAX_BYTES``.
    """
    with _opened(path) as archive:
        parts = _members(archive, path)
        _refuse_bomb([member for pair in parts.values() for member in pair], path)
        counts = [_count(x, y, path) for x, y in parts.values()]
        starts = dict(zip(parts, np.cumsum([0, *counts[:-1]]).tolist(), strict=True))
        first = next(iter(parts.values()))[0]
        image = len(first.shape) > 2
        x = np.empty((sum(counts), *first.shape[1:]), first.becomes)
        for (split, (member, _)), count in zip(parts.items(), counts, strict=True):
            if (member.shape[1:], len(member.shape) > 2) != (first.shape[1:], image):
                raise WhenceError("inputs of different shape", where=f"{path}, array {member.name}",
                                  got=str(list(member.shape[1:])),
                                  expected=f"{list(first.shape[1:])} as x_train has")  # fmt: skip
            _fill(archive, member, x[starts[split] : starts[split] + count], path)
        y = np.concatenate([_column(archive, member, path) for _, member in parts.values()])
    divided = _WHOLE not in parts
    splits = np.repeat(np.array(list(parts), dtype=object), counts) if divided else None
    arrays = Arrays(x, y, splits, starts if divided else {})
    if not image:
        _check_finite(arrays, path)
    return arrays


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        if regular(path) == 0:
            raise WhenceError("an empty file", where=path, got="0 bytes", expected="an .npz archive")
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError as error:
        raise WhenceError("no such file", where=path, mend="Check the path.") from error
    except PermissionError as error:
        raise WhenceError("a file that cannot be read", where=path, got=error.strerror) from error
    except MemoryError as error:
        raise WhenceError("an archive that does not fit into memory", where=path,
                          mend="Store fewer rows.") from error  # fmt: skip
    except WhenceError:
        raise
    except _DAMAGE as error:
        raise WhenceError("not a sound .npz archive", where=path, got=str(error) or type(error).__name__,
                          expected="a file of numpy.savez",
                          mend="Write or copy it again.") from error  # fmt: skip


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, tuple[_Member, _Member]]:
    """Inputs and labels in use by split (or "" for what has none), their headers checked."""
    wanted = [f"{part}_{split}" for split in SPLITS for part in "xy"]
    have = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    pair = next((pair for pair in PAIRS if set(pair) <= set(have)), None)
    if pair is not None and not any(name in have for name in wanted):
        x, y = (_member(archive, have[name], name, path, labels=name == pair[1]) for name in pair)
        return {_WHOLE: (x, y)}
    for name in wanted:
        partner = f"{'y' if name[0] == 'x' else 'x'}{name[1:]}"
        if name not in have and (name.endswith("_train") or partner in have):
            shown = ", ".join(list(have)[:20]) or "none"
            raise WhenceError("a missing array", where=path, got=f"arrays {shown}",
                              expected=f"{name}; x and y come in pairs of train, dev and test, or as one pair x and y",
                              mend="Write it with numpy.savez(path, x_train=..., y_train=...).")  # fmt: skip
    return {
        split: (
            _member(archive, have[f"x_{split}"], f"x_{split}", path, labels=False),
            _member(archive, have[f"y_{split}"], f"y_{split}", path, labels=True),
        )
        for split in SPLITS
        if f"x_{split}" in have
    }


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, path: Path, *, labels: bool) -> _Member:
    where = f"{path}, array {name}"
    if info.compress_type not in _PACKED_BY:
        raise WhenceError("an array packed in a way that is not read", where=where,
                          got="bzip2" if info.compress_type == zipfile.ZIP_BZIP2 else f"method {info.compress_type}",
                          expected="stored, deflate or lzma", mend="Write it with numpy.savez_compressed.")  # fmt: skip
    with archive.open(info) as file:
        head = io.BytesIO(file.read(_HEADER))
    try:
        shape, fortran, dtype = npy_header(head)
    except ValueError as error:
        raise WhenceError("an array with an unreadable header", where=where, got=str(error).split("\n")[0],
                          expected="NumPy's .npy format",
                          mend="Write the archive again.") from error  # fmt: skip
    if dtype.hasobject:
        raise WhenceError("an array of Python objects", where=where, got=f"dtype {dtype}",
                          expected="numbers or strings",
                          mend="They are pickles, which can run code: convert it with .astype.")  # fmt: skip
    if not shape or any(size < 0 for size in shape):
        raise WhenceError("an array without rows", where=where, got=f"shape {list(shape)}",
                          expected="[N, ...]")  # fmt: skip
    tight = info.compress_type == zipfile.ZIP_LZMA
    becomes = np.dtype(np.uint8 if len(shape) > 2 else np.float32)
    if labels:
        becomes = np.dtype(f"U{dtype.itemsize}") if dtype.kind == "S" else dtype
    member = _Member(name, shape, dtype, fortran, head.tell(), info.compress_size, tight, becomes)
    _check_shape(member, where, labels)
    if member.cost > MAX_BYTES:
        raise WhenceError("an array that is too large", where=where, got=f"{member.cost / 2**30:.4g} GiB",
                          expected=f"at most {MAX_BYTES >> 30} GiB")  # fmt: skip
    if member.bytes != info.file_size - member.offset:
        raise WhenceError("an array whose header does not fit its size", where=where,
                          got=f"{info.file_size - member.offset} bytes of data",
                          expected=f"{member.bytes} for shape {list(shape)} of {dtype}",
                          mend="Write the archive again.")  # fmt: skip
    most = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: _DEFLATE}.get(info.compress_type, math.inf)
    if info.compress_size > path.stat().st_size or info.file_size > most * info.compress_size + _HEADER:
        raise WhenceError("an archive that promises more than it holds", where=where,
                          got=f"{info.compress_size} bytes that unpack to {info.file_size}",
                          mend="Write the archive again.")  # fmt: skip
    return member


def _refuse_bomb(members: list[_Member], path: Path) -> None:
    """Raise where arrays become far more than they weigh, each of them or all together."""
    packed = min(sum(member.packed for member in members), path.stat().st_size)
    largest = max(members, key=lambda member: member.cost)
    free = FREE if any(member.tight for member in members) else _FREE
    try:
        refuse_bomb(packed, sum(member.cost for member in members), free)
    except ValueError as error:
        raise WhenceError("an array that unpacks to far more than it weighs", where=f"{path}, array {largest.name}",
                          got=str(error), mend="If that is right, store it with numpy.savez.") from error  # fmt: skip


def _check_shape(member: _Member, where: str, labels: bool) -> None:
    shape, kind = member.shape, member.dtype.kind
    if labels:
        if kind not in "biufSU":
            raise WhenceError("labels of an unfit kind", where=where, got=f"dtype {member.dtype}",
                              expected="numbers or strings")  # fmt: skip
        if len(shape) != 1 and shape[1:] != (1,):
            raise WhenceError("labels of an unfit shape", where=where, got=str(list(shape)), expected="[N]",
                              mend="Turn one-hot rows into class numbers with .argmax(1).")  # fmt: skip
    elif kind not in "biuf":
        raise WhenceError("inputs that are not numbers", where=where, got=f"dtype {member.dtype}",
                          expected="uint8 pictures or numbers")  # fmt: skip
    elif len(shape) not in (2, 3, 4) or 0 in shape[1:] or (len(shape) == 4 and shape[3] not in (1, 3, 4)):
        mend = "Move channels to the end with .transpose(0, 2, 3, 1)." if len(shape) == 4 else ""
        raise WhenceError("inputs of an unfit shape", where=where, got=str(list(shape)), mend=mend,
                          expected="pictures [N, H, W] or [N, H, W, 1 or 3], or features [N, F]")  # fmt: skip
    elif len(shape) > 2 and member.dtype != np.uint8:
        raise WhenceError("pictures of an unfit kind", where=where, got=f"dtype {member.dtype}",
                          expected="uint8, 0 to 255",
                          mend="Scale them to uint8, or give features [N, F].")  # fmt: skip


def _count(x: _Member, y: _Member, path: Path) -> int:
    rows, labels = x.shape[0], y.shape[0]
    if rows != labels:
        raise WhenceError("arrays of different length", where=path,
                          got=f"{x.name} with {rows} rows, {y.name} with {labels}",
                          expected="one label per row")  # fmt: skip
    if rows == 0 and not x.name.endswith(("_dev", "_test")):
        raise WhenceError("an array without rows", where=f"{path}, array {x.name}", got="0 rows",
                          expected="at least one")  # fmt: skip
    return rows


def _fill(archive: zipfile.ZipFile, member: _Member, target: np.ndarray, path: Path) -> None:
    """Read a member into ``target``, of the member's shape and perhaps another dtype."""
    # Fortran order is the C order of the transposed array.
    target = target.T if member.fortran else target
    if not target.nbytes:
        return
    with archive.open(f"{member.name}.npy") as file:
        file.read(member.offset)
        if target.flags.c_contiguous and target.dtype == member.dtype:
            _read(cast(io.BufferedIOBase, file), target, member, path)
            return
        rows = max(1, _PIECE // (member.dtype.itemsize * math.prod(target.shape[1:])))
        for start in range(0, len(target), rows):
            piece = np.empty((min(rows, len(target) - start), *target.shape[1:]), member.dtype)
            _read(cast(io.BufferedIOBase, file), piece, member, path)
            with np.errstate(over="ignore"):
                target[start : start + rows] = piece


def _read(file: io.BufferedIOBase, array: np.ndarray, member: _Member, path: Path) -> None:
    """Fill an array with the next bytes of a member."""
    flat = array.reshape(-1).view(np.uint8)
    done, piece = 0, _TIGHT_PIECE if member.tight else _PIECE
    while done < flat.size:
        count = file.readinto(flat.data[done : done + piece])
        if not count:
            raise WhenceError("an array that is cut off", where=f"{path}, array {member.name}",
                              got=f"{done} bytes", expected=f"{flat.size}", mend="Copy the file again.")  # fmt: skip
        done += count


def _column(archive: zipfile.ZipFile, member: _Member, path: Path) -> np.ndarray:
    """Labels [N] in the machine's byte order; bytes as text."""
    values = np.empty(member.shape, member.dtype.newbyteorder("="))
    _fill(archive, member, values, path)
    values = values.reshape(-1)
    if values.dtype.kind == "S":
        try:
            return np.char.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise WhenceError("labels that are not UTF-8", where=f"{path}, array {member.name}",
                              got=str(error)) from error  # fmt: skip
    return values


def _check_finite(arrays: Arrays, path: Path) -> None:
    for start in range(0, len(arrays.x), 65_536):
        bad = ~np.isfinite(arrays.x[start : start + 65_536])
        if bad.any():
            row, column = (int(position) for position in np.argwhere(bad)[0])
            raise WhenceError("a feature that is not a finite number",
                              where=f"{path}, {arrays.place(start + row)}, column {column + 1}",
                              got=str(arrays.x[start + row, column]),
                              expected="a number that float32 can hold",
                              mend="Fill it in, or remove the row.")  # fmt: skip
