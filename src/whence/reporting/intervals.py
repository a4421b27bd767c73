"""A chart of estimates with their intervals, one row each, drawn as SVG: colors come from the page's style."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from whence.reporting.charts import decimals, ticks
from whence.reporting.figures import clean, signed

__all__ = ["Estimate", "interval_chart"]

_ROW, _TOP, _BOTTOM = 22, 34, 44  # pixels
_NAME_SHARE, _LETTER, _GAP, _MARGIN = 0.34, 7.6, 12, 22
_LONGEST_NAME = 28  # letters


@dataclass(frozen=True)
class Estimate:
    """A name, its estimate, the ends of its interval, and the CSS class that colors it."""

    name: str
    value: float
    low: float
    high: float
    style: str


def interval_chart(estimates: Sequence[Estimate], axis: str, width: int, sides: tuple[str, str]) -> Markup | None:
    """Each estimate as a dot on its interval, under one axis through zero.

    Args:
        estimates: in the order of the rows.
        axis: what is measured, and its unit.
        width: in pixels at which letters have their intended size.
        sides: what it means to lie left and right of zero.

    Returns:
        The element; None when there is nothing to draw.
    """
    if not estimates:
        return None
    letters = min(_LONGEST_NAME, max(len(estimate.name) for estimate in estimates))
    left = round(min(width * _NAME_SHARE, letters * _LETTER)) + _GAP
    right, bottom = width - _MARGIN, _TOP + _ROW * len(estimates)
    low, high = min(0.0, *(e.low for e in estimates)), max(0.0, *(e.high for e in estimates))
    marks = _around_zero(low, high, most=5 if width < 500 else 9)
    first, last = marks[0], marks[-1]

    def x(value: float) -> float:
        return left + (right - left) * (value - first) / (last - first)

    parts = []
    for mark in marks:
        style = "zero" if mark == 0 else "grid"
        parts.append(f'<line class="{style}" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{_TOP - 6}" y2="{bottom}"/>')
        written = f"{mark:+.{decimals(marks[1] - marks[0])}f}" if mark else "0"
        parts.append(_text("tick", x(mark), bottom + 16, written.replace("-", "\u2212"), "middle"))
    parts.append(_text("unit", (left + right) / 2, bottom + 36, axis, "middle"))
    for side, place, anchor in ((f"← {sides[0]}", x(0) - 6, "end"), (f"{sides[1]} →", x(0) + 6, "start")):
        room = place - left if anchor == "end" else right - place
        if room > len(side) * _LETTER:
            parts.append(_text("unit", place, 14, side, anchor))
    most = max(4, int((left - _GAP) / _LETTER))
    for row, estimate in enumerate(estimates):
        parts += _drawn(estimate, _TOP + _ROW * (row + 0.5), x, left, most)
    said = "; ".join(
        f"{_short(e.name, _LONGEST_NAME)} {signed(e.value)} ({signed(e.low)} to {signed(e.high)})" for e in estimates
    )
    label = f"{escape(axis)}, with 95 % intervals: {escape(said)}"
    return Markup(
        f'<svg viewBox="0 0 {width} {bottom + _BOTTOM}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


def _drawn(estimate: Estimate, y: float, x: Callable[[float], float], left: int, most: int) -> list[str]:
    hint = f"{clean(estimate.name)}: {signed(estimate.value)}, 95 % interval {signed(estimate.low)} to {signed(estimate.high)}"
    ends = f'x1="{x(estimate.low):.1f}" x2="{x(estimate.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"'
    return [
        f'<g class="estimate {estimate.style}"><title>{escape(hint)}</title>',
        _text("label", left - _GAP, y + 4, _short(estimate.name, most), "end"),
        f'<line class="range" {ends}/>',
        f'<circle cx="{x(estimate.value):.1f}" cy="{y:.1f}" r="4"/></g>',
    ]


def _around_zero(low: float, high: float, most: int) -> list[float]:
    """Round numbers at equal steps from at most ``low`` to at least ``high``, zero among them."""
    step = ticks(0.0, max(high - low, 1e-12), most)[1]
    below, above = int(-(low // step)), int(-(-high // step))
    return [step * number for number in range(-below, max(above, 1 - below) + 1)]


def _short(name: str, most: int) -> str:
    name = " ".join(clean(name).split())
    return name if len(name) <= most else name[: most - 1] + "…"


def _text(style: str, x: float, y: float, written: str, anchor: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(written)}</text>'
