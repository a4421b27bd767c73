"""``whence plan`` and ``whence fit``: what they say of data, and what an interrupted training keeps."""

from __future__ import annotations

import json

from tests.cli.tables import QUICK, write_table


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
    assert "90 training instances; 32 masked units" in out and "method auto: kronecker" in out
    assert "Published scores of 90 instances on 32 masked units" in out and "To reach 0.50 by published scores" in out
    grouped = json.loads(whence("plan", data, *options, "--group", "source", "--runs", 8, "--json")[1])
    assert (grouped["groups"], grouped["method"], grouped["resolution"]["runs"]) == (6, "kronecker", 8)
    assert 0 < grouped["resolution"]["low"] < grouped["resolution"]["agreement"] < grouped["resolution"]["high"] < 1
    code, out, err = whence("plan", data, *options, "--runs", 0)
    assert code == 2 and err.startswith("whence: a number that makes no run in --runs: got 0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reviews.csv"]  # nothing is trained or written
