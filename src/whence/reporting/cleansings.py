"""What retraining said of changes of the training data: the cleansings that lie in the run's directory, as a report shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from whence.cleansing.comparing import Difference
from whence.cleansing.kept import Kept, KeptStep, kept
from whence.cleansing.measures import Measure
from whence.cleansing.results import KEEP
from whence.cleansing.treatments import DROPPED, NONE, OTHER_GROUPS, RANDOM, SAME_LABELS
from whence.data.tasks import well_formed
from whence.reporting.cleansing_words import (
    LONGEST,
    amounts_of,
    finding_of,
    left_out_of,
    marked_of,
    method_of,
    nothing_of,
    said_by_file,
)
from whence.reporting.figures import scaled_unit
from whence.reporting.findings import Finding
from whence.reporting.intervals import Estimate
from whence.run import Run

__all__ = ["Chart", "Cleansings", "Experiment", "Line", "Marks", "TouchedRow", "gather_cleansings"]

_MOST, _LISTED = 20, 60  # cleansings that are shown, rows that each links to
_TINY = 1e-3  # of smaller differences more digits are written, and powers of ten are drawn
_SHORT = {
    NONE: "no change",
    DROPPED: "rows dropped",
    RANDOM: "random rows",
    OTHER_GROUPS: "other groups",
    SAME_LABELS: "same labels",
}

Marks: TypeAlias = dict[int, list[list[Any]]]
"""Training row → of each cleansing that changes it [its number, reason, new label or None]."""


@dataclass(frozen=True)
class Chart:
    """Differences of one measure: axis is what and in which unit, sides what left and right of zero mean."""

    axis: str
    sides: tuple[str, str]
    estimates: list[Estimate]
    confidence: float


@dataclass(frozen=True)
class Line:
    """What a change is held against, and of each measure the difference, its interval, and "better", "worse" or ""."""

    against: str
    cells: list[tuple[str, str, str]]


@dataclass(frozen=True)
class TouchedRow:
    """A training instance that an amount changes.

    Attributes:
        name, given, label: as the user wrote them; label is None where it is not changed. group: None unless groups are changed.
        amount: the first that changes it; marked: whether the cleansing stands by that.
        score, q: of the ranking.
    """

    name: str
    given: str
    label: str | None
    group: str | None
    amount: str
    marked: bool
    score: float
    q: float


@dataclass(frozen=True)
class Experiment:
    """One cleansing.

    Attributes:
        name: its own; action, verdict: as in ``Kept``; method: how rows were chosen and judged, in sentences.
        findings: the verdict on each amount; where nothing was changed, why.
        charts: of each measure.
        columns: measures with their units; before: their values with no change.
        tables: of each amount its title, and its lines.
        marked: what cleansed.parquet says.
        touched: of the changed training instances those listed, and all_touched how many there are.
        score: what they were ranked by; basis: what q rests on.
    """

    name: str
    action: str
    verdict: str
    method: list[str]
    findings: list[Finding]
    charts: list[Chart]
    columns: list[str]
    before: list[str]
    tables: list[tuple[str, list[Line]]]
    marked: str
    touched: list[TouchedRow]
    all_touched: int
    score: str
    basis: str


@dataclass(frozen=True)
class Cleansings:
    """Attributes:
    experiments: those that are shown, by name.
    left_out: what is not shown and why; None where all is.
    listed: int64, in order, training rows that the page links to, which it has to list.
    marks: of rows that cleansings change.
    """

    experiments: list[Experiment]
    left_out: Finding | None
    listed: np.ndarray
    marks: Marks = field(repr=False)


def gather_cleansings(run: Run) -> Cleansings:
    """The finished cleansings of this run, as it is now; none where it has none."""
    found, refused = kept(run)
    shown, listed = found[:_MOST], []
    marks: Marks = {}
    experiments = []
    for number, one in enumerate(shown):
        touched = _touched(one)
        listed.append(touched[:_LISTED])
        experiments.append(_experiment(run, one, touched))
        _mark(marks, one, number)
    return Cleansings(experiments, left_out_of(refused, len(found) - len(shown)),
                      np.unique(np.concatenate([np.empty(0, np.int64), *listed])), marks)  # fmt: skip


def _experiment(run: Run, one: Kept, touched: np.ndarray) -> Experiment:
    titles = [amounts_of(one, step) for step in one.steps]
    digits = {measure.name: _digits(one, measure) for measure in one.measures}
    return Experiment(
        name=one.name,
        action=one.action,
        verdict=one.verdict,
        method=method_of(one),
        findings=[finding_of(one, step, len(run.train)) for step in one.steps] + nothing_of(one),
        charts=[_chart(measure, one.steps, titles) for measure in one.measures if one.steps],
        columns=[f"{_name(measure)} ({measure.unit})" for measure in one.measures],
        before=[
            f"{measure.scale * one.before[measure.name]:.{1 if measure.scale != 1 else 4}f}" for measure in one.measures
        ],
        tables=[(title, _lines(step, one.measures, digits)) for title, step in zip(titles, one.steps, strict=True)],
        marked=marked_of(one, titles),
        touched=_rows(run, one, touched[:_LISTED], titles),
        all_touched=len(touched),
        score=said_by_file(f"{one.score} ({one.unit})" if one.unit else one.score),
        basis=said_by_file(one.basis),
    )


def _chart(measure: Measure, steps: Sequence[KeptStep], titles: Sequence[str]) -> Chart:
    differences = [(title, one) for title, step in zip(titles, steps, strict=True) for one in step.differences
                   if one.measure == measure]  # fmt: skip
    factor, unit = float(measure.scale), measure.unit
    largest = max(abs(end) for _, one in differences for end in (one.low, one.high)) * factor
    if 0 < largest < _TINY:
        power, unit = scaled_unit([largest], unit)
        factor *= power
    estimates = [
        Estimate(_SHORT[one.against], one.mean * factor, one.low * factor, one.high * factor,
                 {1: "helps", -1: "hurts"}.get(one.sign, "unclear"), title if len(steps) > 1 else "")
        for title, one in differences
    ]  # fmt: skip
    sides = ("worse", "better") if measure.better > 0 else ("better", "worse")
    return Chart(f"{_name(measure)} ({unit})", sides, estimates, 1 - differences[0][1].level)


def _lines(step: KeptStep, measures: Sequence[Measure], digits: dict[str, int]) -> list[Line]:
    references = dict.fromkeys(one.against for one in step.differences)
    return [Line(against, [_cell(step.of(measure.name, against), digits[measure.name]) for measure in measures])
            for against in references]  # fmt: skip


def _cell(one: Difference, digits: int) -> tuple[str, str, str]:
    mean, low, high = (_signed(one.measure.scale * value, digits) for value in (one.mean, one.low, one.high))
    said = "none changed" if one.same else f"{low} to {high}"
    return mean, said, {1: "better", -1: "worse"}.get(one.sign, "")


def _digits(one: Kept, measure: Measure) -> int:
    """The decimal places of a measure's differences: those of the command line, or as many as the largest one needs."""
    differences = [each for step in one.steps for each in step.differences if each.measure == measure]
    largest = max((abs(end) for each in differences for end in (each.low, each.high)), default=0.0)
    if measure.scale != 1:
        return 1
    return min(12, 2 - math.floor(math.log10(largest))) if 0 < largest < _TINY else 4


def _touched(one: Kept) -> np.ndarray:
    """int64: the training rows that an amount changes, those of the first amounts and of the most extreme scores first."""
    step = np.array([number or 0 for number in one.table["step"].to_pylist()], np.int64)
    size = -np.nan_to_num(np.abs(one.table["score"].to_numpy()))
    order = np.lexsort((size, step))
    return order[step[order] > 0]


def _rows(run: Run, one: Kept, rows: np.ndarray, titles: Sequence[str]) -> list[TouchedRow]:
    names = run.train.groups if run.train.group_names is None else run.train.group_names
    found = []
    for row, entry in zip(rows.tolist(), one.table.take(rows).to_pylist(), strict=True):
        group = well_formed(names[row]) if one.level == "group" and names is not None else None
        label = entry["label"] if entry["action"] == "relabel" else None
        found.append(TouchedRow(run.train.name_of(row), entry["given_label"], label, group, titles[entry["step"] - 1],
                                entry["action"] != KEEP, entry["score"], entry["q"]))  # fmt: skip
    return found


def _mark(marks: Marks, one: Kept, number: int) -> None:
    for row, entry in enumerate(one.table.select(["action", "reason", "label"]).to_pylist()):
        if entry["action"] != KEEP:
            label = entry["label"] if entry["action"] == "relabel" else None
            marks.setdefault(row, []).append([number, entry["reason"][:LONGEST], label])


def _name(measure: Measure) -> str:
    return measure.name.replace("_", " ")


def _signed(value: float, digits: int) -> str:
    shown = round(value, digits)
    return f"{shown:+.{digits}f}".replace("-", "\u2212") if shown else f"{0:.{digits}f}"
