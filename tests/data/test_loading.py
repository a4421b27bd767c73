"""Sources can be replayed; built-in and real data sets are what their makers say."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from whence import WhenceError
from whence.data import Source, load


def test_digits():
    data = load("digits")
    assert data.images.shape == (1797, 8, 8)
    assert (data.images.dtype, data.images.min(), data.images.max()) == (np.uint8, 0, 255)
    assert data.task.classes == tuple("0123456789")
    assert data.names.tolist() == [str(row) for row in range(1797)]
    assert set(data.splits) == {"train", "dev", "test"}
    assert data.fingerprint() == load(Path("digits")).fingerprint()


def test_diabetes():
    data = load("diabetes")
    assert data.inputs.array.shape == (442, 10)
    assert data.feature_names[:3] == ("age", "sex", "bmi")
    assert data.task.kind == "regression"
    train = data.targets[data.splits == "train"]
    np.testing.assert_allclose([train.mean(), train.std()], [0, 1], atol=1e-6)
    np.testing.assert_allclose(data.targets[0] * data.task.scale + data.task.mean, 151, rtol=1e-5)


def test_a_source_can_be_replayed_from_anywhere(write, monkeypatch, tmp_path):
    path = write("a.csv", "who,x1,x2,y\n" + "".join(f"{row % 9},{row},{row * row},{row % 2}\n" for row in range(60)))
    monkeypatch.chdir(tmp_path)
    source = Source("a.csv", label="y", features="x*", group="who", limit=10, seed=7)
    assert source.path == path.resolve().as_posix()
    record = json.loads(json.dumps(source.to_json()))
    given = {"label": "y", "features": ["x*"], "group": "who", "limit": 10, "seed": 7, "task": "auto"}
    more = {
        "text": None,
        "text_pair": None,
        "image": None,
        "image_size": None,
        "id": None,
        "split": None,
        "split_by": "auto",
        "drop_missing": False,
    }
    assert record == {"path": path.as_posix(), **more, **given}
    monkeypatch.chdir("/")
    assert Source.from_json(record) == source
    expected = load(path, label="y", features=["x1", "x2"], group="who", limit=10, seed=7)
    assert Source.from_json(record).load().fingerprint() == expected.fingerprint()


def test_home_is_expanded(write, monkeypatch, tmp_path):
    write("a.csv", "x\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Source("~/a.csv").path == (tmp_path / "a.csv").as_posix()


def test_a_file_that_has_gone_says_what_to_do(write):
    path = write("reviews.csv", "label,text\n0,a\n")
    source = Source(path, label="label", text="text")
    path.rename(path.with_name("reviews2.csv"))
    with pytest.raises(
        WhenceError,
        match=r"no such file in .*reviews.csv. Did you mean reviews2.csv\? Check the path, or put",
    ):
        source.load()


def test_only_a_similar_name_is_suggested(write):
    write("reviews.csv", "label,text\n0,a\n")
    with pytest.raises(WhenceError) as caught:
        load("preview.csv", label="label")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".tsv", ".jsonl", ".parquet", ".npz"])
def test_missing_files(tmp_path, ending):
    with pytest.raises(WhenceError, match=r"no such file in .*nowhere/a"):
        load(tmp_path / "nowhere" / f"a{ending}", **({} if ending == ".npz" else {"label": "y"}))


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet", ".npz"])
def test_unreadable_files(write, ending):
    path = write(f"a{ending}", "x")
    path.chmod(0)
    with pytest.raises(WhenceError, match=r"a file that cannot be read"):
        load(path, **({} if ending == ".npz" else {"label": "y"}))


BAD = [
    (
        ("digitz",),
        {},
        r"data of an unknown kind in digitz: got no ending, expected a file ending in .csv, .*digits or "
        r"diabetes. Did you mean digits\?",
    ),
    (
        ("a.xlsx",),
        {},
        r"got the ending '.xlsx', expected a file ending in .csv, .csv.gz, .tsv, .tsv.gz, .jsonl, "
        r".jsonl.gz, .parquet or .npz, a directory of pictures, or the built-in digits or diabetes",
    ),
    (("a\0.csv",), {}, "not a path"),
    (("",), {}, "not a path"),
    ((7,), {}, "not a path in source: got 7"),
    (("a.csv",), {"label": 7}, "an option of the wrong type in label: got 7, expected the name of a column"),
    (("a.csv",), {"features": 7}, "wrong type in features"),
    (("a.csv",), {"features": ["a", 7]}, "wrong type in features"),
    (("a.csv",), {"text": "a", "features": "b"}, "both text and features are named"),
    (("a.csv",), {"text_pair": "a"}, "a second text without a first in text_pair: got a. Name the first with --text"),
    (("digits",), {"text": "a", "text_pair": "b"}, "for tables only in digits: got --text, --text-pair"),
    (
        ("a.csv",),
        {"task": "ranking"},
        "in task: got 'ranking', expected auto or classification or regression",
    ),
    (("a.csv",), {"limit": 0}, "an option out of range in limit: got 0, expected an integer of at least 1"),
    (("a.csv",), {"split_by": "row"}, "in split_by: got 'row', expected auto or instance or group"),
    (("a.csv",), {"split_by": "group"}, "no groups to keep together in split_by.*--group"),
    (("a.csv",), {"drop_missing": 1}, "in drop_missing: got 1, expected True or False"),
    (("digits",), {"drop_missing": True}, "for tables only in digits: got --drop-missing"),
    (("a.csv",), {"limit": True}, "out of range in limit"),
    (("a.csv",), {"limit": 2.0}, "out of range in limit"),
    (("a.csv",), {"seed": 2**64}, "out of range in seed.*64 bits"),
    (("a.csv",), {"seed": None}, "in seed: got None, expected an integer"),
    (
        ("digits",),
        {"label": "y", "split": "none"},
        "an option for tables only in digits: got --label, --split",
    ),
]


@pytest.mark.parametrize(("given", "options", "message"), BAD)
def test_bad_options(given, options, message):
    with pytest.raises(WhenceError, match=message):
        load(*given, **options)


@pytest.mark.parametrize(
    ("record", "got"),
    [
        ([], "list"),
        ({}, "no path"),
        ({"path": "digits", "shuffle": 1}, "the key 'shuffle'"),
        ("digits", "str"),
    ],
)
def test_records_that_are_no_source(record, got):
    with pytest.raises(
        WhenceError, match=rf"not a data source in the record: got {got}, expected an object with path, label"
    ):
        Source.from_json(record)


def test_numpy_integers_are_options():
    source = Source("digits", limit=np.int64(5), seed=np.uint64(2**64 - 1))
    assert json.loads(json.dumps(source.to_json()))["seed"] == 2**64 - 1
    assert len(source.load()) == 15


@pytest.mark.shared_data
def test_sst2(shared_data):
    data = load(shared_data / "sst2_sentences.tsv.gz", label="label", text="sentence")
    assert [int((data.splits == name).sum()) for name in ("train", "dev", "test")] == [6920, 872, 1821]
    assert data.task.classes == ("0", "1")
    assert data.texts[0].startswith("a stirring , funny and finally transporting")
    assert data.texts[0] == data.texts[0].strip()


@pytest.mark.shared_data
def test_mrpc(shared_data):
    data = load(shared_data / "mrpc.tsv.gz", text="sentence1", text_pair="sentence2", label="label", limit=50)
    assert len(data.inputs.texts) == len(data.inputs.pairs) == 150
    assert data.texts[0] == f"{data.inputs.texts[0]} ‖ {data.inputs.pairs[0]}"


@pytest.mark.shared_data
def test_fashion_mnist(shared_data):
    data = load(shared_data / "fashion_mnist.npz", limit=50)
    assert data.images.shape == (150, 28, 28)
    assert [int((data.splits == name).sum()) for name in ("train", "dev", "test")] == [50, 50, 50]
    assert data.task.classes == tuple("0123456789")
    assert (data.ids[data.splits == "test"] >= 60_000).all()


def test_rows_without_a_second_text_can_be_left_out(write):
    path = write(
        "a.tsv", "first\tsecond\ty\n" + "".join(f"a{row}\t{'' if row == 3 else 'b'}\t{row % 2}\n" for row in range(40))
    )
    data = load(path, text="first", text_pair="second", label="y", drop_missing=True)
    assert len(data) == 39 and "a3 ‖ " not in data.texts
    one, two = data.select(np.array([0])), data.select(np.array([1]))
    assert one.inputs.pairs.tolist() == ["b"] and one.fingerprint() != two.fingerprint()
