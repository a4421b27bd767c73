"""From the options of a ``Source`` to its ``Dataset``: tables, directories of pictures, archives of arrays and built-in sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from whence.data.arrays import read_npz
from whence.data.builtin import BUILTIN
from whence.data.columns import (
    Place,
    features_of,
    ids_of,
    images_of,
    lacking,
    names_of,
    place_in,
    refuse_repeated,
    texts_of,
)
from whence.data.dataset import Dataset
from whence.data.images import read_folder, read_pictures
from whence.data.inputs import ArrayInputs, TextInputs
from whence.data.labels import Labels, labels_of, settled, targets_like, targets_of
from whence.data.roles import Roles, assign, listed
from whence.data.splits import LARGE, LEFT_OUT, divide, limited, split_name, together, with_all_classes
from whence.data.tables import Reader, open_table, read_columns
from whence.errors import WhenceError
from whence.masks import as_ids

if TYPE_CHECKING:
    from whence.data.loading import Source

__all__ = ["read_more", "read_source", "rows_in_use"]


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
    if source.is_folder:
        return _of_folder(source)
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
    reader: Reader = open_table(Path(source.path))
    needed = [
        ("label", source.label),
        ("text", source.text),
        ("text", source.text_pair),
        ("image", source.image),
        ("id", None if source.id == "none" else source.id),
    ]
    needed += [("feature", name) for name in (like.feature_names or ())]
    known = frozenset(reader.names)
    for what, name in needed:
        if name is not None and name not in known:
            raise WhenceError(f"a table without the run's {what} column", where=reader.path,
                              got=f"columns {listed(reader.names)}", expected=f"also {name!r}",
                              mend="Give the columns that the run's own data have.")  # fmt: skip
    try:
        return _more(source, reader, like)
    except WhenceError as error:
        if "--" not in error.mend:
            raise
        # The roles of columns are those of the run: there is no option to change them.
        raise WhenceError(error.what, where=error.where, got=error.got, expected=error.expected,
                          mend="Give columns like those of the run's own data.") from error  # fmt: skip


def _read(reader: Reader, roles: Roles) -> pa.Table:
    """All columns in use: ids as exact numbers, pictures as bytes."""
    exact, raw = ([name for name in names if name is not None] for names in ((roles.id, roles.group), (roles.image,)))
    return read_columns(reader, roles.used, exact, raw)


def _more(source: Source, reader: Reader, like: Dataset) -> Dataset:
    roles = assign(reader.names, label=source.label, text=source.text, text_pair=source.text_pair, image=source.image,
                   features=like.feature_names, id=source.id, split="none", where=reader.path)  # fmt: skip
    table = _read(reader, roles)
    table, reader, numbers, notes = _without_gaps(source, table, roles, reader)
    ids, names = numbers, _written(numbers)
    if roles.id is not None:
        ids, names = ids_of(table.column(roles.id), place_in(reader, roles.id))
        refuse_repeated(ids, names, place_in(reader, roles.id))
    fed, more = _inputs(table, roles, reader, np.arange(table.num_rows), like=like)
    targets = targets_like(labels_of(table.column(roles.label), place_in(reader, roles.label)), like.task)
    return Dataset(ids=ids, targets=targets, task=like.task, names=names, notes=(*notes, *more), **fed)


def roles_in(source: Source, reader: Reader) -> Roles:
    """Which columns of a source's table are what.

    Raises:
        WhenceError: as ``assign``.
    """
    return assign(reader.names, label=source.label, text=source.text, text_pair=source.text_pair, image=source.image,
                  features=source.features, id=source.id, group=source.group, split=source.split, where=reader.path)  # fmt: skip


def rows_in_use(source: Source) -> tuple[Reader, Roles, np.ndarray, np.ndarray]:
    """Of a source's table: the reader of the file, the roles of its columns, which rows are instances (before a limit), int64 [n]
    from 0, and their ids, int64 [n].

    Raises:
        WhenceError: as ``whence.data.load``.
    """
    whole: Reader = open_table(Path(source.path))
    roles = roles_in(source, whole)
    table, reader, numbers, _ = _in_use(source, whole, roles)
    ids = numbers if roles.id is None else ids_of(table.column(roles.id), place_in(reader, roles.id))[0]
    return whole, roles, numbers, ids


def _in_use(source: Source, reader: Reader, roles: Roles) -> tuple[pa.Table, Reader, np.ndarray, tuple[str, ...]]:
    """As ``_without_gaps``, without the rows of splits that say that they are left out."""
    table, numbers = _read(reader, roles), None
    if roles.split is not None:
        splits = names_of(table.column(roles.split), place_in(reader, roles.split))
        kept = np.flatnonzero(~np.isin([split_name(name) for name in splits], LEFT_OUT))
        if 0 < len(kept) < len(splits):
            table, reader, numbers = table.take(pa.array(kept)), _Part(reader, kept), kept
    table, reader, rows, notes = _without_gaps(source, table, roles, reader)
    return table, reader, rows if numbers is None else numbers[rows], notes


def _of_table(source: Source) -> Dataset:
    reader: Reader = open_table(Path(source.path))
    roles = roles_in(source, reader)
    table, reader, numbers, notes = _in_use(source, reader, roles)

    def read(name: str | None, convert: Any) -> Any:
        return None if name is None else convert(table.column(name), place_in(reader, name))

    ids, names = read(roles.id, ids_of) or (numbers, _written(numbers))
    if roles.id is not None:
        refuse_repeated(ids, names, place_in(reader, roles.id))
    groups, group_names = (None, None) if roles.group is None else read(roles.group, ids_of)
    splits = read(roles.split, names_of)
    labels = read(roles.label, labels_of)
    where = str(reader.path) if roles.split is None else f"{reader.path}, column {roles.split!r}"
    division = _divided(source, labels, splits, ids, groups, where)
    rows = division.rows
    fed, more = _inputs(table, roles, reader, rows, side=source.image_size)
    return _assembled(
        source, division, labels, ids=ids[rows], names=names[rows],
        groups=None if groups is None else groups[rows],
        group_names=None if group_names is None else group_names[rows],
        notes=(*notes, *division.notes, *more), **fed,
    )  # fmt: skip


def _inputs(
    table: pa.Table,
    roles: Roles,
    reader: Reader,
    rows: np.ndarray,
    *,
    side: int | None = None,
    like: Dataset | None = None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What the model is fed of some rows (int64 [n]): "inputs" and other columns of a ``Dataset``, and notes.

    Args:
        side: of pictures.
        like: instances whose features, or sizes of pictures, these are to have.
    """
    if roles.image is not None:
        place = place_in(reader, roles.image)
        stored = images_of(table.column(roles.image).take(pa.array(rows)), place, reader.path.parent)
        taken = None if like is None else like.images
        pictures = read_pictures(stored, lambda row: place(int(rows[row])), side=side, like=taken)
        return {"inputs": ArrayInputs(pictures.array), "images": pictures.array}, pictures.notes
    if roles.text is None:
        features = features_of(table, roles, reader)
        whole = len(rows) == len(features)
        names = roles.inputs if like is None else like.feature_names
        return {"inputs": ArrayInputs(features if whole else features[rows]), "feature_names": names}, ()
    columns = [texts_of(table.column(name), place_in(reader, name)) for name in roles.inputs]
    # Only the texts that are kept become Python strings.
    first, *second = (column.take(pa.array(rows)).to_numpy() for column in columns)
    if not second:
        return {"inputs": TextInputs(first), "texts": first}, ()
    # What a person reads is a pair as one text.
    shown = np.array([f"{one} ‖ {other}" for one, other in zip(first, second[0], strict=True)], dtype=object)
    return {"inputs": TextInputs(first, second[0]), "texts": shown}, ()


def _of_folder(source: Source) -> Dataset:
    folder = read_folder(Path(source.path), side=source.image_size)
    ids = as_ids(folder.names)
    place = Place(source.path, lambda row: str(folder.names[row]))
    labels = labels_of(pa.chunked_array([pa.array(folder.labels)]), place, droppable=False)
    division = _divided(source, labels, folder.splits, ids, None, source.path)
    rows = division.rows
    pictures = folder.pictures.array if source.limit is None else folder.pictures.array[rows]
    return _assembled(
        source, division, labels, ids=ids[rows], names=folder.names[rows], inputs=ArrayInputs(pictures), images=pictures,
        notes=(*division.notes, *folder.pictures.notes),
    )  # fmt: skip


def _of_rows(source: Source, x: np.ndarray, y: np.ndarray, splits: np.ndarray | None, place: Place,
             feature_names: tuple[str, ...] | None = None) -> Dataset:  # fmt: skip
    ids = np.arange(len(x), dtype=np.int64)
    labels = labels_of(pa.chunked_array([pa.array(y)]), place, droppable=False)
    division = _divided(source, labels, splits, ids, None, source.path)
    rows = division.rows
    inputs = ArrayInputs(x if source.limit is None else x[rows])
    return _assembled(
        source, division, labels, ids=ids[rows], names=_written(ids[rows]), inputs=inputs,
        images=inputs.array if inputs.is_image else None, feature_names=feature_names, notes=division.notes,
    )  # fmt: skip


@dataclass(frozen=True)
class _Division:
    """The rows that the limit keeps, int64 [n]; of all rows the splits, str [N]; the task; and what was decided."""

    rows: np.ndarray
    splits: np.ndarray
    task: Literal["classification", "regression"]
    notes: tuple[str, ...]


def _divided(source: Source, labels: Labels, splits: np.ndarray | None, ids: np.ndarray, groups: np.ndarray | None,
             where: str) -> _Division:  # fmt: skip
    whole = groups is not None and (source.split_by == "group" or (source.split_by == "auto" and together(groups)))
    keys = groups if groups is not None and whole else ids
    assigned = divide(splits, keys, seed=source.seed, where=where)
    drawn = np.ones(len(ids), bool) if splits is None else _dev_drawn(splits, assigned)
    notes = []
    if groups is not None and drawn.any():
        why = (
            f"as one of them holds more than {100 * LARGE:.0f} % of the rows"
            if source.split_by == "auto"
            else "as asked"
        )
        notes.append("splits are drawn by group: no group is in two of them" if whole
                     else f"splits are drawn by id, not by group, {why}: a group can be in train, dev and test "
                          "(--split-by group keeps groups together)")  # fmt: skip
    task = settled(labels, assigned == "train", source.task)
    if task == "classification":
        assigned, moved = with_all_classes(assigned, drawn, labels.codes, keys)
        if moved.size:
            names = listed([str(labels.distinct[code]) for code in moved], 10)
            notes.append(f"no instance of {names} fell into train, so all of them were moved there")
    kept = np.arange(len(ids)) if source.limit is None else limited(assigned, ids, source.limit, seed=source.seed)
    return _Division(kept, assigned, task, tuple(notes))


def _dev_drawn(splits: np.ndarray, assigned: np.ndarray) -> np.ndarray:
    """bool [N]: training instances that a draw may have made dev; none where dev was given."""
    given = np.array([split_name(name) for name in splits], dtype=object)
    return (given == "train") & bool((given != assigned).any())


def _assembled(source: Source, division: _Division, labels: Labels, **columns: Any) -> Dataset:
    task, targets = targets_of(labels, division.splits == "train", division.task)
    targets, splits = targets[division.rows], division.splits[division.rows]
    kept = targets[splits == "train"]
    if task.kind == "classification" and len(np.unique(kept)) < 2:
        raise WhenceError("only one class is left in the training split", where=f"{source.path}, --limit",
                          got=f"{task.show(kept)[0]!r} in {len(kept)} instances",
                          expected="at least two classes",
                          mend="Raise --limit, or try another --split-seed.")  # fmt: skip
    return Dataset(targets=targets, task=task, splits=splits, **columns)


@dataclass(frozen=True)
class _Part:
    """Some rows (int64 [n]) of an open table, in order, which keep their places in the file."""

    reader: Reader
    rows: np.ndarray

    @property
    def path(self) -> Path:
        return self.reader.path

    @property
    def names(self) -> tuple[str, ...]:
        return self.reader.names

    def read(self, columns: Sequence[str], exact: Sequence[str] = ()) -> pa.Table:
        return self.reader.read(columns, exact).take(pa.array(self.rows))

    def place(self, row: int) -> str:
        return self.reader.place(int(self.rows[row]))


def _without_gaps(
    source: Source, table: pa.Table, roles: Roles, reader: Reader
) -> tuple[pa.Table, Reader, np.ndarray, tuple[str, ...]]:
    """The table, its reader, the numbers of its rows in the file from 0, and a note: without missing values if asked."""
    numbers = np.arange(table.num_rows, dtype=np.int64)
    if not source.drop_missing or not (gaps := lacking(table, roles)).any():
        return table, reader, numbers, ()
    if gaps.all():
        raise WhenceError("no row without a missing value", where=reader.path, got=f"{len(gaps):,} rows",
                          expected="rows with a label and inputs",
                          mend="Name other columns, or fill values in.")  # fmt: skip
    count = int(gaps.sum())
    note = f"{count:,} of {len(gaps):,} rows {'was' if count == 1 else 'were'} left out: label, text or a feature is missing"
    rows = numbers[~gaps]
    return table.take(pa.array(rows)), _Part(reader, rows), rows, (note,)


def _written(ids: np.ndarray) -> np.ndarray:
    """Names of rows that have none: their numbers in the file."""
    return ids.astype(str).astype(object)
