"""The command line as people use it: the whole way, from data to report."""

from __future__ import annotations

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from tests.cli.tables import QUICK, write_table


def suspected(run):
    table = pq.read_table(run / "audit.parquet").to_pylist()
    rows = sorted((row for row in table if row["kind"] == "label_issue"), key=lambda row: -row["p_wrong"])
    return [(row["name"], row["given_label"], row["suggested_label"], row["p_wrong"]) for row in rows]


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
@pytest.mark.parametrize("model", ["mlp:256,256", pytest.param("conv:8,16,64", marks=pytest.mark.long)])
def test_fashion_mnist(whence, tmp_path, shared_data, model):
    run = tmp_path / "run"
    record = json.loads(whence("fit", shared_data / "fashion_mnist.npz", "--out", run, "--limit", 2000, "--epochs", 4, "--model", model,
                               "--json")[1])  # fmt: skip
    assert record["splits"]["train"] == 2000
    assert record["results"]["dev_accuracy"] > 0.75
    assert whence("influence", run)[0] == 0
    assert whence("audit", run)[0] == 0
    assert whence("report", run)[0] == 0
