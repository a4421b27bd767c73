"""What people have at hand in Python, as the columns of a ``Dataset``; what could only fail later is refused now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from whence.data.inputs import ArrayInputs, Inputs, ItemInputs
from whence.data.tasks import Classification, LanguageModeling, Regression, Task
from whence.errors import WhenceError

__all__ = ["Given", "plain", "take", "targets_for"]

_MOST_CLASSES = 2**20
_AT_ONCE = 2**16  # rows that are looked through at a time


@dataclass(frozen=True)
class Given:
    """N instances as they were given: ids, inputs and targets [N], integers or floats."""

    ids: Any
    inputs: Inputs
    targets: np.ndarray


def take(data: Any) -> Given:
    """Instances from (ids, inputs, targets), or a map-style dataset whose items are such triples or dicts.

    Raises:
        WhenceError: it is neither; or ids, inputs or targets are of a kind that cannot be one.
    """
    if isinstance(data, tuple | list) and len(data) == 3 and not isinstance(data[0], tuple | dict):
        ids, inputs, targets = data
        return Given(_ids(ids), _inputs(inputs), _targets(targets))
    if isinstance(data, tuple) and data and not isinstance(data[0], tuple | dict):
        raise WhenceError("arrays without ids", where="the dataset", got=f"{len(data)} in a tuple",
                          expected="(ids, inputs, targets)", mend="Give the ids that examples were trained under.")  # fmt: skip
    if (
        isinstance(data, str | bytes | dict)
        or not all(hasattr(data, name) for name in ("__getitem__", "__len__"))
        or not len(data)
    ):
        raise WhenceError("not a dataset", got=type(data).__name__,
                          expected="a whence Dataset, (ids, inputs, targets), or a torch dataset that carries ids")  # fmt: skip
    keys: tuple[Any, Any, Any] = ("id", "inputs", "target") if isinstance(data[0], dict) else (0, 1, 2)
    ids, targets = [], []
    try:
        for item in (data[row] for row in range(len(data))):
            if isinstance(item, dict) and (lacked := [key for key in keys if key not in item]):
                raise WhenceError("an item without a key that is needed", where=f"item {len(ids)} of the dataset",
                                  got=f"keys {', '.join(map(str, item)) or 'none'}",
                                  expected=f"also {', '.join(map(str, lacked))}")  # fmt: skip
            ids.append(item[keys[0]])
            targets.append(item[keys[2]])
    except (KeyError, IndexError, TypeError) as error:
        raise WhenceError("items without an id", where="the dataset", got=type(data[0]).__name__,
                          expected="(id, inputs, target) or a dict with these keys") from error  # fmt: skip
    return Given(_ids(ids), ItemInputs(data, keys[1]), _targets(targets))


def targets_for(targets: np.ndarray, task: Task | None) -> tuple[Task, np.ndarray]:
    """The task of targets [N], and these as it wants them: int64 or float32 [N].

    Args:
        task: how to read them; by default integers are classes and floats numbers.

    Raises:
        WhenceError: a target that is no class, or no finite number.
    """
    if task is None:
        task = (
            Regression() if targets.dtype.kind == "f" else Classification(tuple(map(str, range(_classes_in(targets)))))
        )
    if isinstance(task, LanguageModeling):
        return task, np.zeros(len(targets), np.float32)
    if isinstance(task, Classification):
        bad = (targets < 0) | (targets >= len(task.classes)) | (targets != np.rint(targets))
        expected = f"an integer from 0 to {task.outputs - 1}"
    else:
        with np.errstate(over="ignore"):
            bad, expected = ~np.isfinite(targets.astype(np.float32)), "a finite number that float32 can hold"
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise WhenceError("a target that is no label", where=f"row {row}", got=targets[row], expected=expected)
    return task, targets.astype(np.int64 if isinstance(task, Classification) else np.float32)


def plain(value: Any) -> Any:
    """The number or text in a scalar of NumPy or torch; other things as they are."""
    return value.item() if hasattr(value, "item") and getattr(value, "size", 0) in (1, torch.Size([])) else value


def _ids(ids: Any) -> Any:
    if isinstance(ids, torch.Tensor):
        ids = ids.detach().cpu().numpy()
    if isinstance(ids, np.ndarray) and ids.ndim == 1:
        return list(ids) if ids.dtype == object else ids
    if not isinstance(ids, list | tuple | range):
        got = f"shape {list(ids.shape)}" if isinstance(ids, np.ndarray) else type(ids).__name__
        raise WhenceError("not a list of ids", where="the dataset", got=got, expected="one id per instance, [N]")
    return [plain(value) for value in ids]


def _inputs(inputs: Any) -> Inputs:
    if not hasattr(inputs, "shape"):
        if isinstance(inputs, str | bytes | dict) or not (
            hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__")
        ):
            raise WhenceError("not inputs", where="the dataset", got=type(inputs).__name__,
                              expected="an array or tensor [N, ...], or a list of N items")  # fmt: skip
        return ItemInputs(inputs)
    array = _array(inputs, "inputs")
    if array.ndim == 0 or array.dtype.kind not in "biufO":
        raise WhenceError("inputs that are not numbers", where="the dataset", got=f"shape {list(array.shape)} of {array.dtype}",
                          expected="integers or floats [N, ...]")  # fmt: skip
    rows = ArrayInputs(array)  # refuses objects
    for start in range(0, len(array) if array.dtype.kind == "f" else 0, _AT_ONCE):
        part = array[start : start + _AT_ONCE]
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(part.astype(np.float32, copy=False))  # what a model is fed
        if bad.any():
            row = start + int(np.argwhere(bad)[0][0])
            raise WhenceError("an input that is not a finite number", where=f"row {row}", got=part[bad][0],
                              expected="a number that float32 can hold", mend="Fill it in, or leave the row out.")  # fmt: skip
    return rows


def _targets(targets: Any) -> np.ndarray:
    array = _array([plain(value) for value in targets] if isinstance(targets, list | tuple) else targets, "targets")
    if array.dtype == object:  # of plain integers or floats, perhaps
        array = _array(array.tolist(), "targets")
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2) or array.shape[1:] not in ((), (1,)):
        raise WhenceError("targets that are neither classes nor numbers", where="the dataset",
                          got=f"shape {list(array.shape)} of {array.dtype}", expected="integers from 0, or floats, [N]",
                          mend="Number the classes from 0, one target per instance.")  # fmt: skip
    array = array.reshape(-1)
    return array.astype(np.int64) if array.dtype == bool else array


def _array(values: Any, what: str) -> np.ndarray:
    try:
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu()
            return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise WhenceError(f"{what} that make no array", where="the dataset", got=str(error).split("\n")[0],
                          expected="numbers of one shape")  from error  # fmt: skip


def _classes_in(labels: np.ndarray) -> int:
    """How many classes integer labels are of, at least."""
    if (largest := int(labels.max(initial=0))) >= _MOST_CLASSES:
        raise WhenceError("a target that is no label", where="the dataset", got=largest,
                          expected=f"an integer below {_MOST_CLASSES:,}",
                          mend="Number the classes from 0; to predict numbers, give floats.")  # fmt: skip
    return largest + 1
