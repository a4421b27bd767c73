"""Line charts as SVG of a few kilobytes, readable on light and dark pages: each line named at its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from whence.reporting.charts import spread, ticks

__all__ = ["Curve", "line_chart"]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 340, 56, 190, 44, 44
_COLORS = {"own": "#1a5fa8", "flipped": "#b04a08", "dev": "#1f6b3a", "full": "#74498f"}
_SPARE = ("#1a5fa8", "#b04a08", "#1f6b3a", "#74498f", "#5c6066", "#0d6560")
_DASHES = {"dev": "6 4", "full": "1.5 4.5"}


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
        name: of its color.
        label: what it is called at its end.
        x, y: its points.
        low, high: the band around it.
        published: a value of the paper that is marked at the right edge, or None.
        written: the format of the value that stands beside its name.
    """

    name: str
    label: str
    x: Sequence[float]
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray
    published: float | None = None
    written: str = ".3f"


def line_chart(curves: Sequence[Curve], title: str, x_title: str) -> str:
    """The chart as one SVG element."""
    lowest = min(0.0, *(float(curve.low.min()) for curve in curves))
    highest = max(float(curve.high.max()) for curve in curves)
    levels = ticks(lowest, highest) if lowest == 0 else _around_zero(lowest, highest)
    first, last = min(curve.x[0] for curve in curves), max(curve.x[-1] for curve in curves)
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x(value: float) -> float:
        return _LEFT + (right - _LEFT) * (value - first) / (last - first)

    def y(value: float) -> float:
        return bottom - (bottom - _TOP) * (value - levels[0]) / (levels[-1] - levels[0])

    parts = [f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>', _text(_LEFT, 22, title, "start", weight=600)]
    for level in levels:
        parts.append(f'<path d="M{_LEFT} {y(level):.1f}H{right}" stroke="{"#888" if level == 0 else "#ddd"}"/>')
        parts.append(_text(_LEFT - 8, y(level) + 4, f"{level:g}", "end"))
    for mark in ticks(first, last, most=7):
        if mark <= last + 1e-9:
            parts.append(_text(x(mark), bottom + 18, f"{mark:g}", "middle"))
    parts.append(_text((_LEFT + right) / 2, _HEIGHT - 8, x_title, "middle"))
    ends = spread([y(float(curve.y[-1])) for curve in curves], 17, _TOP, bottom)
    for number, (curve, end) in enumerate(zip(curves, ends, strict=True)):
        color = _COLORS.get(curve.name, _SPARE[number % len(_SPARE)])
        parts += _drawn(curve, color, [x(value) for value in curve.x], y, end)
        if curve.published is not None:
            place = y(curve.published)
            parts.append(f'<path d="M{right - 3} {place:.1f}l-9 -5v10z" fill="{color}" stroke="#fff"/>')
    if any(curve.published is not None for curve in curves):
        parts.append(_text(_WIDTH - 8, 22, "▶ the paper's value at the end", "end"))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}" '
            f'font-family="sans-serif" font-size="13" fill="#444">{"".join(parts)}</svg>\n')  # fmt: skip


def _drawn(curve: Curve, color: str, across: list[float], y, end: float) -> list[str]:  # type: ignore[no-untyped-def]
    """Band, line and name of one curve; the name stands at height ``end``."""
    upper = [f"{a:.1f},{y(float(b)):.1f}" for a, b in zip(across, curve.high, strict=True)]
    lower = [f"{a:.1f},{y(float(b)):.1f}" for a, b in zip(across, curve.low, strict=True)]
    line = " ".join(f"{a:.1f},{y(float(b)):.1f}" for a, b in zip(across, curve.y, strict=True))
    dashes = f' stroke-dasharray="{_DASHES[curve.name]}"' if curve.name in _DASHES else ""
    last = y(float(curve.y[-1]))
    return [
        f'<polygon points="{" ".join(upper + lower[::-1])}" fill="{color}" opacity=".13"/>',
        f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2.2" stroke-linecap="round"{dashes}/>',
        f'<path d="M{across[-1] + 4:.1f} {last:.1f}L{across[-1] + 12:.1f} {end:.1f}" stroke="{color}" opacity=".6"/>',
        _text(
            across[-1] + 16, end + 4, f"{curve.label} {curve.y[-1]:{curve.written}}", "start", color=color, weight=600
        ),
    ]


def _text(x: float, y: float, written: str, anchor: str, *, color: str = "", weight: int = 0) -> str:
    style = (f' fill="{color}"' if color else "") + (f' font-weight="{weight}"' if weight else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(written)}</text>'


def _around_zero(low: float, high: float) -> list[float]:
    """Round numbers from at most ``low`` to at least ``high``, zero among them."""
    step = ticks(0.0, high - low)[1]
    return [number * step for number in range(math.floor(low / step), math.ceil(high / step) + 1)]
