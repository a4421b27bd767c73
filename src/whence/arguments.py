"""Arguments of the public functions: of the right kind and in their range, or refused in one way."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np

from whence.errors import WhenceError

__all__ = [
    "all_of", "flag", "instance_of", "is_integer", "is_number", "numbers", "one_of", "seed_of", "share_of", "whole",
]  # fmt: skip

T = TypeVar("T")


def whole(value: Any, where: str, *, low: int = 1, high: int = 2**63 - 1) -> int:
    """An integer from ``low`` to ``high``; those of NumPy count, truth values do not.

    Raises:
        WhenceError: it is something else.
    """
    if not is_integer(value) or not low <= value <= high:
        expected = f"an integer of at least {low}" if high >= 2**31 else f"an integer from {low} to {high}"
        raise WhenceError("an option out of range", where=where, got=repr(value), expected=expected)
    return int(value)


def seed_of(value: Any, where: str = "seed") -> int:
    """A seed: an integer of 64 bits, signed or unsigned. All that takes a seed takes these.

    Raises:
        WhenceError: it is something else.
    """
    if not is_integer(value) or not -(2**63) <= value < 2**64:
        raise WhenceError(
            "an option out of range", where=where, got=repr(value), expected="an integer of 64 bits, -2^63 to 2^64-1"
        )
    return int(value)


def share_of(value: Any, where: str) -> float:
    """A number between 0 and 1, neither of them.

    Raises:
        WhenceError: it is something else.
    """
    if not is_number(value) or not 0 < value < 1:
        raise WhenceError("an option out of range", where=where, got=repr(value), expected="a number between 0 and 1")
    return float(value)


def one_of(value: Any, names: Iterable[str], where: str) -> str:
    """One of some names.

    Raises:
        WhenceError: it is none of them.
    """
    known = list(names)
    if not isinstance(value, str) or value not in known:
        raise WhenceError(f"unknown {where}", where=where, got=repr(value), expected=" or ".join(known))
    return value


def flag(value: Any, where: str) -> bool:
    """True or False.

    Raises:
        WhenceError: it is something else.
    """
    if not isinstance(value, bool):
        raise WhenceError("an argument of the wrong type", where=where, got=f"{value!r:.60}", expected="True or False")
    return value


def instance_of(value: Any, kind: type[T], where: str) -> T:
    """Something of a class.

    Raises:
        WhenceError: it is something else.
    """
    if not isinstance(value, kind):
        raise WhenceError(
            "an argument of the wrong type", where=where, got=f"{value!r:.60}", expected=f"a {kind.__name__}"
        )
    return value


def all_of(values: Any, kind: type[T], where: str) -> list[T]:
    """A list or tuple of things of a class, as a list.

    Raises:
        WhenceError: it is something else.
    """
    if not isinstance(values, list | tuple):
        raise WhenceError(
            "an argument of the wrong type", where=where, got=f"{values!r:.60}", expected=f"a list of {kind.__name__}"
        )
    return [instance_of(value, kind, where) for value in values]


def numbers(values: Any, where: str) -> np.ndarray:
    """An array of numbers, or what can be one: float64.

    Raises:
        WhenceError: it is something else.
    """
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise WhenceError("not numbers", where=where, got=f"{values!r:.60}", expected="an array of numbers") from error


def is_number(value: Any) -> bool:
    """Whether something is a finite number that a float holds; truth values are none."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number) or np.iscomplexobj(value):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_integer(value: Any) -> bool:
    """Whether something is an integer, of Python or NumPy; truth values are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.bool_)
