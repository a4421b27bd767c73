"""From a path or a name to a ``Dataset``."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeAlias

from whence.arguments import flag, one_of, seed_of, whole
from whence.data.builtin import BUILTIN
from whence.data.dataset import Dataset
from whence.data.labels import TASKS, TaskName
from whence.data.reading import read_more, read_source
from whence.data.tables import TABLES
from whence.errors import WhenceError

__all__ = ["Source", "load"]

SplitBy: TypeAlias = Literal["auto", "instance", "group"]
_SPLIT_BY: tuple[SplitBy, ...] = ("auto", "instance", "group")
_COLUMNS = ("label", "text", "text_pair", "image", "features", "id", "group", "split")
_LARGEST_SIDE = 4096  # pixels of a picture that a model is given
_SIMILAR = 0.8  # of names: less is no slip of the finger


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from and how it is read: what a run directory keeps to reopen its data.

    The arguments are those of ``load``, checked when the source is made; the path is made absolute.

    Raises:
        WhenceError: an option of the wrong type, options that exclude each other, a directory or unknown
            ending.

    >>> Source.from_json(Source("digits", limit=100).to_json()) == Source("digits", limit=100)
    True
    """

    path: str
    label: str | None = None
    text: str | None = None
    text_pair: str | None = None
    image: str | None = None
    image_size: int | None = None
    features: tuple[str, ...] | None = None
    id: str | None = None
    group: str | None = None
    split: str | None = None
    task: TaskName = "auto"
    limit: int | None = None
    seed: int = 0
    split_by: SplitBy = "auto"
    drop_missing: bool = False

    def __post_init__(self) -> None:
        options: dict[str, Any] = {option.name: getattr(self, option.name) for option in fields(self)}
        options["path"] = _resolved(options["path"])
        if isinstance(options["features"], str):
            options["features"] = (options["features"],)
        elif isinstance(options["features"], list):
            options["features"] = tuple(options["features"])
        options["limit"] = None if self.limit is None else whole(self.limit, "limit")
        options["image_size"] = (
            None if self.image_size is None else whole(self.image_size, "image_size", high=_LARGEST_SIDE)
        )
        options["seed"] = seed_of(self.seed)
        for name, value in options.items():
            object.__setattr__(self, name, value)
        features = options["features"]
        if features is not None and not (
            isinstance(features, tuple) and all(isinstance(name, str) for name in features)
        ):
            raise WhenceError("an option of the wrong type", where="features", got=repr(features),
                              expected="names of columns")  # fmt: skip
        for name in ("label", "text", "text_pair", "image", "id", "group", "split"):
            if not isinstance(options[name], str | None):
                raise WhenceError("an option of the wrong type", where=name, got=repr(options[name]),
                                  expected="the name of a column")  # fmt: skip
        one_of(self.task, TASKS, "task")
        one_of(self.split_by, _SPLIT_BY, "split_by")
        flag(self.drop_missing, "drop_missing")
        if self.split_by == "group" and self.group is None:
            raise WhenceError("no groups to keep together", where="split_by", got="group",
                              mend="Name their column with --group.")  # fmt: skip
        inputs = [name for name in ("text", "image", "features") if getattr(self, name) is not None]
        if len(inputs) > 1:
            raise WhenceError(f"both {inputs[0]} and {inputs[1]} are named", where=self.path, expected="one of them",
                              mend=f"Leave out --{inputs[0]} or --{inputs[1]}.")  # fmt: skip
        if self.text_pair is not None and self.text is None:
            raise WhenceError("a second text without a first", where="text_pair", got=self.text_pair,
                              mend="Name the first with --text.")  # fmt: skip
        named = [f"--{name.replace('_', '-')}" for name in _COLUMNS if options[name] is not None]
        named += ["--drop-missing"] if self.drop_missing else []
        if named and not self.is_table:
            raise WhenceError("an option for tables only", where=self.path, got=", ".join(named),
                              mend="Leave it out: built-in sets, .npz and directories of pictures have no columns.")  # fmt: skip
        if self.image_size is not None and self.image is None and (self.is_table or not self.is_folder):
            raise WhenceError("a size of pictures for data without any", where=self.path, got=f"image_size {self.image_size}",
                              mend="Name the column of pictures with --image, or leave out --image-size.")  # fmt: skip

    @property
    def is_table(self) -> bool:
        """Whether the data are a table, not a built-in set, an archive of arrays or a directory of pictures."""
        return self.path not in BUILTIN and self.path.lower().endswith(tuple(TABLES))

    @property
    def is_folder(self) -> bool:
        """Whether the data are a directory of pictures."""
        return self.path not in BUILTIN and not self.path.lower().endswith((*TABLES, ".npz"))

    def to_json(self) -> dict[str, Any]:
        """All options as JSON values; "path" is absolute, with forward slashes, or a built-in name."""
        return {**asdict(self), "features": None if self.features is None else list(self.features)}

    @classmethod
    def from_json(cls, record: Any) -> Source:
        """The source that ``to_json`` wrote.

        Raises:
            WhenceError: the record is not one.
        """
        known = [option.name for option in fields(cls)]
        got = None
        if not isinstance(record, dict):
            got = type(record).__name__
        elif extra := [str(key) for key in record if key not in known]:
            got = f"the key {extra[0]!r}"
        elif "path" not in record:
            got = "no path"
        if got is not None:
            raise WhenceError("not a data source", where="the record", got=got,
                              expected=f"an object with {', '.join(known)}",
                              mend="Open it with the version of whence that wrote it.")  # fmt: skip
        return cls(**record)

    def load(self) -> Dataset:
        """Read the data, see ``whence.data.load``.

        Raises:
            WhenceError: the file has gone, or as ``whence.data.load``.
        """
        self._exists()
        return read_source(self)

    def load_more(self, path: str | os.PathLike[str], like: Dataset) -> Dataset:
        """Further instances, from a table with the same columns: new targets to explain.

        Args:
            path: of the table.
            like: what ``load`` gave; its classes and features are kept.

        Raises:
            WhenceError: this source is not a table, or as ``load``.
        """
        if not self.is_table:
            raise WhenceError("further instances for data that are not a table", where=str(path), got=f"data from {self.path}",
                              mend="Give them from Python: whence.influence(run, (ids, inputs, targets)).")  # fmt: skip
        other = replace(self, path=os.fspath(path), group=None, split=None, limit=None, split_by="auto")
        other._exists()
        if not other.is_table:
            raise WhenceError("not a table", where=other.path, expected=f"one of {', '.join(TABLES)}")
        return read_more(other, like)

    def _exists(self) -> None:
        if self.path not in BUILTIN and not (path := Path(self.path)).exists():
            near = get_close_matches(path.name, _neighbors(path), 1, _SIMILAR)
            mend = f"Did you mean {near[0]}? " if near else ""
            mend += "Check the path, or put the file back if it was moved."
            raise WhenceError("no such file", where=self.path, mend=mend)


def load(
    source: str | os.PathLike[str],
    *,
    label: str | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    image: str | None = None,
    image_size: int | None = None,
    features: str | list[str] | tuple[str, ...] | None = None,
    id: str | None = None,
    group: str | None = None,
    split: str | None = None,
    task: TaskName = "auto",
    limit: int | None = None,
    seed: int = 0,
    split_by: SplitBy = "auto",
    drop_missing: bool = False,
) -> Dataset:
    """Read a dataset.

    Args:
        source: a table (.csv, .tsv or .jsonl, each also with .gz, or .parquet); an archive of arrays (.npz
            with x_train, y_train and, as pairs, x_dev, y_dev, x_test, y_test; or with one pair, x and y, X and Y,
            or images and labels, which is divided into splits); a directory of pictures (PNG, JPEG, WebP, BMP or GIF), with
            a folder for each class, or train, dev and test with such folders in each; or built in, "digits" or "diabetes".
        label: the column to predict; tables need it.
        text: the column of text that the model reads.
        text_pair: the column of a second text, for tasks on pairs of sentences.
        image: the column of pictures: their bytes, {"bytes": …, "path": …} as Hugging Face datasets write them, or paths, from
            where the table lies.
        image_size: side of the square that pictures are brought to, pixels (scaled by the shorter side, cut at the center). By
            default they stay as they are if all have one size of at most 256 × 256, and else become 64 × 64.
        features: columns of numbers that the model reads: a list, or names separated by commas. Globs such as
            "pixel*" leave out columns that have another role. Without text and features: all other columns,
            if they are numbers (without the index columns that pandas writes).
        id: the column of ids, integers of up to 64 bits or text, each in one row. By default the column "id"
            if there is one that was not given another role, else the row number in the file from 0; "none"
            ignores that column. Text ids are hashed, but a column of plain integers written as text stays
            integers.
        group: the column of sources, authors, annotators ...: a group shares one mask; for its split see split_by.
        split: the column of splits. By default the column "split" if there is one that was not given another
            role; "none" ignores it. Training, validation, valid, val, development and testing, in any case,
            mean train, dev and test; rows of dropped and unused are left out; other names stay.
            Without the column, train, dev and test are drawn
            80/10/10 by id or group. Data with train and without dev have a tenth of train drawn as dev. Where
            the draw leaves a class without training instances, its instances (or their groups) go to train.
        task: "classification", "regression", or "auto": text and booleans are classes; integers are classes
            when they take at most two values in the training split, or at most max(20, √N) values with two
            instances each on average; other numbers are regression. Classes are those of the training split,
            sorted; numbers are standardized with the training split's mean and deviation.
        limit: at most this many instances of each split, chosen by id and kept in the order of the file.
            Classes, mean and scale are still those of the whole training split.
        seed: of drawn splits and the limit (see ``whence.data.splits``); an integer of 64 bits.
        split_by: what a draw of splits keeps together: "group" all of a group, so that no author or document of
            dev and test is known from training; "instance" nothing, so that every source is in train, dev and
            test; "auto" groups, unless one of them holds more than 2 % of the rows.
        drop_missing: leave out rows of a table whose label, text or any feature is missing.

    Returns:
        The dataset, with ``splits``, ``names`` and, by kind of inputs, ``texts``, ``images`` (uint8 [N, H, W]
        or [N, H, W, C]) or ``feature_names``; ``notes`` say what was decided on the way.

    Raises:
        WhenceError: anything wrong with the file, its columns, ids, labels, features or splits: the first
            that is found, where it is (rows are counted from 1, without the header), and how to mend it.

    >>> load("digits", limit=100).images.shape
    (300, 8, 8)
    """
    given: Any = (
        source,
        label,
        text,
        text_pair,
        image,
        image_size,
        features,
        id,
        group,
        split,
        task,
        limit,
        seed,
        split_by,
        drop_missing,
    )
    return Source(*given).load()


def _understood() -> str:
    return (
        f"a file ending in {', '.join(TABLES)} or .npz, a directory of pictures, or the built-in {' or '.join(BUILTIN)}"
    )


def _resolved(given: Any) -> str:
    """An absolute path with forward slashes, or a built-in name.

    Raises:
        WhenceError: not a path, or an ending that is not understood.
    """
    if not isinstance(given, str | os.PathLike) or not os.fspath(given):
        raise WhenceError("not a path", where="source", got=repr(given), expected=_understood())
    name = str(os.fspath(given))
    if name in BUILTIN:
        return name
    try:
        path = Path(name).expanduser().resolve()
        directory = path.is_dir()
    except (OSError, ValueError, RuntimeError) as error:
        raise WhenceError("not a path", where="source", got=repr(name), expected=_understood()) from error
    if directory:
        return path.as_posix()
    if not path.name.lower().endswith((*TABLES, ".npz")):
        near = get_close_matches(name, BUILTIN, 1, _SIMILAR)
        ending = "".join(path.suffixes[-2:])
        raise WhenceError("data of an unknown kind", where=name,
                          got=f"the ending {ending!r}" if ending else "no ending", expected=_understood(),
                          mend=f"Did you mean {near[0]}?" if near else "")  # fmt: skip
    return path.as_posix()


def _neighbors(path: Path) -> list[str]:
    try:
        return [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return []
