"""A matrix of scores on disk, as a Zarr (version 3) array that any reader of Zarr opens: one chunk file per block of rows.

    zarr.json     shape [N, M], chunks [rows in a block, M], float32, and whether chunks are compressed with zstd
    c/12/0        block 12; the last one is filled up with zeros, as the format wants it

Every chunk is written aside and renamed, by whichever process made it: there is no index that writers would share. Scores are
mostly noise, of which compression saves a few percent and costs time: it is used where it saves a fifth of a sample.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from whence.guarded import regular, strict_json
from whence.rundir import RunDirectory
from whence.whole_files import write_aside, writing

__all__ = ["ScoreMatrix"]

_CODEC = "zstd"
_WORTH = 0.8  # of its size, or less, for compression to be used
_SAMPLE = 2**20  # numbers that compression is tried on
_OVERHEAD = 2**16  # bytes of a compressed block beside its content, at most
_FLOAT = np.dtype("<f4")


class ScoreMatrix:
    """Args:
    path: of the array, a directory.
    rows: in a block.
    columns: M.
    """

    def __init__(self, path: Path, rows: int, columns: int) -> None:
        self.path, self.rows, self.columns = path, rows, columns
        self._packed: bool | None = None

    def begin(self, count: int, sample: np.ndarray) -> None:
        """Describe an array of N rows, whose chunks are compressed if that pays on a sample of scores."""
        raw = np.ascontiguousarray(sample, _FLOAT).reshape(-1)[:_SAMPLE].tobytes()
        self._packed = len(pa.compress(raw, codec=_CODEC, asbytes=True)) <= _WORTH * len(raw)
        codecs: list[dict[str, object]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
        if self._packed:
            codecs.append({"name": _CODEC, "configuration": {"level": 1, "checksum": False}})
        described = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [count, self.columns],
            "data_type": "float32",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [self.rows, self.columns]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0.0,
            "codecs": codecs,
            "dimension_names": ["row", "target"],
        }
        (self.path / "c").mkdir(parents=True)
        with write_aside(self.path / "zarr.json") as aside:
            aside.write_text(json.dumps(described, indent=1), encoding="utf-8")

    def name(self, number: int) -> str:
        """The file of a block, from the array's directory."""
        return f"c/{number}/0"

    def write(self, number: int, block: np.ndarray) -> None:
        """One block, float32 [rows or fewer, M]."""
        missing = self.rows - len(block)
        whole = np.ascontiguousarray(np.pad(block, ((0, missing), (0, 0))) if missing else block, _FLOAT)
        place = self.path / self.name(number)
        with writing(place):  # not the directories above: where they are gone, somebody has removed the scores
            place.parent.mkdir(exist_ok=True)
        with write_aside(place, parents=False) as aside, open(aside, "wb") as file:
            file.write(pa.compress(whole.data, codec=_CODEC) if self.packed else whole.data)

    def read(self, number: int, rows: int) -> np.ndarray:
        """The first rows of a block, read-only; from the file itself where it is not compressed.

        Raises:
            OSError, ValueError: the file is not there, leads elsewhere, is of another size, or not compressed as it should be.
        """
        path, size = RunDirectory(self.path).place(self.name(number)), self.rows * self.columns
        found = regular(path)
        if self.packed:
            if found > 2 * size * _FLOAT.itemsize + _OVERHEAD:
                raise ValueError(f"{found:,} bytes for {size * _FLOAT.itemsize:,} that they hold")
            raw = pa.decompress(path.read_bytes(), decompressed_size=size * _FLOAT.itemsize, codec=_CODEC)
            return np.frombuffer(raw, _FLOAT, size).reshape(self.rows, self.columns)[:rows]
        if found != size * _FLOAT.itemsize:
            raise ValueError(f"{found:,} bytes in place of {size * _FLOAT.itemsize:,}")
        return np.memmap(path, _FLOAT, "r", shape=(self.rows, self.columns))[:rows]

    @property
    def packed(self) -> bool:
        """Whether chunks are compressed.

        Raises:
            OSError, ValueError: zarr.json is not there, or damaged.
        """
        if self._packed is None:
            try:
                described = strict_json(RunDirectory(self.path).place("zarr.json"))
            except (OSError, ValueError) as error:
                raise ValueError(f"zarr.json: {error}") from error
            codecs = described.get("codecs") if isinstance(described, dict) else None
            if not isinstance(codecs, list):
                raise ValueError("no codecs in zarr.json")
            self._packed = any(isinstance(codec, dict) and codec.get("name") == _CODEC for codec in codecs)
        return self._packed
