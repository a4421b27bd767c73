"""From a run to everything its report says, as plain values: nothing here knows HTML."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

import torch

from whence import auditing
from whence.auditing import Audit
from whence.data import Classification
from whence.reporting import trust as trusting
from whence.reporting.accuracy import Accuracy, measure
from whence.reporting.cards import Gallery, number
from whence.reporting.explanations import Explanations, GroupRow, explain, group_rows
from whence.reporting.figures import count, percent, plain_title, scaled_unit, significant
from whence.reporting.targets import choose_targets
from whence.reporting.trust import Trust
from whence.run import Run

__all__ = ["Content", "gather"]

MOST_ISSUES = 3000  # cards of suspected labels in one report
MOST_MEMORIZED = 200
_FALLBACK_MEMORIZED = 24


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
        issues: how many labels are suspected, memorized: how many instances are, instances: of how many.
        memorized_kind: whether the instances shown are of kind "memorized", or only those nearest to it.
        influence_unit, influence_method: of the audit's influence on dev; method None without a dev split.
        groups, all_groups: rows of the table of groups, and how many groups there are.
        group_unit, group_factor: of their influence.
        kind: what instances look like: "picture", "text", "values" or "id".
        method: (what, value) pairs of the method box.
        data: the page's data: instances, features, sheets, issues, memorized, explanations.
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
    issues: int
    memorized: int
    instances: int
    memorized_kind: bool
    influence_unit: str
    influence_method: str | None
    groups: list[GroupRow]
    all_groups: int
    group_unit: str
    group_factor: float
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
    audit = auditing.audit(run, method=method, progress=progress) if audit is None else audit
    issues = audit.issues
    gallery = Gallery(run, frozenset(issues.tolist()))
    choice = choose_targets(run, targets, limit)
    explanations = explain(run, choice, gallery, method=method, top=top, progress=progress)
    tested = (
        choice.data if choice.kind == "given" else None
    )  # of a split, any of its instances, not its errors alone
    trust = trusting.assess(
        run, explanations.scores, targets=tested, target_set=choice.split, method=method, progress=progress
    )
    accuracy = measure(run, audit)
    kinds, memorization = audit.column("kind"), audit.column("memorization")
    ranked = (-memorization).argsort(kind="stable")
    memorized = ranked[kinds[ranked] == "memorized"]
    nearest = ranked[(kinds[ranked] != "label_issue") & (memorization[ranked] > 0)][:_FALLBACK_MEMORIZED]
    shown_memorized = (memorized if len(memorized) else nearest)[:MOST_MEMORIZED].tolist()
    shown_issues = issues[:MOST_ISSUES].tolist()
    on_dev = audit.column("influence_on_dev")
    factor, unit = scaled_unit(on_dev[[*shown_issues, *shown_memorized]].tolist(), run.loss.unit)
    groups, all_groups = group_rows(run, audit, explanations)
    group_factor, group_unit = scaled_unit(
        [value for row in groups for value in (row.on_dev, row.on_targets) if value is not None],
        run.loss.unit,
    )
    data = {
        "kind": gallery.kind(),
        "features": gallery.feature_names(),
        "issues": [_audited(audit, gallery, row, factor) for row in shown_issues],
        "memorized": [_audited(audit, gallery, row, factor) for row in shown_memorized],
        "explanations": explanations.items,
        "level": explanations.level,
        "units": {"dev": _short(unit), "score": explanations.unit, "loss": run.loss.unit},
        "regression": not isinstance(run.task, Classification),
        "errors": choice.kind == "errors",
        "name": plain_title(run_name(run)),
    }
    data |= {"instances": gallery.records, "sheets": gallery.album.sheets()}
    return Content(
        name=run_name(run),
        facts=_facts(run),
        summary=_summary(run, accuracy, audit, explanations, trust),
        trust=trust,
        accuracy=accuracy,
        explanations=explanations,
        history=list(run.history),
        loss_unit=run.loss.unit,
        regression=not isinstance(run.task, Classification),
        issues=len(issues),
        memorized=len(memorized),
        instances=len(run.train),
        memorized_kind=bool(len(memorized)),
        influence_unit=unit,
        influence_method=audit.method,
        groups=groups,
        all_groups=all_groups,
        group_unit=group_unit,
        group_factor=group_factor,
        kind=gallery.kind(),
        method=_method(run, explanations, audit),
        data=data,
    )


def _short(unit: str) -> str:
    """A unit for behind a number; of a long one only its power of ten, the rest stands in the text."""
    if len(unit) <= 12:
        return f"\u00a0{unit}"
    return f"\u00a0{unit.split(' ')[0]}" if unit.startswith("×") else ""


def run_name(run: Run) -> str:
    """The name of the run's directory."""
    return "run in memory" if run.directory is None else run.directory.path.resolve().name


def _audited(audit: Audit, gallery: Gallery, row: int, factor: float) -> dict[str, Any]:
    """One row of the audit. ``dev`` is in the page's unit, ``influence_on_dev`` in that of the loss."""
    record: dict[str, Any] = {"i": gallery.train(row), "to": str(audit.table["suggested_label"][row].as_py())}
    for name in ("p_wrong", "memorization", "influence_on_dev", "p_own", "p_flipped", "p_full"):
        if name in audit.table.column_names:
            record[name] = number(audit.table[name][row].as_py())
    influence_on_dev = record["influence_on_dev"]
    return record | {"dev": None if influence_on_dev is None else number(influence_on_dev * factor)}


def _facts(run: Run) -> list[tuple[str, str]]:
    source = run.config.get("source")
    where = source.get("path") or source.get("name") or "" if isinstance(source, dict) else source
    sizes = ", ".join(f"{count(len(data))} {name}" for name, data in run.splits.items())
    facts = [
        ("Data", str(where) if where else "given from Python"),
        ("Instances", sizes),
        ("Model", _model(run)),
    ]
    if isinstance(run.task, Classification):
        facts.append(("Task", f"classification, {count(len(run.task.classes))} classes"))
    else:
        facts.append(("Task", "regression"))
    if run.train.groups is not None:
        facts.append(
            ("Groups", f"{count(len(set(run.train.groups.tolist())))}; members of a group share one mask")
        )
    return [*facts, ("Report made", datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"))]


def _model(run: Run) -> str:
    spec = run.config.get("model_spec")
    name = spec.get("name") if isinstance(spec, dict) else None
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    kind = type(run.model).__name__ + (f" ({name})" if name and name != "auto" else "")
    return f"{kind}, {count(parameters)} parameters"


def _summary(
    run: Run, accuracy: Accuracy, audit: Audit, explanations: Explanations, trust: Trust
) -> list[str]:
    sentences = []
    best = accuracy.of("test") or accuracy.of("dev")
    if best is None:
        sentences.append(
            "There are no test or dev instances, so how well the model predicts unseen data is not known."
        )
    elif isinstance(run.task, Classification):
        sentences.append(f"Accuracy {percent(best.main)} on {best.name} ({count(best.instances)} instances).")
    else:
        sentences.append(
            f"Typical error (RMSE) {significant(best.main)} on {best.name} ({count(best.instances)} instances), "
            f"R² {significant(best.second)}."
        )
    what, n = "value" if not isinstance(run.task, Classification) else "label", len(audit.issues)
    share = f"{count(n)} of {count(len(run.train))} training {what}s ({percent(n / len(run.train))})"
    sentences.append(
        f"{share} {'is' if n == 1 else 'are'} suspected to be wrong."
        if n
        else f"No training {what} is suspected to be wrong."
    )
    counts = audit.counts()
    if isinstance(run.task, Classification):
        memorized = counts["memorized"]
        sentences.append(
            f"{count(memorized) if memorized else 'No'} other{'' if memorized == 1 else 's'} {'is' if memorized == 1 else 'are'} known only by heart."
        )
    if explanations.choice.kind == "errors":
        wrong, among = explanations.choice.found, explanations.choice.among
        sentences.append(
            f"{count(wrong)} of {count(among)} {explanations.choice.split} predictions "
            f"{'is' if wrong == 1 else 'are'} wrong; {count(len(explanations.choice))} explained below."
        )
    return [*sentences, trusting.summary(trust)]


def _method(run: Run, explanations: Explanations, audit: Audit) -> list[tuple[str, str]]:
    layers = "; ".join(
        f"{name}: {layer.units} units, keep rate {layer.keep:g}" for name, layer in run.layers.items()
    )
    box = [
        ("Influence scores", f"{explanations.method or '–'}, on {run.loss.name}, in {run.loss.unit}"),
        ("Influence on dev", audit.method or "not computed: no dev split"),
        ("Masked layers", layers),
    ]
    options = run.config.get("options")
    if isinstance(options, dict):
        shown = ("epochs", "batch_size", "learning_rate", "optimizer", "seed")
        box.append(
            (
                "Training",
                ", ".join(f"{name.replace('_', ' ')} {options[name]}" for name in shown if name in options),
            )
        )
    spec = run.config.get("model_spec")
    if isinstance(spec, dict) and "seed" in spec:
        box.append(("Mask seed", str(spec["seed"])))
    box.append(("Run fingerprint", run.fingerprint()))
    box.append(
        ("Versions", f"whence {_version()}, torch {torch.__version__}, Python {platform.python_version()}")
    )
    return box


def _version() -> str:
    try:
        return metadata.version("whence")
    except metadata.PackageNotFoundError:
        return "(not installed)"
