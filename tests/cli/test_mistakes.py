"""Every mistake gives one line that says how to mend it."""

from __future__ import annotations

import re

import pytest

from tests.cli.tables import QUICK, write_table

MISTAKES = {
    "missing column": (["--text", "txet", "--label", "label"], None, "no such column in .*--text: got 'txet'.*Did you mean text"),
    "label not said": (["--text", "text"], None, r"which column is the label is not said.*--label label\?"),
    "unknown label": (["--features", "x,z", "--label", "label"], lambda rows: rows[0].update(label="meh"), "unknown label.*'meh'.*neg, pos"),
    "NaN features": (["--features", "x,z", "--label", "label"], lambda rows: rows[7].update(x="nan"), "not a finite number.*column 'x'.*row"),
    "duplicate ids": (["--features", "x,z", "--label", "label"], lambda rows: rows[9].update(id="r3"), "an id that occurs twice.*'r3'"),
    "one class": (["--features", "x,z", "--label", "label"], lambda rows: [r.update(label="pos") for r in rows], "only one class"),
    "ids as labels": (["--features", "x,z", "--label", "label"], lambda rows: [r.update(label=r["id"]) for r in rows],
                      "a class of its own for every training instance.*'label'.*90 classes.*--task classification if this is meant"),
    "no train split": (["--features", "x,z", "--label", "label"], lambda rows: [r.update(split="all") for r in rows], "train"),
    "words as features": (["--features", "x,text", "--label", "label"], None, "a feature that is not a number"),
    "no group column": (["--features", "x,z", "--label", "label", "--group", "author"], None, "no such column.*--group"),
    "bad keep": (["--features", "x,z", "--label", "label", "--keep", "2"], None, r"keep rate out of range in --keep: got 2\.0"),
    "bad epochs": (["--features", "x,z", "--label", "label", "--epochs", "0"], None, "out of range in --epochs"),
    "bad batch size": (["--features", "x,z", "--label", "label", "--batch-size", "0"], None, "out of range in --batch-size: got 0"),
    "bad split seed": (["--features", "x,z", "--label", "label", "--split-seed", str(2**64)], None, "out of range in --split-seed"),
    "bad split by": (["--features", "x,z", "--label", "label", "--split-by", "rows"], None, "in --split-by: got 'rows', expected auto or instance or group"),
    "not a number": (["--features", "x,z", "--label", "label", "--epochs", "many"], None, "'many' is not a valid integer"),
    "unknown model": (["--features", "x,z", "--label", "label", "--model", "gpt"], None, "unknown model in --model"),
    "unknown option": (["--features", "x,z", "--label", "label", "--lable", "x"], None, "No such option.*--lable"),
    "bad scheme": (["--features", "x,z", "--label", "label", "--scheme", "odd"], None, "unknown scheme in --scheme"),
    "bad masked": (["--features", "x,z", "--label", "label", "--masked", "layer9"], None, "no module of that name"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_give_one_line(whence, tmp_path, mistake):
    arguments, bad, message = MISTAKES[mistake]
    data = write_table(tmp_path / "data.csv", bad=bad)
    code, out, err = whence("fit", data, *arguments, "--out", tmp_path / "run")
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("whence: ")
    assert_matches(message, err)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"id,x,label\n", "a table without rows"),
        ("text,label\ncafé,1\n".encode("latin-1") * 20, "UTF-8"),
        (b"x,label\n1,2,3\n", "a row of another length.*row 1.*got 3 values, expected 2"),
    ],
)
def test_bad_files_give_one_line(whence, tmp_path, content, message):
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    code, out, err = whence("fit", path, "--label", "label", "--out", tmp_path / "run")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert_matches(message, err)
    assert not (tmp_path / "run").exists()


def test_runs_that_are_not_there_or_of_other_data(whence, tmp_path):
    data, run = write_table(tmp_path / "data.csv"), tmp_path / "run"
    for command in ("influence", "audit", "report"):
        code, _, err = whence(command, tmp_path / "nothing")
        assert code == 2
        assert "no run in this directory" in err
    code, _, err = whence("fit", tmp_path / "missing.csv", "--label", "y", "--out", run)
    assert code == 2
    assert "no such file" in err
    assert whence("fit", data, "--features", "x,z", "--label", "label", "--out", run, *QUICK)[0] == 0
    code, _, err = whence("influence", run, "--targets", "validation")
    assert code == 2
    assert "no split named 'validation' in the run: got only train, dev, test" in err
    code, _, err = whence("fit", data, "--features", "x", "--label", "label", "--out", run, *QUICK)
    assert code == 2
    assert "the directory holds another run" in err
    write_table(data, seed=1)
    for command in ("influence", "audit", "report"):
        code, _, err = whence(command, run)
        assert code == 2
        assert "not those of the run" in err
        assert err.count("\n") == 1
    data.unlink()
    code, _, err = whence("audit", run)
    assert code == 2
    assert "no such file" in err


def assert_matches(pattern, text):
    assert re.search(pattern, text), text


def test_a_place_that_is_called_like_an_option(whence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for word in ("runs", "seed"):
        assert f"no run in this directory in {word}: " in whence("audit", word)[2]
    assert "data of an unknown kind in out: " in whence("fit", "out", "--out", "run")[2]
