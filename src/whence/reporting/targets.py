"""Which predictions a report explains, in which order, and what their scores are called on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from whence.data import Classification, Dataset
from whence.estimators.dispatch import target_instances
from whence.fingerprints import digest
from whence.run import Run
from whence.subnetworks import losses, probabilities

__all__ = ["Choice", "choose_targets", "score_name"]

Kind: TypeAlias = Literal["errors", "least_confident", "largest_errors", "given", "none"]
_LEAST_CONFIDENT = 12


@dataclass(frozen=True)
class Choice:
    """The targets that are explained.

    Attributes:
        kind: why these.
        split: the split they come from, or "given".
        data: M instances, in the order of the report; None where nothing is held out.
        found: how many there are of this kind, of which M are explained.
        among: how many instances were looked at.
    """

    kind: Kind
    split: str
    data: Dataset | None
    found: int
    among: int

    def __len__(self) -> int:
        return 0 if self.data is None else len(self.data)


def choose_targets(run: Run, targets: Any = "errors", limit: int = 50) -> Choice:
    """The predictions to explain.

    Args:
        targets: "errors": wrong predictions of the test split, else of dev, the most confident first; the
            largest errors of a regression; the least confident where none is wrong. Or a split's name, a
            ``Dataset``, or (ids, inputs, targets): those of the largest loss first.
        limit: at most so many.
    """
    if not (isinstance(targets, str) and targets == "errors"):
        data = target_instances(run, targets)
        order = np.argsort(-losses(run, "full", data), kind="stable")
        return _choice("given", targets if isinstance(targets, str) else "given", data, order, limit)
    split = next((name for name in ("test", "dev") if name in run.splits), None)
    if split is None:
        return Choice("none", "", None, 0, 0)
    data = run.splits[split]
    predicted = probabilities(run, data)  # [M, C]
    if not isinstance(run.task, Classification):
        order = np.argsort(-np.abs(predicted[:, 0] - data.targets), kind="stable")
        return _choice("largest_errors", split, data, order, limit)
    confident = predicted.max(1)
    wrong = np.flatnonzero(predicted.argmax(1) != data.targets)
    if len(wrong):
        return _choice("errors", split, data, wrong[np.argsort(-confident[wrong], kind="stable")], limit)
    return _choice("least_confident", split, data, np.argsort(confident, kind="stable"), min(limit, _LEAST_CONFIDENT))


def score_name(run: Run, targets: Dataset, purpose: str) -> str:
    """What scores of a report are called in the run's directory; other weights or targets, other name."""
    return f"report-{purpose}-{digest(run.fingerprint(), targets.fingerprint())[:8]}"


def _choice(kind: Kind, split: str, data: Dataset, order: np.ndarray, limit: int) -> Choice:
    return Choice(kind, split, data.select(order[:limit]), len(order), len(data))
