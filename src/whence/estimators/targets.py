"""Which instances are scored on: a split, wrong predictions, or instances that are given."""

from __future__ import annotations

from typing import Any

import numpy as np

from whence.data import Dataset
from whence.errors import WhenceError
from whence.forward import predict
from whence.run import Run, probe

__all__ = ["candidates", "target_instances"]


def target_instances(run: Run, targets: Any) -> Dataset:
    """The dataset that a target's name stands for. "errors" asks the model."""
    data = candidates(run, targets)
    if not _are_errors(targets):
        return data
    wrong = predict(run.model, data).argmax(1) != data.targets
    if not wrong.any():
        split = _held_out(run)
        raise WhenceError(f"no wrong predictions in {split}", where="targets", mend=f"Name the split itself: {split}.")
    return data.select(np.flatnonzero(wrong))


def candidates(run: Run, targets: Any) -> Dataset:
    """The instances that targets are chosen from, without asking the model: for "errors" a whole split, else the targets."""
    if not _are_errors(targets):
        if isinstance(targets, str):
            return run.dataset(targets)
        given = Dataset.of(targets, task=run.task)
        probe(run.model, given)
        return given
    split = _held_out(run)
    if split is None:
        raise WhenceError("nothing held out to look for errors", where="targets", expected="a test or dev split")
    if run.task.kind != "classification":
        raise WhenceError(
            "errors are defined for classification only", where="targets", mend="Name a split, such as test."
        )
    return run.dataset(split)


def _are_errors(targets: Any) -> bool:
    return isinstance(targets, str) and targets == "errors"


def _held_out(run: Run) -> str | None:
    return next((name for name in ("test", "dev") if name in run.splits), None)
