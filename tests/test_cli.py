"""The command line as people use it: the whole way, and one line for every mistake."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import fields

import click
import numpy as np
import pyarrow.parquet as pq
import pytest

from whence.cli import commands, main
from whence.options import TrainingOptions
from whence.run import open_run


@pytest.fixture
def whence(capsys, monkeypatch):
    """Run the command line in this process: (exit code, standard output, standard error)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["whence", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def write_table(path, n=150, seed=0, delimiter=",", bad=None):
    """Reviews with two informative features; ids are words, every fifth row is test."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        good = generator.random() < 0.5
        words = generator.choice(["good", "great", "lovely"] if good else ["bad", "poor", "awful"], 2)
        rows.append({"id": f"r{i}", "text": f"the film was {words[0]} and {words[1]}", "x": generator.normal(2 * good), "z": generator.normal(),
                     "source": f"s{i % 6}", "split": "test" if i % 5 == 0 else "dev" if i % 5 == 1 else "train",
                     "label": "pos" if good else "neg"})  # fmt: skip
    if bad:
        bad(rows)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def suspected(run):
    table = pq.read_table(run / "audit.parquet").to_pylist()
    rows = sorted((row for row in table if row["kind"] == "label_issue"), key=lambda row: -row["p_wrong"])
    return [(row["name"], row["given_label"], row["suggested_label"], row["p_wrong"]) for row in rows]


QUICK = ("--epochs", 6, "--model", "mlp:32", "--learning-rate", 0.01)


def test_from_table_to_report(whence, tmp_path):
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    code, out, err = whence("fit", data, "--text", "text", "--label", "label", "--out", run, *QUICK)
    assert (code, err) == (0, "")
    assert "90 train, 30 dev, 30 test instances, 2 classes" in out
    assert "accuracy on dev" in out
    code, out, err = whence("influence", run, "--targets", "test", "--top", 3)
    assert (code, err) == (0, "")
    assert "90 training instances × 30 targets by kronecker" in out
    assert "helped by" in out
    top = pq.read_table(run / "scores" / "kronecker-test" / "top.parquet")
    assert top.num_rows == 30 * 6
    assert set(top["name"].to_pylist()) <= {f"r{i}" for i in range(150)}
    code, out, err = whence("audit", run)
    assert (code, err) == (0, "")
    assert "90 training instances:" in out
    assert (run / "audit.parquet").exists()
    code, out, err = whence("report", run)
    assert (code, err) == (0, "")
    assert out.strip() == f"report: {run / 'report.html'}"
    assert "<!doctype html>" in (run / "report.html").read_text(encoding="utf-8").lower()


def test_json_and_resume(whence, tmp_path):
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    fit = ("fit", data, "--features", "x,z", "--label", "label", "--out", run, *QUICK, "--json")
    first = json.loads(whence(*fit)[1])
    assert first["splits"] == {"train": 90, "dev": 30, "test": 30}
    stamp = (run / "model.safetensors").stat().st_mtime_ns
    assert json.loads(whence(*fit)[1]) == first
    assert (run / "model.safetensors").stat().st_mtime_ns == stamp
    for method, level in (
        ("turnover", "instance"),
        ("first_order", "instance"),
        ("kernel", "instance"),
        ("kronecker", "instance"),
    ):
        record = json.loads(whence("influence", run, "--targets", "dev", "--method", method, "--json")[1])
        assert record["shape"] == [90, 30]
        assert record["level"] == level
        assert (record["verdict"] is None) == (method in ("kernel", "kronecker"))
        assert json.loads(whence("influence", run, "--targets", "dev", "--method", method, "--json")[1]) == record
    assert json.loads(whence("audit", run, "--json")[1])["counts"].keys() == {
        "label_issue",
        "memorized",
        "ambiguous",
        "ok",
    }
    assert json.loads(whence("report", run, "--json")[1])["report"].endswith("report.html")
    assert json.loads(whence("audit", run, "--json")[1])["suspected"] == [
        dict(zip(("id", "given", "suggested", "p_wrong"), row, strict=True)) for row in suspected(run)
    ]
    slim = json.loads(whence("influence", run, "--targets", "dev", "--no-matrix", "--name", "slim", "--json")[1])
    assert slim["scores"].endswith("slim")


def test_groups_without_dev_are_not_judged(whence, tmp_path, monkeypatch):
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    fit = ("fit", data, "--features", "x,z", "--label", "label", "--group", "source", "--out", run, *QUICK)
    assert whence(*fit)[0] == 0

    def without_dev(path):
        opened = open_run(path)
        del opened.splits["dev"]
        return opened

    monkeypatch.setattr("whence.run.open_run", without_dev)
    code, out, _ = whence("audit", run)
    assert (code, out.splitlines()[-1]) == (0, "groups: not judged, which takes a dev split")
    assert json.loads(whence("audit", run, "--json")[1])["groups"] is None
    assert not (run / "groups.parquet").exists()
    assert whence("report", run)[0] == 0


def test_groups(whence, tmp_path):
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    assert (
        whence("fit", data, "--features", "x,z", "--label", "label", "--group", "source", "--out", run, *QUICK)[0] == 0
    )
    code, out, _ = whence("influence", run, "--targets", "dev")
    assert code == 0
    assert "6 training groups × 30 targets by kronecker" in out
    assert "s1 " in out or "s2 " in out
    code, out, _ = whence("audit", run, "--show", 4)
    assert code == 0
    table = pq.read_table(run / "groups.parquet").to_pylist()
    lines = out.splitlines()
    place = next(
        number for number, line in enumerate(lines) if line.endswith("(loss on dev).") or "(loss on dev);" in line
    )
    assert lines[place + 1].split() == ["group", "members", "effect", "z", "p", "q", "kernel", "verdict"]
    for line, row in zip(lines[place + 2 : place + 6], table, strict=False):
        assert line.split()[:2] == [row["name"], str(row["members"])]
        assert line.endswith(row["verdict"])
    assert lines[place + 6] == "… and 2 more groups in the table"
    assert lines[-1] == f"groups: {run / 'groups.parquet'}"
    record = json.loads(whence("audit", run, "--json")[1])
    assert record["groups"]["groups"] == table
    assert sum(record["groups"]["counts"].values()) == 6
    assert record["groups_table"].endswith("run/groups.parquet")
    assert whence("report", run)[0] == 0


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


def test_the_demo(whence, tmp_path):
    code, out, err = whence("demo", "--out", tmp_path / "demo", "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert record["auc"] > 0.97
    assert record["planted"] == round(0.05 * record["instances"])
    assert (tmp_path / "demo" / "digits" / "report.html").exists()
    code, out, _ = whence("demo", "--out", tmp_path / "demo")
    assert out.splitlines()[-1] == f"report: {tmp_path / 'demo' / 'digits' / 'report.html'}"
    assert "Planted" in out
    assert whence("influence", tmp_path / "demo" / "digits", "--targets", "test")[0] == 0


def test_regression(whence, tmp_path):
    run = tmp_path / "run"
    assert whence("fit", "diabetes", "--out", run, "--epochs", 3)[0] == 0
    code, out, _ = whence("influence", run, "--targets", "test", "--method", "turnover")
    assert code == 0
    assert "squared error over the training variance" in out
    assert whence("audit", run)[0] == 0
    assert whence("report", run)[0] == 0
    code, out, _ = whence("influence", run)
    assert code == 0
    assert "kronecker-test" in out
    code, _, err = whence("influence", run, "--targets", "errors")
    assert code == 2
    assert "errors are defined for classification only in --targets" in err


MISTAKES = {
    "missing column": (["--text", "txet", "--label", "label"], None, "no such column in .*--text: got 'txet'.*Did you mean text"),
    "label not said": (["--text", "text"], None, r"which column is the label is not said.*--label label\?"),
    "unknown label": (["--features", "x,z", "--label", "label"], lambda rows: rows[0].update(label="meh"), "unknown label.*'meh'.*neg, pos"),
    "NaN features": (["--features", "x,z", "--label", "label"], lambda rows: rows[7].update(x="nan"), "not a finite number.*column 'x'.*row"),
    "duplicate ids": (["--features", "x,z", "--label", "label"], lambda rows: rows[9].update(id="r3"), "an id that occurs twice.*'r3'"),
    "one class": (["--features", "x,z", "--label", "label"], lambda rows: [r.update(label="pos") for r in rows], "only one class"),
    "no train split": (["--features", "x,z", "--label", "label"], lambda rows: [r.update(split="all") for r in rows], "train"),
    "words as features": (["--features", "x,text", "--label", "label"], None, "a feature that is not a number"),
    "no group column": (["--features", "x,z", "--label", "label", "--group", "author"], None, "no such column.*--group"),
    "bad keep": (["--features", "x,z", "--label", "label", "--keep", "2"], None, r"keep rate out of range: got 2\.0"),
    "bad epochs": (["--features", "x,z", "--label", "label", "--epochs", "0"], None, "out of range in --epochs"),
    "bad batch size": (["--features", "x,z", "--label", "label", "--batch-size", "0"], None, "out of range in --batch-size: got 0"),
    "bad split seed": (["--features", "x,z", "--label", "label", "--split-seed", str(2**64)], None, "out of range in --split-seed"),
    "bad split by": (["--features", "x,z", "--label", "label", "--split-by", "rows"], None, "in --split-by: got 'rows', expected auto or instance or group"),
    "not a number": (["--features", "x,z", "--label", "label", "--epochs", "many"], None, "'many' is not a valid integer"),
    "unknown model": (["--features", "x,z", "--label", "label", "--model", "gpt"], None, "unknown model in --model"),
    "unknown option": (["--features", "x,z", "--label", "label", "--lable", "x"], None, "No such option.*--lable"),
    "bad scheme": (["--features", "x,z", "--label", "label", "--scheme", "odd"], None, "unknown mask scheme"),
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


def test_help_names_every_option(whence):
    code, out, _ = whence("fit", "--help")
    assert code == 0
    for option in (
        "--text",
        "--features",
        "--label",
        "--id",
        "--group",
        "--split",
        "--model",
        "--epochs",
        "--limit",
        "--seed",
        "--out",
    ):
        assert option in out
    assert whence("--version")[0] == 0
    code, out, err = whence("nonsense")
    assert code == 2
    assert "No such command 'nonsense'" in err


def test_help_says_what_can_be_given_and_what_follows(whence):
    helps = {name: " ".join(whence(name, "--help")[1].split()) for name in commands.commands}
    for option in fields(TrainingOptions):
        said = helps["fit"].partition(f"--{option.name} ")[2].partition("[default")[0]
        assert all(choice in said for choice in option.metadata["choices"]), option.name
    for name, command in commands.commands.items():
        assert "[default: (" not in helps[name]  # how click shows a default that is not the option's
        for option in (parameter for parameter in command.params if isinstance(parameter, click.Option)):
            assert option.help.partition("  [")[0].endswith("."), option.name
    assert all("audit and report say which groups help or harm on dev" in helps[name] for name in ("fit", "plan"))
    assert "of a run with groups (fit --group), say which groups help and which harm on dev" in helps["audit"]
    assert "which groups help and harm on dev (of a run with groups)" in helps["report"]


def test_as_an_installed_program(tmp_path):
    """No progress bar in a pipe, one line on standard error, exit code 2."""
    program = [sys.executable, "-c", "from whence.cli import main; main()"]
    done = subprocess.run(
        [*program, "fit", "digits", "--out", str(tmp_path / "r"), "--epochs", "1"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    failed = subprocess.run([*program, "audit", str(tmp_path)], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 1


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


def test_splits_and_gaps_are_told(whence, tmp_path):
    def bad(rows):
        for row in rows:
            del row["split"]
        rows[3]["label"] = rows[8]["label"] = ""

    data, run = write_table(tmp_path / "reviews.csv", bad=bad), tmp_path / "run"
    fit = ("fit", data, "--features", "x,z", "--label", "label", "--group", "source", "--out", run, *QUICK)
    code, _, err = whence(*fit)
    assert code == 2
    assert "2 such rows of 150" in err
    assert "--drop-missing" in err
    code, out, err = whence(*fit, "--drop-missing")
    assert (code, err) == (0, "")
    assert "note: 2 of 150 rows were left out" in out
    assert "note: splits are drawn by id, not by group" in out
    record = json.loads(whence(*fit, "--drop-missing", "--json")[1])
    assert len(record["notes"]) == 2
    assert sum(record["splits"].values()) == 148
    code, out, _ = whence("influence", run, "--targets", data)
    assert code == 0
    assert "× 148 targets" in out


def test_an_audit_of_a_model_that_knows_little_is_not_sold_as_fact(whence, tmp_path):
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    fit = ("fit", data, "--features", "z", "--label", "label", "--out", run, "--epochs", 1, "--model", "mlp:32")
    assert whence(*fit)[0] == 0
    record = json.loads(whence("audit", run, "--json")[1])
    share = record["counts"]["label_issue"] / 90
    error = 1 - json.loads(whence(*fit, "--json")[1])["results"]["dev_accuracy"]
    assert (record["caveat"] is not None) == (0 < share <= error)
    from whence.auditing import Audit

    table = pq.read_table(run / "audit.parquet")
    for dev_error, said in ((None, False), (share * 0.9, False), (share, True), (0.9, True)):
        assert (Audit(table, None, dev_error).caveat is not None) == (said and share > 0)
    assert ("caution: The model errs on" in whence("audit", run)[1]) == (record["caveat"] is not None)
    code, _, err = whence("audit", run, "--show", -1)
    assert code == 2
    assert "out of range in --show: got -1" in err
    assert "p(wrong)" not in whence("audit", run, "--show", 0)[1]


def test_interrupted_and_resumed(whence, tmp_path, monkeypatch):
    from whence.training import _Loop

    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    fit = ("fit", data, "--features", "x,z", "--label", "label", "--out", run, *QUICK)
    step = _Loop._step

    def stopping(self, batches):
        if self.progress.step == 2 * self.schedule.steps_per_epoch:
            raise KeyboardInterrupt
        return step(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(_Loop, "_step", stopping)
        code, out, err = whence(*fit)
    assert (code, out) == (130, "")
    assert "interrupted; training is kept to the end of epoch 2; give the same command again to resume" in err
    code, out, err = whence(*fit)
    assert code == 0
    assert err == "whence: resuming at epoch 3 of 6\n"
    assert whence(*fit)[2] == ""


@pytest.mark.shared_data
def test_sst2(whence, tmp_path, shared_data):
    run = tmp_path / "run"
    record = json.loads(whence("fit", shared_data / "sst2_sentences.tsv.gz", "--text", "sentence", "--label", "label", "--out", run,
                               "--epochs", 8, "--limit", 2000, "--json")[1])  # fmt: skip
    assert record["splits"] == {"train": 2000, "dev": 872, "test": 1821}
    assert record["results"]["dev_accuracy"] > 0.68
    assert whence("influence", run)[0] == 0
    assert whence("audit", run)[0] == 0
    assert whence("report", run)[0] == 0


@pytest.mark.shared_data
@pytest.mark.parametrize("model", ["mlp:256,256", "conv:8,16,64"])
def test_fashion_mnist(whence, tmp_path, shared_data, model):
    run = tmp_path / "run"
    record = json.loads(whence("fit", shared_data / "fashion_mnist.npz", "--out", run, "--limit", 2000, "--epochs", 4, "--model", model,
                               "--json")[1])  # fmt: skip
    assert record["splits"]["train"] == 2000
    assert record["results"]["dev_accuracy"] > 0.75
    assert whence("influence", run)[0] == 0
    assert whence("audit", run)[0] == 0
    assert whence("report", run)[0] == 0


def assert_matches(pattern, text):
    import re

    assert re.search(pattern, text), text


def test_plan_says_what_can_be_told_apart(whence, tmp_path):
    data = write_table(tmp_path / "reviews.csv")
    options = ("--text", "text", "--label", "label", "--model", "mlp:32")
    code, out, err = whence("plan", data, *options)
    assert (code, err) == (0, "")
    assert "90 training instances; 32 masked units" in out and "method auto: kronecker" in out
    assert "Published scores of 90 instances on 32 masked units" in out and "To reach 0.50 by published scores" in out
    grouped = json.loads(whence("plan", data, *options, "--group", "source", "--runs", 8, "--json")[1])
    assert (grouped["groups"], grouped["method"], grouped["resolution"]["runs"]) == (6, "kronecker", 8)
    assert 0 < grouped["resolution"]["low"] < grouped["resolution"]["agreement"] < grouped["resolution"]["high"] < 1
    code, out, err = whence("plan", data, *options, "--runs", 0)
    assert code == 2 and err.startswith("whence: a number that makes no run in --runs: got 0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reviews.csv"]  # nothing is trained or written


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
