"""From a run to everything its report says, as plain values: nothing here knows HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from whence import auditing
from whence.auditing import Audit
from whence.data import Classification
from whence.reporting.accuracy import Accuracy, measure
from whence.reporting.cards import Gallery, longest_of_rest, longest_text
from whence.reporting.cleansings import Cleansings, gather_cleansings
from whence.reporting.explanations import Explanations, explain
from whence.reporting.figures import clean, plain_title, scaled_unit
from whence.reporting.group_table import GroupRow, group_rows
from whence.reporting.headings import facts_of, method_of, run_name, summary_of
from whence.reporting.listed import Kind, also_listed, listed, listed_rows
from whence.reporting.movements import moved_targets
from whence.reporting.targets import choose_targets
from whence.reporting.trust import Trust, assess
from whence.reviewing import Reviewed
from whence.run import Run

__all__ = ["Content", "gather"]


@dataclass(frozen=True)
class Content:
    """What a report says.

    Attributes:
        name: of the run.
        facts: (what, value) pairs of the head.
        summary: sentences of the head.
        trust, accuracy, explanations: the parts of that name.
        history: rows of ``run.history``.
        loss_unit: of losses.
        regression: whether the task is one.
        kinds: of training instances that are listed.
        instances: of the training split.
        expected_errors: how many of their labels are wrong, as far as the audit can tell.
        reviewed: what a review says of that, or None.
        influence_unit, influence_method: of the audit's influence on dev; method None without a dev split.
        caveat: what to know before believing the suspicions as a whole, or None.
        groups, all_groups: rows of the table of groups, and how many groups there are.
        group_unit, group_factor: of their effects.
        cleansings: what retraining said of changes of the training data.
        kind: what instances look like: "picture", "text", "values" or "id".
        method: (what, value) pairs of the method box.
        data: the page's data: instances, features, sheets, audited, explanations, groups.
    """

    name: str
    facts: list[tuple[str, str]]
    summary: list[str]
    trust: Trust
    accuracy: Accuracy
    explanations: Explanations
    history: list[dict[str, float]]
    loss_unit: str
    regression: bool
    kinds: list[Kind]
    instances: int
    expected_errors: float
    reviewed: Reviewed | None
    influence_unit: str
    influence_method: str | None
    caveat: str | None
    groups: list[GroupRow]
    all_groups: int
    group_unit: str
    group_factor: float
    cleansings: Cleansings
    kind: str
    method: list[tuple[str, str]]
    data: dict[str, Any]


def gather(
    run: Run,
    *,
    audit: Audit | None = None,
    targets: Any = "errors",
    method: str = "auto",
    top: int = 8,
    limit: int = 50,
    progress: bool = False,
) -> Content:
    """Everything the report of a run says. The options are those of ``whence.report``."""
    choice = choose_targets(run, targets, limit)  # first, so that targets that there are not leave no audit behind
    audit = auditing.audit(run, method=method, progress=progress) if audit is None else audit
    kinds, masks = listed_rows(audit), ("p_own", "p_flipped")
    others = len(kinds[-1].rows)
    by_masks = (audit.column(masks[0]), audit.column(masks[1])) if masks[0] in audit.table.column_names else None
    gallery = Gallery(
        run,
        frozenset(audit.issues.tolist()),
        by_masks,
        longest_text(kinds[-1].listed - others),
        longest_of_rest(others),
    )
    explanations = explain(run, choice, gallery, method=method, top=top, progress=progress)
    tested = choice.data if choice.kind == "given" else None  # of a split, any of its instances, not its errors alone
    trust = assess(run, explanations.scores, targets=tested, target_set=choice.split, method=method, groups=audit.groups,
                   progress=progress)  # fmt: skip
    accuracy = measure(run, audit)
    cleansings, shown = gather_cleansings(run), gallery.shown()
    kinds = also_listed(kinds, np.concatenate([shown, cleansings.listed[~np.isin(cleansings.listed, shown)]]))
    moved = moved_targets(explanations, run, np.concatenate([kind.rows for kind in kinds]))
    instances = listed(audit, kinds, gallery, run.loss.unit, moved.by_instance, cleansings.marks)
    groups, all_groups = group_rows(audit)
    group_factor, group_unit = scaled_unit(
        [value for row in groups for value in (row.low, row.high, row.kernel) if value is not None],
        run.loss.unit,
    )
    data = {
        "kind": gallery.kind(),
        "features": gallery.feature_names(),
        "all_features": gallery.all_features(),
        "audited": instances.items,
        "explanations": explanations.items,
        "level": explanations.level,
        "units": {"dev": _short(instances.unit), "score": explanations.unit, "loss": run.loss.unit},
        "regression": not isinstance(run.task, Classification),
        "errors": choice.kind == "errors",
        "name": plain_title(run_name(run)),
        "cleansings": [
            {"name": clean(one.name), "action": one.action, "verdict": one.verdict} for one in cleansings.experiments
        ],
    }
    names = [] if audit.sources is None else audit.sources["name"].to_pylist()
    data |= {
        "moves_all": moved.complete,
        "groups": [{"name": name, "moves": moved.by_group.get(name)} for name in names],
    }
    data |= {"instances": gallery.records, "sheets": gallery.album.sheets(), "small": gallery.small.sheets()}
    return Content(
        name=run_name(run),
        facts=facts_of(run),
        summary=summary_of(run, accuracy, audit, explanations, trust),
        trust=trust,
        accuracy=accuracy,
        explanations=explanations,
        history=list(run.history),
        loss_unit=run.loss.unit,
        regression=not isinstance(run.task, Classification),
        kinds=kinds,
        instances=len(run.train),
        expected_errors=audit.expected_errors,
        reviewed=audit.reviewed,
        influence_unit=instances.unit,
        influence_method=audit.method,
        caveat=audit.caveat,
        groups=groups,
        all_groups=all_groups,
        group_unit=group_unit,
        group_factor=group_factor,
        cleansings=cleansings,
        kind=gallery.kind(),
        method=method_of(run, explanations, audit),
        data=data,
    )


def _short(unit: str) -> str:
    """A unit for behind a number; of a long one only its power of ten, the rest stands in the text."""
    power = f"\u00a0\u00d7\u00a0{unit.split(' ')[0]}" if unit.startswith("10") else ""
    if len(unit) <= 12:
        return f"{power}\u00a0{unit.split(' ')[-1]}" if power else f"\u00a0{unit}"
    return power if power.strip() else ""
