"""Numbers that are given as arguments: of the right kind and in their range, or refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from whence.errors import WhenceError

__all__ = ["is_number", "whole"]


def whole(value: Any, where: str, *, low: int = 1, high: int = 2**63 - 1) -> int:
    """An integer from ``low`` to ``high``; those of NumPy count, truth values do not.

    Raises:
        WhenceError: it is something else.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or not low <= value <= high:
        expected = f"an integer of at least {low}" if high >= 2**31 else f"an integer from {low} to {high}"
        raise WhenceError("an option out of range", where=where, got=repr(value), expected=expected)
    return int(value)


def is_number(value: Any) -> bool:
    """Whether something is a finite number that a float holds; truth values are none."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number) or np.iscomplexobj(value):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
