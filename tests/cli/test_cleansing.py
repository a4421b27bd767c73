"""``whence cleanse`` on the command line."""

import json

import pyarrow.parquet as pq
import pytest

from tests.cleansing.test_tables import rows, written


@pytest.fixture
def run(tmp_path, whence):
    table = written(tmp_path / "reviews.csv", rows())
    code, _, error = whence("fit", table, "--text", "review", "--label", "stars", "--id", "key", "--out", tmp_path / "run",
                            "--model", "ngrams:16", "--epochs", 3)  # fmt: skip
    assert code == 0, error
    return tmp_path / "run"


def test_lines_say_what_was_changed_and_what_it_did(run, whence, tmp_path):
    code, out, error = whence(
        "cleanse", run, "--drop", "3%,6%", "--by", "p_wrong", "--seeds", 2, "--table", tmp_path / "marked.csv"
    )
    assert code == 0 and error == ""
    assert "retrained with 2 seeds" in out and "verdict: " in out and "against random removal, same labels" in out
    assert (run / "cleanse" / "drop-p_wrong" / "cleansed.parquet").is_file() and (tmp_path / "marked.csv").is_file()
    assert f"table:    {tmp_path / 'marked.csv'}\nto train on it: whence fit " in out


def test_json_has_all_numbers(run, whence):
    code, out, _ = whence("cleanse", run, "--relabel", "--seeds", 2, "--json")
    record = json.loads(out)
    assert code == 0 and record["action"] == "relabel" and record["verdict"] == record["steps"][0]["verdict"]
    assert {one["measure"] for one in record["steps"][0]["differences"]} == {"loss", "accuracy"}  # few of a class
    table = pq.read_table(record["cleansed"])
    assert table["action"].to_pylist().count("relabel") == record["steps"][0]["rows"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--drop", "1%", "--relabel"], "changes that cannot be told apart in cleanse: got drop and relabel"),
        (["--drop", "lots"], "not an amount of rows in --drop: got 'lots'"),
        (["--groups"], "no groups in the run"),
        (["--seeds", 1], "out of range in --seeds"),
        (["--targets", "exam"], "no split named 'exam'"),
        (["--targets", "dev"], "targets that the change is chosen by"),
        (["--relabel", "--runs", 3], "an option without effect on this change in --runs"),
        (["--table", "out.jsonl"], "a copy in another format"),
    ],
)
def test_mistakes_are_one_line(run, whence, options, message):
    code, out, error = whence("cleanse", run, *options)
    assert code == 2 and out == "" and message in error and error.count("\n") == 1
    assert not (run / "cleanse").exists()
