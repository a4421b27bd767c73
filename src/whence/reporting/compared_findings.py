"""What a reader has to know before believing a comparison of two runs, in plain words."""

from __future__ import annotations

import math
from collections.abc import Callable

from whence.comparison import Comparison
from whence.comparison.paired import Difference
from whence.reporting.figures import count, percent, points, significant, signed
from whence.reporting.findings import Finding, Level

__all__ = ["compared_findings"]


def compared_findings(comparison: Comparison, names: tuple[str, str]) -> list[Finding]:
    """Which run is better, what the difference can be due to, whether both name the same rows, and suspect the same labels."""
    return [_better(comparison, names), _due_to(comparison), _rankings(comparison), _issues(comparison, names)]


def _better(comparison: Comparison, names: tuple[str, str]) -> Finding:
    main, title = comparison.paired.main, f"Does {names[0]} predict better than {names[1]}?"
    shown = _shown(main)
    paired = comparison.paired
    text = f"{main.name[0].upper()}{main.name[1:]} differs by {shown(main.value)}; 95 % interval {shown(main.low)} to {shown(main.high)}"
    if main.p is not None:
        text += (f". Of {count(len(paired.gained) + len(paired.lost))} instances that only one of them gets right, it is {names[0]} "
                 f"{count(len(paired.gained))} times (McNemar’s exact test: p = {significant(main.p, 2)})")  # fmt: skip
    text = f"{text}, on {count(len(comparison.shared.held_out))} {comparison.shared.split} instances."
    if comparison.shared.changed:
        text += f" {count(comparison.shared.changed)} more have another label or content in the other run and are left out."
    levels: dict[int, tuple[Level, str]] = {
        1: ("good", f"yes, by {shown(abs(main.value)).lstrip('+')}"),
        -1: ("poor", f"no, worse by {shown(abs(main.value)).lstrip('+')}"),
        0: ("unknown", "cannot be told"),
    }
    level, value = levels[main.verdict]
    return Finding(level, title, value, text.replace(" %", "\u00a0%"))


def _due_to(comparison: Comparison) -> Finding:
    title = "What can the difference be due to?"
    settings, shared = comparison.settings, comparison.shared
    if comparison.only_seeds:
        return Finding("good", title, "the seed alone", "Nothing else differs. What separates these runs is what chance does to training, and "
                       "what both say can be believed more than what one says.")  # fmt: skip
    differs = []
    data = len(shared.only_first) + len(shared.only_second) + int((~shared.train.labels).sum())
    if data:
        differs.append(f"training data ({count(data)} instances)")
    kinds = dict.fromkeys(setting.name.split(":")[0] for setting in settings)
    differs += [kind for kind in kinds if kind != "data" or not data]
    text = ("The interval is over held-out instances: it says what others of their kind would show, not what training again would. One "
            "training of each cannot tell a better setting from a lucky seed; fit each with several seeds to know.")  # fmt: skip
    return Finding("caution", title, "several things" if len(differs) > 1 else differs[0] if differs else "nothing known",
                   f"They differ in {', '.join(differs)}; the list is below. {text}" if differs else text)  # fmt: skip


def _rankings(comparison: Comparison) -> Finding:
    title, rankings = "Do both name the same training instances?", comparison.rankings
    if rankings.level == "group":
        title = "Do both name the same groups?"
    if rankings.unknown is not None or not math.isfinite(rankings.agreement):
        why = rankings.unknown or "the scores of one run are constant"
        return Finding("unknown", title, "not known", f"{why[0].upper()}{why[1:]}.")
    value = rankings.agreement
    level: Level = "good" if value >= 0.5 else "caution" if value >= 0.2 else "poor"
    text = (f"Scores of {count(len(rankings.rows[0]))} shared training {rankings.level}s on {count(len(rankings.per_target))} predictions, method "
            f"{rankings.method}: mean Spearman correlation {value:.2f} (0 is chance, 1 the same order).")  # fmt: skip
    if math.isfinite(rankings.overlap):
        text += (f" Of the {rankings.top} most helpful or harmful of a prediction in one run, {percent(rankings.overlap)} are so in the other "
                 f"(by chance {percent(rankings.chance)}).")  # fmt: skip
    return Finding(level, title, {"good": "mostly", "caution": "partly", "poor": "hardly"}[level], f"{text} Those marked “both” are the ones to believe.")


def _issues(comparison: Comparison, names: tuple[str, str]) -> Finding:
    issues, title = comparison.issues, "Do both suspect the same labels?"
    either = len(issues.both) + len(issues.only_first) + len(issues.only_second)
    if not either:
        return Finding("good", title, "neither suspects any", f"Among {count(issues.compared)} training instances that both have with the same label.")
    level: Level = "good" if issues.overlap >= 0.6 else "caution" if issues.overlap >= 0.3 else "poor"
    text = (f"Of {count(issues.compared)} training instances that both have with the same label, both suspect {count(len(issues.both))} "
            f"(by chance {significant(issues.expected, 2)}), only {names[0]} {count(len(issues.only_first))}, only {names[1]} "
            f"{count(len(issues.only_second))}.")  # fmt: skip
    if math.isfinite(issues.suspicion):
        text += f" Their suspicions correlate at Spearman {signed(issues.suspicion, 2)}"
        text += f", influence on dev at {signed(issues.influence, 2)}." if math.isfinite(issues.influence) else "."
    return Finding(level, title, f"{percent(issues.overlap)} of them", text)


def _shown(difference: Difference) -> Callable[[float], str]:
    """How differences of a quantity are written."""
    return points if difference.name == "accuracy" else lambda value: f"{signed(value)} {difference.unit}".strip()
