"""Makers of hostile files: each does harm to one file of a directory that was sound."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Harm = Callable[[Path], None]

DEEP = 100_000


class Canary:
    """Unpickled, it creates a file: the sign that a stranger's code has run."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.sign), "w"))


def cut(share: float) -> Harm:
    """Keep only a share of the bytes, one less at least."""

    def harm(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: min(int(share * len(content)), len(content) - 1)])

    return harm


def flipped(share: float, bit: int) -> Harm:
    """Turn one bit over."""

    def harm(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[min(int(share * len(content)), len(content) - 1)] ^= 1 << bit
        path.write_bytes(content)

    return harm


def holding(content: bytes) -> Harm:
    return lambda path: void(path.write_bytes(content))


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def a_link_out(path: Path) -> None:
    """The sound file itself, but somewhere else."""
    home = next(parent for parent in path.parents if parent.name == "run").parent
    away = home / f"away-{path.name}"
    shutil.move(path, away)
    path.symlink_to(away)


def a_pickle(sign: Path) -> Harm:
    return lambda path: void(path.write_bytes(pickle.dumps(Canary(sign))))


def a_torch_file(sign: Path) -> Harm:
    """What torch.save writes: a zip archive around a pickle."""

    def harm(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Canary(sign)))
            archive.writestr("archive/version", "3\n")

    return harm


def an_array_of_objects(sign: Path) -> Harm:
    """An .npy file whose content is a pickle."""

    def harm(path: Path) -> None:
        with open(path, "wb") as file:
            np.lib.format.write_array(file, np.array([Canary(sign)], dtype=object), allow_pickle=True)

    return harm


def npy(shape: str, kind: str = "<f4", content: bytes = b"\0" * 64) -> bytes:
    """An .npy file of any promise."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def npz(**members: bytes) -> bytes:
    """An archive of members as they are given."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def safetensors(header: Any, content: bytes = b"", length: int | None = None) -> bytes:
    written = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(written) if length is None else length) + written + content


def long_column(path: Path, name: str, rows: int) -> None:
    """A small Parquet file of very many equal rows."""
    part = pa.table({other: pa.array(np.zeros(10**6, np.int64)) for other in (name, f"{name}2")})
    with pq.ParquetWriter(path, part.schema, compression="zstd") as writer:
        for _ in range(rows // 10**6):
            writer.write_table(part)


def wide_texts(path: Path, name: str, count: int, length: int) -> None:
    """A small Parquet file in which one long text stands in every row."""
    texts = pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), ["q" * length])
    pq.write_table(pa.table({name: texts, "y": np.arange(count) % 2}), path, compression="zstd")


def wide_lines(path: Path, columns: int, ending: str = "") -> None:
    """A CSV of so many columns and six rows; the last value is no number where ``ending`` is none."""
    names, values = ",".join(f"c{number}" for number in range(columns)), ",".join("1" * columns)
    path.write_text(f"y,{names}\n" + "".join(f"{'ab'[row % 2]},{values}{ending}\n" for row in range(6)))


def wide_parquet(path: Path, columns: int) -> None:
    """A Parquet file of so many columns and two rows, without a number in the last."""
    numbers = {f"c{number}": np.zeros(2) for number in range(columns - 1)}
    pq.write_table(pa.table({"y": ["a", "b"], **numbers, "last": ["1", "one"]}), path)


def sparse_keys(path: Path, lines: int, keys: int, within: str) -> None:
    """Lines of JSON, each with keys of its own, as many values of others would be null; ``within`` is what they stand in."""
    path.write_text("".join(
        f'{{"y": {line}, {within % ", ".join(f"{chr(34)}k{line * keys + key}{chr(34)}: 1" for key in range(keys))}}}\n'
        for line in range(lines)))  # fmt: skip


def zeros_packed(path: Path, rows: int, packing: int) -> None:
    """An archive whose array of rows × 10^6 zeros weighs next to nothing."""
    with zipfile.ZipFile(path, "w", packing) as archive:
        with archive.open("x_train.npy", "w") as file:
            file.write(npy(f"({rows}, {10**6})", "|u1", b""))
            for _ in range(rows):
                file.write(bytes(10**6))
        archive.writestr("y_train.npy", npy(f"({rows},)", "|u1", bytes(range(2)) * (rows // 2)))


WIDE: dict[str, Harm] = {
    "twenty-thousand.csv": lambda path: wide_lines(path, 20_000, "one"),
    "two-hundred-thousand.csv": lambda path: wide_lines(path, 200_000, "one"),
    "a-million.csv": lambda path: wide_lines(path, 10**6),
    "twenty-thousand.parquet": lambda path: wide_parquet(path, 20_000),
    "keys.jsonl": lambda path: sparse_keys(path, 6000, 10, "%s"),
    "keys-within.jsonl": lambda path: sparse_keys(path, 6000, 10, '"x": {%s}'),
    "keys-in-lists.jsonl": lambda path: sparse_keys(path, 60_000, 1, '"x": [{%s}]'),
    "keys-at-once.jsonl": lambda path: sparse_keys(path, 2, 200_000, "%s"),
}
"""Small files of tables far wider than they weigh: each is to be refused."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is something in a JSON value: keys and positions from its root; of a list the first two entries."""
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from places(entry, (*path, key))


ABSENT = object()


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A JSON value with something else in one place, or nothing (ABSENT)."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if new is ABSENT and len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def void(_: Any) -> None:
    """Nothing, whatever was done."""
