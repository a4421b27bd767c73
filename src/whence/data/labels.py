"""A column of labels as a task and its targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from whence.data.columns import Place, is_text, missing_error, numbers_of, refuse_missing
from whence.data.tasks import Classification, Regression, Task
from whence.errors import WhenceError

__all__ = ["TASKS", "Labels", "TaskName", "labels_of", "settled", "targets_like", "targets_of"]

TaskName: TypeAlias = Literal["auto", "classification", "regression"]
TASKS: tuple[TaskName, ...] = ("auto", "classification", "regression")


@dataclass(frozen=True)
class Labels:
    """Labels as they were read.

    Attributes:
        kind: "words", "integers" or "numbers" (not all integers).
        distinct: the K different labels, sorted: numbers by value, words by code point.
        codes: int64 [N], the position of each label in ``distinct``.
        place: where a person finds the label of a row.
    """

    kind: Literal["words", "integers", "numbers"]
    distinct: Sequence[Any]
    codes: np.ndarray
    place: Place


def labels_of(column: pa.ChunkedArray, place: Place, *, droppable: bool = True) -> Labels:
    """A column as labels. Text that is a number in every row is one, unless it is padded like "01".

    Args:
        droppable: rows without a label may be left out with --drop-missing.

    Raises:
        WhenceError: a label is missing, NaN or infinite, or is a list, an object or a date.
    """
    kind = column.type
    if pa.types.is_boolean(kind):
        column, kind = pc.cast(column, pa.large_string()), pa.large_string()
    if pa.types.is_integer(kind) and column.null_count == 0:
        distinct, codes = np.unique(column.to_numpy(), return_inverse=True)
        return Labels("integers", distinct.tolist(), codes.astype(np.int64), place)
    words = is_text(kind) and (
        pc.all(pc.is_in(pc.utf8_lower(column), value_set=_TRUTH)).as_py()
        or pc.any(pc.match_substring_regex(column, "^0[0-9]+$")).as_py())  # fmt: skip
    numbers = None if words else numbers_of(column)
    if numbers is not None:
        if not np.isfinite(numbers).all():
            gaps = np.isnan(numbers)
            row = int(np.flatnonzero(~np.isfinite(numbers))[0])
            if gaps[row]:
                raise missing_error("a missing or infinite label", gaps, place, droppable=droppable, got=repr(column[row].as_py()),
                                    expected="a number, as in other rows")  # fmt: skip
            raise WhenceError("a missing or infinite label", where=place(row), got=repr(column[row].as_py()),
                              expected="a number, as in other rows",
                              mend="Fill it in, or remove the row.")  # fmt: skip
        distinct, codes = np.unique(numbers, return_inverse=True)
        whole = bool(np.all(distinct == np.rint(distinct)) and np.abs(distinct).max() < 2**53)
        if whole:
            return Labels("integers", distinct.astype(np.int64).tolist(), codes.astype(np.int64), place)
        return Labels("numbers", distinct.tolist(), codes.astype(np.int64), place)
    if not is_text(kind):
        raise WhenceError("not a label", where=place.column, got=str(kind),
                          expected="text, integers, numbers or true and false")  # fmt: skip
    refuse_missing(column, place, droppable=droppable)
    found = pc.unique(column)
    order = np.argsort(np.array(found.to_pylist(), dtype=object), kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    codes = rank[pc.index_in(column, value_set=found).to_numpy()]
    return Labels("words", [found[int(position)].as_py() for position in order], codes, place)


_FEWEST_REPEATS = 10  # training instances of which two share a class
_TRUTH = pa.array(["true", "false"], pa.large_string())


def settled(labels: Labels, train: np.ndarray, task: TaskName = "auto") -> Literal["classification", "regression"]:
    """What task the labels are for.

    With task "auto", words are classes, and so are integers that take at most two values in the training
    split, or at most max(20, √N) with two instances each on average, for N training instances. All else is
    regression.

    Args:
        labels, train, task: as for ``targets_of``.

    Raises:
        WhenceError: words of which none repeats among ten training instances or more, such as ids.
    """
    if task != "auto":
        return task
    count, rows = len(np.unique(labels.codes[train])), int(train.sum())
    few = count <= 2 or (count <= max(20, rows**0.5) and 2 * count <= rows)
    classes = labels.kind == "words" or (labels.kind == "integers" and few)
    if classes and count == rows >= _FEWEST_REPEATS:
        raise WhenceError("a class of its own for every training instance", where=labels.place.column,
                          got=f"{rows:,} classes", expected="classes that repeat",
                          mend="Name another column, or say --task classification if this is meant.")  # fmt: skip
    return "classification" if classes else "regression"


def targets_of(labels: Labels, train: np.ndarray, task: TaskName = "auto") -> tuple[Task, np.ndarray]:
    """The task, and int64 [N] classes or float32 [N] standardized numbers.

    Args:
        labels: of N instances.
        train: bool [N], the training split; classes, mean and scale are taken from there.
        task: "auto" (see ``settled``), "classification" or "regression".

    Raises:
        WhenceError: the labels do not fit the task, fewer than two classes, a class that occurs in another
            split only, or a constant number; or as ``settled``.
    """
    if settled(labels, train, task) == "classification":
        return _classes(labels, np.unique(labels.codes[train]))
    if labels.kind == "words":
        row = 0
        raise WhenceError("a label that is not a number", where=labels.place(row),
                          got=repr(labels.distinct[labels.codes[row]]),
                          expected="numbers for --task regression",
                          mend="Use --task classification, or name another column.")  # fmt: skip
    return _numbers(labels, train)


def targets_like(labels: Labels, task: Task) -> np.ndarray:
    """Labels of further instances as targets of a task that is settled: int64 [N] classes or float32 [N] numbers.

    Raises:
        WhenceError: a label that the task does not have, or that is not a number.
    """
    if isinstance(task, Regression):
        if labels.kind == "words":
            raise WhenceError("a label that is not a number", where=labels.place(0),
                              got=repr(labels.distinct[labels.codes[0]]), expected="a number")  # fmt: skip
        values = np.array(labels.distinct, np.float64)[labels.codes]
        return ((values - task.mean) / task.scale).astype(np.float32)
    assert isinstance(task, Classification)  # tables have labels
    position = {name: number for number, name in enumerate(task.classes)}
    found = np.array([position.get(str(label), -1) for label in labels.distinct], np.int64)
    targets: np.ndarray = found[labels.codes]
    if (targets < 0).any():
        row = int(np.flatnonzero(targets < 0)[0])
        raise WhenceError("unknown label", where=labels.place(row), got=repr(str(labels.distinct[labels.codes[row]])),
                          expected=f"a label of the training split: {', '.join(task.classes[:10])}")  # fmt: skip
    return targets


def _classes(labels: Labels, present: np.ndarray) -> tuple[Task, np.ndarray]:
    names = [str(labels.distinct[code]) for code in present]
    if len(present) < 2:
        raise WhenceError("only one class in the training split",
                          where=labels.place.column, got=repr(names[0]),
                          expected="at least two", mend="Check the labels.")  # fmt: skip
    position = np.full(len(labels.distinct), -1, np.int64)
    position[present] = np.arange(len(present))
    targets = position[labels.codes]
    if (targets < 0).any():
        row = int(np.flatnonzero(targets < 0)[0])
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        raise WhenceError("unknown label", where=labels.place(row),
                          got=repr(str(labels.distinct[labels.codes[row]])),
                          expected=f"a label of the training split: {shown}",
                          mend="Mend the label, or add training instances that have it.")  # fmt: skip
    return Classification(tuple(names)), targets


def _numbers(labels: Labels, train: np.ndarray) -> tuple[Task, np.ndarray]:
    values = np.array(labels.distinct, np.float64)[labels.codes]
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = float(values[train].mean()), float(values[train].std())
        targets = ((values - mean) / (scale or 1.0)).astype(np.float32)
    # The deviation of equal numbers need not be exactly zero, so that is asked of the labels themselves.
    if len(np.unique(values[train])) < 2 or scale == 0:
        raise WhenceError("a label that is constant in the training split",
                          where=labels.place.column,
                          got=f"{values[train][0]:.6g} in every row", expected="numbers that differ",
                          mend="Check the label column.")  # fmt: skip
    if not np.isfinite(targets).all() or not np.isfinite(scale):
        row = int(np.abs(values).argmax())
        raise WhenceError("a label too large to standardize", where=labels.place(row),
                          got=f"{values[row]:.6g}")  # fmt: skip
    return Regression(mean, scale), targets
