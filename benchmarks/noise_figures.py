"""How far p_wrong is a probability: what benchmarks of label errors say of it."""

from __future__ import annotations

from typing import Any

import numpy as np

import whence
from whence.auditing import label_noise

__all__ = ["calibration", "calibration_error", "p_wrong"]


def p_wrong(run: whence.Run) -> np.ndarray:
    """float64 [N], as an audit finds it."""
    return label_noise(run).p_wrong


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
