"""A run directory: files that are whole or absent, and a fingerprint that refuses what belongs to another run.

    run.json             what was run: data source, model, placement of masks, options, fingerprints, results
    model.safetensors    the trained weights
    instances.parquet    id, name, split, group, label (and text) of every instance
    history.parquet      one row per epoch: the exposure curves
    checkpoint.safetensors   while training lasts
    scores/NAME/         blocks of scores (see ``whence.score_store``)
    cleanse/NAME/        what was dropped or relabeled, and why (see ``whence.cleansing``)
    truth/NAME/          retrained models' values (see ``whence.evaluation.ground_truth``)
    audit.parquet, groups.parquet, evaluation.json, report.html, against-OTHER.html

    .lock                while somebody makes the run, or something from it (see ``whence.locks``)

Every file is written beside its place and renamed, so a killed process leaves either the old file or the new one.
No file holds a pickle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from whence.errors import WhenceError
from whence.locks import has_left, locked, writer
from whence.whole_files import clear_left, remove_whole, write_aside, writing

__all__ = ["FORMAT", "RunDirectory", "write_aside"]

FORMAT = 1
_LOCK = ".lock"
_FILES = {"run.json", "model.safetensors", "instances.parquet", "history.parquet", "checkpoint.safetensors", _LOCK}


class RunDirectory:
    """Reads and writes the files of one run.

    Args:
        path: the directory; created when something is first written.
        mend: what can be done about a damaged file in it, as a sentence.
        begun: it is there. If it is gone when something is written, somebody has removed it, and it is not made again.
    """

    def __init__(self, path: str | os.PathLike[str], *, mend: str = "", begun: bool = False) -> None:
        self.path, self.mend, self.begun = Path(path), mend, begun
        with writing(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise WhenceError("not a directory", where=str(self.path), mend="Name a directory for the run.")

    @property
    def config_path(self) -> Path:
        return self.path / "run.json"

    def damaged(self, name: str, got: object, expected: str) -> WhenceError:
        """The error to raise of a file that is not what it should be."""
        return WhenceError("a damaged file", where=str(self.path / name), got=got, expected=expected, mend=self.mend)

    def begin(self) -> None:
        """Make the directory."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self.begun = True

    def locked(self, *, shared: bool = False) -> AbstractContextManager[None]:
        """Make the run, alone, or something from it, beside others who do: what is left over of killed ones is removed.

        The directory has to be there.
        """
        lock = locked(self.path / _LOCK, self.path, shared=shared)
        clear_left(self.path)
        return lock

    def tidy(self, *names: str) -> None:
        """Remove what a process left that was killed when it had finished: these files, and temporary ones."""
        if has_left(self.path, self.path / _LOCK) or any(map(self.has, names)):
            with suppress(WhenceError), self.locked(shared=True):  # a disk that can only be read stays as it is
                for name in names:
                    self.remove(name)

    def writer(self) -> str | None:
        """Who is making the run, in words; None where nobody is."""
        return writer(self.path / _LOCK)

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self.config_path.is_file()

    def is_foreign(self) -> bool:
        """Whether the directory holds something that is not a run."""
        if self.exists() or not self.path.is_dir():
            return False
        # A killed process may have left some of a run's files without its description.
        return any(file.name not in _FILES and not file.name.endswith(".tmp") for file in self.path.iterdir())

    def read_config(self) -> dict[str, Any]:
        """What ``write_config`` wrote.

        Raises:
            WhenceError: there is no run, or its description is damaged or of a newer format.
        """
        if not self.exists():
            raise WhenceError("no run in this directory", where=str(self.path), expected="a run.json",
                              mend="Make one with `whence fit DATA --out RUN`.")  # fmt: skip
        config = self.read_json("run.json")
        if config.get("format") != FORMAT:
            raise WhenceError("a run of another format", where=str(self.config_path), got=config.get("format"),
                              expected=FORMAT, mend="Open it with the version of whence that wrote it.")  # fmt: skip
        return config

    def write_config(self, config: Mapping[str, Any]) -> None:
        self.write_json("run.json", {"format": FORMAT, **config})

    def read_json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise self.damaged(name, str(error), "JSON") from error
        if not isinstance(record, dict):
            raise self.damaged(name, type(record).__name__, "a JSON object")
        return record

    def write_json(self, name: str, record: Mapping[str, Any]) -> None:
        with write_aside(self.path / name, parents=not self.begun) as aside:
            aside.write_text(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")

    def read_tensors(self, name: str, device: str = "cpu") -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """The tensors of a safetensors file and its metadata."""
        path = self.path / name
        try:
            with safe_open(path, framework="pt", device=device) as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise self.damaged(name, str(error), "safetensors") from error

    def write_tensors(
        self, name: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
    ) -> None:
        # Tied weights share storage, which the format refuses: each name gets a copy of its own.
        owned = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
        with write_aside(self.path / name, parents=not self.begun) as aside:
            save_file(owned, aside, metadata=dict(metadata or {}))

    def read_table(self, name: str) -> pa.Table:
        path = self.path / name
        try:
            return pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise self.damaged(name, str(error), "Parquet") from error

    def write_table(self, name: str, table: pa.Table) -> None:
        with write_aside(self.path / name, parents=not self.begun) as aside:
            pq.write_table(table, aside, compression="zstd")

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def clear(self) -> None:
        """Delete what was made from a run, all but its description, weights and instances, which are overwritten."""
        remove_whole(self.path / "scores")
        remove_whole(self.path / "cleanse")
        for name in ("audit.parquet", "groups.parquet", "report.html", "evaluation.json", "history.parquet",
                     "checkpoint.safetensors", *(page.name for page in self.path.glob("against-*.html"))):  # fmt: skip
            self.remove(name)

    def remove(self, name: str) -> None:
        with writing(self.path / name):
            (self.path / name).unlink(missing_ok=True)
