"""What a reader has to know before believing a comparison of two runs, in plain words."""

from __future__ import annotations

import math
from collections.abc import Callable

from whence.comparison import Comparison
from whence.comparison.paired import Difference
from whence.estimators.random_features import are_pictures
from whence.reporting.figures import count, percent, points, signed, significant
from whence.reporting.findings import Finding, Level

__all__ = ["compared_findings"]

_MOSTLY, _PARTLY = 0.5, 0.2  # Spearman correlation of scores
_SAME, _MANY = 0.6, 0.3  # share of suspected labels that both suspect
_ONE_TRAINING = (
    "The interval is over held-out instances: it says what others of their kind would show, not what training again would. "
    "One training of each cannot tell a better setting from a lucky seed; fit each with several seeds to know."
)


def compared_findings(comparison: Comparison, names: tuple[str, str]) -> list[Finding]:
    """Which run is better, what the difference can be due to, whether both name the same rows, and suspect the same labels."""
    return [_better(comparison, names), _due_to(comparison), _rankings(comparison), _issues(comparison, names)]


def _better(comparison: Comparison, names: tuple[str, str]) -> Finding:
    paired, shared, main = comparison.paired, comparison.shared, comparison.paired.main
    shown, gained, lost = _shown(main), len(paired.gained), len(paired.lost)
    title = f"Does {names[0]} predict better than {names[1]}?"
    text = (
        f"{main.name[0].upper()}{main.name[1:]} differs by {shown(main.value)} on {count(len(shared.held_out))} "
        f"{shared.split} instances; 95 % interval {shown(main.low)} to {shown(main.high)}."
    )
    if main.p is not None and gained + lost:
        text += (
            f" Of {count(gained + lost)} that only one of them gets right, {names[0]} does {count(gained)} "
            f"(McNemar’s exact test: p\u00a0=\u00a0{significant(main.p, 2)})."
        )
    if shared.changed:
        text += f" {count(shared.changed)} more have another label or content in the other run and are left out."
    by = shown(abs(main.value)).lstrip("+")
    levels: dict[int, tuple[Level, str]] = {
        1: ("good", f"yes, by {by}"),
        -1: ("poor", f"no, worse by {by}"),
        0: ("unknown", "cannot be told"),
    }
    level, value = levels[main.verdict]
    return Finding(level, title, value, text.replace(" %", "\u00a0%"))


def _due_to(comparison: Comparison) -> Finding:
    title, shared = "What can the difference be due to?", comparison.shared
    if comparison.only_seeds:
        text = (
            "Nothing else differs. What separates these runs is what chance does to training, and what both say can be "
            "believed more than what one says."
        )
        return Finding("good", title, "the seed alone", text)
    data = len(shared.only_first) + len(shared.only_second) + int((~shared.train.labels).sum())
    sections = dict.fromkeys(setting.name.split(":")[0] for setting in comparison.settings)
    differs = [f"training data ({count(data)} instances)"] if data else []
    differs += [section for section in sections if section != "data" or not data]
    if not differs:
        return Finding("caution", title, "nothing that is known", _ONE_TRAINING)
    value = "several things" if len(differs) > 1 else differs[0]
    return Finding("caution", title, value, f"They differ in {', '.join(differs)}; the list is below. {_ONE_TRAINING}")


def _rankings(comparison: Comparison) -> Finding:
    rankings = comparison.rankings
    title = f"Do both name the same training {'groups' if rankings.level == 'group' else 'instances'}?"
    if rankings.unknown is not None or not math.isfinite(rankings.agreement):
        why = rankings.unknown or "the scores of one run are constant"
        return Finding("unknown", title, "not known", f"{why[0].upper()}{why[1:]}.")
    value = rankings.agreement
    text = (
        f"Scores of {count(len(rankings.rows[0]))} shared training {rankings.level}s on {count(len(rankings.per_target))} "
        f"predictions, method {rankings.method}: mean Spearman correlation {value:.2f} (0 is chance, 1 the same order)."
    )
    if math.isfinite(rankings.overlap):
        text += (
            f" Of the {rankings.top} most helpful or harmful of a prediction in one run, {percent(rankings.overlap)} are so "
            f"in the other (by chance {percent(rankings.chance)})."
        )
    text += (
        " Those that only one run names are accidents of its seed; those marked “both” are none, "
        "which does not make them right."
    )
    if value >= _MOSTLY:
        return Finding("good", title, "mostly", text)
    return Finding("caution", title, "partly", text) if value >= _PARTLY else Finding("poor", title, "hardly", text)


def _issues(comparison: Comparison, names: tuple[str, str]) -> Finding:
    issues, title = comparison.issues, "Do both suspect the same labels?"
    among = f"{count(issues.compared)} training instances that both have with the same label"
    if not math.isfinite(issues.overlap):
        return Finding("good", title, "neither suspects any", f"Of {among}, neither suspects one.")
    text = (
        f"Of {among}, both suspect {count(len(issues.both))} (by chance {significant(issues.expected, 2)}), only {names[0]} "
        f"{count(len(issues.only_first))}, only {names[1]} {count(len(issues.only_second))}."
    )
    if math.isfinite(issues.suspicion):
        text += f" Spearman correlation of their suspicions: {issues.suspicion:.2f}"
        text += f"; of influence on dev: {issues.influence:.2f}." if math.isfinite(issues.influence) else "."
    if are_pictures(comparison.run.train):
        # The regression behind it stands on random convolutions, the same in both (docs/label_errors.md).
        text += " Suspicion of pictures rests mostly on features that no training shapes, so that both agree is no second opinion."
        return Finding("caution", title, f"{percent(issues.overlap)} are the same", text)
    level: Level = "good" if issues.overlap >= _SAME else "caution" if issues.overlap >= _MANY else "poor"
    return Finding(level, title, f"{percent(issues.overlap)} are the same", text)


def _shown(difference: Difference) -> Callable[[float], str]:
    """How differences of a quantity are written."""
    return points if difference.name == "accuracy" else lambda value: f"{signed(value)} {difference.unit}".strip()
