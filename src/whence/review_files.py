"""A review on disk: what was drawn in review.safetensors, and a table for people to fill in, review.csv.

The table is the user's: each audit reads it again, and only who asks for a review writes it. Its answers stay when more labels are
drawn, and when another run with the same training instances and labels takes the place of the run.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from whence.data import Dataset
from whence.data.copies import inert
from whence.data.tables import open_table, read_columns
from whence.errors import WhenceError
from whence.reviewing import OPEN, Review, of_labels
from whence.rundir import RunDirectory
from whence.whole_files import write_aside

__all__ = ["DRAWN", "FORM", "put_review", "read_review"]

FORM = "review.csv"
DRAWN = "review.safetensors"
_AWAY = f"Move {FORM} and {DRAWN} elsewhere to have another review drawn."


def put_review(directory: RunDirectory, review: Review) -> Path:
    """Write both files, each whole or absent; the table's path. Columns that its user added to the table stay."""
    path = directory.place(FORM)
    if path.exists() and not directory.has(DRAWN):
        raise WhenceError("a table of a review whose draw is lost", where=str(path), expected=f"{DRAWN} beside it",
                          mend=_AWAY)  # fmt: skip
    if len({inert(name, path) for name in review.names()}) < len(review):
        raise WhenceError(
            "ids that look alike in a table", where=str(path), expected="an id of its own for each instance"
        )
    rows = [{name: inert(cell, path) for name, cell in row.items()} for row in review.table().to_pylist()]
    remarks = _remarks(path, set(rows[0]))
    tensors = {"sizes": torch.from_numpy(review.sizes), "order": torch.from_numpy(review.order)}
    directory.write_tensors(DRAWN, tensors, {"labels": of_labels(review.train), "count": str(len(review))})
    with write_aside(path, parents=False) as aside, open(aside, "w", encoding="utf-8", newline="") as file:
        added = list(dict.fromkeys(name for each in remarks.values() for name in each))
        lines = csv.DictWriter(file, [*rows[0], *added], restval="")
        lines.writeheader()
        lines.writerows(row | remarks.get(row["id"], {}) for row in rows)
    return path


def _remarks(path: Path, ours: set[str]) -> dict[str, dict[str, str]]:
    """What a table's user has written in other columns than ours: id → column → text."""
    if not path.exists():
        return {}
    reader = open_table(path)
    added = [name for name in reader.names if name not in ours]
    if not added or "id" not in reader.names:
        return {}
    return {row.pop("id"): row for row in read_columns(reader, ["id", *added]).to_pylist()}


def read_review(directory: RunDirectory, train: Dataset) -> Review | None:
    """What was drawn, with the answers that the table has; None where nothing was drawn.

    Raises:
        WhenceError: it was drawn of other training labels; a file is damaged; an answer is no class, or of an instance that was
            not drawn.
    """
    if not directory.has(DRAWN):
        return None
    tensors, about = directory.read_tensors(DRAWN)
    sizes, order = (tensors.get(name, torch.empty(0)) for name in ("sizes", "order"))
    labels, count = (about.get(name, "") for name in ("labels", "count"))
    number = int(count) if count.isascii() and count.isdigit() and len(count) < 12 else 0
    if (
        sizes.dtype != torch.float64
        or order.dtype != torch.int64
        or sizes.shape != (len(order),)
        or not bool((torch.isfinite(sizes) & (sizes > 0)).all())
        or not torch.equal(order.sort().values, torch.arange(len(order)))
        or not labels
        or not 0 < number <= len(order)
    ):
        raise directory.damaged(
            DRAWN, "something else", "sizes and order of instances, whose labels they are, and a count"
        )
    if labels != of_labels(train):
        raise WhenceError("a review of other labels", where=str(directory.path / DRAWN), got="other instances, or labels",
                          expected="those that the run was trained on", mend=_AWAY)  # fmt: skip
    review = Review(train, sizes.numpy(), order.numpy(), np.full(number, OPEN))
    return review.answered(_answers(directory.place(FORM), review)) if directory.has(FORM) else review


def _answers(path: Path, review: Review) -> dict[str, str]:
    """What the table says: id → right label."""
    reader = open_table(path)
    if lost := [name for name in ("id", "right_label") if name not in reader.names]:
        raise WhenceError(f"no column {lost[0]!r}", where=path, got=", ".join(reader.names)[:200],
                          expected="the columns that it was written with, separated by commas")  # fmt: skip
    names, labels = _written(review.names(), path), _written(review.known(), path)
    found: dict[str, str] = {}
    table = read_columns(reader, ["id", "right_label"])
    for row, (name, label) in enumerate(zip(*(column.to_pylist() for column in table.columns), strict=True)):
        where = f"{path}, {reader.place(row)}"
        if not name.strip() and not label.strip():
            continue  # spreadsheets leave such rows
        if name not in names:
            raise WhenceError("an id that is not among those to review", where=where, got=repr(name[:60]),
                              expected="the ids that it was written with, all of their digits",
                              mend="Take the row out: labels that were chosen otherwise say nothing of the others.")  # fmt: skip
        known = labels.get(label, labels.get(label.strip()))
        if known is None:
            raise WhenceError(
                "a right label that is no class", where=where, got=repr(label[:60]), expected=review.expected()
            )
        if found.setdefault(names[name], known) != known:
            raise WhenceError("two answers for one id", where=where, got=f"{known!r} after {found[names[name]]!r}",
                              expected="one row per id")  # fmt: skip
    return found


def _written(texts: Iterable[str], path: Path) -> dict[str, str]:
    """How a table may hold each of some texts → the text: as it is, or with an apostrophe against formulas."""
    ways: tuple[Callable[[str], str], ...] = (lambda text: f"'{text}", lambda text: inert(text, path), str)
    return {way(text): text for way in ways for text in texts}
