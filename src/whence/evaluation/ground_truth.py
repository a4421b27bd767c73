"""What really happens without some of the training rows: values measured on retrained models.

On disk, readable without this library:

    truth.json               kind, level, fraction, seed, numbers of subsets and seeds, fingerprints of data and recipe
    rows.parquet             id, name of each row that may be left out (instances or groups)
    targets.parquet          id, name of each target
    instances.parquet        id, name and row of each training instance
    00012-1.safetensors      subset 12, seed 1: members bool [N]; loss (margin, correct, prediction) float32 [M];
                             train_correct bool [I] where it is measured

Each retraining writes its own file aside and renames it, so any process may do any of them, and a killed job loses at
most the retrainings under way.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from whence.errors import WhenceError
from whence.rundir import RunDirectory
from whence.score_store import labels_in
from whence.scores import Labels
from whence.whole_files import clear_left

__all__ = ["GroundTruth", "begin", "load_truth", "read_retraining", "record_name"]

FORMAT = 1
_SIGNS = {"loss": -1, "margin": 1, "correct": 1}
_MOST = 10**6  # subsets or seeds
_COUNTS = ("subsets", "seeds")  # a truth may grow in these; all else in truth.json is what it is a truth of


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Values on M targets after K retrainings, each without some of N rows and with R seeds.

    Attributes:
        rows: the N rows that were kept or left out: training instances, or groups.
        targets: the M targets.
        instances: the I training instances; the rows themselves when these are instances.
        owners: int64 [I], the row that each instance belongs to.
        members: bool [K, N], the rows that retraining k was given. Of "leave_one_out" and "removal", k = 0 had all.
        values: name → float32 [K, R, M]: "loss" in the run's units; for a classifier also "margin" (logits), "correct"
            (0 or 1) and "prediction" (position of the class).
        train_correct: bool [K, R, I], whether each training instance is predicted right; None but for random subsets
            of a classifier.
        settings: kind ("random", "leave_one_out", "removal"), level ("instance", "group"), fraction, seed, subsets (K), seeds (R),
            fingerprints.
    """

    rows: Labels
    targets: Labels
    instances: Labels
    owners: np.ndarray
    members: np.ndarray
    values: dict[str, np.ndarray]
    train_correct: np.ndarray | None
    settings: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.settings["kind"])

    @property
    def level(self) -> str:
        return str(self.settings["level"])

    @property
    def seeds(self) -> int:
        """R: how many models were trained on each subset."""
        return int(self.settings["seeds"])

    def __repr__(self) -> str:
        return (f"GroundTruth({len(self.members)} × {self.seeds} retrainings, {self.kind}, {len(self.rows)} {self.level}s, "
                f"{len(self.targets)} targets)")  # fmt: skip

    def goodness(self, quantity: str = "loss") -> np.ndarray:
        """A quantity signed so that larger is better (the loss negated): float64 [K, R, M].

        Raises:
            WhenceError: it was not measured, or is neither better nor worse when larger.
        """
        known = [name for name in _SIGNS if name in self.values]
        if not isinstance(quantity, str) or quantity not in known:
            raise WhenceError("a quantity that was not measured", where="the ground truth", got=repr(quantity),
                              expected=f"one of {', '.join(known)}")  # fmt: skip
        return _SIGNS[quantity] * self.values[quantity].astype(np.float64)

    def instance_members(self) -> np.ndarray:
        """bool [K, I]: the training instances that each retraining was given."""
        given: np.ndarray = self.members[:, self.owners]
        return given

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything into a new directory, or into one that holds a part of the same truth.

        Raises:
            WhenceError: the directory holds another truth, or something else.
        """
        directory = begin(path, self.rows, self.targets, self.instances, self.owners, self.settings)
        for subset in range(len(self.members)):
            for number in range(self.seeds):
                record = {name: values[subset, number] for name, values in self.values.items()}
                if self.train_correct is not None:
                    record["train_correct"] = self.train_correct[subset, number]
                write_retraining(directory, subset, number, {"members": self.members[subset], **record})
        return directory.path


def begin(path: str | os.PathLike[str], rows: Labels, targets: Labels, instances: Labels, owners: np.ndarray,
          settings: dict[str, Any]) -> RunDirectory:  # fmt: skip
    """A directory ready to take retrainings: a new one, or one of the same truth, however many subsets it has.

    Raises:
        WhenceError: the directory holds a truth of other data, another recipe or other subsets, or something else.
    """
    directory = RunDirectory(path)
    directory.begin()
    if directory.has("truth.json"):
        before = directory.read_json("truth.json")
        now = {"format": FORMAT, **settings}
        names = sorted(name for name in {*before, *now} - set(_COUNTS) if before.get(name) != now.get(name))
        if names:
            raise WhenceError("retrainings of other data, another recipe or other subsets", where=str(directory.path),
                              got=f"another {', another '.join(names)}",
                              mend="Give another directory, or delete this one.")  # fmt: skip
    elif any(not file.name.endswith((".tmp", ".lock")) for file in directory.path.iterdir()):
        raise WhenceError("a directory that holds no ground truth", where=str(directory.path),
                          expected="a new or empty directory, or one that an earlier call made")  # fmt: skip
    clear_left(directory.path)
    # truth.json is written first: what a killed process leaves is then known as its own.
    directory.write_json("truth.json", {"format": FORMAT, **settings})
    for name, labels in (("rows", rows), ("targets", targets)):
        directory.write_table(f"{name}.parquet", pa.table({"id": labels.ids, "name": labels.names}))
    directory.write_table(
        "instances.parquet", pa.table({"id": instances.ids, "name": instances.names, "row": owners.astype(np.int64)})
    )
    return directory


def load_truth(path: str | os.PathLike[str]) -> GroundTruth:
    """Ground truth from its directory.

    Raises:
        WhenceError: none there, unfinished, or damaged.
    """
    directory = RunDirectory(path, mend="Delete the directory that it lies in to retrain.")
    if not directory.has("truth.json"):
        raise WhenceError("no ground truth in this directory", where=str(path), expected="a truth.json",
                          mend="Make one with `whence evaluate RUN`.")  # fmt: skip
    settings = directory.read_json("truth.json")
    if settings.pop("format", None) != FORMAT:
        raise WhenceError("a ground truth of another format", where=str(path), expected=FORMAT)
    kinds = {**dict.fromkeys(_COUNTS, int), "kind": str, "level": str, "seed": int}
    if wrong := [name for name, kind in kinds.items() if type(settings.get(name)) is not kind]:
        raise directory.damaged("truth.json", f"{wrong[0]} {settings.get(wrong[0])!r:.40}", kinds[wrong[0]].__name__)
    if not all(1 <= settings[name] <= _MOST for name in _COUNTS):
        raise directory.damaged(
            "truth.json", f"{settings['subsets']} subsets, {settings['seeds']} seeds", f"1 to {_MOST}"
        )
    pairs = [(subset, number) for subset in range(settings["subsets"]) for number in range(settings["seeds"])]
    missing = [pair for pair in pairs if not directory.has(record_name(*pair))]
    if missing:
        raise WhenceError("unfinished retrainings", where=str(path), got=f"{len(missing)} of {len(pairs)} missing",
                          mend="Give the same call again to finish them.")  # fmt: skip
    rows, targets, instances = (labels_in(directory, f"{name}.parquet") for name in ("rows", "targets", "instances"))
    owners = _owners(directory, len(rows))
    records = [read_retraining(directory, *pair) for pair in pairs]
    return assemble(rows, targets, instances, owners, settings, records)


def assemble(rows: Labels, targets: Labels, instances: Labels, owners: np.ndarray, settings: dict[str, Any],
             records: Sequence[dict[str, np.ndarray]]) -> GroundTruth:  # fmt: skip
    """The truth that single retrainings make up; they come subset by subset, and seed by seed within it."""
    sizes = {"members": len(rows), "train_correct": len(instances)}
    for record in records:
        shapes = {name: (sizes.get(name, len(targets)),) for name in record}
        if record.keys() != records[0].keys() or any(value.shape != shapes[name] for name, value in record.items()):
            raise WhenceError("retrainings that do not fit together", where="the ground truth",
                              mend="Delete the directory and retrain.")  # fmt: skip
    shape = (int(settings["subsets"]), int(settings["seeds"]))
    stacked = {name: np.stack([record[name] for record in records]).reshape(*shape, -1) for name in records[0]}
    members = stacked.pop("members").astype(bool)[:, 0]
    train_correct = stacked.pop("train_correct", None)
    return GroundTruth(rows, targets, instances, owners, members, stacked,
                       None if train_correct is None else train_correct.astype(bool), settings)  # fmt: skip


def record_name(subset: int, number: int) -> str:
    """The file of one retraining."""
    return f"{subset:05d}-{number}.safetensors"


def write_retraining(directory: RunDirectory, subset: int, number: int, record: dict[str, np.ndarray]) -> None:
    """Write what one retraining measured; the file is whole or absent."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in record.items()}
    directory.write_tensors(record_name(subset, number), tensors)


def read_retraining(directory: RunDirectory, subset: int, number: int) -> dict[str, np.ndarray]:
    """What ``write_retraining`` wrote."""
    tensors, _ = directory.read_tensors(record_name(subset, number))
    kinds = {name: torch.bool if name in ("members", "train_correct") else torch.float32 for name in tensors}
    if not {"members", "loss"} <= set(tensors) or {name: value.dtype for name, value in tensors.items()} != kinds:
        raise directory.damaged(record_name(subset, number), ", ".join(tensors), "one retraining")
    if not all(value.isfinite().all() for value in tensors.values()):
        raise directory.damaged(record_name(subset, number), "numbers that are not finite", "finite ones")
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _owners(directory: RunDirectory, rows: int) -> np.ndarray:
    """int64 [I]: the row of each training instance."""
    table = directory.read_table("instances.parquet")
    owners: np.ndarray = table["row"].to_numpy() if "row" in table.column_names else np.array([-1])
    if owners.dtype != np.int64 or ((owners < 0) | (owners >= rows)).any():
        raise directory.damaged("instances.parquet", f"rows of type {owners.dtype}", f"rows from 0 to {rows - 1}")
    return owners
