"""What benchmarks of label errors say of a ranking, and how far p_wrong is a probability."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

import whence
from whence.auditing import label_noise
from whence.options import TrainingOptions
from whence.subnetworks import probabilities

__all__ = ["MOMENTS", "calibration", "calibration_error", "figures_of", "p_wrong", "seconds_of_looks"]

MOMENTS = TrainingOptions().dynamics  # at which a run that is audited has looked; models of folds have not


def p_wrong(run: whence.Run) -> np.ndarray:
    """float64 [N], as an audit finds it."""
    return label_noise(run).p_wrong


def seconds_of_looks(run: whence.Run) -> float:
    """Processor time that a training spent on its dynamics, from one more pass like those."""
    began = time.process_time()
    probabilities(run, mask="flipped")
    return run.dynamics.moments * (time.process_time() - began)


def figures_of(suspicion: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """How well suspicion [N] ranks errors, bool [N]."""
    first = np.argsort(-suspicion, kind="stable")[: max(1, len(suspicion) // 100)]
    return {"AUC": float(roc_auc_score(wrong, suspicion)), "AP": float(average_precision_score(wrong, suspicion)),
            "top 1 %": float(wrong[first].mean())}  # fmt: skip


def calibration(suspicion: np.ndarray, raw: np.ndarray, wrong: np.ndarray) -> dict[str, Any]:
    """The expected number of errors, calibration errors of p_wrong and of what it is made from, and what is above one half.

    Args:
        suspicion: p_wrong [N]. raw: 1 − the label's probability, out of sample, [N]. wrong: bool [N].
    """
    suspected = suspicion > 0.5
    return {
        "expected": float(suspicion.sum()),
        "calibration error": calibration_error(suspicion, wrong),
        "calibration error of out of sample": calibration_error(raw, wrong),
        "suspected": int(suspected.sum()),
        "precision": float(wrong[suspected].mean()) if suspected.any() else float("nan"),
        "recall": float(wrong[suspected].sum() / max(wrong.sum(), 1)),
    }


def calibration_error(suspicion: np.ndarray, wrong: np.ndarray) -> float:
    """The mean distance of suspicion from the share of wrong labels, over ten bins of suspicion."""
    bins = np.minimum((10 * suspicion).astype(int), 9)
    gaps = [abs(suspicion[bins == b].mean() - wrong[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(sum(gaps))
