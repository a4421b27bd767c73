"""What a retrained model is worth on test, as numbers per instance whose mean it is.

Of a mean over instances (loss, accuracy) these are its terms. Of the area under the ROC curve they are its structural components
(DeLong, DeLong and Clarke-Pearson 1988): an instance of the class contributes the share of other instances that it is ranked
above, an instance of another class the share of the class that is ranked above it. So every measure varies over instances in a way
that can be counted, and all of them are compared alike. A class of which test has few instances would seem to vary less than it
does, so only those of at least ten count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata

from whence.data.tasks import Classification, Regression, Task
from whence.quantities import Quantity, quantity_named

__all__ = ["Measure", "measures_of", "per_instance"]


_FEWEST = 10  # instances of a class, and of the others


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

    The AUC is the mean over classes, each against all others, that at least ten of M instances have and ten have not; NaN without.
    """
    found = {"loss": loss(outputs, aims).detach().double().numpy()}
    if isinstance(task, Classification):
        found["AUC"] = ranking_terms(outputs.detach().double().softmax(dim=1).numpy(), aims.numpy())
        found["accuracy"] = quantity_named("accuracy", task)(outputs, aims).double().numpy()
    elif isinstance(task, Regression):
        found["absolute_error"] = quantity_named("absolute_error", task)(outputs, aims).detach().double().numpy()
    return found


def ranking_terms(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64 [M], whose mean is the mean over classes of the AUC of each against the rest: NaN where no class has enough of them.

    Of a class with area A that n instances have and m have not, one of the n gives A + (V − A)·M/n, V being the share of the m
    ranked below it; one of the m A + (V − A)·M/m, V being the share of the n ranked above it. Ties count half. Deviations are
    enlarged by √(n/(n − 1)) and √(m/(m − 1)), since they are from means of their own.
    """
    counts = np.bincount(labels, minlength=scores.shape[1])
    classes = np.flatnonzero((counts >= _FEWEST) & (counts <= len(labels) - _FEWEST))
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
        total += area + (share - area) * len(labels) / np.where(inside, np.sqrt(n * (n - 1)), np.sqrt(m * (m - 1)))
    return total / len(classes)
