"""What a cleansing found: in words, as a table with a reason for each row, and as data to train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from whence.cleansing.amounts import SIGNIFICANT, Amount
from whence.cleansing.choosing import Ranking
from whence.cleansing.comparing import GAIN, HARM, MIXED, UNSEEN, Difference, beats_all, difference_of
from whence.cleansing.measures import Measure
from whence.cleansing.treatments import NONE, Treatment
from whence.data import Dataset, Regression

__all__ = ["Cleansing", "Step", "sentence"]

KEEP = "keep"


@dataclass(frozen=True, eq=False)
class Step:
    """One amount of data that was changed.

    Attributes:
        amount: as it was asked for.
        units: int64, the units of the ranking that were changed; rows: how many training instances these are.
        sure: how many units do harm at least, with 95 % confidence; None if unknown.
        false_share: of suspected labels, the share that is expected to be right; else NaN.
        differences: of each measure, against no change and each control.
        verdict: "gain", "no detectable gain", "mixed" or "harm" (``comparing.verdict_of``).
    """

    amount: Amount
    units: np.ndarray
    rows: int
    sure: int | None
    false_share: float
    differences: list[Difference]
    verdict: str

    def of(self, measure: str, against: str = NONE) -> Difference:
        """One difference by name."""
        return difference_of(self.differences, measure, against)


@dataclass(frozen=True, eq=False)
class Cleansing:
    """Changes of the training data, and what retraining said of them.

    Attributes:
        ranking: which units were to be changed, in which order, and why.
        steps: one for each amount; none where there was no reason to change anything.
        before: of each measure, its values with no change: float64 [R], one for each seed.
        train: the training data before.
        treatments: the change of each step.
        targets: how many instances models were measured on; target_set: what they are called.
        path: RUN/cleanse/NAME; None without a run directory.
        asked: the amounts that were asked for, and how many units each was found to be.
    """

    ranking: Ranking
    steps: list[Step]
    before: dict[str, np.ndarray]
    train: Dataset = field(repr=False)
    treatments: list[Treatment] = field(repr=False)
    targets: int
    target_set: str
    path: Path | None
    asked: list[tuple[Amount, int]]

    def __repr__(self) -> str:
        tried = ", ".join(f"{self._changed(step)}: {step.verdict}" for step in self.steps)
        return f"Cleansing({tried or 'nothing to change'})"

    @property
    def best(self) -> int | None:
        """The step that is applied: of those with a gain that which surely lowers the loss most, else the largest without harm.

        None where there is none, or each does harm.
        """
        for verdict in (GAIN, UNSEEN, MIXED):
            if among := [number for number, step in enumerate(self.steps) if step.verdict == verdict]:
                if verdict == GAIN:
                    return min(among, key=lambda number: self.steps[number].of("loss").high)
                return max(among, key=lambda number: self.steps[number].rows)
        return None

    @property
    def verdict(self) -> str:
        """That of the step that is applied; "harm" where each does harm."""
        if self.best is None:
            return HARM if self.steps else UNSEEN
        return self.steps[self.best].verdict

    def data(self) -> Dataset:
        """The training data with the change of the best step."""
        return self.train if self.best is None else self.treatments[self.best].data(self.train, 0)

    def table(self) -> pa.Table:
        """A row for each training instance, in the order of the data; nothing is left out, so every change can be undone.

        id, name, action (keep, drop or relabel), reason (empty where kept), given_label, label (that to train on), score (of the
        ranking), q, step (the first amount, from 1, that changes the row; null for none). Actions are those of the best step.
        """
        ranking, count = self.ranking, len(self.train)
        place = np.full(len(ranking.names), -1)
        place[ranking.order] = np.arange(len(ranking.order))
        step = np.zeros(count, np.int64)
        for number, found in reversed(list(enumerate(self.steps, start=1))):
            step[ranking.rows(found.units)] = number
        changed = np.zeros(count, bool) if self.best is None else ranking.rows(self.steps[self.best].units)
        label = (
            self.train.targets if ranking.targets is None else np.where(changed, ranking.targets, self.train.targets)
        )
        reasons = [ranking.reason(int(unit), int(place[unit])) if moved else ""
                   for unit, moved in zip(ranking.owner, changed, strict=True)]  # fmt: skip
        return pa.table({
            "id": self.train.ids,
            "name": self.train.all_names(),
            "action": np.where(changed, ranking.action, KEEP).astype(object),
            "reason": reasons,
            "given_label": written(self.train, self.train.targets),
            "label": written(self.train, label),
            "score": ranking.score[ranking.owner],
            "q": ranking.q[ranking.owner],
            "step": pa.array(step, mask=step == 0),
        })  # fmt: skip

    def lines(self) -> list[str]:
        """What was done and found, for people."""
        nothing = [f"{amount.written}: nothing to {self.ranking.action}, as no {self.ranking.level} {self._lacks(amount)}"
                   for amount, count in self.asked if not count]  # fmt: skip
        if not self.steps:
            return nothing
        measures = list(dict.fromkeys(one.measure for one in self.steps[0].differences))
        seeds = len(next(iter(self.before.values())))
        rows = [(NONE, [_plain(measure, self.before[measure.name].mean()) for measure in measures])]
        for step in self.steps:
            rows.append((self._changed(step), []))
            for against in dict.fromkeys(one.against for one in step.differences):
                rows.append((f"  against {against}", [_interval(step.of(m.name, against)) for m in measures]))
            rows.append((f"  verdict: {sentence(step)}", []))
        level, tests = self.steps[0].differences[0].level, len(self.steps) * sum(measure.ranks for measure in measures)
        together = f" (together {100 * (1 - tests * level):.3g} % for all that can be a gain)" if tests > 1 else ""
        return [*nothing,
                f"retrained with {seeds} seeds; {self.targets:,} {self.target_set} instances; mean differences, and "
                f"{100 * (1 - level):.3g} % intervals over seeds and instances{together}",
                *_table([("", [f"{measure.name} ({measure.unit})" for measure in measures]), *rows])]  # fmt: skip

    def _lacks(self, amount: Amount) -> str:
        if amount.written == SIGNIFICANT and len(self.ranking.order):
            return f"is called at a false-discovery rate of 5 %, by {self.ranking.by}"
        return f"{'is suspected' if self.ranking.action == 'relabel' else 'seems to do harm'}, by {self.ranking.by}"

    def _changed(self, step: Step) -> str:
        done = "dropped" if self.ranking.action == "drop" else "relabeled"
        count = len(step.units)
        units = f"{step.rows:,} of {len(self.train):,} training instances ({step.rows / len(self.train):.1%})"
        if self.ranking.level == "group":
            units = f"{count:,} of {len(self.ranking.names):,} groups, {units}"
        known = ""
        if step.sure is not None:
            known = (f"; at least {step.sure:,} of the {count:,} do harm there, with 95 % confidence" if step.sure else
                     "; that any of them does harm there is not sure at 95 % confidence")  # fmt: skip
        elif not np.isnan(step.false_share):
            known = f"; {step.false_share:.1%} of these labels are expected to be right"
        asked = ", ".join(amount.written for amount, number in self.asked if number == count)
        return f"{asked}: {done} {units}, by {self.ranking.by}{known}"

    def to_json(self) -> dict[str, Any]:
        """All numbers, as values for JSON."""
        ranking = self.ranking
        return {
            "action": ranking.action, "level": ranking.level, "by": ranking.by, "score": ranking.score_name, "unit": ranking.unit,
            "q_basis": ranking.basis, "verdict": self.verdict,
            "target_set": self.target_set, "targets": self.targets, "instances": len(self.train),
            "before": {name: values.tolist() for name, values in self.before.items()},
            "best": self.best, "asked": {amount.written: count for amount, count in self.asked},
            "steps": [{"amount": step.amount.written, "units": len(step.units), "rows": step.rows,
                       "sure": step.sure,
                       "false_share": None if np.isnan(step.false_share) else step.false_share,
                       "verdict": step.verdict, "sentence": sentence(step),
                       "differences": [one.to_json() for one in step.differences]} for step in self.steps],
        }  # fmt: skip


def sentence(step: Step) -> str:
    """The verdict of one step, in plain words."""
    first = [one for one in step.differences if one.against == NONE]
    better, same, worse = ([one for one in first if one.sign == sign] for sign in (1, 0, -1))
    beyond = [one for one in better if beats_all(step.differences, one.measure)]
    parts = [_named(beyond, "better than with no change and than random removals")]
    parts.append(
        _named(
            [one for one in better if one not in beyond], "better than with no change, but not than all random removals"
        )
    )
    parts.append(_named(worse, "worse"))
    said = [part for part in parts if part]
    if step.verdict == UNSEEN and not better:
        half = (first[0].high - first[0].low) / 2
        return (f"{UNSEEN}: a change of the {first[0].measure.name} by {half:.2g} or less would mostly not be seen; "
                f"more {first[0].limit} would tell")  # fmt: skip
    if step.verdict == UNSEEN and beyond:
        said.append("which a shifted threshold can do")
    elif same:
        said.append(f"of {_names(same)} no change can be told")
    return f"{step.verdict}: {'; '.join(said)}"


def written(train: Dataset, targets: np.ndarray) -> list[str]:
    """Targets as the user wrote them; numbers with all digits that they were read with."""
    if isinstance(train.task, Regression):
        return [f"{value:.7g}" for value in targets.astype(np.float64) * train.task.scale + train.task.mean]
    return train.task.show(targets)


def _named(differences: Sequence[Difference], what: str) -> str:
    said = " and ".join(f"{one.measure.name} ({_signed(one.measure, one.mean)})" for one in differences)
    return f"{said} {what}" if said else ""


def _names(differences: Sequence[Difference]) -> str:
    return " and ".join(one.measure.name for one in differences)


def _table(rows: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Lines of titles and cells in columns; a title without cells may be longer."""
    titles = max(len(title) for title, cells in rows if cells)
    columns = max(len(cells) for _, cells in rows)
    widths = [max(len(cells[column]) for _, cells in rows if cells) for column in range(columns)]
    return [f"{title:<{titles}}  {'  '.join(f'{cell:<{width}}' for cell, width in zip(cells, widths, strict=False))}".rstrip()
            for title, cells in rows]  # fmt: skip


def _plain(measure: Measure, value: float) -> str:
    return f"{measure.scale * value:.1f}" if measure.scale != 1 else f"{value:.4f}"


def _signed(measure: Measure, value: float) -> str:
    text = f"{measure.scale * value:+.1f}" if measure.scale != 1 else f"{value:+.4f}"
    return text.replace("-", "−")


def _interval(one: Difference) -> str:
    if one.same:
        return f"{_signed(one.measure, one.mean)} (none changed)"
    low, high = _signed(one.measure, one.low), _signed(one.measure, one.high)
    return f"{_signed(one.measure, one.mean)} ({low} to {high})"
