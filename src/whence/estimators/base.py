"""What all estimators share: the rows they score, and the shape of an estimator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import nn

from whence.data import Dataset
from whence.scores import Labels

__all__ = ["Estimator", "MaskRows", "frozen", "instance_rows", "mask_rows"]


class Estimator(Protocol):
    """Prepared for one run and one set of targets; gives scores block by block."""

    rows: Labels
    level: str  # "instance" or "group"
    unit: str

    def block(self, start: int, stop: int) -> np.ndarray:
        """Scores of rows start … stop − 1: float32 [stop − start, M]."""
        ...

    def null(self, count: int, seed: int) -> np.ndarray | None:
        """Scores [count, M] of masks that were never trained on; None for a method without masks."""
        ...


@dataclass(frozen=True)
class MaskRows:
    """The rows of a method that scores masks: one per instance, or one per group."""

    labels: Labels
    level: str


def mask_rows(data: Dataset) -> MaskRows:
    """One row per distinct mask id, in order of first appearance."""
    if data.groups is None:
        return MaskRows(instance_rows(data), "instance")
    _, first = np.unique(data.groups, return_index=True)
    rows = np.sort(first)
    names = data.groups if data.group_names is None else data.group_names
    return MaskRows(Labels(data.groups[rows], [str(names[row]) for row in rows]), "group")


def instance_rows(data: Dataset) -> Labels:
    """One row per instance."""
    names = [data.name_of(row) for row in range(len(data))]
    if data.groups is None:
        return Labels(data.ids, names)
    given = data.groups if data.group_names is None else data.group_names
    return Labels(data.ids, names, data.groups, [str(name) for name in given])


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter asks for gradients while the block lasts."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
