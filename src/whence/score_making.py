"""Making scores on disk, by one process or many: the blocks that are missing, in a directory that appears at once.

What lies there and how it is read: ``score_store.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from whence.errors import WhenceError
from whence.rundir import RunDirectory
from whence.score_matrix import ScoreMatrix
from whence.score_store import (
    FORMAT,
    MATRIX,
    TILE,
    StoredScores,
    belongs,
    directory_of,
    labels_in,
    making,
    not_finite,
    save_array,
    tidy,
)
from whence.scores import Labels, Scores
from whence.summaries import typical_sizes
from whence.whole_files import aside_of, clear_left

__all__ = ["NULL_MASKS", "bytes_of_scores", "compute"]

NULL_MASKS = 512  # never trained on, that are scored beside the rows, unless told otherwise

_ROWS_PER_EXTREME = 8
_FEWEST_EXTREMES = 16
_BLOCKS_EACH = 4  # that each of several processes makes, so that what a lost one had done is not lost


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
    at_stake: Callable[[], int] = lambda: TILE,
    shard: tuple[int, int] = (0, 1),
    while_made: Callable[[], AbstractContextManager[Any]] = nullcontext,
    progress: Callable[[int], None] = lambda rows: None,
) -> Scores:
    """Fill scores block by block; on disk, only the blocks that are missing.

    A directory that holds all of them is only read, and one in which no block could be made is not begun. Of two processes that
    would make the same, the second waits for the first; shards do not wait for each other.

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
        at_stake: says how many scores an interruption may lose; asked of scores that are to be begun without the matrix.
        shard: (rank, world), 0 ≤ rank < world: make only every world-th block, from number rank on. Then some may be ``missing``
            when it returns.
        while_made: a context to be in while something is made on disk.
        progress: told how many rows are finished, as they are.

    Raises:
        WhenceError: scores that are not finite; a shard of scores without a directory; the directory holds scores of other
            data, weights, targets or options, or cannot be written to.
    """
    tile = _rows_per_tile(len(columns), width, at_once)
    rank, world = shard

    def usual_rows() -> int:
        most = tile if keep_matrix else _most_rows(len(columns), width, at_stake(), summary_k)
        return _rows_per_block(len(rows), tile, world, most)

    def described() -> dict[str, Any]:
        size = block_rows or _rows_of_begun(path) or usual_rows()
        size = max(1, min(size, len(rows)))
        return {"format": FORMAT, **info, "shape": [len(rows), len(columns)], "matrix": keep_matrix or path is None,
                "block_rows": size, "summary_k": _kept_extremes(summary_k, size, keep_matrix)}  # fmt: skip

    if path is None:
        if world > 1:
            raise WhenceError("a shard of scores that are not stored", where="shard", expected="a run with a directory",
                              mend="Fit with out=DIRECTORY.")  # fmt: skip
        return _in_memory(block_of, Scores(rows, columns, described()), null, progress)

    def one_by_one(some: np.ndarray) -> np.ndarray:
        return np.concatenate([block_of(row, row + 1) for row in some.tolist()])

    def made(stored: StoredScores) -> StoredScores:
        """The same, with all blocks that are this process's."""
        begun = _is_begun(stored)
        for number, start, stop in list(stored.ranges())[rank::world]:
            if begun and stored.has_block(number):
                progress(stop - start)
                continue
            tiles = (block_of(top, min(top + tile, stop)) for top in range(start, stop, tile))
            first = next(tiles)
            if not begun:  # not before there are scores: a method that cannot score leaves nothing behind
                if not np.isfinite(first).all():
                    raise not_finite(start, stop)
                stored.null = _checked_null(null())
                sample = first.__getitem__ if len(first) == len(rows) else of_rows or one_by_one
                _begin(stored, first, typical_sizes(stored.null, sample, len(rows)))
                begun = True
            stored.make_block(number, start, stop, chain([first], tiles), progress)
        return stored

    stored = StoredScores(rows, columns, described(), path)
    if _is_begun(stored) and not set(stored.missing()).intersection(range(rank, len(list(stored.ranges())), world)):
        tidy(path)
        return made(stored)
    with while_made(), making(path, shared=world > 1):
        # Another process may have begun them while this one waited.
        return made(StoredScores(rows, columns, described(), path))


def _in_memory(
    block_of: Callable[[int, int], np.ndarray],
    scores: Scores,
    null: Callable[[], np.ndarray | None],
    progress: Callable[[int], None],
) -> Scores:
    for number, start, stop in scores.ranges():
        block = np.ascontiguousarray(block_of(start, stop), np.float32)
        if not np.isfinite(block).all():
            raise not_finite(start, stop)
        scores.memory[number] = block
        progress(stop - start)
    scores.null = _checked_null(null())
    return scores


def bytes_of_scores(
    count: int, columns: int, *, width: int, masks: bool, at_once: int, at_stake: int, keep_matrix: bool, summary_k: int = 100,
    null_masks: int = NULL_MASKS,
) -> int:  # fmt: skip
    """How large a directory of scores becomes, names and headers of files aside: arguments are as those of ``compute``."""
    tile = _rows_per_tile(columns, width, at_once)
    most = tile if keep_matrix else _most_rows(columns, width, at_stake, summary_k)
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


def _most_rows(columns: int, width: int, at_stake: int, summary_k: int) -> int:
    """Of a block without the matrix: enough that summaries are much smaller than it."""
    return max(at_stake // max(columns, width), _ROWS_PER_EXTREME * summary_k)


def _rows_per_block(count: int, tile: int, world: int, most: int) -> int:
    """At most so many, fewer where each of several processes is to have some, and whole tiles, as these are multiplied alike."""
    wanted = max(1, min(most, -(-count // (_BLOCKS_EACH * world)) if world > 1 else most))
    return wanted if wanted <= tile else -(-wanted // tile) * tile


def _kept_extremes(wanted: int, size: int, keep_matrix: bool) -> int:
    """Of a block; beside the matrix so few that a summary is about a fifth of its block: where more are asked for, it is read."""
    return min(wanted, size, max(_FEWEST_EXTREMES, size // 32) if keep_matrix else size)


def _rows_of_begun(path: Path | None) -> int | None:
    """Rows per block of scores that were begun: they may have been divided for another number of processes."""
    if path is None or not (directory := directory_of(path)).has("scores.json"):
        return None
    found = directory.read_json("scores.json").get("block_rows")
    return found if isinstance(found, int) and found > 0 else None


def _checked_null(null: np.ndarray | None) -> np.ndarray | None:
    if null is not None and not np.isfinite(null).all():
        raise WhenceError("scores that are not finite", where="masks never trained on",
                          mend="Look for extreme weights or inputs in the run.")  # fmt: skip
    return None if null is None else np.ascontiguousarray(null, np.float32)


def _is_begun(scores: StoredScores) -> bool:
    """Whether the directory has begun scores of this description; their null scores are read then.

    Raises:
        WhenceError: it holds others.
    """
    if not belongs(scores.directory, scores.info):
        return False
    theirs = labels_in(scores.directory, "targets.parquet").ids
    if not np.array_equal(theirs, scores.columns.ids):  # wrong predictions, of which machines may differ in the last
        raise WhenceError("another process chose other targets", where=str(scores.path), got=f"{len(theirs)} of its own",
                          mend="Give the same command again: it takes those.")  # fmt: skip
    scores.null = scores.read_null()
    return True


def _begin(scores: StoredScores, sample: np.ndarray, sizes: np.ndarray) -> None:
    """Make the directory with all that is not of a block, and let it appear at once.

    Another process that shares the work may have been faster: then its directory stays.
    """
    rows, columns, path = scores.rows, scores.columns, scores.directory.path
    clear_left(path.parent, path.name)
    with aside_of(path) as aside:
        directory = RunDirectory(aside, begun=True)
        table = {"id": rows.ids, "name": rows.names}
        if rows.groups is not None:
            table |= {"group": rows.groups, "group_name": rows.group_names}
        directory.write_table("rows.parquet", pa.table(table))
        directory.write_table("targets.parquet", pa.table({"id": columns.ids, "name": columns.names}))
        save_array(aside / "sizes.npy", sizes)
        if scores.null is not None:
            save_array(aside / "null.npy", scores.null)
        if scores.info["matrix"]:
            ScoreMatrix(aside / MATRIX, scores.info["block_rows"], len(columns)).begin(len(rows), sample)
        directory.write_json("scores.json", scores.info)
        if path.exists() and not scores.directory.has("scores.json"):  # what nothing describes
            _move_away(path)
        try:
            os.replace(aside, path)
        except OSError:
            if not _is_begun(scores):
                raise


def _move_away(path: Path) -> None:
    """Delete a directory that nothing describes; not one that another process has begun since we looked."""
    with aside_of(path) as away:
        moved = away / path.name
        try:
            os.rename(path, moved)
        except FileNotFoundError:  # another process did
            return
        if (moved / "scores.json").is_file():
            os.rename(moved, path)
