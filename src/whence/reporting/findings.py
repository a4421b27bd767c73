"""What a reader has to know before believing a score: three findings about a run, in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from whence.groups import HARMS, HELPS, GroupEffects
from whence.reporting.figures import count, significant
from whence.reporting.trust import Trust

__all__ = ["Finding", "Level", "findings", "verdict"]

Level: TypeAlias = Literal["good", "caution", "poor", "unknown"]
_METHODS = {
    "turnover": "turn-over",
    "first_order": "first-order turn-over",
    "kernel": "last-layer kernel",
    "kronecker": "all-layer kernel",
}
_SCALE = "Isolation is the share of the gap between own and dev loss that the flipped mask restores"


@dataclass(frozen=True)
class Finding:
    """One thing to know before believing a score.

    Attributes:
        level: how it bears on trust.
        title: the question it answers.
        value: the answer in a word or a number.
        text: the answer in plain words.
        command: what to type to know more.
    """

    level: Level
    title: str
    value: str
    text: str
    command: str = ""


def findings(trust: Trust, caveat: str | None = None) -> list[Finding]:
    """The scores shown, groups where there are such, published turn-over scores, isolation, and the audit's caveat."""
    found = [_shown(trust), _floor(trust), _isolation(trust)]
    if trust.groups is not None:
        found.insert(1, _groups(trust.groups))
    if caveat is not None:
        text = f"{caveat} Those at the top of the list are still the first to look at.".replace(" %", "\u00a0%")
        found.append(Finding("caution", "Are the suspected labels wrong?", "many may be right", text))
    return found


def verdict(trust: Trust) -> str:
    """What is known of the scores that the page shows, in one sentence."""
    if trust.groups is not None:
        return trust.groups.sentence()
    if not trust.has_null:
        return f"The influence lists use {_method(trust)} scores: leads to follow, with no test against chance."
    if trust.floor is None:
        return "The influence scores were not compared with chance."
    how = "are mostly noise" if trust.floor.is_mostly_noise else "are more than chance"
    if trust.floor.is_noise:
        few = f" as a whole; {trust.floor.exceptions} can" if trust.floor.called else ""
        how = f"cannot be told from chance{few}"
    return f"The influence lists use {_method(trust)} scores of {_rows(trust)}, which {how}."


def _shown(trust: Trust) -> Finding:
    title = "Can the influence scores on this page be trusted?"
    method = _method(trust)
    if not trust.has_null:
        return Finding(
            "caution",
            title,
            "as leads",
            f"They are {method} scores. This method compares gradients, not masks, so no test against "
            "chance comes with it. Their order means more than their size. To check them, fit again with another seed, and "
            "compare: training instances that only one run names are accidents of its seed; those that both name are none, "
            "which does not make them right.",
            "whence report RUN --against OTHER",
        )
    if trust.floor is None:
        return Finding("unknown", title, "unknown", "They could not be compared with chance.")
    if trust.floor.is_noise:
        few = f"; by their mean over targets, {trust.floor.exceptions} can" if trust.floor.called else ""
        return Finding(
            "poor",
            title,
            "few" if few else "no",
            f"They are {method} scores of {_rows(trust)}, and as a whole they cannot be told from chance{few} "
            "(see below). Do not act on the order of these lists.",
        )
    if trust.floor.is_mostly_noise:
        return Finding(
            "poor",
            title,
            "hardly",
            f"They are {method} scores of {_rows(trust)}; there is some signal in them, but more noise "
            "(see below). Do not act on a single one.",
        )
    return Finding(
        "good" if trust.level == "group" else "caution",
        title,
        "as leads",
        f"They are {method} scores of {_rows(trust)}, and more of them are large than chance would explain "
        "(see below). Those far beyond the noise mean something; small ones do not.",
    )


def _floor(trust: Trust) -> Finding:
    rows = f"{_rows(trust)} on single predictions" if trust.level == "group" else _rows(trust)
    title = f"Are published turn-over scores of {rows} more than noise here?"
    comparison = ""
    if not trust.has_null:
        title = f"For comparison: would published turn-over scores of {rows} be more than noise here?"
        comparison = (
            f"The lists on this page do not use these scores but {_method(trust)} scores; the published ones are "
            "shown for comparison only. "
        )
    if trust.floor is None:
        why = "" if trust.untested is None else f" {trust.untested[0].upper()}{trust.untested[1:]}"
        text = f"{comparison}The comparison with masks never trained on could not be made.{why}"
        return Finding("unknown", title, "not measured", text)
    exact = "" if trust.floor_method == "turnover" else " (in their first-order form)"
    targets = f"{count(trust.targets)} {trust.target_set} instance{'' if trust.targets == 1 else 's'}"
    text = (
        f"{comparison}{trust.floor.verdict()} Measured{exact} for {count(trust.rows)} {trust.level}s on {targets}, "
        f"against {count(trust.floor.masks)} masks that no {trust.level} ever had. Their spread is "
        f"{significant(trust.floor.excess)} times that of pure noise, as a variance (chance: 1)."
    ).replace(" %", "\u00a0%")
    if trust.groups is not None:
        text += " The mean over many targets, by which groups are judged, has far less noise."
    if trust.floor.is_noise and trust.floor.called:
        return Finding("caution", title, trust.floor.exceptions, text)
    if trust.floor.is_noise:
        return Finding("poor", title, "no", text)
    if trust.floor.is_mostly_noise:
        return Finding("poor", title, "mostly noise", text)
    return Finding("good", title, "yes", text)


def _groups(groups: GroupEffects) -> Finding:
    title = "Which groups can be told to harm or help?"
    counts = groups.counts()
    harm, help = counts[HARMS], counts[HELPS]
    if groups.alone is None:
        how = ("A group is called where two estimates agree, its published turn-over effect and the summed kernel scores of its "
               "members, and the published one is more than chance")  # fmt: skip
    else:
        how = ("A group is called where its published turn-over effect is more than chance; there is no second estimate, "
               f"because {groups.alone}")  # fmt: skip
    share = f"q ≤\u00a0{groups.level:g}: about {100 * groups.level:g}\u00a0% of the calls are chance"
    text = f"{groups.sentence()} {how} ({share})."
    if not harm + help:
        return Finding("poor", title, "none", f"{text} Do not act on the order of the table of groups.")
    said = [
        f"{count(number)} {verb}{'s' * (number == 1)}" for number, verb in ((harm, "harm"), (help, "help")) if number
    ]
    return Finding("good", title, ", ".join(said), f"{text} The others may harm or help too: this run cannot tell.")


def _isolation(trust: Trust) -> Finding:
    title = "Did the flipped sub-networks really not learn the instance?"
    losses = (
        f"Mean loss in {trust.unit}: own mask {significant(trust.own_loss)}, "
        f"flipped mask {significant(trust.flipped_loss)}"
    )
    if trust.dev_loss is None:
        text = f"{losses}. Isolation compares them with unseen data, and this run has no dev split."
        return Finding("unknown", title, "isolation unknown", text)
    losses += f", unseen dev instances {significant(trust.dev_loss)}."
    if trust.isolation is None:
        text = f"{losses} Dev loss is not above own loss: there is no gap that could leak."
        return Finding("unknown", title, "isolation undefined", text)
    level, meaning = _meaning(trust.isolation)
    text = f"{losses} {_SCALE}: {meaning}"
    if trust.batch_norms:
        layers = "one layer" if trust.batch_norms == 1 else f"{trust.batch_norms} layers"
        text += (f" The statistics of {layers} of batch normalization hold every instance, whatever its mask; what that "
                 "tells the flipped sub-network is part of this figure.")  # fmt: skip
    return Finding(level, title, f"isolation {significant(trust.isolation)}", text)


def _meaning(isolation: float) -> tuple[Level, str]:
    if isolation < 0.2:
        return "poor", (
            "near 0, the sub-network knows the instance anyway, because it leaked through layers without "
            "masks. Read out-of-sample numbers as in-sample ones."
        )
    if isolation < 0.75:
        return "caution", (
            "here only part of it. Some knowledge leaks around the masks, so label errors that the model "
            "knows by heart can be missed."
        )
    if isolation <= 1.25:
        return "good", (
            "near 1, the flipped sub-network treats the instance like unseen data. Its predictions can "
            "stand in for cross-validation."
        )
    return "caution", (
        "above 1, it does worse than on unseen data, because other instances trained its units against "
        "this one, or because training labels hold more errors than dev labels. Rankings stay useful; its "
        "probabilities are too pessimistic."
    )


def _method(trust: Trust) -> str:
    return _METHODS.get(trust.method, trust.method)


def _rows(trust: Trust) -> str:
    return "groups" if trust.level == "group" else "single instances"
