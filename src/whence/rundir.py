"""A run directory: files that are whole or absent, and a fingerprint that refuses what belongs to another run.

    run.json             what was run: data source, model, placement of masks, options, fingerprints, results
    model.safetensors    the trained weights
    instances.parquet    id, name, split, group, label (and text) of every instance
    history.parquet      one row per epoch: the exposure curves
    dynamics.safetensors    what flipped sub-networks said while training lasted (see ``whence.dynamics``)
    checkpoint.safetensors   while training lasts
    scores/NAME/         blocks of scores (see ``whence.score_store``)
    cleanse/NAME/        what was dropped or relabeled, and why (see ``whence.cleansing``)
    truth/NAME/          retrained models' values (see ``whence.evaluation.ground_truth``)
    audit.parquet, groups.parquet, report.html, against-OTHER.html
    review.safetensors, review.csv, review.html   labels that somebody looks at (see ``whence.review_files``)

    .lock                while somebody makes the run, or something from it (see ``whence.locks``)

Every file is written beside its place and renamed, so a killed process leaves either the old file or the new one.
No file holds a pickle. Whoever made a directory, what lies in it is read within limits (``whence.guarded``), and no link in it
leads out of it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from whence.errors import WhenceError
from whence.guarded import read_array, read_parquet, regular, strict_json
from whence.locks import has_left, locked, writer
from whence.whole_files import clear_left, remove_whole, write_aside, writing

__all__ = ["EVALUATION", "FORMAT", "RunDirectory", "as_path", "folder_name", "write_aside"]

FORMAT = 1
EVALUATION = "evaluation.json"  # in a directory of retrainings: how well this run's scores foretold them
_LOCK = ".lock"
_FILES = {"run.json", "model.safetensors", "instances.parquet", "history.parquet", "dynamics.safetensors",
          "checkpoint.safetensors", _LOCK}  # fmt: skip
_OF_PEOPLE = {"review.safetensors", "review.csv"}  # which stay when another run takes the place of one
_LONGEST = 200  # bytes of a name; file systems take 255, and what is written aside is called a little longer


def as_path(given: str | os.PathLike[str], what: str = "path") -> Path:
    """A path that the file system takes.

    Raises:
        WhenceError: it is no text, or holds a zero, broken Unicode or too long a name.
    """
    try:
        path = Path(given)
        path.exists()
        os.fspath(path).encode()
        if "\0" in os.fspath(path):
            raise ValueError("embedded null byte")
    except (TypeError, ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise WhenceError(
            "not a path", where=what, got=f"{given!r:.60} ({reason})", expected="the name of a file or directory"
        ) from error
    return path


def folder_name(label: str, what: str) -> str:
    """A name that a folder in a run can have.

    Raises:
        WhenceError: it is none, or one that leads elsewhere or that not every file system takes.
    """
    if (
        not isinstance(label, str)
        or not label.isprintable()  # broken Unicode is not
        or not 0 < len(label.encode()) <= _LONGEST
        or label in (".", "..")
        or any(letter in label for letter in '<>:"/\\|?*')
    ):
        raise WhenceError(f"not a name for {what}", got=repr(label), expected="letters, digits and hyphens")
    return label


class RunDirectory:
    """Reads and writes the files of one run.

    Args:
        path: the directory; created when something is first written.
        mend: what can be done about a damaged file in it, as a sentence.
        begun: it is there. If it is gone when something is written, somebody has removed it, and it is not made again.
    """

    def __init__(self, path: str | os.PathLike[str], *, mend: str = "Put it back as it was, or fit again.",
                 begun: bool = False) -> None:  # fmt: skip
        self.path, self.mend, self.begun = as_path(path), mend, begun
        with writing(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise WhenceError("not a directory", where=str(self.path), mend="Name a directory for the run.")

    def place(self, name: str) -> Path:
        """The path of something in the directory.

        Raises:
            WhenceError: a link there leads out of the directory: what is read and written would be somebody else's.
        """
        path = self.path / name
        home = os.path.realpath(self.path)
        if os.path.commonpath([home, os.path.realpath(path)]) != home:
            raise WhenceError("a link out of the directory", where=str(path), got=os.path.realpath(path),
                              expected=f"something in {self.path}",
                              mend="Put what it points to in its place, if you trust it.")  # fmt: skip
        return path

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
        return any(
            file.name not in _FILES | _OF_PEOPLE and not file.name.endswith(".tmp") for file in self.path.iterdir()
        )

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
        try:
            record = strict_json(self.place(name))
        except WhenceError:
            raise
        except (OSError, ValueError, MemoryError) as error:
            raise self.damaged(name, str(error), "JSON") from error
        if not isinstance(record, dict):
            raise self.damaged(name, type(record).__name__, "a JSON object")
        return record

    def write_json(self, name: str, record: Mapping[str, Any]) -> None:
        with write_aside(self.path / name, parents=not self.begun) as aside:
            aside.write_text(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")

    def read_tensors(self, name: str, device: str = "cpu") -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """The tensors of a safetensors file and its metadata."""
        path = self.place(name)
        try:
            regular(path)
            with safe_open(path, framework="pt", device=device) as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError, RuntimeError, MemoryError) as error:
            raise self.damaged(name, str(error), "safetensors") from error

    def count_numbers(self, name: str) -> int:
        """How many numbers the tensors of a safetensors file have; none of them is read."""
        path = self.place(name)
        try:
            regular(path)
            with safe_open(path, framework="pt") as file:
                return sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
        except (OSError, SafetensorError, ValueError, RuntimeError) as error:
            raise self.damaged(name, str(error), "safetensors") from error

    def write_tensors(
        self, name: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
    ) -> None:
        # Tied weights share storage, which the format refuses: each name gets a copy of its own.
        owned = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
        with write_aside(self.path / name, parents=not self.begun) as aside:
            save_file(owned, aside, metadata=dict(metadata or {}))

    def read_table(self, name: str) -> pa.Table:
        """A table of plain columns; text is large_string."""
        path = self.place(name)
        try:
            return read_parquet(path, nested=False)
        except (OSError, ValueError, KeyError, MemoryError, pa.ArrowException) as error:
            raise self.damaged(name, str(error), "Parquet") from error

    def read_array(self, name: str) -> np.ndarray:
        path = self.place(name)
        try:
            return read_array(path)
        except (OSError, ValueError, MemoryError) as error:
            raise self.damaged(name, str(error), "an array") from error

    def write_table(self, name: str, table: pa.Table) -> None:
        with write_aside(self.path / name, parents=not self.begun) as aside:
            pq.write_table(table, aside, compression="zstd")

    def has(self, name: str) -> bool:
        """Whether something is there; what is no file is refused when it is read."""
        return os.path.lexists(self.path / name)

    def clear(self) -> None:
        """Delete what was made from a run, all but its description, weights and instances, which are overwritten, and what
        people have said of its labels."""
        remove_whole(self.path / "scores")
        remove_whole(self.path / "cleanse")
        pages = [page.name for page in self.path.glob("against-*.html")]
        judged = [f"truth/{file.parent.name}/{EVALUATION}" for file in self.path.glob(f"truth/*/{EVALUATION}")]
        for name in ("audit.parquet", "groups.parquet", "report.html", "history.parquet", "dynamics.safetensors",
                     "checkpoint.safetensors", "review.html", *pages, *judged):  # fmt: skip
            self.remove(name)

    def abandon(self) -> None:
        """Delete what a training that failed has begun, but the lock, which its holder removes."""
        for name in _FILES - {_LOCK}:
            self.remove(name)

    def remove_empty(self) -> None:
        """Delete the directory if nothing is in it."""
        with suppress(OSError):
            self.path.rmdir()

    def remove(self, name: str) -> None:
        with writing(self.path / name):
            (self.path / name).unlink(missing_ok=True)
