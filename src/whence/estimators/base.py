"""What all estimators share: the rows they score, and the shape of an estimator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from torch import nn

from whence.data import Dataset
from whence.errors import WhenceError
from whence.scores import Labels

__all__ = ["Estimator", "Grouped", "MaskRows", "at_level", "cholesky", "frozen", "instance_rows", "mask_rows"]

_MEMBERS_AT_ONCE = 4096


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


class InstanceEstimator(Estimator, Protocol):
    """An estimator of instances that can be asked for any of them."""

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Scores of training rows int64 [R]: float32 [R, M]."""
        ...


class Grouped:
    """Groups in place of instances: sums over members, which is what the removal of all of them does to first order.

    Args:
        members: an estimator of instances that takes any rows.
    """

    level = "group"

    def __init__(self, members: InstanceEstimator) -> None:
        labels = members.rows
        assert labels.groups is not None and labels.group_names is not None
        self.members, self.unit = members, members.unit
        _, first, inverse = np.unique(labels.groups, return_index=True, return_inverse=True)
        order = np.argsort(first)
        self.rows = Labels(labels.groups[first[order]], [labels.group_names[row] for row in first[order]])
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        self.group_of = place[inverse]

    def block(self, start: int, stop: int) -> np.ndarray:
        total: np.ndarray | None = None
        rows = np.flatnonzero((self.group_of >= start) & (self.group_of < stop))
        for begin in range(0, len(rows), _MEMBERS_AT_ONCE):
            some = rows[begin : begin + _MEMBERS_AT_ONCE]
            scores = self.members.of_rows(some)
            total = np.zeros((stop - start, scores.shape[1])) if total is None else total
            np.add.at(total, self.group_of[some] - start, scores)
        assert total is not None  # every group has a member
        return total.astype(np.float32)

    def null(self, count: int, seed: int) -> None:
        return None


def at_level(estimator: Estimator, level: str) -> Estimator:
    """The estimator, with rows of the level that is asked for.

    Raises:
        WhenceError: groups of a run that has none; instances of a method whose masks belong to groups.
    """
    if level in ("auto", estimator.level):
        return estimator
    if level == "instance":
        raise WhenceError("scores of instances by masks that belong to groups", where="level", got=level,
                          mend="Ask for level group, or for method kernel or kronecker.")  # fmt: skip
    if estimator.rows.groups is None:
        raise WhenceError("groups of a run that has none", where="level", got=level, mend="Fit with groups, or sum scores with "
                          "scores.for_groups(groups).")  # fmt: skip
    return Grouped(cast(InstanceEstimator, estimator))


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


def cholesky(matrix: torch.Tensor) -> torch.Tensor:
    """The factor of a positive matrix, of which as little is added to the diagonal as rounding makes necessary."""
    scale = matrix.diagonal().mean().clamp_min(1e-12)
    for digits in range(7, 0, -1):
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if not failed:
            return factor
        matrix = matrix + 10.0**-digits * scale * torch.eye(len(matrix), dtype=matrix.dtype)
    return torch.linalg.cholesky(matrix)
