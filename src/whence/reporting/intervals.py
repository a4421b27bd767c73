"""A chart of estimates with their intervals, one row each, drawn as SVG: colors come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap

from markupsafe import Markup, escape

from whence.reporting.charts import decimals, ticks
from whence.reporting.figures import clean, signed

__all__ = ["Estimate", "interval_chart"]

_ROW, _LINE, _TOP, _BOTTOM = 22, 18, 34, 44  # pixels
_NAME_SHARE, _LETTER, _DIGIT, _SPACE, _GAP, _MARGIN = 0.34, 7.6, 8.3, 4, 12, 22
_LONGEST_NAME = 28  # letters


@dataclass(frozen=True)
class Estimate:
    """A name, its estimate, the ends of its interval, the CSS class that colors it, and what rows like it stand under."""

    name: str
    value: float
    low: float
    high: float
    style: str
    under: str = ""


def interval_chart(
    estimates: Sequence[Estimate], axis: str, width: int, sides: tuple[str, str], confidence: float = 0.95
) -> Markup | None:
    """Each estimate as a dot on its interval, under one axis through zero.

    Args:
        estimates: in the order of the rows.
        axis: what is measured, and its unit.
        width: in pixels at which letters have their intended size.
        sides: what it means to lie left and right of zero.
        confidence: of the intervals.

    Returns:
        The element; None when there is nothing to draw.
    """
    if not estimates:
        return None
    letters = min(_LONGEST_NAME, max(len(estimate.name) for estimate in estimates))
    left = math.ceil(min(width * _NAME_SHARE, letters * _LETTER)) + _GAP
    places, headings, bottom = _rows(estimates)
    low, high = min(0.0, *(e.low for e in estimates)), max(0.0, *(e.high for e in estimates))
    marks = _marks(low, high, width - _MARGIN - left, most=5 if width < 500 else 9)
    right = width - max(_MARGIN, math.ceil(len(marks[-1][1]) * _DIGIT / 2))
    first, last = marks[0][0], marks[-1][0]

    def x(value: float) -> float:
        return left + (right - left) * (value - first) / (last - first)

    parts = []
    for mark, written in marks:
        style = "zero" if mark == 0 else "grid"
        parts.append(f'<line class="{style}" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{_TOP - 6}" y2="{bottom}"/>')
        parts.append(_text("tick", x(mark), bottom + 16, written, "middle"))
    lines = wrap(axis, int(width / _LETTER)) or [""]
    middle = min((left + right) / 2, width - max(map(len, lines)) * _LETTER / 2)
    for number, line in enumerate(lines):
        parts.append(_text("unit", middle, bottom + 36 + _LINE * number, line, "middle"))
    for side, place, anchor in ((f"← {sides[0]}", x(0) - 6, "end"), (f"{sides[1]} →", x(0) + 6, "start")):
        room = place - left if anchor == "end" else right - place
        if room > len(side) * _LETTER:
            parts.append(_text("unit", place, 14, side, anchor))
    most = max(4, int((left - _GAP) / _LETTER))
    sure = f"{100 * confidence:.3g} %"
    for y, heading in headings:
        parts.append(_text("name", 0, y + 4, _short(heading, int(width / _LETTER)), "start"))
    for y, estimate in zip(places, estimates, strict=True):
        parts += _drawn(estimate, y, x, left, most, sure)
    said = "; ".join(
        f"{_named(e, _LONGEST_NAME)} {signed(e.value)} ({signed(e.low)} to {signed(e.high)})" for e in estimates
    )
    label = f"{escape(axis)}, with {sure} intervals: {escape(said)}"
    height = bottom + _BOTTOM + _LINE * (len(lines) - 1)
    return Markup(f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>')


def _rows(estimates: Sequence[Estimate]) -> tuple[list[float], list[tuple[float, str]], float]:
    """The height of each estimate, headings with theirs, and where the rows end."""
    places, headings, y, under = [], [], _TOP + _ROW / 2, ""
    for estimate in estimates:
        if estimate.under != under:
            under = estimate.under
            headings.append((y, under))
            y += _ROW
        places.append(y)
        y += _ROW
    return places, headings, y - _ROW / 2


def _named(estimate: Estimate, most: int) -> str:
    return (
        f"{_short(estimate.under, most)}, {_short(estimate.name, most)}"
        if estimate.under
        else _short(estimate.name, most)
    )


def _drawn(estimate: Estimate, y: float, x: Callable[[float], float], left: int, most: int, sure: str) -> list[str]:
    name = f"{estimate.under}, {estimate.name}" if estimate.under else estimate.name
    hint = f"{clean(name)}: {signed(estimate.value)}, {sure} interval {signed(estimate.low)} to {signed(estimate.high)}"
    ends = f'x1="{x(estimate.low):.1f}" x2="{x(estimate.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"'
    return [
        f'<g class="estimate {estimate.style}"><title>{escape(hint)}</title>',
        _text("label", left - _GAP, y + 4, _short(estimate.name, most), "end"),
        f'<line class="range" {ends}/>',
        f'<circle cx="{x(estimate.value):.1f}" cy="{y:.1f}" r="4"/></g>',
    ]


def _marks(low: float, high: float, room: float, most: int) -> list[tuple[float, str]]:
    """Marks of an axis and how they are written, fewer than ``most`` where these would not stand side by side."""
    while True:
        marks = _around_zero(low, high, most)
        digits = decimals(marks[1] - marks[0])
        written = [f"{mark:+.{digits}f}".replace("-", "\u2212") if mark else "0" for mark in marks]
        if most == 2 or (len(marks) - 1) * (max(map(len, written)) * _DIGIT + _SPACE) <= room:
            return list(zip(marks, written, strict=True))
        most -= 1


def _around_zero(low: float, high: float, most: int) -> list[float]:
    """Round numbers at equal steps from at most ``low`` to at least ``high``, zero among them."""
    step = ticks(0.0, high - low if high - low > 1e-12 else 1.0, most)[1]
    below, above = int(-(low // step)), int(-(-high // step))
    return [step * number for number in range(-below, max(above, 1 - below) + 1)]


def _short(name: str, most: int) -> str:
    name = " ".join(clean(name).split())
    return name if len(name) <= most else name[: most - 1] + "…"


def _text(style: str, x: float, y: float, written: str, anchor: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(written)}</text>'
