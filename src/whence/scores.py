"""Scores: N training instances (or groups) by M targets, in blocks of rows, with the noise they were measured against.

On disk, readable without this library:

    scores.json              method, its version and options, quantity, unit, shape, fingerprints, rows per block
    rows.parquet             id, name (group, group_name) of each row;   targets.parquet   id, name of each column
    block-00012.npy          float32 [rows, M]; absent when only summaries are kept
    block-00012.safetensors  its summary: the k largest and smallest of each column with their rows, and the sums of rows
    null.npy                 float32 [S, M]: scores of masks that were never trained on; absent for methods without masks

A block is done when its summary is there; blocks depend on nothing but their rows, so any process may make any of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from whence.errors import WhenceError
from whence.masks import as_ids
from whence.noise import NoiseFloor, noise_floor
from whence.rundir import RunDirectory, write_aside
from whence.significance import (
    MaskNull,
    PairSignificance,
    RunNull,
    Significance,
    false_discovery_rates,
    sums_against_masks,
)

__all__ = ["Labels", "NoiseFloor", "Scores", "Top", "begun", "compute", "load_scores"]

FORMAT = 1


@dataclass(frozen=True)
class Top:
    """The k extreme training rows of each target.

    Attributes:
        rows: int64 [M, k], positions in ``scores.ids``, the most extreme first.
        values: float32 [M, k].
        ids: int64 [M, k].
    """

    rows: np.ndarray
    values: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class Labels:
    """Ids along one axis, how the user writes them, and the group of each (int64, and its name) where there are groups."""

    ids: np.ndarray
    names: list[str]
    groups: np.ndarray | None = None
    group_names: list[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(eq=False)
class Scores:
    """Influence of training rows on targets. Positive: the row helps.

    ``numpy.asarray(scores)`` is [N, M]. Everything else streams over blocks of rows.

    Attributes:
        rows, columns: ids and names along both axes.
        info: method, quantity, unit, level ("instance" or "group"), fingerprints.
        path: the directory of a stored matrix, or None for one in memory.
    """

    rows: Labels
    columns: Labels
    info: dict[str, Any]
    path: Path | None = None
    memory: dict[int, np.ndarray] = field(default_factory=dict)
    null: np.ndarray | None = None

    @property
    def ids(self) -> np.ndarray:
        """int64 [N]: training ids, or group ids, of the rows."""
        return self.rows.ids

    @property
    def targets(self) -> np.ndarray:
        """int64 [M]: ids of the targets."""
        return self.columns.ids

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), len(self.columns)

    def __repr__(self) -> str:
        what = f"{self.info.get('method')}, {self.info.get('quantity')} in {self.info.get('unit')}"
        return f"Scores({self.shape[0]} {self.info.get('level', 'instance')}s × {self.shape[1]} targets, {what})"

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, float32 [rows, M]) in order; each is read when it is asked for.

        Raises:
            WhenceError: only summaries were kept, or a block is missing or damaged.
        """
        for number, start, stop in self._ranges():
            yield start, self._read(number, start, stop)

    def at(self, rows: np.ndarray) -> np.ndarray:
        """float32 [len(rows), M]: scores of some rows, by position; only the blocks that hold them are read."""
        result = np.empty((len(rows), self.shape[1]), np.float32)
        for number, start, stop in self._ranges():
            within = (rows >= start) & (rows < stop)
            if within.any():
                result[within] = self._read(number, start, stop)[rows[within] - start]
        return result

    def _read(self, number: int, start: int, stop: int) -> np.ndarray:
        if self.path is None:
            return self.memory[number]
        file = self.path / f"block-{number:05d}.npy"
        if not self.info.get("matrix", True):
            raise WhenceError("the matrix of scores was not kept", where=str(self.path),
                              mend="Score again with keep_matrix=True; top() and means need none.")  # fmt: skip
        try:
            block: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise WhenceError(
                "a damaged file", where=str(file), got=str(error), expected="a block of scores"
            ) from error
        if block.shape != (stop - start, self.shape[1]) or block.dtype != np.float32:
            raise WhenceError("a damaged file", where=str(file), got=f"{block.dtype} {block.shape}",
                              expected=f"float32 {(stop - start, self.shape[1])}")  # fmt: skip
        return block

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = np.empty(self.shape, np.float32)
        for start, block in self.blocks():
            whole[start : start + len(block)] = block
        return whole if dtype is None else whole.astype(dtype)

    def for_target(self, column: int) -> np.ndarray:
        """float32 [N]: all scores of one target."""
        return np.concatenate([np.asarray(block[:, column]) for _, block in self.blocks()])

    def mean_over_targets(self) -> np.ndarray:
        """float64 [N]: the mean influence of each row over all targets."""
        return np.concatenate([summary["row_sum"].numpy() for _, summary in self._summaries()]) / self.shape[1]

    def top(self, k: int = 10, *, harmful: bool = False) -> Top:
        """The rows with each target's largest scores, or smallest, without holding the matrix.

        They are what helps or harms it most. Where fewer than k do, the rest are rows whose scores have another sign
        or are zero: ask ``values`` before naming them so.

        Args:
            k: how many; at most N.
            harmful: the smallest scores in place of the largest.
        """
        if k < 1:
            raise WhenceError("no rows asked for", where="top", got=f"k = {k}", expected="at least 1")
        k = min(k, len(self.rows))
        sign = -1 if harmful else 1
        kept = self.info.get("summary_k", 0)
        if k <= kept or kept >= self.info["block_rows"]:  # small blocks are summarized whole
            name = "harmful" if harmful else "helpful"
            parts = [(s[f"{name}_rows"], s[f"{name}_values"]) for _, s in self._summaries()]
        else:
            parts = [_extreme(torch.from_numpy(np.array(block)), start, k, sign) for start, block in self.blocks()]
        rows, values = _merge(parts, k, sign)
        return Top(rows, values, self.ids[rows])

    def for_groups(self, groups: Any = None, names: dict[int, str] | None = None) -> Scores:
        """Scores of groups of rows: sums over their members, which is what the removal of all of them does to first order.

        Args:
            groups: [N], the group of each row (integers or strings); by default those of the run.
            names: group id → how the user writes it.

        Returns:
            Scores [G, M] in memory, groups in order of first appearance; the scores themselves where rows are groups already.
        """
        if groups is None and self.info.get("level") == "group":
            return self
        labels, member = self._grouped(groups, names, "for_groups")
        sums = np.zeros((len(labels), self.shape[1]), np.float64)
        for start, block in self.blocks():
            np.add.at(sums, member[start : start + len(block)], block)
        info = {**self.info, "level": "group", "block_rows": len(labels), "summary_k": 0, "matrix": True}
        return Scores(labels, self.columns, info, memory={0: sums.astype(np.float32)})

    def _grouped(self, groups: Any, names: dict[int, str] | None, where: str) -> tuple[Labels, np.ndarray]:
        """The groups in order of first appearance, and int64 [N]: which one each row is a member of."""
        if groups is None and self.rows.groups is not None:
            groups = self.rows.groups
            names = dict(zip(groups.tolist(), self.rows.group_names or [], strict=False)) if names is None else names
        if groups is None:
            raise WhenceError("no groups", where=where, expected="the group of each row",
                              mend="Pass groups=array, one per row, or train with groups.")  # fmt: skip
        given = np.asarray(groups)
        if given.shape != (len(self.rows),):
            got = len(given) if given.ndim == 1 else f"shape {given.shape}"
            raise WhenceError("not one group per row", where=where, got=got, expected=len(self.rows))
        unique, first, member = np.unique(as_ids(given), return_index=True, return_inverse=True)
        order = np.argsort(first)
        position = np.empty_like(order)
        position[order] = np.arange(len(order))
        written = [(names or {}).get(int(unique[g]), str(given[first[g]])) for g in order]
        return Labels(unique[order], written), position[member]

    def noise_floor(self) -> NoiseFloor:
        """How the scores compare with those of masks never trained on.

        Raises:
            WhenceError: the method has no masks, so no such null.
        """
        if self.null is None:
            raise WhenceError("no null distribution", where=f"scores by {self.info.get('method')}",
                              mend="Scores of masks have one; else compare two runs of other seeds.")  # fmt: skip
        return noise_floor(self.null, (block for _, block in self.blocks()))

    @overload
    def significance(
        self, of: Literal["rows", "groups"] = "rows", *, groups: Any = None, names: dict[int, str] | None = None
    ) -> Significance: ...

    @overload
    def significance(
        self, of: Literal["pairs"], *, groups: Any = None, names: dict[int, str] | None = None
    ) -> PairSignificance: ...

    def significance(
        self, of: str = "rows", *, groups: Any = None, names: dict[int, str] | None = None
    ) -> Significance | PairSignificance:
        """Which scores are more than chance: z, two-sided p, and q, the false-discovery rate.

        Chance is what masks never trained on score; for an ``ensemble`` of methods without masks, the spread over its
        runs. See ``whence.significance`` for how p is had from either.

        Args:
            of: "rows", the mean of each row over targets; "groups", the sum of such means over the members of each
                group; "pairs", single scores, judged block by block without holding the matrix.
            groups: [N], the group of each row, for of="groups"; not needed where the rows are groups.
            names: group id → how the user writes it.

        Raises:
            WhenceError: the scores have neither null masks nor several runs; no groups are given; fewer than 100 null masks.
        """
        self._has_chance()
        if of == "pairs":
            return PairSignificance(self.ids, self.targets, self._pair_chance().basis, self._judged)
        if of not in ("rows", "groups"):
            raise WhenceError(
                "nothing of that name to judge", where="of", got=repr(of), expected="rows, groups or pairs"
            )
        labels = self.rows
        if of == "groups" and (groups is not None or self.rows.groups is not None):
            labels, member = self._grouped(groups, names, "groups")
            effect, z, p, basis = self._judged_sums(member, len(labels))
        elif of == "groups" and self.info.get("level") != "group":
            raise WhenceError("no groups", where="groups", expected="the group of each row",
                              mend='Pass groups=run.train.groups or another array, or ask for of="rows".')  # fmt: skip
        else:
            effect, z, p, basis = self._judged_means()
        return Significance(labels.ids, labels.names, effect, z, p, false_discovery_rates(p), basis)

    def _has_chance(self) -> None:
        if self.null is None:
            raise WhenceError("nothing to compare scores of one run with", where=f"scores by {self.info.get('method')}",
                              got="no null masks", mend="Score runs of other seeds too, and ask whence.ensemble([scores, …]) "
                              "for its significance, which goes by the spread over runs.")  # fmt: skip

    def _pair_chance(self) -> MaskNull | RunNull:
        assert self.null is not None
        return MaskNull(self.null)

    def _judged(self) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        assert self.null is not None
        chance = MaskNull(self.null)
        for start, block in self.blocks():
            yield start, block, *chance.judge(block)

    def _judged_means(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        """effect, z, p, each [N], and what p rests on."""
        assert self.null is not None
        chance, means = MaskNull(self.null.mean(axis=1, dtype=np.float64)[:, None]), self.mean_over_targets()
        z, p = chance.judge(means[:, None])
        return means, z[:, 0], p[:, 0], chance.basis

    def _judged_sums(self, member: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        """effect, z, p, each [G], and what p rests on."""
        assert self.null is not None
        sums, sizes = np.bincount(member, self.mean_over_targets(), groups), np.bincount(member, minlength=groups)
        z, p = sums_against_masks(self.null.mean(axis=1, dtype=np.float64), sums, sizes)
        return sums, z, p, f"scores of {len(self.null):,} masks never trained on: Student's t of sums over members"

    def to_parquet(self, path: str | os.PathLike[str], *, k: int | None = None) -> Path:
        """Write (target, id, score, and the names): every pair, or only the k most helpful and harmful of each target.

        With k, helpful rows have positive and harmful ones negative scores: rows that do neither are not written.

        Streams block by block; the file is whole or absent.
        """
        target = Path(path)
        schema = pa.schema([("target", pa.int64()), ("target_name", pa.string()), ("id", pa.int64()),
                            ("name", pa.string()), ("score", pa.float32())])  # fmt: skip
        with write_aside(target) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as writer:
            if k is not None:
                pairs = {(int(r), c): float(v) for sign in (1, -1) for top in [self.top(k, harmful=sign < 0)]
                         for c in range(self.shape[1]) for r, v in zip(top.rows[c], top.values[c], strict=True)
                         if sign * v > 0}  # fmt: skip
                keys = sorted(pairs, key=lambda pair: (pair[1], -pairs[pair]))
                rows, columns = (np.array([key[axis] for key in keys], np.int64) for axis in (0, 1))
                writer.write_table(
                    self._pairs(rows, columns, np.array([pairs[key] for key in keys], np.float32), schema)
                )
            else:
                for start, block in self.blocks():
                    rows = np.repeat(np.arange(start, start + len(block)), self.shape[1])
                    columns = np.tile(np.arange(self.shape[1]), len(block))
                    writer.write_table(self._pairs(rows, columns, np.asarray(block).reshape(-1), schema))
        return target

    def _pairs(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, schema: pa.Schema) -> pa.Table:
        row_names, column_names = pa.array(self.rows.names, pa.string()), pa.array(self.columns.names, pa.string())
        return pa.table(
            [self.targets[columns], column_names.take(columns), self.ids[rows], row_names.take(rows), values],
            schema=schema,
        )

    def _ranges(self) -> Iterator[tuple[int, int, int]]:
        size = self.info["block_rows"]
        for number, start in enumerate(range(0, len(self.rows), size)):
            yield number, start, min(start + size, len(self.rows))

    def _summaries(self) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
        if self.path is None:
            for number, start, stop in self._ranges():
                yield start, summarize(self._read(number, start, stop), start, self.info.get("summary_k", 0))
            return
        directory = RunDirectory(self.path)
        for number, start, stop in self._ranges():
            summary, _ = directory.read_tensors(f"block-{number:05d}.safetensors")
            if set(summary) != _SUMMARY or len(summary["row_sum"]) != stop - start:
                raise WhenceError(
                    "a damaged file",
                    where=str(self.path / f"block-{number:05d}.safetensors"),
                    expected="a block's summary",
                )
            yield start, summary


_SUMMARY = {"row_sum", "helpful_rows", "helpful_values", "harmful_rows", "harmful_values"}


def summarize(block: np.ndarray, start: int, k: int) -> dict[str, torch.Tensor]:
    """The part of a block that rankings and means need."""
    values = torch.from_numpy(np.ascontiguousarray(block))
    helpful, harmful = _extreme(values, start, k, 1), _extreme(values, start, k, -1)
    return {"row_sum": values.sum(dim=1, dtype=torch.float64), "helpful_rows": helpful[0], "helpful_values": helpful[1],
            "harmful_rows": harmful[0], "harmful_values": harmful[1]}  # fmt: skip


def _extreme(block: torch.Tensor, start: int, k: int, sign: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows int64 [k, M] and values float32 [k, M] of the extreme entries of each column; of equal ones the first rows."""
    signed, k = block * sign, min(k, len(block))
    values, rows = signed.topk(k, dim=0)
    tied = ((signed >= values[-1:]).sum(dim=0) > k) | (values[1:] == values[:-1]).any(dim=0)
    if tied.any():
        best = signed[:, tied].sort(dim=0, descending=True, stable=True)
        values[:, tied], rows[:, tied] = best.values[:k], best.indices[:k]
    return rows + start, values * sign


def _merge(parts: list[tuple[torch.Tensor, torch.Tensor]], k: int, sign: int) -> tuple[np.ndarray, np.ndarray]:
    rows, values = torch.cat([r for r, _ in parts]), torch.cat([v for _, v in parts])
    best = (values * sign).sort(dim=0, descending=True, stable=True).indices[:k]
    return rows.gather(0, best).T.contiguous().numpy(), values.gather(0, best).T.contiguous().numpy()


def compute(
    block_of: Callable[[int, int], np.ndarray],
    rows: Labels,
    columns: Labels,
    info: dict[str, Any],
    *,
    path: Path | None = None,
    null: Callable[[], np.ndarray | None] = lambda: None,
    block_rows: int | None = None,
    summary_k: int = 100,
    keep_matrix: bool = True,
    width: int = 1,
    progress: Callable[[int], None] = lambda rows: None,
) -> Scores:
    """Fill scores block by block; on disk, only the blocks that are missing.

    A directory that holds all of them is only read, and one in which no block could be made is not begun.

    Args:
        block_of: (first row, last row + 1) → float32 [rows, M]; asked for missing blocks alone.
        info: what scores.json says of them; blocks on disk belong to them if it says the same.
        path: a directory, or None for memory.
        null: gives null scores [S, M], or None; asked where none are stored.
        block_rows: rows per block; by default about 16 MiB.
        summary_k: extreme rows kept per block and target.
        keep_matrix: keep whole blocks, not only their summaries (on disk).
        width: numbers that the method holds per row, if more than M.
        progress: told the rows of each finished block.

    Raises:
        WhenceError: scores that are not finite; the directory holds scores of other data, weights, targets or options.
    """
    # About 16 MiB a block; without the matrix, enough rows that summaries are much smaller than it.
    size = block_rows or max(
        1, min(len(rows), max(2**22 // max(len(columns), width), 1 if keep_matrix else 8 * summary_k))
    )
    info = {"format": FORMAT, **info, "shape": [len(rows), len(columns)], "block_rows": size,
            "summary_k": min(summary_k, size), "matrix": keep_matrix or path is None}  # fmt: skip
    scores = Scores(rows, columns, info, path)
    if path is None:
        for number, start, stop in scores._ranges():
            scores.memory[number] = _finite(block_of(start, stop), start)
            progress(stop - start)
        scores.null = null()
        return scores
    directory = RunDirectory(path)
    described = _belongs(directory, info)
    for number, start, stop in scores._ranges():
        if not described or not directory.has(f"block-{number:05d}.safetensors"):
            block = _finite(block_of(start, stop), start)
            if not described:  # not before there is a block: a method that cannot score leaves nothing behind
                _describe(directory, scores)
                described = True
            if keep_matrix:
                _save(directory.path / f"block-{number:05d}.npy", block)
            directory.write_tensors(f"block-{number:05d}.safetensors", summarize(block, start, info["summary_k"]))
        progress(stop - start)
    if not directory.has("null.npy") and (drawn := null()) is not None:
        _save(directory.path / "null.npy", drawn)
    scores.null = _read_null(directory.path)
    return scores


def begun(path: Path | None, info: dict[str, Any]) -> Labels | None:
    """The targets of the scores that a directory holds some or all of, if they are those that ``info`` describes."""
    directory = None if path is None else RunDirectory(path)
    if directory is None or not directory.has("scores.json"):
        return None
    before = directory.read_json("scores.json")
    return _labels(directory.read_table("targets.parquet")) if _difference({**before, **info}, before) is None else None


def _finite(block: np.ndarray, start: int) -> np.ndarray:
    block = np.ascontiguousarray(block, np.float32)
    if not np.isfinite(block).all():
        raise WhenceError("scores that are not finite", where=f"rows {start} to {start + len(block) - 1}",
                          mend="Look for extreme weights or inputs in the run.")  # fmt: skip
    return block


def _belongs(directory: RunDirectory, info: dict[str, Any]) -> bool:
    """Whether the directory has scores that ``info`` describes; False where it has none.

    Raises:
        WhenceError: it has others.
    """
    if not directory.has("scores.json"):
        return False
    if (different := _difference(info, directory.read_json("scores.json"))) is not None:
        name, wanted, found = different
        raise WhenceError("scores of another run, data or setting", where=str(directory.path), got=f"{name} {found}",
                          expected=wanted, mend="Give another name, or delete the directory to score again.")  # fmt: skip
    return True


def _describe(directory: RunDirectory, scores: Scores) -> None:
    """Write both axes, then scores.json: where it is, they are."""
    rows, columns = scores.rows, scores.columns
    table = {"id": rows.ids, "name": rows.names}
    if rows.groups is not None:
        table |= {"group": rows.groups, "group_name": rows.group_names}
    directory.write_table("rows.parquet", pa.table(table))
    directory.write_table("targets.parquet", pa.table({"id": columns.ids, "name": columns.names}))
    directory.write_json("scores.json", scores.info)


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


def load_scores(path: str | os.PathLike[str]) -> Scores:
    """Scores from their directory.

    Raises:
        WhenceError: no scores there, unfinished or damaged ones.
    """
    directory = RunDirectory(path)
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
        or not isinstance(info.get("block_rows"), int)
        or info["block_rows"] < 1
    ):
        raise WhenceError("a damaged file", where=str(directory.path / "scores.json"), got=info.get("shape"),
                          expected=f"shape {[len(rows), len(columns)]}")  # fmt: skip
    scores = Scores(rows, columns, info, directory.path, null=_read_null(directory.path))
    missing = [n for n, _, _ in scores._ranges() if not directory.has(f"block-{n:05d}.safetensors")]
    if missing:
        raise WhenceError("unfinished scores", where=str(path), got=f"{len(missing)} blocks missing",
                          mend="Give the same `whence influence` again to finish them.")  # fmt: skip
    return scores


def _labels(axis: pa.Table) -> Labels:
    has = "group" in axis.column_names
    groups, names = (axis["group"].to_numpy(), axis["group_name"].to_pylist()) if has else (None, None)
    return Labels(axis["id"].to_numpy(), axis["name"].to_pylist(), groups, names)


def _save(path: Path, array: np.ndarray) -> None:
    with write_aside(path) as aside, open(aside, "wb") as file:
        np.save(file, array, allow_pickle=False)


def _read_null(path: Path) -> np.ndarray | None:
    file = path / "null.npy"
    if not file.is_file():
        return None
    try:
        array: np.ndarray = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise WhenceError("a damaged file", where=str(file), got=str(error), expected="null scores") from error
    return array
