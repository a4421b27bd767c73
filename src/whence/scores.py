"""Scores: N training instances (or groups) by M targets, in blocks of rows, with the noise they were measured against.

What can be asked of them. How they are stored: ``score_store.py``, made: ``score_making.py``; of several runs: ``ensembles.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from whence.arguments import instance_of, numbers, whole
from whence.errors import WhenceError
from whence.extremes import extreme, merge
from whence.masks import as_ids
from whence.noise import NoiseFloor, noise_floor
from whence.rundir import as_path
from whence.significance import (
    MaskNull,
    PairSignificance,
    RunNull,
    Significance,
    false_discovery_rates,
    sums_against_masks,
)
from whence.summaries import even_weights, typical_sizes
from whence.whole_files import write_aside

__all__ = ["Labels", "NoiseFloor", "Scores", "Top"]


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

    def __repr__(self) -> str:
        targets, k = self.rows.shape
        return f"Top({k} training rows of each of {targets:,} targets)"


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
        info: method, quantity, unit, level ("instance" or "group"), fingerprints, rows in a block.
        path: the directory of stored scores, or None.
        memory: the blocks by number, of scores that are not stored.
        null: float32 [S, M], scores of masks that were never trained on; None for methods without masks.
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
        for number, start, stop in self.ranges():
            yield start, self._read(number, start, stop)

    def at(self, rows: np.ndarray) -> np.ndarray:
        """float32 [len(rows), M]: scores of some rows, by position; only the blocks that hold them are read.

        Raises:
            WhenceError: rows that are not there.
        """
        given = numbers(rows, "rows")
        if given.ndim != 1 or not ((given >= 0) & (given < len(self.rows)) & (given % 1 == 0)).all():
            raise WhenceError(
                "no such rows", where="rows", got=f"{rows!r:.60}", expected=f"integers from 0 to {len(self.rows) - 1}"
            )
        rows = given.astype(np.int64)
        result = np.empty((len(rows), self.shape[1]), np.float32)
        for number, start, stop in self.ranges():
            within = (rows >= start) & (rows < stop)
            if within.any():
                result[within] = self._read(number, start, stop)[rows[within] - start]
        return result

    def ranges(self) -> Iterator[tuple[int, int, int]]:
        """(number, first row, last row + 1) of each block."""
        size = self.info["block_rows"]
        for number, start in enumerate(range(0, len(self.rows), size)):
            yield number, start, min(start + size, len(self.rows))

    def _read(self, number: int, start: int, stop: int) -> np.ndarray:
        """One block, float32 [stop − start, M]."""
        return self.memory[number]

    def _extremes(self, number: int, start: int, stop: int, sign: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Of one block, the rows and values of the largest (sign 1) or smallest (−1) scores of each target."""
        block = torch.from_numpy(np.array(self._read(number, start, stop)))
        return extreme(block, start, self.info.get("summary_k", 0), sign)

    def _row_sums(self, number: int, start: int, stop: int, *, even: bool) -> np.ndarray:
        """Of one block, the sums over targets: float64 [stop − start]."""
        block = np.asarray(self._read(number, start, stop), np.float64)
        sums: np.ndarray = block @ self.weights if even else block.sum(axis=1)
        return sums

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = np.empty(self.shape, np.float32)
        for start, block in self.blocks():
            whole[start : start + len(block)] = block
        return whole if dtype is None else whole.astype(dtype)

    def for_target(self, column: int) -> np.ndarray:
        """float32 [N]: all scores of one target.

        Args:
            column: its place among ``targets``, from 0; np.flatnonzero(scores.targets == id) says which an id has.

        Raises:
            WhenceError: no such place.
        """
        column = whole(column, "for_target", low=-self.shape[1], high=self.shape[1] - 1)
        return np.concatenate([np.asarray(block[:, column]) for _, block in self.blocks()])

    @cached_property
    def sizes(self) -> np.ndarray:
        """float64 [M]: how large the scores of each target typically are.

        The standard deviation of null scores, or without these the root mean square of (at most 512) rows.
        """
        return typical_sizes(self.null, self.at, len(self.rows))

    @property
    def weights(self) -> np.ndarray:
        """float64 [M]: the weights of targets in an even mean, inverse to ``sizes``, 1 on average."""
        return even_weights(self.sizes)

    def mean_over_targets(self, *, even: bool = False, groups: Any = None) -> np.ndarray:
        """float64 [N]: the mean influence of each row over all targets. None of this needs the matrix.

        Args:
            groups: [N], the group of each row; then float64 [G], the sums of its members' means, in order of first appearance.
            even: let every target count alike, with a weight inverse to how large its scores typically are. The plain mean is
                what a row does to the mean loss, and is mostly about the few targets with the largest losses. The even one
                finds harmful rows and groups better (docs/estimators.md).
        """
        means: np.ndarray = (
            np.concatenate([self._row_sums(*block, even=even) for block in self.ranges()]) / self.shape[1]
        )
        if groups is None:
            return means
        labels, member = self._grouped(groups, None, "mean_over_targets")
        return np.bincount(member, means, len(labels))

    def top(self, k: int = 10, *, harmful: bool = False) -> Top:
        """The rows with each target's largest scores, or smallest, without holding the matrix.

        They are what helps or harms it most. Where fewer than k do, the rest are rows whose scores have another sign
        or are zero: ask ``values`` before naming them so.

        Args:
            k: how many; at most N.
            harmful: the smallest scores in place of the largest.
        """
        k = min(whole(k, "k"), len(self.rows))
        sign = -1 if harmful else 1
        kept = self.info.get("summary_k", 0)
        if k <= kept or kept >= self.info["block_rows"]:  # small blocks are summarized whole
            parts = [self._extremes(*block, sign) for block in self.ranges()]
        else:
            parts = [extreme(torch.from_numpy(np.array(block)), start, k, sign) for start, block in self.blocks()]
        rows, values = merge(parts, k, sign)
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
        info = {**self.info, "level": "group", "shape": list(sums.shape), "block_rows": len(labels), "summary_k": len(labels),
                "matrix": True}  # fmt: skip
        return Scores(labels, self.columns, info, memory={0: sums.astype(np.float32)})

    def _grouped(self, groups: Any, names: dict[int, str] | None, where: str) -> tuple[Labels, np.ndarray]:
        """The groups in order of first appearance, and int64 [N]: which one each row is a member of."""
        if groups is None and self.rows.groups is not None:
            groups = self.rows.groups
            names = dict(zip(groups.tolist(), self.rows.group_names or [], strict=False)) if names is None else names
        if groups is None:
            raise WhenceError("no groups", where=where, expected="the group of each row",
                              mend="Pass groups=array, one per row, or train with groups.")  # fmt: skip
        written_as: dict[int, str] = {} if names is None else instance_of(names, dict, "names")
        given = np.asarray(groups)
        if given.shape != (len(self.rows),):
            got = len(given) if given.ndim == 1 else f"shape {given.shape}"
            raise WhenceError("not one group per row", where=where, got=got, expected=len(self.rows))
        unique, first, member = np.unique(as_ids(given), return_index=True, return_inverse=True)
        order = np.argsort(first)
        position = np.empty_like(order)
        position[order] = np.arange(len(order))
        written = [written_as.get(int(unique[g]), str(given[first[g]])) for g in order]
        return Labels(unique[order], written), position[member]

    def noise_floor(self) -> NoiseFloor:
        """How the scores compare with those of masks never trained on: as a whole, and how many rows are beyond chance.

        Raises:
            WhenceError: the method has no masks, so no such null.
        """
        if self.null is None:
            raise WhenceError("no null distribution", where=f"scores by {self.info.get('method')}",
                              mend="Scores of masks have one; else compare two runs of other seeds.")  # fmt: skip
        called = len(self.significance("rows").called())
        return noise_floor(self.null, (block for _, block in self.blocks()), called)

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
            of: "rows", the even mean of each row over targets; "groups", the sum of such means over the members of each
                group; "pairs", single scores, judged block by block without holding the matrix.
            groups: [N], the group of each row, for of="groups"; not needed where the rows are groups.
            names: group id → how the user writes it.

        Raises:
            WhenceError: the scores have neither null masks nor several runs; no groups are given; fewer than 100 null masks.
        """
        self._has_chance()
        if isinstance(of, str) and of == "pairs":
            return PairSignificance(self.ids, self.targets, self._pair_chance().basis, self._judged)
        if not isinstance(of, str) or of not in ("rows", "groups"):
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
        chance, means = MaskNull(self._null_means()[:, None]), self.mean_over_targets(even=True)
        z, p = chance.judge(means[:, None])
        return means, z[:, 0], p[:, 0], chance.basis

    def _judged_sums(self, member: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        """effect, z, p, each [G], and what p rests on."""
        assert self.null is not None
        null, means = self._null_means()[:, None], self.mean_over_targets(even=True)
        scaled, sizes = MaskNull(null).scaled, np.bincount(member, minlength=groups)
        sums = np.bincount(member, scaled(means[:, None])[:, 0], groups)
        z, p = sums_against_masks(scaled(null)[:, 0], sums, sizes)
        basis = f"scores of {len(self.null):,} masks never trained on: Student's t of sums of logarithms over members"
        return np.bincount(member, means, groups), z, p, basis

    def _null_means(self) -> np.ndarray:
        """float64 [S]: even means over targets of masks never trained on."""
        assert self.null is not None
        means: np.ndarray = self.null.astype(np.float64) @ self.weights / self.shape[1]
        return means

    def to_parquet(self, path: str | os.PathLike[str], *, k: int | None = None) -> Path:
        """Write (target, id, score, and the names): every pair, or only the k most helpful and harmful of each target.

        With k, helpful rows have positive and harmful ones negative scores: rows that do neither are not written.

        Streams block by block; the file is whole or absent.
        """
        target = as_path(path)
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
