"""``whence plan`` and ``whence fit``: what they say of data, and what an interrupted training keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.cli.tables import QUICK, write_table
from tests.toys import blobs, trained
from whence.costs import Costs
from whence.estimators import influence
from whence.estimators.dispatch import METHODS
from whence.score_making import bytes_of_scores


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


def test_plan_says_what_can_be_told_apart(whence, tmp_path):
    data = write_table(tmp_path / "reviews.csv")
    options = ("--text", "text", "--label", "label", "--model", "mlp:32")
    code, out, err = whence("plan", data, *options)
    assert (code, err) == (0, "")
    assert (
        "90 training instances; 32 masked units" in out
        and "method auto: kronecker; what follows is about turnover and first_order" in out
    )
    assert "Published scores of 90 instances on 32 masked units" in out and "To reach 0.50 by published scores" in out
    grouped = json.loads(whence("plan", data, *options, "--group", "source", "--runs", 8, "--json")[1])
    assert (grouped["groups"], grouped["method"], grouped["resolution"]["runs"]) == (6, "kronecker", 8)
    assert 0 < grouped["resolution"]["low"] < grouped["resolution"]["agreement"] < grouped["resolution"]["high"] < 1
    code, out, err = whence("plan", data, *options, "--runs", 0)
    assert code == 2 and err.startswith("whence: an option out of range in --runs: got 0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reviews.csv"]  # nothing is trained or written


def test_plan_says_what_it_will_cost(whence, tmp_path):
    """Bytes on disk within a factor of two of what is then there; time and memory are measured in benchmarks/plan.py."""
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    options = ("--features", "x,z", "--label", "label", "--model", "mlp:64,64", "--epochs", 3)
    found = json.loads(whence("plan", data, *options, "--out", run, "--targets", 30, "--json")[1])["costs"]
    assert found["fits"] and found["method"] == "kronecker" and found["targets"] == 30
    assert 0 < found["fit_seconds"] < 60 and 0 < found["score_seconds"] < 60 and 1e8 < found["memory"] < 1e10
    assert not run.exists()
    code, out, _ = whence("plan", data, *options)
    assert "training takes about" in out and "on disk: the run" in out and "are free" in out
    assert whence("fit", data, *options, "--out", run)[0] == 0
    size = sum(file.stat().st_size for file in run.iterdir())
    assert found["run_bytes"] / 2 < size < found["run_bytes"] * 2
    assert "training takes" not in whence("plan", data, *options, "--no-trial")[1]
    code, _, err = whence("plan", data, *options[:-1], 0)
    assert code == 2 and err.startswith("whence: an option out of range in --epochs: got 0")


@pytest.mark.parametrize("keep_matrix", [True, False])
@pytest.mark.parametrize("method", ["kronecker", "first_order"])
def test_bytes_of_scores_are_foretold(tmp_path, keep_matrix, method):
    run = trained(out=tmp_path / "run", n=700, epochs=1)
    kind = METHODS[method]
    foretold = bytes_of_scores(700, 200, width=32, masks=method == "first_order", at_once=kind.at_once, at_stake=kind.at_stake(run),
                               keep_matrix=keep_matrix)  # fmt: skip
    scores = influence(run, blobs(200, seed=3, start=5000), method=method, keep_matrix=keep_matrix)
    size = sum(file.stat().st_size for file in scores.path.rglob("*") if file.is_file())
    assert foretold / 1.5 < size < foretold * 1.5


def test_plan_warns_of_a_disk_that_will_not_do(whence, tmp_path, monkeypatch):
    data = write_table(tmp_path / "reviews.csv")
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    code, out, _ = whence(
        "plan", data, "--features", "x,z", "--label", "label", "--model", "mlp:8", "--out", tmp_path / "run"
    )
    assert code == 0 and "warning: the disk will not do: free some, or name another disk" in out


def test_a_disk_that_will_not_do():
    small = Costs(targets=10, method="kernel", fit_seconds=7200, score_seconds=0.01, memory=2**33, run_bytes=2**30,
                  checkpoint_bytes=2**29, score_bytes=2**42, summary_bytes=2**31, free_bytes=2**32)  # fmt: skip
    assert not small.fits
    lines = small.lines()
    assert "about 2 hours" in lines[0] and "0.1 seconds" in lines[0] and "8 GiB of memory" in lines[0]
    assert "scores 4 TiB, or 2 GiB without" in lines[1]
    assert lines[2] == "warning: the disk will not do: score with --no-matrix, or on fewer targets"
    assert "free some, or name another disk" in replace(small, free_bytes=2**30).lines()[2]
    assert replace(small, free_bytes=2**43).fits
