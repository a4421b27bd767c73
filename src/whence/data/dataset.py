"""One shape for all data: (id, group, inputs, target, split), one row per instance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from whence.data.given import plain, take, targets_for
from whence.data.inputs import ArrayInputs, Inputs, ModelInputs, to_device
from whence.data.tasks import Task, well_formed
from whence.data.tokens import together
from whence.errors import WhenceError
from whence.masks import as_ids

__all__ = ["Batch", "Dataset"]


@dataclass(frozen=True)
class Batch:
    """B instances as tensors.

    Attributes:
        rows: int64 [B], their rows in the dataset.
        mask_ids: int64 [B], whose mask each one has: its own id's, or its group's.
        inputs: what the model is called with.
        targets: int64 [B] (classification) or float32 [B] (regression).
    """

    rows: np.ndarray
    mask_ids: torch.Tensor
    inputs: ModelInputs
    targets: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(self.rows, self.mask_ids.to(device), to_device(self.inputs, device), self.targets.to(device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Instances with ids that stay theirs through shuffling, sampling, collation and resume.

    Attributes:
        ids: int64 [N], unique. Unsigned ids keep their 64 bits; string ids are hashed (see ``whence.masks.as_ids``).
        inputs: what the model is fed, N rows.
        targets: int64 [N] (classification) or float32 [N], standardized (regression).
        task: how to read the targets.
        groups: int64 [N] or None. With groups, all members of a group share one mask.
        splits: names [N], such as "train", "dev", "test"; None when there is no such division.
        names: ids as the user wrote them, str [N].
        group_names: groups as the user wrote them, str [N]; None without groups.
        texts: what a person reads for each row: str [N]; None for pictures and features.
        images: what a person looks at: uint8 [N, H, W] or [N, H, W, C]; None for texts and features.
        feature_names: column names of feature inputs, or None.
        notes: what was decided while they were read, a sentence each.
    """

    ids: np.ndarray
    inputs: Inputs
    targets: np.ndarray
    task: Task
    groups: np.ndarray | None = None
    splits: np.ndarray | None = None
    names: np.ndarray | None = None
    group_names: np.ndarray | None = None
    texts: np.ndarray | None = None
    images: np.ndarray | None = None
    feature_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.ids)
        for name in ("inputs", "targets", "groups", "splits", "names", "group_names", "texts", "images"):
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise WhenceError("columns of different length", where=f"Dataset.{name}", got=len(column), expected=n)
        if n == 0:
            raise WhenceError("no instances", where="Dataset", got="0 rows", expected="at least one")
        unique, counts = np.unique(self.ids, return_counts=True)
        if len(unique) != n:
            twice = int(np.flatnonzero(self.ids == unique[counts > 1][0])[1])
            name = self.ids[twice] if self.names is None else self.names[twice]
            raise WhenceError("duplicate id", where=f"row {twice}", got=name, expected="one row per id",
                              mend="Make ids unique; to give several rows one mask, name a group column.")  # fmt: skip

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def mask_ids(self) -> np.ndarray:
        """int64 [N]: whose mask each instance has."""
        return self.ids if self.groups is None else self.groups

    def name_of(self, row: int) -> str:
        """The id of a row as the user wrote it."""
        return well_formed(self.ids[row] if self.names is None else self.names[row])

    def all_names(self) -> list[str]:
        """The ids of all rows as the user wrote them."""
        return list(map(str, self.ids.tolist()) if self.names is None else map(well_formed, self.names.tolist()))

    def split(self, name: str) -> Dataset:
        """The instances of one split."""
        if self.splits is None or not (rows := np.flatnonzero(self.splits == name)).size:
            have = "no splits" if self.splits is None else "only " + ", ".join(sorted(set(map(str, self.splits))))
            raise WhenceError(f"no split named {name!r}", where="the data", got=have,
                              mend="Name a split that exists, or a split column with --split.")  # fmt: skip
        return self.select(rows)

    def has_split(self, name: str) -> bool:
        return self.splits is not None and bool(np.any(self.splits == name))

    def select(self, rows: np.ndarray) -> Dataset:
        """The instances of ``rows`` (int64 [B], or bool [N]), in that order."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        columns = ("ids", "targets", "groups", "splits", "names", "group_names", "texts", "images")
        taken: dict[str, Any] = {
            name: None if (column := getattr(self, name)) is None else column[rows] for name in columns
        }
        return replace(self, inputs=self.inputs.select(rows), **taken)

    def batch(self, rows: np.ndarray) -> Batch:
        """The instances of ``rows`` as tensors on the CPU."""
        return Batch(
            rows, torch.from_numpy(self.mask_ids[rows]), self.inputs.gather(rows), torch.from_numpy(self.targets[rows])
        )

    def parts(self, size: int, tokens: int, rows: np.ndarray | None = None) -> list[np.ndarray]:
        """Rows in batches for a pass in which their order does not matter: texts of like length together.

        Args:
            size: rows of a batch, at most.
            tokens: of a batch of texts, padding counted, at most.
            rows: int64 [B]; by default all.
        """
        rows = np.arange(len(self)) if rows is None else rows
        lengths: np.ndarray | None = getattr(self.inputs, "lengths", None)
        if lengths is None:
            return np.split(rows, np.arange(size, len(rows), size))
        return together(lengths, rows, size, tokens)

    def fingerprint(self) -> str:
        """A hash of ids, groups, splits, inputs and targets: 32 hexadecimal digits."""
        digest = hashlib.blake2b(digest_size=16)
        for column in (self.ids, self.mask_ids, self.targets):
            digest.update(np.ascontiguousarray(column).tobytes())
        if self.splits is not None:
            digest.update("\0".join(map(str, self.splits)).encode())
        digest.update(str(self.task.to_json()).encode())
        for chunk in self.inputs.chunks():
            digest.update(chunk)
        return digest.hexdigest()

    @classmethod
    def of(cls, data: Any, *, task: Task | None = None) -> Dataset:
        """A dataset of what people have at hand.

        Args:
            data: a ``Dataset``; or (ids, inputs, targets); or a torch map-style dataset whose items are
                (id, inputs, target) or dicts with "id", "inputs" and "target".
                Inputs: an array or tensor [N, ...], or a sequence of N items.
            task: how to read the targets; by default integers are classes and floats numbers.

        Raises:
            WhenceError: ids are missing, repeated or of a type that cannot be an id; inputs or targets are not numbers, or
                not finite.
        """
        if isinstance(data, Dataset):
            return data
        given = take(data)
        names = np.array([str(plain(name)) for name in given.ids], dtype=object)
        task, targets = targets_for(given.targets, task)
        rows = given.inputs
        images = rows.array if isinstance(rows, ArrayInputs) and rows.is_image else None
        return cls(as_ids(given.ids), rows, targets, task, names=names, images=images)
