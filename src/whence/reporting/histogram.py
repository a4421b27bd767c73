"""A histogram as SVG, with axes: colors come from the page's style."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup, escape

from whence.reporting.charts import ticks

__all__ = ["histogram"]

_HEIGHT, _LEFT, _TOP, _BOTTOM, _RIGHT = 240, 46, 26, 44, 16  # pixels
_STEP = 0.1


def histogram(correlations: np.ndarray, axis: str, counted: str, width: int) -> Markup | None:
    """How many correlations lie in each tenth, from the lowest (at most 0) to 1, with their mean marked.

    Args:
        correlations: [M]; those that are not finite are left out.
        axis: what they are; counted: what is counted.
        width: in pixels at which letters have their intended size.
    """
    known = correlations[np.isfinite(correlations)]
    if not len(known):
        return None
    first = min(0.0, np.floor(float(known.min()) / _STEP) * _STEP)
    bins = round((1 - first) / _STEP)
    counts, edges = np.histogram(known.clip(first, 1), bins=bins, range=(first, 1))
    steps = [round(tick) for tick in ticks(0.0, max(float(counts.max()), 5.0))]
    right, bottom, mean = width - _RIGHT, _HEIGHT - _BOTTOM, float(known.mean())

    def x(value: float) -> float:
        return _LEFT + (right - _LEFT) * (value - first) / (1 - first)

    def y(value: float) -> float:
        return bottom - (bottom - _TOP) * value / steps[-1]

    parts = [f'<text class="unit" x="0" y="12">{escape(counted)}</text>']
    for tick in dict.fromkeys(steps):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
    for number, left, end in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
        if number:
            size = f'x="{x(left) + 1:.1f}" y="{y(number):.1f}" width="{x(end) - x(left) - 2:.1f}" height="{bottom - y(number):.1f}"'
            parts.append(
                f'<rect class="column" {size}><title>{_signed(left)} to {_signed(end)}: {number}</title></rect>'
            )
    every = 2 if width >= 500 else 5
    for number, edge in enumerate(edges.tolist()):
        if (number - bins) % every == 0 or abs(edge) < _STEP / 2:
            parts.append(
                f'<text class="tick" x="{x(edge):.1f}" y="{bottom + 18}" text-anchor="middle">{_signed(edge)}</text>'
            )
    parts.append(f'<line class="zero" x1="{x(mean):.1f}" x2="{x(mean):.1f}" y1="{_TOP - 6}" y2="{bottom}"/>')
    anchor = "start" if mean < (1 + first) / 2 else "end"
    place = x(mean) + (6 if anchor == "start" else -6)
    parts.append(
        f'<text class="name" x="{place:.1f}" y="{_TOP - 8}" text-anchor="{anchor}">mean {_signed(mean, 2)}</text>'
    )
    parts.append(
        f'<text class="unit" x="{(_LEFT + right) / 2:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(axis)}</text>'
    )
    ends = f"from {_signed(float(known.min()), 2)} to {_signed(float(known.max()), 2)}"
    said = f"{axis}: {len(known)} {counted}, mean {_signed(mean, 2)}, {ends}"
    return Markup(f'<svg viewBox="0 0 {width} {_HEIGHT}" role="img" aria-label="{escape(said)}">{"".join(parts)}</svg>')


def _signed(value: float, digits: int = 1) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\u2212")
