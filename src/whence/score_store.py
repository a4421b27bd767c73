"""Scores on disk, block by block; refused where they are others. They are made in ``score_making.py``.

Readable without this library:

    scores.json              method, its version and options, quantity, unit, shape, fingerprints, rows per block
    rows.parquet             id, name (group, group_name) of each row;   targets.parquet   id, name of each column
    matrix/                  float32 [N, M], a Zarr array (``score_matrix.py``); absent when only summaries are kept
    block-00012.safetensors  a block's summary: the k largest and smallest of each column with their rows, and the sums of rows
    sizes.npy                float64 [M]: how large the scores of each column typically are; even sums of rows go by it
    null.npy                 float32 [S, M]: scores of masks that were never trained on; absent for methods without masks

The directory appears at once, with all that is not of a block. A block is done when its summary is there; blocks depend on
nothing but their rows, so any process may make any of them. Those that divide them do not wait for each other: they share the lock
``.NAME.lock`` beside the directory, which who makes all scores holds alone.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from whence.errors import StaleScoresError, WhenceError
from whence.locks import has_left, locked
from whence.rundir import RunDirectory
from whence.score_matrix import ScoreMatrix
from whence.scores import Labels, Scores
from whence.summaries import ENTRIES, Summary
from whence.whole_files import clear_left, write_aside, writing

__all__ = ["FORMAT", "MATRIX", "TILE", "StoredScores", "begun", "belongs", "directory_of", "labels_in", "load_scores", "making",
           "not_finite", "save_array", "tidy"]  # fmt: skip

FORMAT = 3
TILE = 2**22  # scores that are looked at at a time: 16 MiB
MATRIX = "matrix"


@dataclass(eq=False, repr=False)
class StoredScores(Scores):
    """Scores in a directory; a block is read when it is asked for."""

    def read_null(self) -> np.ndarray | None:
        """The null scores that lie there."""
        return _read_null(self.directory)

    @property
    def directory(self) -> RunDirectory:
        assert self.path is not None
        return directory_of(self.path)

    @cached_property
    def matrix(self) -> ScoreMatrix:
        return ScoreMatrix(self.directory.place(MATRIX), self.info["block_rows"], self.shape[1])

    def _read(self, number: int, start: int, stop: int) -> np.ndarray:
        if not self.info.get("matrix", True):
            raise WhenceError("the matrix of scores was not kept", where=str(self.path),
                              mend="Score again with keep_matrix=True; top() and means need none.")  # fmt: skip
        try:
            return self.matrix.read(number, stop - start)
        except (OSError, ValueError, MemoryError) as error:
            raise self.directory.damaged(
                f"{MATRIX}/{self.matrix.name(number)}", str(error), "a block of scores"
            ) from error

    def _summary(self, number: int, start: int, stop: int) -> dict[str, torch.Tensor]:
        name = f"{_block(number)}.safetensors"
        summary, _ = self.directory.read_tensors(name)
        count, extremes = stop - start, (min(self.info["summary_k"], stop - start), self.shape[1])
        wanted = {entry: (torch.float64, (count,)) if entry.endswith("sum") else
                  (torch.int64 if entry.endswith("rows") else torch.float32, extremes) for entry in ENTRIES}  # fmt: skip
        if {entry: (value.dtype, tuple(value.shape)) for entry, value in summary.items()} != wanted:
            raise self.directory.damaged(name, None, "a block's summary")
        if any(((summary[rows] < start) | (summary[rows] >= stop)).any() for rows in ("helpful_rows", "harmful_rows")):
            raise self.directory.damaged(name, "rows of other blocks", f"rows {start} to {stop - 1}")
        return summary

    def _extremes(self, number: int, start: int, stop: int, sign: int) -> tuple[torch.Tensor, torch.Tensor]:
        summary, name = self._summary(number, start, stop), "helpful" if sign > 0 else "harmful"
        return summary[f"{name}_rows"], summary[f"{name}_values"]

    def _row_sums(self, number: int, start: int, stop: int, *, even: bool) -> np.ndarray:
        return self._summary(number, start, stop)["even_sum" if even else "row_sum"].numpy()

    @cached_property
    def sizes(self) -> np.ndarray:
        found = self.directory.read_array("sizes.npy")
        if found.dtype != np.float64 or found.shape != self.shape[1:]:
            raise self.directory.damaged("sizes.npy", f"{found.dtype} {found.shape}", f"float64 {self.shape[1:]}")
        return found

    def has_block(self, number: int) -> bool:
        """Whether a block is done."""
        return self.directory.has(f"{_block(number)}.safetensors")

    def missing(self) -> list[int]:
        """Blocks that are not done: of scores that several processes make, or that were interrupted."""
        return [number for number, _, _ in self.ranges() if not self.has_block(number)]

    def make_block(
        self, number: int, start: int, stop: int, tiles: Iterable[np.ndarray], progress: Callable[[int], None]
    ) -> None:
        """Write a block, given by its rows in tiles: its scores, where they are kept, then its summary."""
        summary = Summary(start, stop - start, self.info["summary_k"], self.weights)
        kept: list[np.ndarray] = []
        for tile in tiles:
            step = max(1, TILE // tile.shape[1])
            if not all(summary.fold(tile[top : top + step]) for top in range(0, len(tile), step)):
                raise not_finite(start, stop)
            if self.info["matrix"]:
                kept.append(np.ascontiguousarray(tile, np.float32))
            progress(len(tile))
            del tile  # its memory may serve for the next
        if kept:
            self.matrix.write(number, kept[0] if len(kept) == 1 else np.concatenate(kept))
        self.directory.write_tensors(f"{_block(number)}.safetensors", summary.entries())


def not_finite(start: int, stop: int) -> WhenceError:
    return WhenceError("scores that are not finite", where=f"rows {start} to {stop - 1}",
                       mend="Look for extreme weights or inputs in the run.")  # fmt: skip


def directory_of(path: str | os.PathLike[str]) -> RunDirectory:
    return RunDirectory(path, mend="Delete the directory that it lies in to score again.", begun=True)


def tidy(path: Path) -> None:
    """Remove what a process left that was killed when it had finished."""
    if has_left(path, _lock(path)):
        with suppress(WhenceError), making(path, shared=True):  # a disk that can only be read stays as it is
            pass


def _lock(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


@contextmanager
def making(path: Path, *, shared: bool = False) -> Iterator[None]:
    """While scores are made in a directory: alone, or shared with others who divide the work."""
    new = not path.parent.exists()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locked(_lock(path), path, shared=shared):
            clear_left(path)
            yield
    except BaseException:
        if new:
            with suppress(OSError):  # what failed at once leaves no empty directory
                path.parent.rmdir()
        raise


def _block(number: int) -> str:
    return f"block-{number:05d}"


def load_scores(path: str | os.PathLike[str]) -> StoredScores:
    """Scores from their directory.

    Raises:
        WhenceError: no scores there, unfinished or damaged ones.
    """
    directory = directory_of(path)
    if not directory.has("scores.json"):
        raise WhenceError("no scores in this directory", where=str(path), expected="a scores.json",
                          mend="Make them with `whence influence RUN`.")  # fmt: skip
    info = directory.read_json("scores.json")
    if info.get("format") != FORMAT:
        raise WhenceError("scores of another format", where=str(path), got=info.get("format"), expected=FORMAT)
    rows, columns = (labels_in(directory, name) for name in ("rows.parquet", "targets.parquet"))
    if (
        info.get("shape") != [len(rows), len(columns)]
        or not all(_within(info.get(name), 1, max(1, len(rows))) for name in ("block_rows", "summary_k"))
        or not isinstance(info.get("matrix"), bool)
    ):
        raise directory.damaged("scores.json", info.get("shape"), f"shape {[len(rows), len(columns)]}")
    scores = StoredScores(rows, columns, info, directory.path, null=_read_null(directory))
    if missing := scores.missing():
        raise WhenceError("unfinished scores", where=str(path), got=f"{len(missing)} blocks missing",
                          mend="Give the same `whence influence` again to finish them.")  # fmt: skip
    return scores


def begun(path: Path | None, info: dict[str, Any]) -> Labels | None:
    """The targets of the scores that a directory holds some or all of, if they are those that ``info`` describes."""
    directory = None if path is None else directory_of(path)
    if directory is None or not directory.has("scores.json"):
        return None
    before = directory.read_json("scores.json")
    return labels_in(directory, "targets.parquet") if _difference({**before, **info}, before) is None else None


def belongs(directory: RunDirectory, info: dict[str, Any]) -> bool:
    """Whether the directory has scores that ``info`` describes; False where it has none.

    Raises:
        StaleScoresError: it has others.
    """
    if not directory.has("scores.json"):
        return False
    if (different := _difference(info, directory.read_json("scores.json"))) is not None:
        name, wanted, found = different
        raise StaleScoresError(directory.path, name, found, wanted)
    return True


def _within(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


_WORDS = {
    "version": "version of the method",
    "targets": "targets of fingerprint",
    "run": "weights, masks and training data of fingerprint",
    "block_rows": "rows in a block",
    "summary_k": "extremes in a block",
    "matrix": "matrix kept",
}


def _difference(wanted: dict[str, Any], found: dict[str, Any]) -> tuple[str, str, str] | None:
    """The first entry that two descriptions do not share: its name in words, and what each of them says."""
    wanted = json.loads(json.dumps(wanted))  # as it would be read
    for key in [*wanted, *(key for key in found if key not in wanted)]:
        one, other = wanted.get(key), found.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            if (inner := _difference(one, other)) is not None:
                return inner
        elif one != other:
            return _WORDS.get(key, key.replace("_", " ")), _shown(one), _shown(other)
    return None


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return value[:8] if isinstance(value, str) and len(value) == 32 else str(value)  # a fingerprint, or a plain value


def labels_in(directory: RunDirectory, name: str) -> Labels:
    """The labels of an axis, from its table.

    Raises:
        WhenceError: the table is damaged, or lacks something.
    """
    axis = directory.read_table(name)
    kinds = {"id": pa.int64(), "name": pa.large_string()}
    if "group" in axis.column_names:
        kinds |= {"group": pa.int64(), "group_name": pa.large_string()}
    for column, kind in kinds.items():
        if column not in axis.column_names or axis[column].type != kind or axis[column].null_count:
            got = str(axis[column].type) if column in axis.column_names else "none"
            raise directory.damaged(name, f"column {column} of type {got}", f"{kind}, without gaps")
    found = {column: axis[column] for column in kinds}
    groups, names = (found["group"].to_numpy(), found["group_name"].to_pylist()) if "group" in found else (None, None)
    return Labels(found["id"].to_numpy(), found["name"].to_pylist(), groups, names)


def save_array(path: Path, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)  # to a file itself, NumPy does not say why it cannot write
    with write_aside(path, parents=False) as aside:
        aside.write_bytes(buffer.getbuffer())


def _read_null(directory: RunDirectory) -> np.ndarray | None:
    if not directory.has("null.npy"):
        return None
    null = directory.read_array("null.npy")
    if null.dtype != np.float32 or null.ndim != 2 or not np.isfinite(null).all():
        raise directory.damaged("null.npy", f"{null.dtype} {null.shape}", "finite float32 [S, M]")
    return null
