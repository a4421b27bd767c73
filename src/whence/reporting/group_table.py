"""The table of groups: which harm, which help, and what says so. Verdicts are those of the audit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whence.auditing import Audit
from whence.run import Run

__all__ = ["GroupRow", "group_rows"]

_MOST_GROUPS = 30  # at each end of the ranking


@dataclass(frozen=True)
class GroupRow:
    """One group; what is None is not known without a dev split.

    Attributes:
        name, members, suspected: training instances, and how many of their labels are suspected.
        verdict, effect, z, q, kernel: as in ``GroupEffects``; kernel also None where there is no such effect.
    """

    name: str
    members: int
    suspected: int
    verdict: str | None = None
    effect: float | None = None
    z: float | None = None
    q: float | None = None
    kernel: float | None = None


def group_rows(run: Run, audit: Audit) -> tuple[list[GroupRow], int]:
    """Groups from harmful to helpful, and how many there are; of many, those at both ends. Unjudged, the most suspected first."""
    groups = run.train.groups
    if groups is None:
        return [], 0
    ids, first, member, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    names = groups if run.train.group_names is None else run.train.group_names
    suspected = np.bincount(member[audit.issues], minlength=len(ids))
    rows = [GroupRow(str(names[first[g]]), int(sizes[g]), int(suspected[g])) for g in range(len(ids))]
    if audit.groups is None:
        order = np.argsort(-suspected / sizes, kind="stable")
        ranked = [rows[g] for g in order]
    else:
        place = {int(group): g for g, group in enumerate(ids)}
        ranked = [_judged(rows[place[entry["id"]]], entry) for entry in
                  audit.groups.table().take(audit.groups.ranking()).to_pylist()]  # fmt: skip
    if len(ranked) > 2 * _MOST_GROUPS:
        ranked = ranked[:_MOST_GROUPS] + ranked[-_MOST_GROUPS:]
    return ranked, len(ids)


def _judged(row: GroupRow, entry: dict[str, float | str | None]) -> GroupRow:
    """A row with what a line of ``GroupEffects.table`` says of it."""
    values = {name: entry[key] for name, key in (("verdict", "verdict"), ("effect", "effect"), ("z", "z"), ("q", "q"),
                                                  ("kernel", "kernel_effect"))}  # fmt: skip
    return GroupRow(row.name, row.members, row.suspected, **values)  # type: ignore[arg-type]
