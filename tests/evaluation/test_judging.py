"""`whence evaluate`, from a table to numbers and words."""

from __future__ import annotations

import json

import numpy as np
import pytest

import whence as library
from tests.cli.tables import QUICK, write_table
from whence.evaluation import lds, load_truth


@pytest.fixture
def fitted(whence, tmp_path):
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    assert whence("fit", data, "--text", "text", "--label", "label", "--group", "source", "--out", run, *QUICK)[0] == 0
    return run


def test_random_subsets(whence, fitted):
    command = ("evaluate", fitted, "--method", "turnover", "--method", "first_order", "--subsets", 6, "--seeds", 2)
    code, out, err = whence(*command)
    assert (code, err) == (0, "")
    first, *results, meaning, where = out.splitlines()
    assert first == "retrained on 6 random subsets of 50% of 6 groups, 2 seeds each; 30 targets (test)"
    assert [line.split()[0] for line in results] == ["turnover", "first_order"]
    assert "An LDS of 1 means" in meaning and "ceiling" in meaning
    truth = fitted / "truth" / "random-group-test"
    assert str(truth / "evaluation.json") in where
    files = sorted(truth.glob("*.safetensors"))
    stamps = [file.stat().st_mtime_ns for file in files]
    code, out, err = whence(*command, "--json")
    record = json.loads(out)
    assert [file.stat().st_mtime_ns for file in files] == stamps and len(stamps) == 12
    assert record == json.loads((truth / "evaluation.json").read_text(encoding="utf-8"))
    found = lds(library.load_scores(fitted / "scores" / "turnover-test"), load_truth(record["truth"]))
    assert record["methods"]["turnover"]["lds"] == pytest.approx(float(found))
    assert record["methods"]["turnover"]["ceiling"] == pytest.approx(found.ceiling)
    assert {record[key] for key in ("kind", "level", "subsets", "seeds", "target_set")} == {
        "random",
        "group",
        6,
        2,
        "test",
    }


def test_leave_one_out(whence, fitted):
    code, out, err = whence("evaluate", fitted, "--kind", "leave-one-out", "--targets", "dev", "--seeds", 1, "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert record["subsets"] == 7  # all groups, and without each of six
    assert record["methods"]["kronecker"].keys() == {
        "spearman",
        "reliability",
        "spearman_of_means",
        "reliability_of_means",
    }
    assert record["methods"]["kronecker"]["reliability"] is None  # unknown with one seed
    assert np.isfinite(record["methods"]["kronecker"]["spearman"])


def test_mistakes_take_one_line(whence, fitted):
    for options, message in (
        (("--fraction", 1), "out of range in --fraction: got 1.0, expected a number between 0 and 1"),
        (("--level", "instance"), "scores of groups cannot foretell what single instances do"),
        (("--jobs", 0), "out of range in --jobs: got 0"),
        (("--seed", 2**64), "out of range in --seed: got 18446744073709551616, expected an integer of 64 bits"),
        (("--seed", -(2**63) - 1), "out of range in --seed"),
        (("--method", "turnover", "--method", "magic"), "unknown method in --method"),
        (("--name", "../elsewhere"), "not a name for retrainings"),
        (("--targets", "tset"), "no split named 'tset'"),
    ):
        code, out, err = whence("evaluate", fitted, "--subsets", 3, "--seeds", 1, *options)
        assert code == 2 and out == "" and message in err and err.count("\n") == 1
    assert whence("evaluate", fitted, "--subsets", 3, "--seeds", 1)[0] == 0
    code, _, err = whence("evaluate", fitted, "--subsets", 3, "--seeds", 1, "--fraction", 0.34)
    assert code == 2 and "another fraction" in err
