"""The run's own table, marked: nothing is lost, and the same fit goes on with what is left."""

import csv
import gzip
import json
import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import whence
from whence.cleansing.comparing import UNSEEN
from whence.cleansing.tables import check_table, refit, write_table
from whence.data.loading import Source, load
from whence.errors import WhenceError


def rows(n=120, seed=0):
    """Records with texts that need quotes, and labels of which some are wrong."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(n):
        good = int(generator.integers(2))
        words = [*generator.choice(["fine", "nice"] if good else ["poor", "dull"], 2), "=1+1,", 'a "film"', "\u202eü"]
        label = good if generator.random() > 0.15 else 1 - good
        made.append({"key": f"k{number}", "review": " ".join(words), "stars": label + 4, "other": f" {number:03d}"})
    return made


def opened(path, mode):
    return (gzip.open if path.name.endswith(".gz") else open)(path, mode, encoding="utf-8", newline="")


def written(path, records):
    if path.name.endswith(".parquet"):
        table = pa.Table.from_pylist(records)
        pq.write_table(table.append_column("nested", pa.array([[1, 2]] * len(records))), path)
        return path
    with opened(path, "wt") as file:
        if ".jsonl" in path.name:
            file.writelines(json.dumps({**record, "nested": {"a": [1]}}) + "\n" for record in records)
        elif ".tsv" in path.name:
            file.write(
                "\n".join("\t".join(map(str, line)) for line in [records[0], *(r.values() for r in records)]) + "\n"
            )
        else:
            writer = csv.DictWriter(file, records[0])
            writer.writeheader()
            writer.writerows(records)
    return path


def read(path):
    """Records of a table, with every value as text, but of Parquet and JSON as it is."""
    if path.name.endswith(".parquet"):
        return pq.read_table(path).to_pylist()
    with opened(path, "rt") as file:
        if ".jsonl" in path.name:
            return [json.loads(line) for line in file]
        if ".tsv" in path.name:
            header, *lines = (line.rstrip("\n").split("\t") for line in file)
            return [dict(zip(header, line, strict=True)) for line in lines]
        return list(csv.DictReader(file))


def fitted(path, out, **options):
    source = Source(str(path), label="stars", text="review", id="key", **options)
    model, data = whence.prepare(source.load(), "ngrams:16", seed=0)
    return whence.fit(model, data, out=out, source=source, epochs=3, seed=0, device="cpu")


MARKS = ("whence_action", "whence_reason", "whence_given_label", "split")


def marked(tmp_path, records, *, action="drop", name="data.csv", **options):
    """A run on a table of records, and that table marked; few rows are changed."""
    source = written(tmp_path / name, records)
    run = fitted(source, tmp_path / "run", **options)
    change = {"relabel": 5} if action == "relabel" else {"drop": 5, "by": "p_wrong"}
    found = whence.cleanse(run, seeds=2, **change)
    assert found.steps
    return run, found, write_table(run, found, tmp_path / f"marked{name}")


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl.gz", ".parquet"])
def test_every_row_stays_and_every_change_can_be_undone(tmp_path, ending):
    source = written(tmp_path / f"data{ending}", rows())
    run = fitted(source, tmp_path / "run")
    found = (
        whence.cleanse(run, relabel=5, seeds=2)
        if ending != ".csv"
        else whence.cleanse(run, drop=5, by="p_wrong", seeds=2)
    )
    out = write_table(run, found, tmp_path / f"marked{ending}")
    before, after = read(source), read(out)
    undone = []
    for record in after:
        action, reason, given, split = (record.pop(mark) for mark in MARKS)
        assert (reason != "") == (action != "keep") and (split == "dropped") == (action == "drop")
        if action == "relabel":
            assert str(record["stars"]) != given
            record["stars"] = type(record["stars"])(given)
        undone.append(record)
    assert undone == before
    actions = [record["whence_action"] for record in read(out)]
    assert len(actions) - actions.count("keep") == found.steps[0].rows > 0


def test_the_same_fit_goes_on_with_what_is_left(tmp_path):
    source = written(tmp_path / "data.csv", rows())
    run = fitted(source, tmp_path / "run")
    found = whence.cleanse(run, drop=6, by="p_wrong", seeds=2)
    again = load(write_table(run, found, tmp_path / "marked.csv"), label="stars", text="review", id="key")
    assert again.split("train").ids.tolist() == found.data().ids.tolist()
    for split in ("dev", "test"):
        assert again.split(split).ids.tolist() == run.splits[split].ids.tolist()


def test_the_columns_of_marks_are_no_features(tmp_path):
    generator = np.random.default_rng(0)
    path = tmp_path / "numbers.csv"
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            "x,y,target\n" + "".join(f"{a:.3f},{b:.3f},{a + b:.3f}\n" for a, b in generator.normal(size=(150, 2)))
        )
    source = Source(str(path), label="target")
    model, data = whence.prepare(source.load(), "mlp:16", seed=0)
    run = whence.fit(model, data, out=tmp_path / "run", source=source, epochs=2, seed=0, device="cpu")
    found = whence.cleanse(run, relabel=3, seeds=2)
    out = write_table(run, found, tmp_path / "marked.csv")
    assert load(out, label="target").feature_names == ("x", "y")
    if found.steps:
        assert sum(record["whence_action"] == "relabel" for record in read(out)) == found.steps[0].rows


def test_what_an_earlier_cleansing_marked_stays_marked(tmp_path):
    _, first, out = marked(tmp_path, rows())
    run = fitted(out, tmp_path / "again")
    assert run.train.ids.tolist() == first.data().ids.tolist()
    found = whence.cleanse(run, relabel=2, seeds=2)
    twice = read(write_table(run, found, tmp_path / "twice.csv"))
    once = read(out)
    for before, after in zip(once, twice, strict=True):
        if before["whence_action"] == "drop":
            assert (after["whence_action"], after["split"], after["whence_reason"]) == (
                "drop",
                "dropped",
                before["whence_reason"],
            )
    assert sum(record["whence_action"] == "relabel" for record in twice) == (found.steps[0].rows if found.steps else 0)


def test_rows_that_were_left_out_are_not_marked_for_others_of_their_id(tmp_path):
    records = rows()
    lacking = [{**record, "stars": ""} for record in records[::7]]  # the same ids, without labels
    _, found, out = marked(tmp_path, records + lacking, drop_missing=True)
    after = read(out)
    assert {record["split"] for record in after[len(records) :]} == {"unused"}
    dropped = [record["key"] for record in after[: len(records)] if record["whence_action"] == "drop"]
    assert len(dropped) == found.steps[0].rows


def test_own_splits_and_odd_values_can_be_undone(tmp_path):
    names = ["training", "validation", "testing"]
    records = [{**record, "part": names[0 if number % 5 < 3 else number % 5 - 2], "stars": f"0{record['stars']}.0",
                "other": "a\rb" if number % 2 else "c\r\nd"} for number, record in enumerate(rows())]  # fmt: skip
    _, _, out = marked(tmp_path, records, action="relabel", split="part")
    for before, after in zip(records, read(out), strict=True):
        assert after["whence_given_split"] == before["part"] and after["other"] == before["other"]
        given = after["whence_given_label"] if after["whence_action"] == "relabel" else after["stars"]
        assert given == before["stars"]


def test_numbers_are_undone_to_the_last_digit(tmp_path):
    generator = np.random.default_rng(0)
    path = tmp_path / "numbers.csv"
    lines = [f"{a:.3f},{10000 + 2000 * a + generator.normal():.4f}" for a in generator.normal(size=200)]
    lines[::9] = [f"{number},{3 * number + 12331.3081:.4f}" for number in range(len(lines[::9]))]
    path.write_text("x,y\n" + "\n".join(lines) + "\n")
    source = Source(str(path), label="y", features=("x",))
    model, data = whence.prepare(source.load(), "mlp:16", seed=0)
    run = whence.fit(model, data, out=tmp_path / "run", source=source, epochs=30, seed=0, device="cpu")
    found = whence.cleanse(run, relabel=3, seeds=2)
    assert found.steps
    for line, record in zip(lines, read(write_table(run, found, tmp_path / "marked.csv")), strict=True):
        assert line.split(",")[1] == (record["whence_given_label"] or record["y"])


def test_a_class_that_is_dropped_as_a_whole_does_not_stand_in_the_way(tmp_path):
    records = [{**record, "stars": "rare" if number < 6 else record["stars"]} for number, record in enumerate(rows())]
    source = written(tmp_path / "data.csv", records)
    run = fitted(source, tmp_path / "run")
    rare = run.train.ids[run.train.targets == run.task.classes.index("rare")]
    found = whence.cleanse(run, rows=rare, seeds=2)
    out = write_table(run, replace(found, steps=[replace(found.steps[0], verdict=UNSEEN)]), tmp_path / "marked.csv")
    again = load(out, label="stars", text="review", id="key")
    if "rare" not in {record["stars"] for record in read(out) if record["split"] in ("dev", "test")}:
        assert "rare" not in again.task.classes
    assert again.split("train").ids.tolist() == run.train.ids[~np.isin(run.train.ids, rare)].tolist()


def test_the_command_that_trains_on_it_says_what_auto_cannot_know(tmp_path):
    records = [{**record, "split": "left" if number % 2 else "right"} for number, record in enumerate(rows())]
    run, found, out = marked(tmp_path, records, split="none")
    command = refit(run, out).split()
    assert command[:2] == ["whence", "fit"] and command[command.index("--split") + 1] == "whence_split"
    assert command[-2:] == ["--task", "classification"]
    again = load(out, label="stars", text="review", id="key", split="whence_split")
    assert again.split("train").ids.tolist() == found.data().ids.tolist()


def test_ids_of_categories_are_found_again(tmp_path):
    path = tmp_path / "data.parquet"
    table = pa.Table.from_pylist(rows())
    pq.write_table(table.set_column(0, "key", table["key"].dictionary_encode()), path)
    run = fitted(path, tmp_path / "run")
    found = whence.cleanse(run, drop=3, by="p_wrong", seeds=2)
    assert len(read(write_table(run, found, tmp_path / "marked.parquet"))) == 120


def test_rows_that_the_run_did_not_have_are_unused(tmp_path):
    source = written(tmp_path / "data.csv", rows())
    run = fitted(source, tmp_path / "run", limit=40)
    found = whence.cleanse(run, drop=2, by="p_wrong", seeds=2)
    splits = [record["split"] for record in read(write_table(run, found, tmp_path / "marked.csv"))]
    assert splits.count("unused") == 120 - sum(len(data) for data in run.splits.values()) > 0


def test_a_table_that_cannot_be_marked_is_refused_before_anything_is_trained(tmp_path):
    source = written(tmp_path / "data.csv", rows())
    run = fitted(source, tmp_path / "run")
    with pytest.raises(WhenceError, match=r"another format than its table .*expected a name that ends in \.csv"):
        check_table(run, tmp_path / "out.parquet")
    with pytest.raises(WhenceError, match="in the place of its table"):
        check_table(run, source)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(WhenceError, match="a directory in the place of a table"):
        check_table(run, tmp_path / "folder.csv")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.csv")
        with pytest.raises(WhenceError, match="something else than a file in its place"):
            check_table(run, tmp_path / "pipe.csv")
    digits = Source("digits", limit=50)
    model, data = whence.prepare(digits.load(), "mlp:8", seed=0)
    other = whence.fit(model, data, out=tmp_path / "digits", source=digits, epochs=1, seed=0, device="cpu")
    with pytest.raises(WhenceError, match=r"no table to mark .*got data from digits.*cleansed\.parquet"):
        check_table(other, tmp_path / "out.csv")


def test_what_is_added_runs_in_no_spreadsheet(tmp_path):
    """Labels and splits that are formulas: the user's own columns stay as they are, those that are added are marked."""
    records = [{**record, "stars": "=1+1" if record["stars"] == 4 else "@SUM(1)"} for record in rows()]
    source = written(tmp_path / "data.csv", records)
    run = fitted(source, tmp_path / "run")
    found = whence.cleanse(run, relabel=5, seeds=2)
    marked = read(write_table(run, found, tmp_path / "marked.csv"))
    changed = [record for record in marked if record["whence_action"] == "relabel"]
    assert len(changed) == 5
    assert {record["whence_given_label"] for record in changed} <= {"'=1+1", "'@SUM(1)"}
    assert {record["stars"] for record in marked} == {"=1+1", "@SUM(1)"}


def test_a_table_that_has_changed_is_not_marked(tmp_path):
    source = written(tmp_path / "data.csv", rows())
    run = fitted(source, tmp_path / "run")
    found = whence.cleanse(run, drop=2, by="p_wrong", seeds=2)
    changed = rows()
    changed[3]["review"] += " not"
    written(source, changed)
    with pytest.raises(WhenceError, match="a table that has changed since the run"):
        write_table(run, found, tmp_path / "marked.csv")
    assert not (tmp_path / "marked.csv").exists()
