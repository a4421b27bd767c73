"""From a comparison of two runs to everything its report says, as plain values: nothing here knows HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.auditing import Audit
from whence.comparison import Comparison
from whence.data import Classification
from whence.data.tasks import well_formed
from whence.groups import GroupEffects
from whence.reporting.cards import Gallery, longest_text, number
from whence.reporting.compared_findings import compared_findings
from whence.reporting.figures import plain_title, scaled_unit
from whence.reporting.findings import Finding
from whence.reporting.headings import facts_of, run_name
from whence.reporting.intervals import Estimate
from whence.run import Run

__all__ = ["ComparedContent", "ComparedKind", "GroupPair", "gather_comparison"]

_MOST = 1000  # instances listed of a kind
_MOST_CLASSES, _MOST_GROUPS = 40, 60


@dataclass(frozen=True)
class ComparedKind:
    """Instances of one kind: its key, how many there are, and int64, those listed, in order."""

    key: str
    found: int
    rows: np.ndarray


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
    run, other, paired = comparison.run, comparison.other, comparison.paired
    changes = _kinds(_changes(comparison))
    issues = _kinds(_issues(comparison))
    gallery = Gallery(run, longest=longest_text(sum(len(kind.rows) for kind in (*changes, *issues))))
    names = _names(run, other)
    groups = _groups(*(audit.groups for audit in comparison.audits))
    group_factor, group_unit = scaled_unit([x for pair in groups for x in (*pair.first[1:], *pair.second[1:])], run.loss.unit)
    factor, unit = scaled_unit([float(np.abs(values).max(initial=0)) for values in comparison.rankings.values], run.loss.unit)
    data = {
        "kind": gallery.kind(),
        "features": gallery.feature_names(),
        "names": [well_formed(name) for name in names],
        "changes": _change_items(comparison, changes, gallery, factor),
        "audited": _issue_items(comparison, issues, gallery),
        "level": comparison.rankings.level,
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
            f"{names[0]} gets {len(paired.gained):,} right that {names[1]} does not, and {len(paired.lost):,} wrong that {names[1]} gets right."
        )
    sentences.append(
        f"Both suspect {len(issues.both):,} training labels; {len(issues.only_first) + len(issues.only_second):,} only one does."
    )
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


def _changes(comparison: Comparison) -> list[tuple[str, np.ndarray]]:
    """Kinds of held-out instances: by what became of their predictions; of a regression those whose loss differs most."""
    paired = comparison.paired
    if not len(paired.right[0]):
        order = np.argsort(-np.abs(paired.losses[0] - paired.losses[1]), kind="stable")
        better = paired.losses[0] < paired.losses[1]
        return [("gained", order[better[order]]), ("lost", order[~better[order]])]
    wrong = paired.both_wrong
    same = paired.predicted[0][wrong].argmax(1) == paired.predicted[1][wrong].argmax(1)
    return [("gained", paired.gained), ("lost", paired.lost), ("other_error", wrong[~same]), ("same_error", wrong[same])]


def _issues(comparison: Comparison) -> list[tuple[str, np.ndarray]]:
    """Kinds of training instances: rows are pairs of ``Shared.train``, but of only_second_data those of the other run, and of
    only_first_data those of this one."""
    issues, shared, (ours, theirs) = comparison.issues, comparison.shared, comparison.audits
    kinds = [("both", issues.both), ("only_first", issues.only_first), ("only_second", issues.only_second)]
    if len(issues.relabeled):
        kinds.append(("relabeled", issues.relabeled))
    for key, rows, audit in (("only_second_data", shared.only_second, theirs), ("only_first_data", shared.only_first, ours)):
        if len(rows):
            kinds.append((key, rows[np.argsort(-audit.column("p_wrong")[rows], kind="stable")]))
    return kinds


def _kinds(found: list[tuple[str, np.ndarray]]) -> list[ComparedKind]:
    return [ComparedKind(key, len(rows), rows[:_MOST]) for key, rows in found]


def _change_items(comparison: Comparison, kinds: list[ComparedKind], gallery: Gallery, factor: float) -> list[dict[str, Any]]:
    run, shared, paired = comparison.run, comparison.shared, comparison.paired
    data = run.splits[shared.split]
    column = {int(row): number for number, row in enumerate(comparison.targets[: len(comparison.rankings.per_target)])}
    items = []
    for kind in kinds:
        for row in kind.rows.tolist():
            place = int(shared.held_out.first[row])
            item: dict[str, Any] = {"i": gallery.target(data, shared.split, place), "kind": kind.key}
            item["runs"] = [_prediction(run, p[row], loss[row], int(data.targets[place]) if len(paired.right[0]) else None)
                            for p, loss in zip(paired.predicted, paired.losses, strict=True)]  # fmt: skip
            item["predicted"] = item["runs"][0]["predicted"]
            if row in column:
                item |= _named_by_both(comparison, column[row], gallery, factor)
            items.append(item)
    return items


def _prediction(run: Run, outputs: np.ndarray, loss: float, label: int | None) -> dict[str, Any]:
    if label is None:
        return {"predicted": f"{float(outputs[0]):.4g}", "loss": number(np.sqrt(loss), 4)}
    best = int(outputs.argmax())
    return {"predicted": run.task.show(best)[0], "probability": number(outputs[best]), "true_probability": number(outputs[label]),
            "right": best == label, "loss": number(loss)}  # fmt: skip


def _named_by_both(comparison: Comparison, column: int, gallery: Gallery, factor: float) -> dict[str, Any]:
    """helps, hurts: [[record or group, this run's score, the other's, who names it: 3 both, 1 this, 2 the other]], those of both first."""
    rankings, named = comparison.rankings, {}
    scales = [max(float(np.sqrt(np.square(values[:, column], dtype=np.float64).mean())), 1e-30) for values in rankings.values]
    for side, harmful in (("helps", False), ("hurts", True)):
        ends = [set(rows.tolist()) for rows in rankings.ends(column, harmful=harmful)]
        sizes = {row: sum(abs(float(values[row, column])) / scale for values, scale in zip(rankings.values, scales, strict=True))
                 for row in ends[0] | ends[1]}  # fmt: skip
        who = {row: (row in ends[0]) + 2 * (row in ends[1]) for row in sizes}
        order = sorted(sizes, key=lambda row: (who[row] != 3, -sizes[row]))
        named[side] = [
            [_row_of(comparison, row, gallery), *(number(values[row, column] * factor, 4) for values in rankings.values), who[row]]
            for row in order
        ]
    return named


def _row_of(comparison: Comparison, row: int, gallery: Gallery) -> int | str:
    scores, place = comparison.rankings.scores[0], int(comparison.rankings.rows[0][row])
    return well_formed(scores.rows.names[place]) if comparison.rankings.level == "group" else gallery.train(place)


def _issue_items(comparison: Comparison, kinds: list[ComparedKind], gallery: Gallery) -> list[dict[str, Any]]:
    pairs, items = comparison.shared.train, []
    for kind in kinds:
        for row in kind.rows.tolist():
            ours = int(pairs.first[row]) if kind.key not in ("only_first_data", "only_second_data") else row
            theirs = int(pairs.second[row]) if kind.key not in ("only_first_data", "only_second_data") else row
            alone = kind.key == "only_second_data"
            item: dict[str, Any] = {
                "i": gallery.target(comparison.other.train, "train", theirs) if alone else gallery.train(ours),
                "kind": kind.key,
            }
            item["runs"] = [
                None if alone else _judged(comparison.audits[0], ours),
                None if kind.key == "only_first_data" else _judged(comparison.audits[1], theirs),
            ]
            item["to"] = next(one for one in item["runs"] if one)["to"]
            items.append(item)
    return items


def _judged(audit: Audit, row: int) -> dict[str, Any]:
    entry = {name: audit.table[name][row].as_py() for name in ("given_label", "suggested_label", "kind")}
    return {"label": entry["given_label"], "to": entry["suggested_label"], "kind": entry["kind"],
            "p_wrong": number(audit.column("p_wrong")[row]), "memorization": number(audit.column("memorization")[row])}  # fmt: skip


def _groups(first: GroupEffects | None, second: GroupEffects | None) -> list[GroupPair]:
    if first is None or second is None:
        return []
    place = {int(group): row for row, group in enumerate(second.ids)}
    verdicts, intervals = [one.verdicts for one in (first, second)], [one.interval() for one in (first, second)]

    def of(which: int, effects: GroupEffects, row: int) -> tuple[str, float, float, float]:
        low, high = intervals[which]
        return verdicts[which][row], float(effects.effect[row]), float(low[row]), float(high[row])

    rows = [int(row) for row in first.ranking() if int(first.ids[row]) in place][:_MOST_GROUPS]
    return [GroupPair(well_formed(first.names[row]), of(0, first, row), of(1, second, place[int(first.ids[row])])) for row in rows]
