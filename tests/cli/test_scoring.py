"""``whence influence``: targets from files, names, and what is said beside the scores."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq

from tests.cli.tables import QUICK, write_table


def test_new_instances_from_a_file(whence, tmp_path):
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    new = write_table(tmp_path / "new.csv", n=7, seed=9)
    for inputs in (("--text", "text"), ("--features", "x,z")):
        folder = run / inputs[1]
        assert whence("fit", data, *inputs, "--label", "label", "--out", folder, *QUICK)[0] == 0
        code, out, err = whence("influence", folder, "--targets", new)
        assert (code, err) == (0, "")
        assert "× 7 targets" in out
        assert "target r0" in out
    # An instance of the test split scores the same when it comes from a file.
    again = json.loads(whence("influence", folder, "--targets", data, "--name", "all", "--json")[1])
    from whence import load_scores

    all_rows, test = (
        load_scores(again["scores"]),
        json.loads(whence("influence", folder, "--targets", "test", "--json")[1]),
    )
    test_scores = load_scores(test["scores"])
    position = [all_rows.columns.names.index(name) for name in test_scores.columns.names]
    np.testing.assert_allclose(np.asarray(all_rows)[:, position], test_scores, rtol=1e-4, atol=1e-6)
    unknown = write_table(tmp_path / "unknown.csv", n=5, bad=lambda rows: rows[2].update(label="mixed"))
    code, out, err = whence("influence", folder, "--targets", unknown)
    assert code == 2
    assert "unknown label" in err


def test_only_helpers_help_and_only_a_few_are_named(whence, tmp_path):
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    assert whence("fit", data, "--features", "x,z", "--label", "label", "--out", run, *QUICK)[0] == 0
    code, out, _ = whence("influence", run, "--targets", "test", "--top", 90)
    assert code == 0
    helped = [line for line in out.splitlines() if line.startswith("  helped by")]
    hurt = [line for line in out.splitlines() if line.startswith("  hurt by")]
    assert len(helped) == len(hurt) == 3
    for line, other in [*((line, " -") for line in helped), *((line, " +") for line in hurt)]:
        assert other not in line
        assert line.count(", ") <= 10
    assert ", and " in helped[0] and " more" in helped[0]
    top = pq.read_table(run / "scores" / "kronecker-test" / "top.parquet")
    assert 0 not in top["score"].to_pylist()


def test_the_noise_floor_is_said_to_be_missing_only_where_it_is(whence, tmp_path):
    run = tmp_path / "run"
    data = write_table(tmp_path / "reviews.csv")
    assert whence("fit", data, "--features", "x,z", "--label", "label", "--out", run, *QUICK)[0] == 0
    for method, words in (
        ("turnover", "by their mean over targets, 0 of 90 rows are beyond chance (q ≤ 0.05)"),
        ("turnover", "the matrix of scores, which was not kept"),
        ("kernel", "no mask-based noise floor"),
    ):
        out = whence("influence", run, "--targets", "dev", "--method", method, "--no-matrix", "--name", method)[1]
        assert words in out


def test_scores_of_a_file_are_named_by_one_rule(whence, tmp_path):
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    new = write_table(tmp_path / "new ones.v2.csv", n=7, seed=9)
    assert whence("fit", data, "--features", "x,z", "--label", "label", "--out", run, *QUICK)[0] == 0
    for quantity in ("loss", "probability"):
        assert whence("influence", run, "--targets", new, "--quantity", quantity)[0] == 0
    write_table(new, n=7, seed=10)
    assert whence("influence", run, "--targets", new)[0] == 0
    names = sorted(path.name for path in (run / "scores").iterdir())
    assert len(names) == 3
    assert all(name.startswith("kronecker-new-ones-") for name in names)
    assert sum(name.startswith("kronecker-new-ones-probability-") for name in names) == 1


def test_a_file_of_targets_without_what_the_run_needs(whence, tmp_path):
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    assert whence("fit", data, "--features", "x,z", "--label", "label", "--out", run, *QUICK)[0] == 0
    for column, what in (("label", "label"), ("x", "feature")):
        new = write_table(tmp_path / "new.csv", n=7, bad=lambda rows, column=column: [row.pop(column) for row in rows])
        code, _, err = whence("influence", run, "--targets", new)
        assert code == 2
        assert f"a table without the run's {what} column in " in err
        assert f"expected also '{column}'" in err
        assert "--" not in err
    new = write_table(tmp_path / "new.csv", n=7, bad=lambda rows: rows[3].update(x="red"))
    code, _, err = whence("influence", run, "--targets", new)
    assert code == 2
    assert "a feature that is not a number" in err
    assert "--" not in err


def test_published_scores_of_instances_come_with_what_can_be_told_apart(whence, tmp_path):
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    whence("fit", data, "--text", "text", "--label", "label", "--out", run, *QUICK)
    line = "Published scores of 90 instances on 32 masked units"
    lean = whence("influence", run, "--targets", "test", "--method", "turnover", "--no-matrix", "--name", "lean")[1]
    assert line in lean
    full = whence("influence", run, "--targets", "test", "--method", "turnover")[1]
    said = "Mostly noise" in full or "Not distinguishable" in full
    assert said != (line in full)
    assert line not in whence("influence", run, "--targets", "test", "--method", "kernel")[1]
