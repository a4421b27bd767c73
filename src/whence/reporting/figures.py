"""Numbers and texts as a reader wants them: three digits that matter, a unit, no broken characters."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

__all__ = ["clean", "count", "percent", "plain_title", "points", "scaled_unit", "signed", "significant"]

_BROKEN = re.compile("[\ud800-\udfff\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_DIRECTION = re.compile("[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_UNKNOWN, _MINUS, _TIMES = "\u2013", "\u2212", "\u00d7"


def clean(text: object) -> str:
    """Text that UTF-8 can hold and a browser shows: lone surrogates and control characters become U+FFFD."""
    return _BROKEN.sub("\ufffd", str(text))


def plain_title(text: object) -> str:
    """Clean text in one line without marks of writing direction, for a title that nothing isolates."""
    return " ".join(_DIRECTION.sub("", clean(text)).split())


def count(number: int) -> str:
    """1,297."""
    return f"{number:,}"


def percent(share: float | None) -> str:
    """96.0 %; what is nearly none or nearly all is not rounded to it."""
    if share is None or not math.isfinite(share):
        return _UNKNOWN
    if 0 < share < 0.0005:
        return "<\u00a00.1\u00a0%"
    if 0.9995 <= share < 1:
        return ">\u00a099.9\u00a0%"
    return f"{_minus(f'{100 * share:.1f}')}\u00a0%"


def significant(value: float | None, digits: int = 3) -> str:
    """Three significant digits: 0.0123, 4.56, 1,230; with a power of ten below 0.0001 and from a million."""
    if value is None or not math.isfinite(value):
        return _UNKNOWN
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if -4 < int(exponent) < 6:
        return _minus(f"{float(f'{value:.{digits - 1}e}'):,.{max(0, digits - 1 - int(exponent))}f}")
    return f"{_minus(mantissa)}\u00a0{_TIMES}\u00a010{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def points(difference: float) -> str:
    """A difference of shares: +1.2 points."""
    return f"{'+' if difference > 0 else ''}{_minus(f'{100 * difference:.1f}')}\u00a0points"


def signed(value: float | None, digits: int = 3) -> str:
    """As ``significant``, with a plus where positive."""
    return ("+" if value is not None and value > 0 else "") + significant(value, digits)


def scaled_unit(values: Iterable[float], unit: str) -> tuple[float, str]:
    """A factor and its unit, such that the largest value has one to three digits before the point.

    >>> scaled_unit([2.5e-5], "nats")
    (1000000.0, '10⁻⁶ nats')
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    power = 3 * math.floor(math.log10(largest) / 3) if largest > 0 else 0
    # Up to a thousand, and down to a hundredth, plain numbers read better than powers of ten.
    if power == 0 or (power == -3 and largest >= 0.1):
        return 1.0, unit
    return 10.0**-power, f"10{str(power).translate(_SUPERSCRIPTS)} {unit}"


def _minus(written: str) -> str:
    return written.replace("-", _MINUS)
