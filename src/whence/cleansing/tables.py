"""The table that a run was fitted on, marked row by row with what a cleansing says of it.

    whence_action        keep, drop or relabel
    whence_reason        why, in words
    whence_given_label   the label before, as the table has it, where it was changed
    whence_given_split   the split before, where the table has a column of splits
    split                train, dev or test as the run had it; "dropped" where a row is not to be trained on, "unused" where the run
                         did not have it (--limit, --drop-missing). The run's own column; or one more, named whence_split where the
                         table has a column "split" that is something else

No row is left out, so every change can be undone; and ``refit`` says with which options ``whence fit`` trains on what is left, with
the same dev and test. Rows that an earlier cleansing marked keep its marks.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whence.cleansing.results import KEEP, Cleansing
from whence.data import Classification, Dataset
from whence.data.copies import copy_table, fitting_ending, inert
from whence.data.inputs import ArrayInputs
from whence.data.loading import Source
from whence.data.reading import rows_in_use
from whence.data.roles import MARK, Roles
from whence.data.splits import DROPPED, UNUSED
from whence.data.tables import Reader, read_columns
from whence.errors import WhenceError
from whence.run import Run

__all__ = ["check_table", "refit", "write_table"]

_MARKS = ("action", "reason", "given_label")


def check_table(run: Run, out: str | os.PathLike[str]) -> Source:
    """The run's source, if ``write_table`` can write to ``out``.

    Raises:
        WhenceError: the data are no table, or have changed since the run; ``out`` has another ending, is the table itself or a
            directory, or lies elsewhere than a table of paths to pictures.
    """
    source = Source.from_json(run.config["source"]) if run.config.get("source") else None
    if source is None or not source.is_table:
        origin = "Python" if source is None else source.path
        raise WhenceError("no table to mark", where=os.fspath(out), got=f"data from {origin}",
                          mend="RUN/cleanse/NAME/cleansed.parquet lists every instance with action and reason.")  # fmt: skip
    fitting_ending(Path(source.path), Path(out))
    if source.image is not None and Path(out).resolve().parent != Path(source.path).parent:
        raise WhenceError("a copy elsewhere of a table that may name pictures", where=os.fspath(out),
                          expected=f"a file in {Path(source.path).parent}", mend="Paths begin where a table lies.")  # fmt: skip
    _same_data(run, source)
    return source


def write_table(run: Run, found: Cleansing, out: str | os.PathLike[str]) -> Path:
    """Write the run's table, marked; it is whole or absent.

    Raises:
        WhenceError: as ``check_table``.
    """
    source = check_table(run, out)
    reader, roles, numbers, ids = rows_in_use(source)
    place = dict(zip(ids.tolist(), numbers.tolist(), strict=True))
    labels = read_columns(reader, [roles.label]).column(0)
    marks = _before(reader, len(labels))
    splits, in_file = _splits(run, reader, roles, place, len(labels))
    changed: dict[int, int] = {}  # row of the table → row of the training data
    for position, entry in enumerate(found.table().select(["id", "action", "reason"]).to_pylist()):
        row = place[entry["id"]]
        if entry["action"] == KEEP:
            if marks["action"][row] != "relabel":
                marks["action"][row] = KEEP
            continue
        marks["action"][row], marks["reason"][row] = entry["action"], entry["reason"]
        if entry["action"] == "drop":
            splits[row] = DROPPED
        else:
            marks["given_label"][row] = marks["given_label"][row] or _text(labels[row].as_py())
            changed[row] = position
    if in_file is not None:
        marks["given_split"] = in_file
    added = {f"{MARK}{name}": [inert(text, Path(out)) for text in texts] for name, texts in marks.items()}
    replaced = {roles.label: _labels(found, labels, place, changed)} if changed else {}
    return copy_table(Path(source.path), Path(out), replaced, {**added, _split_column(reader, roles): splits})


def refit(run: Run, out: str | os.PathLike[str]) -> str:
    """The command that trains on a marked table as the run was trained on its own."""
    source = Source.from_json(run.config["source"])
    reader, roles, _, _ = rows_in_use(source)
    options: list[str] = []
    for name in ("label", "text", "text_pair", "image", "image_size", "id", "group"):
        if (value := getattr(source, name)) is not None:
            options += [f"--{name.replace('_', '-')}", str(value)]
    if source.features is not None:
        options += ["--features", ",".join(source.features)]
    if (column := _split_column(reader, roles)) != "split":
        options += ["--split", column]
    options += ["--drop-missing"] if source.drop_missing else []
    return shlex.join(["whence", "fit", os.fspath(out), *options, "--task", run.task.kind])


def _same_data(run: Run, source: Source) -> None:
    """Refuse a table that is no longer what the run was trained on."""
    now = source.load()
    train = now.split("train") if now.has_split("train") else now
    same = np.array_equal(train.ids, run.train.ids) and np.array_equal(train.targets, run.train.targets)
    for name in ("texts", "images"):
        before, after = getattr(run.train, name), getattr(train, name)
        same = same and (before is None or after is None or np.array_equal(before, after))
    if isinstance(train.inputs, ArrayInputs) and isinstance(run.train.inputs, ArrayInputs):
        before, after = run.train.inputs.array, train.inputs.array
        same = same and (before.shape != after.shape or np.array_equal(before, after, equal_nan=True))
    if not same:
        raise WhenceError("a table that has changed since the run", where=source.path, mend="Restore it, or fit again.")


def _before(reader: Reader, count: int) -> dict[str, list[str]]:
    """The marks that the table has already, of an earlier cleansing; else rows that are kept."""
    known = [name for name in _MARKS if f"{MARK}{name}" in reader.names]
    table = reader.read([f"{MARK}{name}" for name in known]) if known else None
    marks = {name: [_text(value) for value in table.column(f"{MARK}{name}").to_pylist()] if table is not None and name in known
             else [""] * count for name in _MARKS}  # fmt: skip
    marks["action"] = [action or KEEP for action in marks["action"]]
    return marks


def _split_column(reader: Reader, roles: Roles) -> str:
    return roles.split or ("split" if "split" not in reader.names else f"{MARK}split")


def _splits(
    run: Run, reader: Reader, roles: Roles, place: dict[int, int], count: int
) -> tuple[list[str], list[str] | None]:
    """The split of every row of the file, as the run had it; and as the file has it."""
    splits, in_file = [UNUSED] * count, None
    if roles.split is not None:
        in_file = [_text(value) for value in reader.read([roles.split]).column(0).to_pylist()]
        splits = [name if name == DROPPED else UNUSED for name in in_file]
        given = f"{MARK}given_split"
        if given in reader.names:
            in_file = [_text(value) for value in reader.read([given]).column(0).to_pylist()]
    for name, data in run.splits.items():
        for row_id in data.ids.tolist():
            if row_id in place:
                splits[place[row_id]] = name
    return splits, in_file


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _labels(found: Cleansing, column: Any, place: dict[int, int], changed: dict[int, int]) -> dict[int, Any]:
    """Of changed rows of the file the new labels, as the file writes them."""
    train, new = found.train, found.data().targets
    if not isinstance(train.task, Classification):
        return {row: float(f"{new[at] * train.task.scale + train.task.mean:.7g}") for row, at in changed.items()}  # type: ignore[union-attr]
    written = {target: column[place[row_id]].as_py() for row_id, target in _one_of_each(train)}
    return {row: written[int(new[at])] for row, at in changed.items()}


def _one_of_each(train: Dataset) -> Sequence[tuple[int, int]]:
    """(id, target) of one training instance of each class."""
    targets, rows = np.unique(train.targets, return_index=True)
    return list(zip(train.ids[rows].tolist(), targets.tolist(), strict=True))
