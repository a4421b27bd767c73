"""The table of groups: which harm, which help, and what says so. Verdicts are those of the audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from whence.auditing import Audit
from whence.groups import HARMS, HELPS
from whence.reporting.intervals import Estimate

__all__ = ["GroupRow", "group_rows", "interval_rows"]

_MOST_GROUPS = 30  # at each end of the ranking


@dataclass(frozen=True)
class GroupRow:
    """One group; what is None is not known without a dev split.

    Attributes:
        name, members, suspected, expected: training instances, how many of their labels are suspected, and how many are expected
            to be wrong.
        verdict, effect, z, q, kernel: as in ``GroupEffects``; kernel also None where there is no such effect.
        low, high: the 95 % interval of effect.
    """

    name: str
    members: int
    suspected: int
    expected: float
    verdict: str | None = None
    effect: float | None = None
    z: float | None = None
    q: float | None = None
    kernel: float | None = None
    low: float | None = None
    high: float | None = None


def group_rows(audit: Audit) -> tuple[list[GroupRow], int]:
    """Groups from harmful to helpful, and how many there are; of many, those at both ends. Unjudged, by expected errors."""
    table = audit.group_table()
    if table is None:
        return [], 0
    rows = [_row(entry) for entry in table.to_pylist()]
    if len(rows) > 2 * _MOST_GROUPS:
        rows = rows[:_MOST_GROUPS] + rows[-_MOST_GROUPS:]
    return rows, table.num_rows


def interval_rows(rows: list[GroupRow], factor: float) -> list[Estimate]:
    """The published effects of judged groups, times factor, for a chart."""
    style = {HARMS: "hurts", HELPS: "helps"}
    return [
        Estimate(
            row.name, row.effect * factor, row.low * factor, row.high * factor, style.get(row.verdict or "", "unclear")
        )
        for row in rows
        if row.effect is not None and row.low is not None and row.high is not None
    ]


def _row(entry: dict[str, Any]) -> GroupRow:
    keys = {"verdict": "verdict", "effect": "effect", "z": "z", "q": "q", "kernel": "kernel_effect", "low": "effect_low",
            "high": "effect_high"}  # fmt: skip
    values = {name: entry.get(key) for name, key in keys.items()}
    return GroupRow(entry["name"], entry["members"], entry["suspected"], entry["expected_errors"], **values)
