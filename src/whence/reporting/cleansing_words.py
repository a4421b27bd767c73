"""What a report says of a cleansing, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from whence.cleansing.amounts import SIGNIFICANT
from whence.cleansing.comparing import GAIN, HARM, MIXED, UNSEEN
from whence.cleansing.kept import Kept, KeptStep
from whence.errors import WhenceError
from whence.reporting.figures import count, percent, plain_title
from whence.reporting.findings import Finding, Level

__all__ = ["LONGEST", "amounts_of", "finding_of", "left_out_of", "marked_of", "method_of", "nothing_of", "said_by_file"]

LONGEST = 600  # characters of what a file says
_NAMED = 3  # refusals that are told
_GIVEN = "given"  # how an amount of rows that the user named is called
_DONE = {"drop": "dropped", "relabel": "relabeled"}
_LEVELS: dict[str, Level] = {GAIN: "good", UNSEEN: "unknown", MIXED: "caution", HARM: "poor"}


def method_of(one: Kept) -> list[str]:
    """How rows were chosen and the change was judged, in sentences."""
    what = "Groups to drop" if one.level == "group" else "Rows to drop" if one.action == "drop" else "Labels to change"
    given = one.asked.keys() == {_GIVEN}
    sentences = [f"{what}: those that were given." if given else f"{what}: {', '.join(one.asked)}, by {one.by}."]
    if one.steps:
        sentences.append(f"Each change and each control was trained from {one.seeds} seeds and judged on {count(one.targets)} "
                         f"{one.target_set} instances.")  # fmt: skip
    return list(map(said_by_file, sentences))


def amounts_of(one: Kept, step: KeptStep) -> str:
    """The amounts that turned out to be this step, as the user wrote them."""
    return said_by_file(", ".join(name for name, units in one.asked.items() if units == step.units) or step.amount)


def finding_of(one: Kept, step: KeptStep, instances: int) -> Finding:
    """The verdict on one amount, of so many training instances."""
    done, units = _DONE[one.action], "group" if one.level == "group" else "instance"
    rows = f"{count(step.rows)} of {count(instances)} training instances {done} ({percent(step.rows / instances)})"
    if one.level == "group":
        rows = f"{count(step.units)} group{'s' * (step.units != 1)}, {rows}"
    text = said_by_file(step.sentence).removeprefix(step.verdict).lstrip(": ")
    text = f"{text[:1].upper()}{text[1:]}."
    if step.sure == 0:
        text += f" Of no {units} among these can it be said with 95\u00a0% confidence that it does harm on dev."
    elif step.sure is not None:
        does = "does" if step.sure == 1 else "do"
        text += f" Of these {units}s at least {count(step.sure)} {does} harm on dev, with 95\u00a0% confidence."
    elif step.false_share is not None:
        text += f" {percent(step.false_share)} of these labels are expected to be right."
    return Finding(_LEVELS[step.verdict], f"{amounts_of(one, step)}: {rows}", step.verdict, text)


def nothing_of(one: Kept) -> list[Finding]:
    """Of the amounts for which there was nothing to change."""
    empty = [name for name, units in one.asked.items() if not units]
    if not empty:
        return []
    lacks = "is called at a false-discovery rate of 5\u00a0%" if SIGNIFICANT in empty else "seems to do harm"
    why = f"No {one.level} {lacks}, by {said_by_file(one.by)}."
    return [Finding("unknown", said_by_file(", ".join(empty)), f"nothing to {one.action}", why)]


def marked_of(one: Kept, titles: Sequence[str]) -> str:
    """What cleansed.parquet says, whose steps are called so."""
    if not one.steps:
        return ""
    if one.best is None:
        return "Each change does harm, so none is marked in cleansed.parquet."
    said = f"cleansed.parquet marks the {count(one.steps[one.best].rows)} rows of “{titles[one.best]}”"
    why = {GAIN: "", MIXED: ", because that was asked for: something got better, and something worse"}
    return said + why.get(one.verdict, ", because that was asked for, not because it was found to help") + "."


def left_out_of(refused: Sequence[WhenceError], more: int) -> Finding | None:
    """Which cleansings are not shown: those refused, and so many more; None where all are."""
    left = len(refused) + more
    if not left:
        return None
    said = [str(error) for error in refused[:_NAMED]]
    if rest := left - len(said):
        said.append(f"{count(rest)} more {'is' if rest == 1 else 'are'} not shown.")
    return Finding("caution", "Are all cleansings in the run's directory shown?",
                   f"{count(left)} {'is' if left == 1 else 'are'} left out", plain_title(" ".join(said)))  # fmt: skip


def said_by_file(text: str) -> str:
    """Words of a file as part of a sentence: in one line, of one direction, not without end."""
    return plain_title(text[:LONGEST])
