"""Cleansings are read back as they were found, or refused with one clear error: damaged, of another format, run or data."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import whence
from tests.cleansing.noisy import noisy
from tests.hostile.makers import ABSENT, changed, places
from tests.toys import blobs
from whence.cleansing.kept import kept
from whence.cleansing.results import sentence
from whence.errors import WhenceError
from whence.reporting.cleansings import gather_cleansings
from whence.reporting.render import cleansing_charts
from whence.rundir import RunDirectory


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run, _ = noisy(tmp_path_factory.mktemp("kept") / "run", n=100)
    return run, whence.cleanse(run, drop="2%,10%", seeds=2)


@pytest.fixture
def copy(made, tmp_path):
    """The run with a directory of its own, to do harm to."""
    run, _ = made
    shutil.copytree(run.directory.path, tmp_path / "run")
    again = whence.open_run(
        tmp_path / "run", model=run.model, train=run.train, dev=run.splits["dev"], test=run.splits["test"]
    )
    return again, tmp_path / "run" / "cleanse" / "drop"


def rewritten(folder, change):
    file = folder / "cleanse.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    change(record)
    file.write_text(json.dumps(record), encoding="utf-8")


def test_what_is_read_back_is_what_was_found(made):
    run, found = made
    (one,), refused = kept(run)
    assert refused == [] and one.name == "drop" and one.verdict == found.verdict and one.best == found.best
    assert one.asked == {"2%": 2, "10%": 10} and (one.seeds, one.runs, one.targets, one.target_set) == (
        2,
        1,
        150,
        "test",
    )
    for step, before in zip(one.steps, found.steps, strict=True):
        assert (step.rows, step.units, step.verdict, step.sure) == (
            before.rows,
            len(before.units),
            before.verdict,
            before.sure,
        )
        assert step.sentence == sentence(before)
        for mine, theirs in zip(step.differences, before.differences, strict=True):
            assert replace(mine, limit=theirs.limit, level=theirs.level) == theirs
            assert mine.level == pytest.approx(theirs.level)
    assert one.before == {name: values.mean() for name, values in found.before.items()}
    assert one.table.column_names == found.table().column_names
    for name in one.table.column_names:
        assert str(one.table[name].to_pylist()) == str(found.table()[name].to_pylist())


def test_unfinished_ones_and_models_are_none(copy):
    run, folder = copy
    (folder / "cleanse.json").unlink()
    (folder.parent / "a file").write_text("x")
    assert kept(run) == ([], [])
    shutil.rmtree(folder.parent)
    assert kept(run) == ([], [])


def test_a_kill_between_table_and_numbers_leaves_none(made, copy, monkeypatch):
    run, folder = copy
    write = RunDirectory.write_table

    def killed(self, name, table):
        write(self, name, table)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunDirectory, "write_table", killed)
    with pytest.raises(KeyboardInterrupt):
        whence.cleanse(run, drop="4%", seeds=2)
    assert (folder / "cleansed.parquet").exists() and kept(run) == ([], [])


DAMAGE = {
    "another format": (lambda record: record.update(format=2), "a cleansing of another format"),
    "before there was a format": (lambda record: record.pop("format"), "a cleansing of another format"),
    "another run": (lambda record: record.update(run="0" * 32), "a cleansing of another run or data"),
    "another test": (lambda record: record.update(judged_on="0" * 32), "a cleansing of another run or data"),
    "a verdict of its own": (lambda record: record["steps"][0].update(verdict="mixed"), "by its differences"),
    "a step that is not there": (lambda record: record.update(best=7), "one of 2 steps"),
    "another best step": (lambda record: record.update(best=1 - record["best"]), "the step that changes the"),
    "a measure of another task": (
        lambda record: record["steps"][0]["differences"][0].update(measure="BLEU"),
        "differences",
    ),
    "a number that is none": (lambda record: record["steps"][1]["differences"][2].update(low="−1"), "got low '−1'"),
    "no controls": (lambda record: record["steps"][0].update(differences=[]), "against no change and controls"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_not_this_runs_is_refused(copy, damage):
    run, folder = copy
    change, said = DAMAGE[damage]
    rewritten(folder, change)
    found, (error,) = kept(run)
    assert found == [] and said in str(error) and str(folder) in str(error)
    assert "Give the same `whence cleanse` again" in str(error)


def test_another_test_split_is_another_question(made):
    run, _ = made
    other = whence.open_run(run.directory.path, model=run.model, train=run.train, dev=run.splits["dev"],
                            test=blobs(150, seed=3, start=3000))  # fmt: skip
    found, (error,) = kept(other)
    assert found == [] and "a cleansing of another run or data" in str(error)


TABLES = {
    "shorter": lambda table: table.slice(1),
    "of other ids": lambda table: table.set_column(0, "id", pa.array(np.arange(table.num_rows))),
    "without a reason": lambda table: table.drop_columns(["reason"]),
    "of other types": lambda table: table.set_column(6, "score", table["name"]),
    "with nothing in it": lambda table: table.set_column(3, "reason", pa.nulls(table.num_rows, pa.string())),
    "of steps that there are not": lambda table: table.set_column(
        8, "step", pa.array([9] * table.num_rows, pa.int64())
    ),
    "of more changes": lambda table: table.set_column(2, "action", pa.array(["drop"] * table.num_rows)),
}


@pytest.mark.parametrize("harm", TABLES)
def test_a_table_that_is_not_its_own_is_refused(copy, harm):
    run, folder = copy
    pq.write_table(TABLES[harm](pq.read_table(folder / "cleansed.parquet")), folder / "cleansed.parquet")
    found, (error,) = kept(run)
    assert found == [] and "a damaged file" in str(error)


@pytest.mark.parametrize(
    "place", ["cleanse", "cleanse/drop", "cleanse/drop/cleanse.json", "cleanse/drop/cleansed.parquet"]
)
def test_a_link_out_of_the_run_is_not_followed(copy, tmp_path, place):
    run, _ = copy
    there = tmp_path / "run" / place
    shutil.move(there, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", there)
    found, (error,) = kept(run)
    assert found == [] and "a link out of the directory" in str(error)


OTHERS = [ABSENT, None, True, -1, 2**70, 0.5, 1e300, "", "</script>\u202e", "\ud800", [], [None], {"a": 1}]


def test_any_other_value_is_refused_or_shown(copy):
    """Every third of the values of cleanse.json, replaced by each of these."""
    run, folder = copy
    file = folder / "cleanse.json"
    whole = file.read_text(encoding="utf-8")
    cases = [(place, new) for place in places(json.loads(whole)) for new in OTHERS
             if new is not ABSENT or (place and isinstance(place[-1], str))]  # fmt: skip
    refused = 0
    for place, new in cases[::3]:
        file.write_text(json.dumps(changed(json.loads(whole), place, new)))
        try:
            found = gather_cleansings(run)
            cleansing_charts(found)
        except Exception as error:
            raise AssertionError(f"{place} {new!r}") from error
        assert (found.left_out is None) == bool(found.experiments)
        refused += found.left_out is not None
    assert len(cases) > 500 and 0.5 < refused / len(cases[::3]) < 1


def test_what_the_file_system_refuses_is_an_error(copy):
    run, folder = copy
    shutil.rmtree(folder.parent)
    folder.parent.write_text("no directory")
    found, (error,) = kept(run)
    assert found == [] and isinstance(error, WhenceError)
