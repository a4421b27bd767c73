"""The exposure chart, drawn as SVG: colors come from the page's style, so it follows light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from markupsafe import Markup, escape

from whence.reporting.figures import significant

__all__ = ["CURVES", "decimals", "exposure_chart", "ticks"]

# Column of the history, CSS class, what the line is called beside its end.
CURVES = (
    ("own_loss", "own", "own mask"),
    ("flipped_loss", "flipped", "flipped mask"),
    ("dev_loss", "dev", "dev (unseen)"),
    ("full_loss", "full", "full network"),
)
_HEIGHT, _LEFT, _TOP, _BOTTOM = 300, 46, 26, 40
_NAME_START, _LETTER = 15, 8.6  # pixels between a line's end and its name, and of a letter in the widest usual fonts
_LABEL_GAP = 16  # pixels between two labels
_MOST_DOTS = 40  # more epochs than this are drawn as a bare line


@dataclass(frozen=True)
class _Curve:
    style: str
    label: str
    points: list[tuple[float, float]]  # (epoch, loss)


def exposure_chart(history: Sequence[dict[str, float]], unit: str, width: int) -> Markup | None:
    """Mean losses by epoch as one SVG element, each line named at its end.

    Args:
        history: rows of ``run.history``.
        unit: of the loss.
        width: in pixels at which letters have their intended size.

    Returns:
        The element; None when there is nothing to draw.
    """
    curves = [
        _Curve(style, label, points)
        for name, style, label in CURVES
        if (
            points := [
                (row["epoch"], row[name]) for row in history if _finite(row.get(name)) and _finite(row.get("epoch"))
            ]
        )
    ]
    if not curves:
        return None
    first, last = min(c.points[0][0] for c in curves), max(c.points[-1][0] for c in curves)
    losses = ticks(0.0, max(loss for curve in curves for _, loss in curve.points))
    room = _NAME_START + _LETTER * max(len(curve.label) for curve in curves)
    right, bottom = width - math.ceil(room), _HEIGHT - _BOTTOM

    def x(epoch: float) -> float:
        return _LEFT + (right - _LEFT) * ((epoch - first) / (last - first) if last > first else 0.5)

    def y(loss: float) -> float:
        return bottom - (bottom - _TOP) * loss / losses[-1]

    parts = [f'<text class="unit" x="0" y="12">mean loss ({escape(unit)})</text>']
    for tick in losses:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        written = f"{tick:.{decimals(losses[1])}f}"
        parts.append(_text("tick", _LEFT - 8, y(tick) + 4, written, "end"))
    for epoch in epoch_ticks(first, last, most=max(2, (right - _LEFT) // 60)):
        parts.append(_text("tick", x(epoch), bottom + 18, str(epoch), "middle"))
    parts.append(_text("unit", (_LEFT + right) / 2, _HEIGHT - 6, "epoch", "middle"))
    ends = spread([y(curve.points[-1][1]) for curve in curves], _LABEL_GAP, _TOP, bottom)
    for curve, end in zip(curves, ends, strict=True):
        parts += _drawn(curve, [(x(epoch), y(loss)) for epoch, loss in curve.points], end)
    said = "; ".join(f"{c.label} {significant(c.points[-1][1])}" for c in curves)
    return Markup(
        f'<svg viewBox="0 0 {width} {_HEIGHT}" role="img" '
        f'aria-label="Mean loss by epoch. After the last epoch: {escape(said)}">{"".join(parts)}</svg>'
    )


def _drawn(curve: _Curve, places: list[tuple[float, float]], end: float) -> list[str]:
    """One curve with its dots, and its name beside its end at height ``end``."""
    parts = []
    if len(places) > 1:
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="curve {curve.style}" points="{line}"/>')
    for (x, y), (epoch, loss) in zip(places, curve.points, strict=True):
        if len(places) <= _MOST_DOTS:
            hint = f"{curve.label}, epoch {int(epoch)}: {significant(loss)}"
            parts.append(f'<circle class="dot {curve.style}" cx="{x:.1f}" cy="{y:.1f}" r="2.5">')
            parts.append(f"<title>{hint}</title></circle>")
    x, y = places[-1]
    parts.append(f'<line class="leader {curve.style}" x1="{x + 4:.1f}" y1="{y:.1f}" x2="{x + 12:.1f}" y2="{end:.1f}"/>')
    return [*parts, _text(f"name {curve.style}", x + _NAME_START, end + 4, curve.label, "start")]


def _text(style: str, x: float, y: float, written: str, anchor: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(written)}</text>'


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from ``low`` to at least ``high``."""
    span = high - low if high > low else 1.0
    rough = span / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(multiple * power for multiple in (1, 2, 2.5, 5, 10) if multiple * power >= rough * (1 - 1e-9))
    return [low + step * number for number in range(math.ceil(span / step - 1e-9) + 1)]


def epoch_ticks(first: float, last: float, most: int) -> list[int]:
    """Whole epochs to write under the axis, the first and the last among them."""
    start, end = int(first), int(last)
    step = next(
        s for power in range(12) for s in (10**power, 2 * 10**power, 5 * 10**power) if (end - start) / s <= most
    )
    inner = [epoch for epoch in range(step, end, step) if epoch > start + step * 0.6 and epoch <= end - step * 0.6]
    return sorted({start, *inner, end})


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The places moved apart to at least ``gap``, in the same order, within low … high where they fit."""
    order = sorted(range(len(places)), key=lambda number: places[number])
    moved = list(places)
    floor, ceiling = low, high
    for number in order:
        moved[number] = max(moved[number], floor)
        floor = moved[number] + gap
    for number in reversed(order):
        moved[number] = min(moved[number], ceiling)
        ceiling = moved[number] - gap
    return moved


def decimals(step: float) -> int:
    """Decimal places that tell multiples of a step apart."""
    exponent = Decimal(f"{step:.3g}").normalize().as_tuple().exponent
    return max(0, -int(exponent))


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
