"""Instances that a comparison of two runs lists, with what each run says of them, as records for the page's data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.auditing import Audit
from whence.comparison import Comparison
from whence.data.tasks import well_formed
from whence.reporting.cards import Gallery, number
from whence.run import Run

__all__ = ["ComparedKind", "change_items", "change_kinds", "issue_items", "issue_kinds", "named_kind"]

_MOST = 1000  # instances listed of a kind
_ALONE = ("only_first_data", "only_second_data")  # kinds of instances that one run alone was trained on


@dataclass(frozen=True)
class ComparedKind:
    """Instances of one kind: its key, how many there are, and int64, those listed, in order."""

    key: str
    found: int
    rows: np.ndarray


def change_kinds(comparison: Comparison) -> list[ComparedKind]:
    """Kinds of held-out instances: by what became of their predictions, those that both get right only where their scores were
    compared; of a regression those whose loss differs most."""
    paired = comparison.paired
    if not len(paired.right[0]):
        order = np.argsort(-np.abs(paired.losses[0] - paired.losses[1]), kind="stable")
        better = paired.losses[0] < paired.losses[1]
        return _kinds([("gained", order[better[order]]), ("lost", order[~better[order]])])
    wrong = paired.both_wrong
    same = paired.predicted[0][wrong].argmax(1) == paired.predicted[1][wrong].argmax(1)
    found = [
        ("gained", paired.gained),
        ("lost", paired.lost),
        ("other_error", wrong[~same]),
        ("same_error", wrong[same]),
        ("right", comparison.targets[paired.right[0][comparison.targets] & paired.right[1][comparison.targets]]),
    ]
    return _kinds([kind for kind in found if len(kind[1]) or kind[0] in ("gained", "lost")])


def issue_kinds(comparison: Comparison) -> list[ComparedKind]:
    """Kinds of training instances: rows are pairs of ``Shared.train``, but of only_second_data those of the other run, and of
    only_first_data those of this one."""
    issues, shared, (ours, theirs) = comparison.issues, comparison.shared, comparison.audits
    kinds = [("both", issues.both), ("only_first", issues.only_first), ("only_second", issues.only_second)]
    if len(issues.relabeled):
        kinds.append(("relabeled", issues.relabeled))
    for key, rows, audit in (
        ("only_second_data", shared.only_second, theirs),
        ("only_first_data", shared.only_first, ours),
    ):
        if len(rows):
            kinds.append((key, rows[np.argsort(-audit.column("p_wrong")[rows], kind="stable")]))
    return _kinds(kinds)


def named_kind(comparison: Comparison, kinds: list[ComparedKind], gallery: Gallery) -> ComparedKind:
    """The training instances that the lists of changed predictions name and no kind lists: pairs of ``Shared.train``."""
    listed = [kind.rows for kind in kinds if kind.key not in _ALONE]
    named = np.flatnonzero(np.isin(comparison.shared.train.first, gallery.shown()))
    rows = np.setdiff1d(named, np.concatenate(listed))
    return ComparedKind("named", len(rows), rows)


def _kinds(found: list[tuple[str, np.ndarray]]) -> list[ComparedKind]:
    return [ComparedKind(key, len(rows), rows[:_MOST]) for key, rows in found]


def change_items(
    comparison: Comparison, kinds: list[ComparedKind], gallery: Gallery, factor: float
) -> list[dict[str, Any]]:
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
    """helps, hurts: [[record or group, this run's score, the other's, who]], those that both name first; who: 3 both, 1 this, 2 the
    other run."""
    rankings, named = comparison.rankings, {}
    scales = [
        max(float(np.sqrt(np.square(values[:, column], dtype=np.float64).mean())), 1e-30) for values in rankings.values
    ]
    for side, harmful in (("helps", False), ("hurts", True)):
        ends = [set(rows.tolist()) for rows in rankings.ends(column, harmful=harmful)]
        sizes = {row: sum(abs(float(values[row, column])) / scale for values, scale in zip(rankings.values, scales, strict=True))
                 for row in ends[0] | ends[1]}  # fmt: skip
        who = {row: (row in ends[0]) + 2 * (row in ends[1]) for row in sizes}
        order = sorted(sizes, key=lambda row: (who[row] != 3, -sizes[row]))
        named[side] = [
            [
                _row_of(comparison, row, gallery),
                *(number(values[row, column] * factor, 4) for values in rankings.values),
                who[row],
            ]
            for row in order
        ]
    return named


def _row_of(comparison: Comparison, row: int, gallery: Gallery) -> int | str:
    scores, place = comparison.rankings.scores[0], int(comparison.rankings.rows[0][row])
    return well_formed(scores.rows.names[place]) if comparison.rankings.level == "group" else gallery.train(place)


def issue_items(comparison: Comparison, kinds: list[ComparedKind], gallery: Gallery) -> list[dict[str, Any]]:
    pairs, items = comparison.shared.train, []
    for kind in kinds:
        for row in kind.rows.tolist():
            ours = int(pairs.first[row]) if kind.key not in _ALONE else row
            theirs = int(pairs.second[row]) if kind.key not in _ALONE else row
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
