"""How well the model predicts: on training instances under each mask, and on instances it never saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from whence.auditing import Audit
from whence.data import Classification, Dataset, Regression
from whence.forward import Mask
from whence.run import Run
from whence.subnetworks import losses, probabilities

__all__ = ["Accuracy", "ClassRow", "Confusion", "Line", "measure"]

_MOST_CLASSES = 20
_TRAINING: tuple[tuple[Mask, str, str], ...] = (
    ("own", "training, own mask", "each instance by the sub-network that learned it"),
    (
        "flipped",
        "training, flipped mask",
        "each instance by the sub-network that did not learn it: close to unseen data when masks isolate",
    ),
    ("full", "training, full network", "all units at once, as the model is used"),
)
_UNSEEN = {"dev": "instances for validation, not trained on", "test": "instances held out to the end"}


@dataclass(frozen=True)
class Line:
    """One set of predictions.

    Attributes:
        name, note: what was predicted by what, and what that means.
        instances: how many.
        main: accuracy (share), or the root mean squared error in the user's units.
        second: mean loss, or R².
        low, high: the 95 % interval of a held-out accuracy over instances (Wilson 1927); else None.
    """

    name: str
    note: str
    instances: int
    main: float
    second: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ClassRow:
    """One class: training instances, how many of their labels are suspected, held-out predictions."""

    name: str
    train: int
    suspected: int
    recall: float | None
    precision: float | None


@dataclass(frozen=True)
class Confusion:
    """Counts [C, C] of held-out instances by given (row) and predicted class (column); shades 0 to 9."""

    split: str
    classes: list[str]
    counts: list[list[int]]
    shades: list[list[int]]


@dataclass(frozen=True)
class Accuracy:
    """Attributes:
    lines: training under own, flipped and full mask, then the other splits.
    classes: at most 20, for many classes those with the lowest recall; empty for a regression.
    all_classes: how many classes there are.
    confusion: for at most 20 classes with a held-out split; else None.
    split: the held-out split behind ``classes`` and ``confusion``; None without one.
    """

    lines: list[Line]
    classes: list[ClassRow]
    all_classes: int
    confusion: Confusion | None
    split: str | None

    def of(self, split: str) -> Line | None:
        """The line of a split."""
        return next((line for line in self.lines if line.name == split), None)


def measure(run: Run, audit: Audit) -> Accuracy:
    """Accuracy and loss of a classifier, or RMSE and R² of a regression, by split and mask."""
    lines = [_line(run, run.train, mask, name, note) for mask, name, note in _TRAINING]
    lines += [
        _line(run, data, "full", name, _UNSEEN.get(name, "a split of the data"))
        for name, data in run.splits.items()
        if name != "train"
    ]
    if not isinstance(run.task, Classification):
        return Accuracy(lines, [], 0, None, None)
    split = next((name for name in ("test", "dev") if name in run.splits), None)
    names = list(run.task.classes)
    counts = None if split is None else confusion_counts(run, run.splits[split])
    suspected = np.bincount(run.train.targets[audit.issues], minlength=len(names))
    train = np.bincount(run.train.targets, minlength=len(names))
    rows = [
        ClassRow(name, int(train[c]), int(suspected[c]), _share(counts, c, 1), _share(counts, c, 0))
        for c, name in enumerate(names)
    ]
    if len(rows) > _MOST_CLASSES:
        rows = sorted(rows, key=lambda row: (row.recall is None, row.recall))[:_MOST_CLASSES]
    confusion = None
    if counts is not None and split is not None and len(names) <= _MOST_CLASSES:
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        shades = np.where(counts > 0, np.clip(np.ceil(np.sqrt(shares) * 9), 1, 9), 0).astype(int)
        confusion = Confusion(split, names, counts.tolist(), shades.tolist())
    return Accuracy(lines, rows, len(names), confusion, split)


def confusion_counts(run: Run, data: Dataset) -> np.ndarray:
    """int64 [C, C]: how many instances of true class (row) are predicted as each class (column)."""
    classes = run.task.outputs
    predicted = probabilities(run, data).argmax(1)
    return np.bincount(data.targets * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def _line(run: Run, data: Dataset, mask: Mask, name: str, note: str) -> Line:
    predicted = probabilities(run, data, mask)
    if isinstance(run.task, Classification):
        right, loss = predicted.argmax(1) == data.targets, float(losses(run, mask, data).mean(dtype=np.float64))
        ends: tuple[float | None, float | None] = (None, None)
        if data is not run.train:
            ends = binomtest(int(right.sum()), len(data)).proportion_ci(method="wilson")
        return Line(name, note, len(data), float(right.mean()), loss, *ends)
    assert isinstance(run.task, Regression)  # there is no audit, and so no report, of texts without labels
    squares = np.square(predicted[:, 0].astype(np.float64) - data.targets)
    spread = np.square(data.targets - data.targets.mean(dtype=np.float64)).mean()
    r_squared = 1 - squares.mean() / spread if spread > 0 else float("nan")
    return Line(name, note, len(data), float(np.sqrt(squares.mean()) * run.task.scale), float(r_squared))


def _share(counts: np.ndarray | None, label: int, axis: int) -> float | None:
    """Recall (axis 1) or precision (axis 0) of a class; None without instances."""
    if counts is None:
        return None
    total = int(counts[label].sum() if axis == 1 else counts[:, label].sum())
    return float(counts[label, label] / total) if total else None
