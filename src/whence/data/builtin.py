"""Data sets that come with scikit-learn, so that examples and tests need no download."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["BUILTIN"]


def _digits() -> tuple[np.ndarray, np.ndarray, tuple[str, ...] | None]:
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    return np.rint(found.images * (255 / 16)).astype(np.uint8), found.target.astype(np.int64), None


def _diabetes() -> tuple[np.ndarray, np.ndarray, tuple[str, ...] | None]:
    from sklearn.datasets import load_diabetes

    found: Any = load_diabetes()
    names = tuple(map(str, found.feature_names))
    return found.data.astype(np.float32), found.target.astype(np.float64), names


BUILTIN: dict[str, Callable[[], tuple[np.ndarray, np.ndarray, tuple[str, ...] | None]]] = {
    "digits": _digits,
    "diabetes": _diabetes,
}
"""Inputs, labels and feature names by name.

digits: 1,797 handwritten digits, uint8 [N, 8, 8] from 0 to 255, classes 0 to 9.
diabetes: 442 patients, float32 [N, 10], centered and scaled by scikit-learn; progression after a year, 25 to
    346.
"""
