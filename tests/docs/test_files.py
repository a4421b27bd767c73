"""The page on files says exactly what runs write: names, order and types of columns, keys of JSON, tensors."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from torch import nn

import whence
from tests.cleansing.noisy import noisy
from tests.cli.tables import QUICK, write_table
from tests.docs.execution import DOCS
from tests.toys import blobs
from whence.models import prepare

PAGE = (DOCS / "reference" / "files.md").read_text(encoding="utf-8")
JSON_TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict, "array": list}
FIT = ("--label", "label", "--epochs", 2, *QUICK[2:])


def documented(name: str, has: set[str]) -> list[tuple[str, str]]:
    """Of a file, the (name, type) of each entry that a run with these properties has, in the order of the page."""
    section = re.search(rf"^### `{re.escape(name)}`\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)[1]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| `")
    ]
    needs = [(entry, kind, set(re.split(r" and |, of ", when)) - {""}) for entry, kind, _, when in rows]
    return [(entry.strip("`"), kind) for entry, kind, when in needs if when <= has]


def table(path):
    return [(column.name, str(column.type)) for column in pq.read_schema(path)]


def tensors(path):
    with safe_open(path, "np") as file:
        return {name: str(file.get_tensor(name).dtype) for name in file.keys()}  # noqa: SIM118


def assert_keys(path, has):
    record = json.loads(path.read_text(encoding="utf-8"))
    wanted = dict(documented(path.name, has))
    assert set(record) == set(wanted)
    for key, value in record.items():
        assert value is None or isinstance(value, JSON_TYPES[wanted[key]]), key


RUNS = {  # properties of the run: options of fit
    ("classification", "dev", "groups"): ["--features", "x,z", "--group", "source"],
    ("classification", "dev", "texts"): ["--text", "text", "--model", "ngrams:32"],
    ("regression", "dev"): ["--features", "z", "--label", "x"],
}


@pytest.mark.parametrize("properties", RUNS, ids="-".join)
def test_files_of_a_run(properties, whence, tmp_path):
    data, run = write_table(tmp_path / "data.csv"), tmp_path / "run"
    has = {*properties, "whence fit"}
    for command in (
        ["fit", data, *FIT, *RUNS[properties], "--out", run],
        ["audit", run],
        ["influence", run, "--targets", "test"],
    ):
        code, _, err = whence(*command)
        assert code == 0, err
    for name in ("instances", "history", "audit"):
        assert table(run / f"{name}.parquet") == documented(f"{name}.parquet", has)
    assert (run / "groups.parquet").exists() == ("groups" in has)
    if "groups" in has:
        assert table(run / "groups.parquet") == documented("groups.parquet", has)
    assert_keys(run / "run.json", has)
    directories = list((run / "scores").iterdir())
    assert len(directories) >= 2
    for scores in directories:
        info = json.loads((scores / "scores.json").read_text(encoding="utf-8"))
        rows = has | ({"instances"} if info["level"] == "instance" else set())
        assert_keys(scores / "scores.json", has)
        assert table(scores / "rows.parquet") == documented("rows.parquet", rows)
        assert table(scores / "targets.parquet") == documented("targets.parquet", has)
        assert tensors(scores / "block-00000.safetensors") == dict(documented("block-00000.safetensors", has))
        assert (scores / "matrix").exists() == info["matrix"]
        assert (scores / "null.npy").exists() == (info["null_masks"] is not None)
        sizes = np.load(scores / "sizes.npy", allow_pickle=False)
        assert (sizes.dtype, sizes.shape) == (np.float64, (info["shape"][1],))
        if info["null_masks"] is not None:
            null = np.load(scores / "null.npy", allow_pickle=False)
            assert (null.dtype, null.shape) == (np.float32, (info["null_masks"], info["shape"][1]))
    (top,) = (run / "scores").glob("*/top.parquet")
    assert table(top) == documented("top.parquet", has)
    known = set(re.findall(r"[\w.-]+\.(?:json|parquet|safetensors|npy|html)", PAGE))
    assert {file.name for file in run.rglob("*.*") if file.is_file()} <= known


def test_files_of_a_run_with_groups_and_no_dev(tmp_path):
    model, data = prepare(blobs(60, groups=6), "mlp:16")
    run = whence.fit(model, data, out=tmp_path, epochs=1)
    whence.audit(run)
    has = {"classification", "groups", "whence fit"}
    for name in ("instances", "history", "audit", "groups"):
        assert table(tmp_path / f"{name}.parquet") == documented(f"{name}.parquet", has)


def test_files_of_a_truth(tmp_path):
    model, data = prepare(blobs(40), "mlp:16")
    run = whence.fit(model, data, out=tmp_path / "run", epochs=1)
    whence.evaluation.retrain(run, "train", subsets=2, seeds=1, out=tmp_path / "truth")
    has = {"classification"}
    assert_keys(tmp_path / "truth" / "truth.json", has)
    assert tensors(tmp_path / "truth" / "00000-0.safetensors") == dict(documented("00000-0.safetensors", has))
    assert table(tmp_path / "truth" / "instances.parquet") == [("id", "int64"), ("name", "string"), ("row", "int64")]
    for name in ("rows", "targets"):
        assert table(tmp_path / "truth" / f"{name}.parquet") == [("id", "int64"), ("name", "string")]


def test_files_of_an_evaluation(whence, tmp_path):
    data, run = write_table(tmp_path / "data.csv"), tmp_path / "run"
    assert whence("fit", data, *FIT, "--features", "x,z", "--out", run)[0] == 0
    for kind in ("random", "leave-one-out"):
        code, _, err = whence("evaluate", run, "--method", "kernel", "--kind", kind, "--subsets", 3, "--seeds", 1)
        assert code == 0, err
        assert_keys(run / "truth" / f"{kind.replace('-', '_')}-instance-test" / "evaluation.json", set())


def test_files_of_a_cleansing(tmp_path):
    run, _ = noisy(tmp_path, n=60)
    found = whence.cleanse(run, drop="10%", seeds=2)
    assert table(found.path / "cleansed.parquet") == documented("cleansed.parquet", set())
    assert_keys(found.path / "cleanse.json", set())
    assert {file.name for file in found.path.iterdir()} == {"cleansed.parquet", "cleanse.json"}
    assert list((tmp_path / "cleanse" / "models").glob("*.safetensors"))


def test_a_run_of_ones_own_loop_has_what_the_page_says(tmp_path):
    whence.Run(whence.attach(nn.Sequential(nn.Linear(6, 8), nn.Dropout(), nn.Linear(8, 3))), blobs(10), out=tmp_path)
    assert_keys(tmp_path / "run.json", {"classification"})
    assert not (tmp_path / "history.parquet").exists()
