"""What a retrained model is worth on test, as numbers per instance whose mean it is.

Of a mean over instances (loss, accuracy) these are its terms. Of the area under the ROC curve they are its structural components
(DeLong, DeLong and Clarke-Pearson 1988): an instance of the class contributes the share of other instances that it is ranked
above, an instance of another class the share of the class that is ranked above it. So every measure varies over instances in a way
that can be counted, and all of them are compared alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata

from whence.data.tasks import Classification, Regression, Task
from whence.quantities import Quantity, quantity_named

__all__ = ["Measure", "measures_of", "per_instance"]


@dataclass(frozen=True)
class Measure:
    """One number that tells how good a model is.

    Attributes:
        name: of the measure; unit: of it, for people.
        better: +1 where larger is better, −1 where smaller is.
        ranks: whether it goes without a threshold between the classes, so that shifting one changes nothing.
        scale: what it is multiplied with to be shown.
    """

    name: str
    unit: str
    better: int
    ranks: bool = True
    scale: float = 1.0


def measures_of(task: Task, loss: Quantity) -> tuple[Measure, ...]:
    """What is measured of a task, that which the verdict goes by first."""
    first = Measure("loss", loss.unit, -1)
    if isinstance(task, Classification):
        return (
            first,
            Measure("AUC", "area under the ROC curve", 1),
            Measure("accuracy", "points", 1, ranks=False, scale=100),
        )
    if isinstance(task, Regression):
        return first, Measure("absolute_error", "training deviations", -1)
    return (first,)


def per_instance(task: Task, loss: Quantity, outputs: torch.Tensor, aims: torch.Tensor) -> dict[str, np.ndarray]:
    """Of each measure, float64 [M]: numbers whose mean is the measure of a model with these outputs [M, C].

    The AUC is the mean over classes, each against all others, that M instances have and not all of them.
    """
    found = {"loss": loss(outputs, aims).detach().double().numpy()}
    if isinstance(task, Classification):
        found["AUC"] = ranking_terms(outputs.detach().double().softmax(dim=1).numpy(), aims.numpy())
        found["accuracy"] = quantity_named("accuracy", task)(outputs, aims).double().numpy()
    elif isinstance(task, Regression):
        found["absolute_error"] = quantity_named("absolute_error", task)(outputs, aims).detach().double().numpy()
    return found


def ranking_terms(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64 [M], whose mean is the mean over classes of the AUC of each against the rest: NaN where there is one class only.

    Of a class with area A and share π, an instance of it gives A + (V − A)/π, V being the share of others ranked below it; one of
    another class A + (V − A)/(1 − π), V being the share of the class ranked above it. Ties count half.
    """
    counts = np.bincount(labels, minlength=scores.shape[1])
    classes = np.flatnonzero((counts > 0) & (counts < len(labels)))
    if not len(classes):
        return np.full(len(labels), np.nan)
    total = np.zeros(len(labels))
    for label in classes:
        inside, own = labels == label, scores[:, label]
        ranks = rankdata(own)
        n, m = int(counts[label]), int(len(labels) - counts[label])
        share = np.empty(len(labels))
        share[inside] = (ranks[inside] - rankdata(own[inside])) / m
        share[~inside] = 1 - (ranks[~inside] - rankdata(own[~inside])) / n
        area = share[inside].mean()
        total += area + (share - area) * len(labels) / np.where(inside, n, m)
    return total / len(classes)
