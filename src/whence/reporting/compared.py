"""From a comparison of two runs to everything its report says, as plain values: nothing here knows HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.comparison import Comparison
from whence.data import Classification
from whence.data.tasks import well_formed
from whence.groups import GroupEffects
from whence.reporting.cards import Gallery, longest_text
from whence.reporting.compared_findings import compared_findings
from whence.reporting.compared_items import (
    ComparedKind,
    change_items,
    change_kinds,
    issue_items,
    issue_kinds,
    named_kind,
)
from whence.reporting.figures import count, plain_title, scaled_unit
from whence.reporting.findings import Finding
from whence.reporting.headings import facts_of, run_name
from whence.reporting.intervals import Estimate
from whence.run import Run

__all__ = ["ComparedContent", "GroupPair", "gather_comparison"]

_MOST_CLASSES, _MOST_GROUPS = 40, 60


@dataclass(frozen=True)
class GroupPair:
    """One group in both runs: verdicts, published effects and their 95 % intervals."""

    name: str
    first: tuple[str, float, float, float]
    second: tuple[str, float, float, float]


@dataclass(frozen=True)
class ComparedContent:
    """What the report of a comparison says. ``comparison`` has the numbers.

    Attributes:
        names: of the two runs, the other second.
        summary: sentences of the head; findings: what to know first.
        facts: (what, value in each run) of the head.
        class_estimates: differences of recall, in points, for a chart; the largest first.
        changes, issues: kinds of held-out and of training instances.
        groups: those of both runs, in the order of this run's ranking.
        group_unit, group_factor: of their effects.
        kind: what instances look like.
        data: the page's data: instances, sheets, changes, audited.
    """

    comparison: Comparison
    names: tuple[str, str]
    summary: list[str]
    findings: list[Finding]
    facts: list[tuple[str, str, str]]
    class_estimates: list[Estimate]
    changes: list[ComparedKind]
    issues: list[ComparedKind]
    groups: list[GroupPair]
    group_unit: str
    group_factor: float
    kind: str
    data: dict[str, Any]


def gather_comparison(comparison: Comparison) -> ComparedContent:
    """Everything the report of a comparison says."""
    run, other = comparison.run, comparison.other
    changes, issues = change_kinds(comparison), issue_kinds(comparison)
    gallery = Gallery(run, longest=longest_text(sum(len(kind.rows) for kind in (*changes, *issues))))
    names = _names(run, other)
    groups = _groups(*(audit.groups for audit in comparison.audits))
    group_factor, group_unit = scaled_unit(
        [x for pair in groups for x in (*pair.first[1:], *pair.second[1:])], run.loss.unit
    )
    factor, unit = scaled_unit(
        [float(np.abs(values).max(initial=0)) for values in comparison.rankings.values], run.loss.unit
    )
    changed = change_items(comparison, changes, gallery, factor)
    issues = [*issues, named_kind(comparison, issues, gallery)]
    data = {
        "kind": gallery.kind(),
        "features": gallery.feature_names(),
        "names": [well_formed(name) for name in names],
        "changes": changed,
        "audited": issue_items(comparison, issues, gallery),
        "level": comparison.rankings.level,
        "groups": [pair.name for pair in groups],
        "units": {"score": unit, "loss": run.loss.unit},
        "regression": not isinstance(run.task, Classification),
        "name": plain_title(f"{names[0]} against {names[1]}"),
    }
    data |= {"instances": gallery.records, "sheets": gallery.album.sheets(), "small": None}
    found = compared_findings(comparison, names)
    return ComparedContent(
        comparison=comparison,
        names=names,
        summary=_summary(comparison, names),
        findings=found,
        facts=_facts(run, other),
        class_estimates=_class_estimates(comparison),
        changes=changes,
        issues=issues,
        groups=groups,
        group_unit=group_unit,
        group_factor=group_factor,
        kind=gallery.kind(),
        data=data,
    )


def _names(run: Run, other: Run) -> tuple[str, str]:
    """The names of their directories, with the one above where they are the same."""
    names = run_name(run), run_name(other)
    if names[0] != names[1]:
        return names
    above = [None if one.directory is None else one.directory.path.resolve().parent.name for one in (run, other)]
    if above[0] and above[1] and above[0] != above[1]:
        return f"{above[0]}/{names[0]}", f"{above[1]}/{names[1]}"
    return f"this {names[0]}", f"other {names[1]}"


def _summary(comparison: Comparison, names: tuple[str, str]) -> list[str]:
    paired, issues, rankings = comparison.paired, comparison.issues, comparison.rankings
    sentences = [comparison.sentence().replace("This run", names[0]).replace("The other run", names[1])]
    if len(paired.right[0]):
        sentences.append(
            f"{names[0]} gets {count(len(paired.gained))} right that {names[1]} does not, and {names[1]} gets "
            f"{count(len(paired.lost))} right that {names[0]} does not."
        )
    both, alone = len(issues.both), len(issues.only_first) + len(issues.only_second)
    told = f"Both suspect {count(both)} training labels, and {count(alone)} one run alone."
    sentences.append(told if both + alone else "Neither suspects a training label that both have.")
    if rankings.unknown is None:
        sentences.append(f"Influence scores of the same predictions agree at Spearman {rankings.agreement:.2f}.")
    return sentences


def _facts(run: Run, other: Run) -> list[tuple[str, str, str]]:
    ours, theirs = dict(facts_of(run)), dict(facts_of(other))
    return [(name, ours[name], theirs.get(name, "none")) for name in ours if name != "Report made"]


def _class_estimates(comparison: Comparison) -> list[Estimate]:
    rows = sorted(comparison.paired.classes, key=lambda row: -abs(row.first - row.second))[:_MOST_CLASSES]
    return [
        Estimate(
            well_formed(row.name),
            100 * (row.first - row.second),
            100 * row.low,
            100 * row.high,
            "helps" if row.low > 0 else "hurts" if row.high < 0 else "unclear",
        )
        for row in rows
    ]


def _groups(first: GroupEffects | None, second: GroupEffects | None) -> list[GroupPair]:
    if first is None or second is None:
        return []
    place = {int(group): row for row, group in enumerate(second.ids)}
    verdicts, intervals = [one.verdicts for one in (first, second)], [one.interval() for one in (first, second)]

    def of(which: int, effects: GroupEffects, row: int) -> tuple[str, float, float, float]:
        low, high = intervals[which]
        return verdicts[which][row], float(effects.effect[row]), float(low[row]), float(high[row])

    rows = [int(row) for row in first.ranking() if int(first.ids[row]) in place][:_MOST_GROUPS]
    return [
        GroupPair(well_formed(first.names[row]), of(0, first, row), of(1, second, place[int(first.ids[row])]))
        for row in rows
    ]
