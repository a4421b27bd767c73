"""What the head of a report and its method box say: the run in a few words and numbers."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from importlib import metadata

import torch

from whence.auditing import Audit
from whence.data import Classification
from whence.reporting.accuracy import Accuracy
from whence.reporting.explanations import Explanations
from whence.reporting.figures import count, percent, significant
from whence.reporting.findings import verdict
from whence.reporting.trust import Trust
from whence.run import Run

__all__ = ["facts_of", "method_of", "run_name", "summary_of"]

_MOST_LAYERS = 8  # that are named one by one


def run_name(run: Run) -> str:
    """The name of the run's directory."""
    return "run in memory" if run.directory is None else run.directory.path.resolve().name


def facts_of(run: Run) -> list[tuple[str, str]]:
    """What was run on what: (what, value) pairs."""
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
        facts.append(("Groups", f"{count(len(set(run.train.groups.tolist())))}; members of a group share one mask"))
    return [*facts, ("Report made", datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"))]


def _model(run: Run) -> str:
    spec = run.config.get("model_spec")
    name = spec.get("name") if isinstance(spec, dict) else None
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    kind = type(run.model).__name__ + (f" ({name})" if name and name != "auto" else "")
    return f"{kind}, {count(parameters)} parameters"


def summary_of(run: Run, accuracy: Accuracy, audit: Audit, explanations: Explanations, trust: Trust) -> list[str]:
    """The findings of the report, a sentence each."""
    sentences = []
    best = accuracy.of("test") or accuracy.of("dev")
    if best is None:
        sentences.append("There are no test or dev instances, so how well the model predicts unseen data is not known.")
    elif isinstance(run.task, Classification):
        sentences.append(f"Accuracy {percent(best.main)} on {best.name} ({count(best.instances)} instances).")
    else:
        sentences.append(
            f"Typical error {significant(best.main)} on {best.name} ({count(best.instances)} instances), "
            f"R² {significant(best.second)}."
        )
    what, n = "value" if not isinstance(run.task, Classification) else "label", len(audit.issues)
    share = f"{count(n)} of {count(len(run.train))} training {what}s ({percent(n / len(run.train))})"
    sentences.append(
        f"{share} {'is' if n == 1 else 'are'} suspected to be wrong{_doubt(audit)}."
        if n
        else f"No training {what} is suspected to be wrong."
    )
    counts = audit.counts()
    if isinstance(run.task, Classification):
        memorized = counts["memorized"]
        sentences.append(
            f"{count(memorized) if memorized else 'No'} other{'' if memorized == 1 else 's'} "
            f"{'is' if memorized == 1 else 'are'} known only by heart."
        )
    if explanations.choice.kind == "errors":
        wrong, among = explanations.choice.found, explanations.choice.among
        shown = "all" if wrong > 1 and len(explanations.choice) == wrong else count(len(explanations.choice))
        sentences.append(
            f"{count(wrong)} of {count(among)} {explanations.choice.split} predictions "
            f"{'is' if wrong == 1 else 'are'} wrong; {shown} explained below."
        )
    return [*sentences, verdict(trust)]


def _doubt(audit: Audit) -> str:
    if audit.caveat is None:
        return ""
    return f", few beside the {percent(audit.dev_error)} of unseen instances on which the model errs"


def method_of(run: Run, explanations: Explanations, audit: Audit) -> list[tuple[str, str]]:
    """How the numbers were made: (what, value) pairs."""
    named = [f"{name}: {layer.units} units, keep rate {layer.keep:g}" for name, layer in run.layers.items()]
    layers = "; ".join(named[:_MOST_LAYERS])
    if more := list(run.layers.values())[_MOST_LAYERS:]:
        layers += f"; {len(more)} more, {count(sum(layer.units or 0 for layer in more))} units"
    box = [
        ("Influence scores", f"{explanations.method or 'none'}, on {run.loss.name}, in {run.loss.unit}"),
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
    box.append(("Versions", f"whence {_version()}, torch {torch.__version__}, Python {platform.python_version()}"))
    return box


def _version() -> str:
    try:
        return metadata.version("whence")
    except metadata.PackageNotFoundError:
        return "(not installed)"
