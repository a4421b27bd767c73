"""Cleansings in a run's directory: written so that they are whole or absent, and read back only as those of this run.

RUN/cleanse/NAME/cleansed.parquet    a row for each training instance (``Cleansing.table``)
RUN/cleanse/NAME/cleanse.json        format, the run's fingerprint and all numbers; written last, so what has it is finished
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from whence.cleansing.comparing import HARM, UNSEEN, Difference, difference_of, verdict_of
from whence.cleansing.measures import Measure, measures_of
from whence.cleansing.records import misshapen
from whence.cleansing.results import KEEP, Cleansing
from whence.cleansing.treatments import NONE
from whence.data import Dataset
from whence.errors import WhenceError
from whence.run import Run
from whence.rundir import RunDirectory

__all__ = ["Kept", "KeptStep", "keep", "kept"]

FORMAT = 1
_FOLDER, _MODELS, _RECORD, _TABLE = "cleanse", "models", "cleanse.json", "cleansed.parquet"
_COLUMNS = {"id": "int64", "name": "string", "action": "string", "reason": "string", "given_label": "string", "label": "string",
            "score": "double", "q": "double", "step": "int64"}  # fmt: skip
_REPEAT = "Give the same `whence cleanse` again: what was trained is kept."


@dataclass(frozen=True, eq=False)
class KeptStep:
    """One amount of data that was changed: as ``Step``, but units is how many, and sentence says the verdict."""

    amount: str
    units: int
    rows: int
    sure: int | None
    false_share: float | None
    differences: list[Difference]
    verdict: str
    sentence: str

    def of(self, measure: str, against: str = NONE) -> Difference:
        """One difference by name."""
        return difference_of(self.differences, measure, against)


@dataclass(frozen=True, eq=False)
class Kept:
    """A finished cleansing of a run.

    Attributes:
        name: of its directory in RUN/cleanse.
        action: "drop" or "relabel"; level: of what was ranked, "instance" or "group".
        by: what the ranking rests on; score, unit: what it goes by; basis: what q rests on.
        best: the step that is applied; None where each does harm, or there is none.
        asked: amounts as the user wrote them, and how many units each was found to be.
        steps: of each amount that changes something.
        seeds, runs: trainings of each treatment, and those that scores were averaged over.
        targets, target_set: how many instances models were measured on, and what they are called.
        measures: what was measured, that which the verdict goes by first; before: the mean of each with no change.
        table: as ``Cleansing.table``, in the order of the run's training data.
    """

    name: str
    action: str
    level: str
    by: str
    score: str
    unit: str
    basis: str
    best: int | None
    asked: dict[str, int]
    steps: list[KeptStep]
    seeds: int
    runs: int
    targets: int
    target_set: str
    measures: list[Measure]
    before: dict[str, float]
    table: pa.Table = field(repr=False)

    @property
    def verdict(self) -> str:
        """As ``Cleansing.verdict``."""
        return (HARM if self.steps else UNSEEN) if self.best is None else self.steps[self.best].verdict


def keep(run: Run, found: Cleansing, targets: Dataset, **how: Any) -> None:
    """Write a cleansing to its path, in place of an earlier one.

    Args:
        targets: what it was judged on; how: further values for ``cleanse.json``.
    """
    assert found.path is not None
    directory = RunDirectory(found.path)
    directory.remove(_RECORD)  # first: no kill may leave numbers beside a table that is not theirs
    directory.write_table(_TABLE, found.table())
    directory.write_json(_RECORD, {"format": FORMAT, "run": run.fingerprint(), "judged_on": targets.fingerprint(),
                                   **found.to_json(), **how})  # fmt: skip


def kept(run: Run) -> tuple[list[Kept], list[WhenceError]]:
    """The finished cleansings of a run, by name; and why others in its directory are not among them."""
    found: list[Kept] = []
    refused: list[WhenceError] = []
    if run.directory is None or not run.directory.has(_FOLDER):
        return found, refused
    try:
        folder = run.directory.place(_FOLDER)
        names = sorted(path.name for path in folder.iterdir() if path.name != _MODELS)
    except WhenceError as error:
        return found, [error]
    except OSError as error:
        return found, [run.directory.damaged(_FOLDER, str(error), "a directory")]
    for name in names:
        if run.directory.has(f"{_FOLDER}/{name}/{_RECORD}"):
            try:
                found.append(_read(run, RunDirectory(run.directory.place(f"{_FOLDER}/{name}"), mend=_REPEAT)))
            except WhenceError as error:
                refused.append(error)
    return found, refused


def _read(run: Run, directory: RunDirectory) -> Kept:
    """One finished cleansing.

    Raises:
        WhenceError: it is damaged, of another format, or of another run or data.
    """
    record, where = directory.read_json(_RECORD), str(directory.path)
    if record.get("format") != FORMAT:
        raise WhenceError("a cleansing of another format", where=where, got=record.get("format"), expected=FORMAT,
                          mend=_REPEAT)  # fmt: skip
    _same(where, "run", record.get("run"), run.fingerprint())
    if (judged := run.splits.get(str(record.get("target_set")))) is not None:
        _same(where, "judged_on", record.get("judged_on"), judged.fingerprint())
    return _checked(run, record, _table(run, directory), directory)


def _same(where: str, name: str, found: object, wanted: str) -> None:
    if found != wanted:
        raise WhenceError("a cleansing of another run or data", where=where, got=f"{name} {str(found)[:8]}",
                          expected=wanted[:8], mend="Give the same `whence cleanse` again, for this run.")  # fmt: skip


def _table(run: Run, directory: RunDirectory) -> pa.Table:
    table = directory.read_table(_TABLE)
    got = {column.name: str(column.type).removeprefix("large_") for column in table.schema}
    if got != _COLUMNS or any(table[name].null_count for name in _COLUMNS if name != "step"):
        raise directory.damaged(_TABLE, got, f"columns {_COLUMNS}")
    if not np.array_equal(table["id"].to_numpy(), run.train.ids):
        raise directory.damaged(_TABLE, f"{table.num_rows:,} rows", f"the {len(run.train):,} training ids of the run")
    return table


def _checked(run: Run, record: dict[str, Any], table: pa.Table, directory: RunDirectory) -> Kept:
    """The record, if it has what it should have and agrees with itself and the table."""
    if (wrong := misshapen(record)) is not None:
        raise directory.damaged(_RECORD, wrong, "what whence writes there")
    measures = {one.name: one for one in measures_of(run.task, run.loss) if one.name in record["before"]}
    steps = [_step(one, measures, directory) for one in record["steps"]]
    best = record["best"]
    if best is not None and best >= len(steps):
        raise directory.damaged(_RECORD, f"best {best}", f"one of {len(steps)} steps")
    changed = table.num_rows - table["action"].to_pylist().count(KEEP)
    if changed != (0 if best is None else steps[best].rows):
        raise directory.damaged(
            _RECORD, f"best {best}", f"the step that changes the {changed:,} rows marked in {_TABLE}"
        )
    if lost := {step for step in table["step"].to_pylist() if step is not None and not 1 <= step <= len(steps)}:
        raise directory.damaged(_TABLE, f"step {min(lost)}", f"1 to {len(steps)}")
    before = {name: float(np.mean(record["before"][name])) for name in measures}
    plain = {key: record[key] for key in ("action", "level", "by", "score", "unit", "best", "asked", "seeds",
                                          "runs", "targets", "target_set")}  # fmt: skip
    return Kept(directory.path.name, basis=record["q_basis"], steps=steps, measures=list(measures.values()), before=before,
                table=table, **plain)  # fmt: skip


def _step(one: dict[str, Any], measures: dict[str, Measure], directory: RunDirectory) -> KeptStep:
    pairs = [(each["against"], each["measure"]) for each in one["differences"]]
    references = list(dict.fromkeys(against for against, _ in pairs))
    if references[:1] != [NONE] or pairs != [(against, name) for against in references for name in measures]:
        raise directory.damaged(
            _RECORD, f"differences {pairs}"[:80], f"of {', '.join(measures)} against {NONE} and controls"
        )
    differences = [Difference(measures[each["measure"]], each["against"], each["mean"], each["low"], each["high"], each["p"],
                              1 - each["confidence"]) for each in one["differences"]]  # fmt: skip
    if one["verdict"] != (follows := verdict_of(differences)):
        raise directory.damaged(_RECORD, f"the verdict {one['verdict']!r}", f"{follows!r}, by its differences")
    plain = {key: one[key] for key in ("amount", "units", "rows", "sure", "false_share", "verdict", "sentence")}
    return KeptStep(differences=differences, **plain)
