"""What a cleansing found: in words, as a table with a reason for each row, and as data to train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from whence.cleansing.amounts import Amount
from whence.cleansing.choosing import Ranking
from whence.cleansing.comparing import GAIN, UNSEEN, Difference
from whence.cleansing.measures import Measure
from whence.cleansing.treatments import NONE, Treatment
from whence.data import Dataset

__all__ = ["Cleansing", "Step"]

KEEP = "keep"


@dataclass(frozen=True, eq=False)
class Step:
    """One amount of data that was changed.

    Attributes:
        amount: as it was asked for.
        units: int64, the units of the ranking that were changed; rows: how many training instances these are.
        false_share: the share of them that is expected to be chosen falsely; NaN if unknown.
        differences: of each measure, against no change and each control.
        verdict: "gain", "no detectable gain", "mixed" or "harm" (``comparing.verdict_of``).
    """

    amount: Amount
    units: np.ndarray
    rows: int
    false_share: float
    differences: list[Difference]
    verdict: str

    def of(self, measure: str, against: str = NONE) -> Difference:
        """One difference by name."""
        return next(one for one in self.differences if (one.measure.name, one.against) == (measure, against))


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
    """

    ranking: Ranking
    steps: list[Step]
    before: dict[str, np.ndarray]
    train: Dataset = field(repr=False)
    treatments: list[Treatment] = field(repr=False)
    targets: int
    target_set: str
    path: Path | None

    @property
    def best(self) -> int | None:
        """The step that is applied: of those with a gain that which surely lowers the loss most, else the largest; None without."""
        if not self.steps:
            return None
        gains = [number for number, step in enumerate(self.steps) if step.verdict == GAIN]
        if gains:
            return min(gains, key=lambda number: self.steps[number].of("loss").high)
        return max(range(len(self.steps)), key=lambda number: self.steps[number].rows)

    @property
    def verdict(self) -> str:
        """That of the step that is applied."""
        return UNSEEN if self.best is None else self.steps[self.best].verdict

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
            "given_label": self.train.task.show(self.train.targets),
            "label": self.train.task.show(label),
            "score": ranking.score[ranking.owner],
            "q": ranking.q[ranking.owner],
            "step": pa.array(step, mask=step == 0),
        })  # fmt: skip

    def lines(self) -> list[str]:
        """What was done and found, for people."""
        if not self.steps:
            return [f"nothing to {self.ranking.action}: no {self.ranking.level} is to be, by {self.ranking.by}"]
        measures = list(dict.fromkeys(one.measure for one in self.steps[0].differences))
        seeds = len(next(iter(self.before.values())))
        found = [f"retrained with {seeds} seeds; {self.targets:,} {self.target_set} instances; mean differences with "
                 f"{100 * (1 - self.steps[0].differences[0].level):.3g} % intervals over seeds and instances",
                 _row("", [f"{measure.name} ({measure.unit})" for measure in measures]),
                 _row(NONE, [_plain(measure, self.before[measure.name].mean()) for measure in measures])]  # fmt: skip
        for step in self.steps:
            found.append(self._changed(step))
            for against in dict.fromkeys(one.against for one in step.differences):
                found.append(_row(f"  against {against}", [_interval(step.of(m.name, against)) for m in measures]))
            found.append(f"  verdict: {sentence(step)}")
        return found

    def _changed(self, step: Step) -> str:
        done = "dropped" if self.ranking.action == "drop" else "relabeled"
        units = f"{step.rows:,} of {len(self.train):,} training instances ({step.rows / len(self.train):.1%})"
        if self.ranking.level == "group":
            units = f"{len(step.units):,} of {len(self.ranking.names):,} groups, {units}"
        known = "" if np.isnan(step.false_share) else f"; expected share of false choices {step.false_share:.2g}"
        return f"{done} {units}, by {self.ranking.by}{known}"

    def to_json(self) -> dict[str, Any]:
        """All numbers, as values for JSON."""
        ranking = self.ranking
        return {
            "action": ranking.action, "level": ranking.level, "by": ranking.by, "q_basis": ranking.basis, "verdict": self.verdict,
            "target_set": self.target_set, "targets": self.targets, "instances": len(self.train),
            "before": {name: values.tolist() for name, values in self.before.items()},
            "best": self.best,
            "steps": [{"amount": step.amount.written, "units": len(step.units), "rows": step.rows,
                       "false_share": step.false_share, "verdict": step.verdict, "sentence": sentence(step),
                       "differences": [one.to_json() for one in step.differences]} for step in self.steps],
        }  # fmt: skip


def sentence(step: Step) -> str:
    """The verdict of one step, in plain words."""
    first = [one for one in step.differences if one.against == NONE]
    better, same, worse = ([one for one in first if one.sign == sign] for sign in (1, 0, -1))
    if step.verdict == UNSEEN and better:
        return f"{UNSEEN}: {_names(better)} improved, but not beyond what removals at random do too"
    if step.verdict == UNSEEN:
        half = (first[0].high - first[0].low) / 2
        return f"{UNSEEN}: a change of the {first[0].measure.name} of less than {half:.2g} would not have been seen"
    parts = [f"{one.measure.name} {_signed(one.measure, one.mean)}" for one in better]
    parts = [f"{', '.join(parts)}, and better than removals at random"] if parts else []
    parts += [f"{one.measure.name} worse by {_signed(one.measure, one.mean)}" for one in worse]
    parts += [f"of {_names(same)} no change can be told"] if same else []
    return f"{step.verdict}: {'; '.join(parts)}"


def _names(differences: Sequence[Difference]) -> str:
    return " and ".join(one.measure.name for one in differences)


def _row(title: str, cells: Sequence[str]) -> str:
    return f"{title:<39}" + "".join(f"{cell:<34}" for cell in cells).rstrip()


def _plain(measure: Measure, value: float) -> str:
    return f"{measure.scale * value:.1f}" if measure.scale != 1 else f"{value:.4f}"


def _signed(measure: Measure, value: float) -> str:
    text = f"{measure.scale * value:+.1f}" if measure.scale != 1 else f"{value:+.4f}"
    return text.replace("-", "−")


def _interval(one: Difference) -> str:
    low, high = _signed(one.measure, one.low), _signed(one.measure, one.high)
    return f"{_signed(one.measure, one.mean)} ({low} to {high})"
