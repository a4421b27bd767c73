"""What all estimators share: the rows they score, and the shape of an estimator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias, cast

import numpy as np
import torch
from torch import nn

from whence.data import Dataset
from whence.errors import WhenceError
from whence.run import Run
from whence.scores import Labels

__all__ = ["ROUND", "Estimator", "Grouped", "InstanceEstimator", "MaskEstimator", "Method", "Precision", "Rows", "at_level",
           "at_rows", "cholesky", "distinct_masks", "dtype_named", "evenly", "frozen", "instance_rows", "many_at_stake",
           "mask_rows", "round_up", "rounded"]  # fmt: skip

Precision: TypeAlias = Literal["float32", "bfloat16"]

ROUND = 16  # columns
_MEMBERS_AT_ONCE = 4096
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def dtype_named(precision: str, where: str) -> torch.dtype:
    """Raises:
    WhenceError: no such precision.
    """
    if precision not in _DTYPES:
        raise WhenceError("no such precision", where=where, got=repr(precision), expected=" or ".join(_DTYPES))
    return _DTYPES[precision]


def evenly(count: int, most: int) -> np.ndarray:
    """Positions of at most so many of ``count`` things, spread evenly over them, the first and the last among them: int64."""
    found: np.ndarray = np.linspace(0, count - 1, min(count, most)).astype(np.int64)
    return found


def many_at_stake(run: Run) -> int:
    """Of methods that make a billion scores in seconds."""
    return 2**30


@dataclass(frozen=True)
class Rows:
    """What is scored.

    Attributes:
        labels: of the N rows; instances come with their groups, where there are groups.
        level: "instance" or "group".
        masks: whether a row is a mask, so that masks never trained on are its null.
    """

    labels: Labels
    level: str
    masks: bool


class Method(Protocol):
    """The class of an estimator. Making one is the expensive part; what its scores are is known before.

    Attributes:
        version: of its numbers. Raise it when the same run, targets and options give other numbers, in whatever file the
            change is: stored scores of another version are refused.
        at_once: how many scores it is asked for at once.
    """

    version: int
    at_once: int

    @property
    def rows_of(self) -> Callable[[Dataset], Rows]:
        """Training instances → the rows that it scores."""
        ...

    def at_stake(self, run: Run) -> int:
        """How many scores of a run an interruption may lose, where only summaries of blocks are kept: seconds of work, or minutes
        where each score takes passes through the model. Each block finds extremes of its own, so few blocks are less work."""
        ...

    def __call__(self, *args: Any, **options: Any) -> Estimator:
        """(run, targets, quantity), and options of the method's own by name."""
        ...


class Estimator(Protocol):
    """Prepared for one run and one set of targets; gives scores block by block."""

    def block(self, start: int, stop: int) -> np.ndarray:
        """Scores of rows start … stop − 1: float32 [stop − start, M]."""
        ...


class MaskEstimator(Estimator, Protocol):
    """An estimator whose rows are masks."""

    def null(self, count: int, seed: int) -> np.ndarray:
        """Scores [count, M] of masks that were never trained on."""
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
        groups: int64 [N], the group of each instance; groups are numbered in order of first appearance.
    """

    def __init__(self, members: InstanceEstimator, groups: np.ndarray) -> None:
        self.members = members
        _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
        place = np.empty_like(first)
        place[np.argsort(first)] = np.arange(len(first))
        self.group_of = place[inverse]

    def block(self, start: int, stop: int) -> np.ndarray:
        return self.of_rows(np.arange(start, stop))

    def of_rows(self, groups: np.ndarray) -> np.ndarray:
        place = np.full(self.group_of.max() + 1, -1)
        place[groups] = np.arange(len(groups))
        total: np.ndarray | None = None
        rows = np.flatnonzero(place[self.group_of] >= 0)
        for begin in range(0, len(rows), _MEMBERS_AT_ONCE):
            some = rows[begin : begin + _MEMBERS_AT_ONCE]
            scores = self.members.of_rows(some)
            total = np.zeros((len(groups), scores.shape[1])) if total is None else total
            np.add.at(total, place[self.group_of[some]], scores)
        assert total is not None  # every group has a member
        return total.astype(np.float32)


def at_level(rows: Rows, level: str) -> Rows:
    """The rows of the level that is asked for, where a method has these.

    Raises:
        WhenceError: groups of a run that has none; instances of a method whose masks belong to groups.
    """
    if level in ("auto", rows.level):
        return rows
    if level == "instance":
        raise WhenceError("scores of instances by masks that belong to groups", where="level", got=level,
                          mend="Ask for level group, or for method kernel or kronecker.")  # fmt: skip
    groups, names = rows.labels.groups, rows.labels.group_names
    if groups is None or names is None:
        raise WhenceError("groups of a run that has none", where="level", got=level, mend="Fit with groups, or sum scores with "
                          "scores.for_groups(groups).")  # fmt: skip
    return Rows(_one_per_group(groups, names), "group", masks=False)


def at_rows(estimator: Estimator, members: Rows, rows: Rows) -> Any:
    """An estimator of the rows that are asked for, from that of the rows that its method scores."""
    if rows is members:
        return estimator
    groups = members.labels.groups
    assert groups is not None  # or there were no such rows
    return Grouped(cast(InstanceEstimator, estimator), groups)


def distinct_masks(data: Dataset) -> np.ndarray:
    """int64 [N]: whose masks are scored: the ids, or the groups in order of first appearance."""
    return data.ids if data.groups is None else data.groups[_firsts(data.groups)]


def mask_rows(data: Dataset) -> Rows:
    """One row per distinct mask id, in order of first appearance."""
    if data.groups is None:
        return replace(instance_rows(data), masks=True)
    names = data.groups if data.group_names is None else data.group_names
    return Rows(_one_per_group(data.groups, names), "group", masks=True)


def instance_rows(data: Dataset) -> Rows:
    """One row per instance."""
    if data.groups is None:
        return Rows(Labels(data.ids, data.all_names()), "instance", masks=False)
    given = data.groups if data.group_names is None else data.group_names
    labels = Labels(data.ids, data.all_names(), data.groups, [str(name) for name in given])
    return Rows(labels, "instance", masks=False)


def _one_per_group(groups: np.ndarray, names: Any) -> Labels:
    first = _firsts(groups)
    return Labels(groups[first], [str(names[row]) for row in first])


def _firsts(groups: np.ndarray) -> np.ndarray:
    """Where each group appears for the first time, ascending."""
    return np.sort(np.unique(groups, return_index=True)[1])


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


def round_up(columns: int) -> int:
    """The next multiple of ROUND: products of another number of columns take longer."""
    return columns + -columns % ROUND


def rounded(matrix: torch.Tensor) -> torch.Tensor:
    """[R, K], with columns of zeros up to a number that is multiplied fast."""
    more = round_up(matrix.shape[1]) - matrix.shape[1]
    return nn.functional.pad(matrix, (0, more)) if more else matrix


def cholesky(matrix: torch.Tensor) -> torch.Tensor:
    """The factor of a positive matrix, of which as little is added to the diagonal as rounding makes necessary.

    Raises:
        WhenceError: nothing helps: numbers in it are too large, or not finite.
    """
    scale = matrix.diagonal().mean().clamp_min(1e-12)
    for digits in range(7, 0, -1):
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if not failed:
            return factor
        matrix = matrix + 10.0**-digits * scale * torch.eye(len(matrix), dtype=matrix.dtype)
    raise WhenceError("numbers too far apart for their products", where="what the layers read",
                      got=f"a mean square of {float(scale):.3g}", mend="Scale the inputs to about 1, and fit again.")  # fmt: skip
