"""How well suspicion finds wrong labels that are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from whence.arguments import numbers
from whence.errors import WhenceError

__all__ = ["MislabelAUC", "mislabel_auc"]


@dataclass(frozen=True)
class MislabelAUC:
    """Attributes:
    auc: the chance that a wrong label is suspected more than a right one: .5 is guessing, 1 perfect.
    average_precision: the mean, over wrong labels, of the share of wrong ones among those suspected as much or more.
    """

    auc: float
    average_precision: float

    def __float__(self) -> float:
        return self.auc


def mislabel_auc(suspicion: Any, wrong: Any) -> MislabelAUC:
    """Rank labels by suspicion, and compare with which of them are wrong.

    Args:
        suspicion: [N], larger where a label is trusted less.
        wrong: bool [N].

    Raises:
        WhenceError: lengths differ, suspicion is not finite, or all labels are right, or all wrong.
    """
    given, real = numbers(suspicion, "suspicion"), numbers(wrong, "wrong") != 0
    if given.shape != real.shape or given.ndim != 1 or not np.isfinite(given).all():
        raise WhenceError("not one finite suspicion per label", got=f"shape {given.shape}", expected=f"{real.shape}")
    if real.all() or not real.any():
        raise WhenceError("labels that are all right or all wrong", where="wrong", expected="some of each")
    return MislabelAUC(float(roc_auc_score(real, given)), float(average_precision_score(real, given)))
