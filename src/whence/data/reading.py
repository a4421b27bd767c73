"""From the options of a ``Source`` to its ``Dataset``: tables, archives of arrays and built-in sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from whence.data.arrays import read_npz
from whence.data.builtin import BUILTIN
from whence.data.columns import Place, features_of, ids_of, names_of, place_in, refuse_repeated, texts_of
from whence.data.dataset import Dataset
from whence.data.inputs import ArrayInputs, Inputs, TextInputs
from whence.data.labels import Labels, labels_of, targets_like, targets_of
from whence.data.roles import assign
from whence.data.splits import divide, limited
from whence.data.tables import open_table, read_columns
from whence.errors import WhenceError

if TYPE_CHECKING:
    from whence.data.loading import Source

__all__ = ["read_more", "read_source"]


def read_source(source: Source) -> Dataset:
    """The dataset of a source whose file exists.

    Raises:
        WhenceError: as ``whence.data.load``.
    """
    if source.path in BUILTIN:
        x, y, feature_names = BUILTIN[source.path]()
        return _of_rows(source, x, y, None, Place(source.path, lambda row: f"row {row + 1}"), feature_names)
    if source.is_table:
        return _of_table(source)
    arrays = read_npz(Path(source.path))
    return _of_rows(source, arrays.x, arrays.y, arrays.splits, Place(f"{source.path}, y", arrays.place))


def read_more(source: Source, like: Dataset) -> Dataset:
    """Further instances from a table with the columns of the one that ``like`` came from: not divided into splits.

    Args:
        source: of the further table, with the options of the first.
        like: its dataset: its task and its features are kept.

    Raises:
        WhenceError: as ``whence.data.load``; a label that ``like`` does not have.
    """
    reader = open_table(Path(source.path))
    roles = assign(reader.names, label=source.label, text=source.text, features=like.feature_names, id=source.id,
                   split="none", where=reader.path)  # fmt: skip
    table = read_columns(reader, roles.used, [name for name in (roles.id,) if name is not None])
    ids, names = _row_numbers(table.num_rows)
    if roles.id is not None:
        ids, names = ids_of(table.column(roles.id), place_in(reader, roles.id))
        refuse_repeated(ids, names, place_in(reader, roles.id))
    texts = None
    if roles.text is not None:
        texts = texts_of(table.column(roles.text), place_in(reader, roles.text)).to_numpy()
    inputs: Inputs = ArrayInputs(features_of(table, roles, reader)) if texts is None else TextInputs(texts)
    targets = targets_like(labels_of(table.column(roles.label), place_in(reader, roles.label)), like.task)
    return Dataset(ids, inputs, targets, like.task, names=names, texts=texts, feature_names=like.feature_names)


def _of_table(source: Source) -> Dataset:
    reader = open_table(Path(source.path))
    roles = assign(reader.names, label=source.label, text=source.text, features=source.features, id=source.id,
                   group=source.group, split=source.split, where=reader.path)  # fmt: skip
    exact = [name for name in (roles.id, roles.group) if name is not None]
    table = read_columns(reader, roles.used, exact)

    def read(name: str | None, convert: Any) -> Any:
        return None if name is None else convert(table.column(name), place_in(reader, name))

    ids, names = read(roles.id, ids_of) or _row_numbers(table.num_rows)
    if roles.id is not None:
        refuse_repeated(ids, names, place_in(reader, roles.id))
    groups, group_names = (None, None) if roles.group is None else read(roles.group, ids_of)
    splits = read(roles.split, names_of)
    where = str(reader.path) if roles.split is None else f"{reader.path}, column {roles.split!r}"
    rows, assigned = _divided(source, splits, ids, ids if groups is None else groups, where)
    labels = read(roles.label, labels_of)
    texts: np.ndarray | None = None
    if roles.text is None:
        features = features_of(table, roles, reader)
        inputs: Inputs = ArrayInputs(features if source.limit is None else features[rows])
    else:
        # Only the texts that are kept become Python strings.
        texts = read(roles.text, texts_of).take(pa.array(rows)).to_numpy()
        inputs = TextInputs(texts)
    return _assembled(
        source, rows, assigned, labels, drawn=splits is None, ids=ids[rows], names=names[rows], inputs=inputs,
        groups=None if groups is None else groups[rows],
        group_names=None if group_names is None else group_names[rows],
        texts=texts, feature_names=roles.inputs if texts is None else None,
    )  # fmt: skip


def _of_rows(source: Source, x: np.ndarray, y: np.ndarray, splits: np.ndarray | None, place: Place,
             feature_names: tuple[str, ...] | None = None) -> Dataset:  # fmt: skip
    ids, names = _row_numbers(len(x))
    rows, assigned = _divided(source, splits, ids, ids, source.path)
    inputs = ArrayInputs(x if source.limit is None else x[rows])
    return _assembled(
        source, rows, assigned, labels_of(pa.chunked_array([pa.array(y)]), place), drawn=splits is None,
        ids=ids[rows], names=names[rows], inputs=inputs, images=inputs.array if inputs.is_image else None,
        feature_names=feature_names,
    )  # fmt: skip


def _divided(
    source: Source, splits: np.ndarray | None, ids: np.ndarray, mask_ids: np.ndarray, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """The rows that the limit keeps, int64 [n], and the splits of all rows, str [N]."""
    assigned = divide(splits, mask_ids, seed=source.seed, where=where)
    if source.limit is None:
        return np.arange(len(ids)), assigned
    return limited(assigned, ids, source.limit, seed=source.seed), assigned


def _assembled(
    source: Source, rows: np.ndarray, assigned: np.ndarray, labels: Labels, *, drawn: bool, **columns: Any
) -> Dataset:
    task, targets = targets_of(labels, assigned == "train", source.task, drawn=drawn)
    targets, splits = targets[rows], assigned[rows]
    kept = targets[splits == "train"]
    if task.kind == "classification" and len(np.unique(kept)) < 2:
        raise WhenceError("only one class is left in the training split", where=f"{source.path}, --limit",
                          got=f"{task.show(kept)[0]!r} in {len(kept)} instances",
                          expected="at least two classes",
                          mend="Raise --limit, or try another seed.")  # fmt: skip
    return Dataset(targets=targets, task=task, splits=splits, **columns)


def _row_numbers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and names of rows that have none: their numbers in the file, from 0."""
    ids = np.arange(count, dtype=np.int64)
    return ids, ids.astype(str).astype(object)
