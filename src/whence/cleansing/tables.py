"""The table that a run was fitted on, marked row by row with what a cleansing says of it.

    whence_action        keep, drop or relabel
    whence_reason        why, in words
    whence_given_label   the label before, where it was changed
    split                train, dev or test as the run had it; "dropped" where a row is not to be trained on, "unused" where the run
                         did not have it (--limit, --drop-missing). The run's own column, or else one more

No row is left out, so every change can be undone; and the same ``whence fit`` on this table trains on what is left, with the same
dev and test.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from whence.cleansing.results import KEEP, Cleansing
from whence.data import Classification, Dataset
from whence.data.columns import ids_of, place_in
from whence.data.copies import copy_table, fitting_ending, inert
from whence.data.loading import Source
from whence.data.reading import roles_in
from whence.data.roles import MARK, Roles
from whence.data.tables import Reader, open_table
from whence.errors import WhenceError
from whence.run import Run

__all__ = ["check_table", "write_table"]

DROPPED, UNUSED = "dropped", "unused"


def check_table(run: Run, out: str | os.PathLike[str]) -> Source:
    """The run's source, if ``write_table`` can write to ``out``.

    Raises:
        WhenceError: the data are no table; ``out`` has another ending, or is the table itself.
    """
    source = Source.from_json(run.config["source"]) if run.config.get("source") else None
    if source is None or not source.is_table:
        origin = "Python" if source is None else source.path
        raise WhenceError("no table to mark", where=os.fspath(out), got=f"data from {origin}",
                          mend="RUN/cleanse/NAME/cleansed.parquet lists every instance with action and reason.")  # fmt: skip
    fitting_ending(Path(source.path), Path(out))
    return source


def write_table(run: Run, found: Cleansing, out: str | os.PathLike[str]) -> Path:
    """Write the run's table, marked; it is whole or absent.

    Raises:
        WhenceError: as ``check_table``; the table has changed since the run was fitted.
    """
    source = check_table(run, out)
    reader = open_table(Path(source.path))
    roles = roles_in(source, reader)
    ids = _ids(reader, roles)
    place = {int(row_id): row for row, row_id in enumerate(ids)}
    table = found.table()
    if not set(table["id"].to_pylist()) <= place.keys():
        raise WhenceError("a table that has changed since the run", where=source.path, mend="Restore it, or fit again.")
    marks = {f"{MARK}{name}": [""] * len(ids) for name in ("action", "reason", "given_label")}
    splits = _splits(run, reader, roles, place, len(ids))
    marks[f"{MARK}action"] = [KEEP] * len(ids)
    changed: dict[int, int] = {}  # row of the table → row of the training data
    for position, entry in enumerate(table.select(["id", "action", "reason", "given_label"]).to_pylist()):
        if entry["action"] == KEEP:
            continue
        row = place[entry["id"]]
        marks[f"{MARK}action"][row], marks[f"{MARK}reason"][row] = entry["action"], entry["reason"]
        if entry["action"] == "drop":
            splits[row] = DROPPED
        else:
            marks[f"{MARK}given_label"][row] = inert(entry["given_label"], Path(out))
            changed[row] = position
    replaced = {roles.label: _labels(found, reader, roles, place, changed)} if changed else {}
    return copy_table(Path(source.path), Path(out), replaced, {**marks, _split_column(reader, roles): splits})


def _ids(reader: Reader, roles: Roles) -> np.ndarray:
    """int64: the id of every row of the file."""
    columns = [roles.label if roles.id is None else roles.id]
    table = reader.read(columns, columns)
    if roles.id is None:
        return np.arange(table.num_rows, dtype=np.int64)
    ids: np.ndarray = ids_of(table.column(0), place_in(reader, roles.id))[0]
    return ids


def _split_column(reader: Reader, roles: Roles) -> str:
    return roles.split or ("split" if "split" not in reader.names else f"{MARK}split")


def _splits(run: Run, reader: Reader, roles: Roles, place: dict[int, int], count: int) -> list[str]:
    """The split of every row of the file, as the run had it."""
    splits = [UNUSED] * count
    for name, data in run.splits.items():
        for row_id in data.ids.tolist():
            if row_id in place:
                splits[place[row_id]] = name
    return splits


def _labels(
    found: Cleansing, reader: Reader, roles: Roles, place: dict[int, int], changed: dict[int, int]
) -> dict[int, Any]:
    """Of changed rows of the file the new labels, as the file writes them."""
    train, new = found.train, found.data().targets
    if not isinstance(train.task, Classification):
        return {row: float(f"{new[at] * train.task.scale + train.task.mean:.7g}") for row, at in changed.items()}  # type: ignore[union-attr]
    column = reader.read([roles.label]).column(0)
    written = {target: column[place[row_id]].as_py() for row_id, target in _one_of_each(train)}
    return {row: written[int(new[at])] for row, at in changed.items()}


def _one_of_each(train: Dataset) -> list[tuple[int, int]]:
    """(id, target) of one training instance of each class."""
    targets, rows = np.unique(train.targets, return_index=True)
    return list(zip(train.ids[rows].tolist(), targets.tolist(), strict=True))
