"""Scores on disk: made block by block, gone on with where they were interrupted, refused where they are others.

Readable without this library:

    scores.json              method, its version and options, quantity, unit, shape, fingerprints, rows per block
    rows.parquet             id, name (group, group_name) of each row;   targets.parquet   id, name of each column
    matrix/                  float32 [N, M], a Zarr array (``score_matrix.py``); absent when only summaries are kept
    block-00012.safetensors  a block's summary: the k largest and smallest of each column with their rows, and the sums of rows
    sizes.npy                float64 [M]: how large the scores of each column typically are; even sums of rows go by it
    null.npy                 float32 [S, M]: scores of masks that were never trained on; absent for methods without masks

The directory appears at once, with all that is not of a block. A block is done when its summary is there; blocks depend on
nothing but their rows, so any process may make any of them, and none waits for another.
"""

from __future__ import annotations

import glob
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from whence.errors import StaleScoresError, WhenceError
from whence.rundir import RunDirectory, write_aside
from whence.score_matrix import ScoreMatrix
from whence.scores import Labels, Scores
from whence.summaries import ENTRIES, Summary, typical_sizes

__all__ = ["TILE", "StoredScores", "begun", "bytes_of_scores", "compute", "load_scores"]

FORMAT = 3
TILE = 2**22  # scores that are looked at at a time: 16 MiB
_ROWS_PER_EXTREME = 8
_FEWEST_EXTREMES = 16
_BLOCKS_EACH = 4  # that each of several processes makes, so that what a lost one had done is not lost
_MATRIX = "matrix"
_FORGOTTEN = 86_400  # seconds after which a directory that was not finished is nobody's


@dataclass(eq=False, repr=False)
class StoredScores(Scores):
    """Scores in a directory; a block is read when it is asked for."""

    @property
    def directory(self) -> RunDirectory:
        assert self.path is not None
        return _directory(self.path)

    @cached_property
    def matrix(self) -> ScoreMatrix:
        return ScoreMatrix(self.directory.path / _MATRIX, self.info["block_rows"], self.shape[1])

    def _read(self, number: int, start: int, stop: int) -> np.ndarray:
        if not self.info.get("matrix", True):
            raise WhenceError("the matrix of scores was not kept", where=str(self.path),
                              mend="Score again with keep_matrix=True; top() and means need none.")  # fmt: skip
        try:
            return self.matrix.read(number, stop - start)
        except (OSError, ValueError, MemoryError) as error:
            raise self.directory.damaged(
                f"{_MATRIX}/{self.matrix.name(number)}", str(error), "a block of scores"
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
        found = _read_array(self.directory, "sizes.npy")
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
        file = self.directory.path / f"{_block(number)}.safetensors"
        for place in (file, self.matrix.path / self.matrix.name(number)):
            _clear_forgotten(place)
        summary = Summary(start, stop - start, self.info["summary_k"], self.weights)
        kept: list[np.ndarray] = []
        for tile in tiles:
            tile = np.ascontiguousarray(tile, np.float32)
            step = max(1, TILE // tile.shape[1])
            if not all(summary.fold(tile[top : top + step]) for top in range(0, len(tile), step)):
                raise _not_finite(start, stop)
            if self.info["matrix"]:
                kept.append(tile)
            progress(len(tile))
        if kept:
            self.matrix.write(number, kept[0] if len(kept) == 1 else np.concatenate(kept))
        self.directory.write_tensors(file.name, summary.entries())


def _directory(path: str | os.PathLike[str]) -> RunDirectory:
    return RunDirectory(path, mend="Delete the directory that it lies in to score again.")


def _block(number: int) -> str:
    return f"block-{number:05d}"


def load_scores(path: str | os.PathLike[str]) -> StoredScores:
    """Scores from their directory.

    Raises:
        WhenceError: no scores there, unfinished or damaged ones.
    """
    directory = _directory(path)
    if not directory.has("scores.json"):
        raise WhenceError("no scores in this directory", where=str(path), expected="a scores.json",
                          mend="Make them with `whence influence RUN`.")  # fmt: skip
    info = directory.read_json("scores.json")
    if info.get("format") != FORMAT:
        raise WhenceError("scores of another format", where=str(path), got=info.get("format"), expected=FORMAT)
    axes = [directory.read_table(name) for name in ("rows.parquet", "targets.parquet")]
    rows, columns = (_labels(axis) for axis in axes)
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


def compute(
    block_of: Callable[[int, int], np.ndarray],
    rows: Labels,
    columns: Labels,
    info: dict[str, Any],
    *,
    path: Path | None = None,
    null: Callable[[], np.ndarray | None] = lambda: None,
    of_rows: Callable[[np.ndarray], np.ndarray] | None = None,
    block_rows: int | None = None,
    summary_k: int = 100,
    keep_matrix: bool = True,
    width: int = 1,
    at_once: int = TILE,
    at_stake: int = TILE,
    shard: tuple[int, int] = (0, 1),
    progress: Callable[[int], None] = lambda rows: None,
) -> Scores:
    """Fill scores block by block; on disk, only the blocks that are missing.

    A directory that holds all of them is only read, and one in which no block could be made is not begun.

    Args:
        block_of: (first row, last row + 1) → float32 [rows, M]; asked for what is missing alone, tile by tile.
        info: what scores.json says of them; blocks on disk belong to them if it says the same.
        path: a directory, or None for memory.
        null: gives null scores [S, M], or None; asked where none are stored.
        of_rows: rows int64 [R] → float32 [R, M], a faster way to some rows; asked for how large scores typically are where
            there are no null scores and more than one block.
        block_rows: rows per block; by default ``at_once`` scores, or ``at_stake`` of which only the summary is kept.
        summary_k: extreme rows kept per block and target; fewer beside a matrix of small blocks, where more can be looked up.
        keep_matrix: keep whole blocks, not only their summaries (on disk).
        width: numbers that the method holds per row, if more than M.
        at_once: how many scores the method is asked for at once.
        at_stake: how many scores an interruption may lose.
        shard: (rank, world), 0 ≤ rank < world: make only every world-th block, from number rank on. Then some may be ``missing``
            when it returns.
        progress: told how many rows are finished, as they are.

    Raises:
        WhenceError: scores that are not finite; a shard of scores without a directory; the directory holds scores of other
            data, weights, targets or options.
    """
    tile = _rows_per_tile(len(columns), width, at_once)
    # Without the matrix, enough rows that summaries are much smaller than it.
    most = tile if keep_matrix else max(at_stake // max(len(columns), width), _ROWS_PER_EXTREME * summary_k)
    size = block_rows or _rows_of_begun(path) or _rows_per_block(len(rows), tile, shard[1], most)
    size = max(1, min(size, len(rows)))
    info = {"format": FORMAT, **info, "shape": [len(rows), len(columns)], "matrix": keep_matrix or path is None,
            "block_rows": size, "summary_k": _kept_extremes(summary_k, size, keep_matrix)}  # fmt: skip
    if path is None:
        if shard[1] > 1:
            raise WhenceError("a shard of scores that are not stored", where="shard", expected="a run with a directory",
                              mend="Fit with out=DIRECTORY.")  # fmt: skip
        scores = Scores(rows, columns, info)
        for number, start, stop in scores.ranges():
            block = np.ascontiguousarray(block_of(start, stop), np.float32)
            if not np.isfinite(block).all():
                raise _not_finite(start, stop)
            scores.memory[number] = block
            progress(stop - start)
        scores.null = _checked_null(null())
        return scores

    def one_by_one(some: np.ndarray) -> np.ndarray:
        return np.concatenate([block_of(row, row + 1) for row in some.tolist()])

    rank, world = shard
    stored = StoredScores(rows, columns, info, path)
    described = _belongs(stored.directory, info)
    if described:
        stored.null = _read_null(stored.directory)
    for number, start, stop in list(stored.ranges())[rank::world]:
        if described and stored.has_block(number):
            progress(stop - start)
            continue
        tiles = (block_of(top, min(top + tile, stop)) for top in range(start, stop, tile))
        first = next(tiles)
        if not described:  # not before there are scores: a method that cannot score leaves nothing behind
            if not np.isfinite(first).all():
                raise _not_finite(start, stop)
            stored.null = _checked_null(null())
            whole = len(first) == len(rows)
            _begin(
                stored,
                first,
                typical_sizes(stored.null, first.__getitem__ if whole else of_rows or one_by_one, len(rows)),
            )
            described = True
        stored.make_block(number, start, stop, chain([first], tiles), progress)
    return stored


def bytes_of_scores(
    count: int, columns: int, *, width: int, masks: bool, at_once: int, at_stake: int, keep_matrix: bool, summary_k: int = 100,
    null_masks: int = 512,
) -> int:  # fmt: skip
    """How large a directory of scores becomes, names and headers of files aside: arguments are as those of ``compute``."""
    tile = _rows_per_tile(columns, width, at_once)
    most = tile if keep_matrix else max(at_stake // max(columns, width), _ROWS_PER_EXTREME * summary_k)
    size = max(1, min(_rows_per_block(count, tile, 1, most), count))
    extremes = 2 * 12 * columns * _kept_extremes(summary_k, size, keep_matrix)
    blocks = -(-count // size)
    matrix = 4 * columns * size * blocks if keep_matrix else 0
    return (
        matrix + blocks * extremes + (16 + 24) * count + (8 + 24) * columns + (4 * columns * null_masks if masks else 0)
    )


def _rows_per_tile(columns: int, width: int, at_once: int) -> int:
    rows = max(1, at_once // max(columns, width))
    return rows - (rows % 64 if rows > 64 else 0)  # round numbers of rows are multiplied faster


def _rows_per_block(count: int, tile: int, world: int, most: int) -> int:
    """At most so many, fewer where each of several processes is to have some, and whole tiles, as these are multiplied alike."""
    wanted = max(1, min(most, -(-count // (_BLOCKS_EACH * world)) if world > 1 else most))
    return wanted if wanted <= tile else -(-wanted // tile) * tile


def _kept_extremes(wanted: int, size: int, keep_matrix: bool) -> int:
    """Of a block; beside the matrix so few that a summary is about a fifth of its block: where more are asked for, it is read."""
    return min(wanted, size, max(_FEWEST_EXTREMES, size // 32) if keep_matrix else size)


def _rows_of_begun(path: Path | None) -> int | None:
    """Rows per block of scores that were begun: they may have been divided for another number of processes."""
    if path is None or not (directory := _directory(path)).has("scores.json"):
        return None
    found = directory.read_json("scores.json").get("block_rows")
    return found if isinstance(found, int) and found > 0 else None


def begun(path: Path | None, info: dict[str, Any]) -> Labels | None:
    """The targets of the scores that a directory holds some or all of, if they are those that ``info`` describes."""
    directory = None if path is None else _directory(path)
    if directory is None or not directory.has("scores.json"):
        return None
    before = directory.read_json("scores.json")
    return _labels(directory.read_table("targets.parquet")) if _difference({**before, **info}, before) is None else None


def _checked_null(null: np.ndarray | None) -> np.ndarray | None:
    if null is not None and not np.isfinite(null).all():
        raise WhenceError("scores that are not finite", where="masks never trained on",
                          mend="Look for extreme weights or inputs in the run.")  # fmt: skip
    return None if null is None else np.ascontiguousarray(null, np.float32)


def _not_finite(start: int, stop: int) -> WhenceError:
    return WhenceError("scores that are not finite", where=f"rows {start} to {stop - 1}",
                       mend="Look for extreme weights or inputs in the run.")  # fmt: skip


def _belongs(directory: RunDirectory, info: dict[str, Any]) -> bool:
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


def _begin(scores: StoredScores, sample: np.ndarray, sizes: np.ndarray) -> None:
    """Make the directory with all that is not of a block, and let it appear at once.

    Another process may have been faster: then its directory stays.
    """
    rows, columns, path = scores.rows, scores.columns, scores.directory.path
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_forgotten(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    directory = RunDirectory(aside)
    try:
        table = {"id": rows.ids, "name": rows.names}
        if rows.groups is not None:
            table |= {"group": rows.groups, "group_name": rows.group_names}
        directory.write_table("rows.parquet", pa.table(table))
        directory.write_table("targets.parquet", pa.table({"id": columns.ids, "name": columns.names}))
        _save(aside / "sizes.npy", sizes)
        if scores.null is not None:
            _save(aside / "null.npy", scores.null)
        if scores.info["matrix"]:
            ScoreMatrix(aside / _MATRIX, scores.info["block_rows"], len(columns)).begin(len(rows), sample)
        directory.write_json("scores.json", scores.info)
        if path.exists() and not scores.directory.has("scores.json"):  # what nothing describes
            _move_away(path)
        try:
            os.replace(aside, path)
        except OSError:
            if not _belongs(scores.directory, scores.info):
                raise
            theirs = _labels(scores.directory.read_table("targets.parquet")).ids
            if not np.array_equal(theirs, columns.ids):  # wrong predictions, of which machines may differ in the last
                raise WhenceError("another process chose other targets", where=str(path), got=f"{len(theirs)} of its own",
                                  mend="Give the same command again: it takes those.") from None  # fmt: skip
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _move_away(path: Path) -> None:
    """Delete a directory that nothing describes; not one that another process has begun since we looked."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.old.tmp")
    try:
        os.rename(path, aside)
    except FileNotFoundError:  # another process did
        return
    if (aside / "scores.json").is_file():
        os.rename(aside, path)
    else:
        shutil.rmtree(aside, ignore_errors=True)


def _clear_forgotten(path: Path) -> None:
    """Remove what killed processes were about to put in a place."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        try:
            forgotten = time.time() - left.stat().st_mtime > _FORGOTTEN
        except FileNotFoundError:  # it is in its place by now
            continue
        if forgotten and left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        elif forgotten:
            left.unlink(missing_ok=True)


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


def _labels(axis: pa.Table) -> Labels:
    has = "group" in axis.column_names
    groups, names = (axis["group"].to_numpy(), axis["group_name"].to_pylist()) if has else (None, None)
    return Labels(axis["id"].to_numpy(), axis["name"].to_pylist(), groups, names)


def _save(path: Path, array: np.ndarray) -> None:
    with write_aside(path) as aside, open(aside, "wb") as file:
        np.save(file, array, allow_pickle=False)


def _read_null(directory: RunDirectory) -> np.ndarray | None:
    if not directory.has("null.npy"):
        return None
    null = _read_array(directory, "null.npy")
    if null.dtype != np.float32 or null.ndim != 2 or not np.isfinite(null).all():
        raise directory.damaged("null.npy", f"{null.dtype} {null.shape}", "finite float32 [S, M]")
    return null


def _read_array(directory: RunDirectory, name: str) -> np.ndarray:
    try:
        array = np.load(directory.path / name, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise directory.damaged(name, str(error), "an array") from error
    if not isinstance(array, np.ndarray):
        raise directory.damaged(name, type(array).__name__, "an array")
    return array
