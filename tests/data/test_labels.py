"""What a label column means: classes or a number, taken from the training split."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest

from whence import WhenceError
from whence.data import Classification, Regression, load
from whence.data.columns import Place
from whence.data.labels import labels_of, targets_of
from whence.data.splits import divide
from whence.masks import as_ids

PLACE = Place("a.csv, column 'y'", lambda row: f"row {row + 1}")


def task_of(values, task="auto", train=None, kind=None):
    array = pa.array(values, kind)
    array = array.cast(pa.large_string()) if array.type == pa.string() else array
    labels = labels_of(pa.chunked_array([array]), PLACE)
    return targets_of(labels, np.ones(len(values), bool) if train is None else np.array(train), task)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["b", "a", "b"], ("a", "b")),
        (["10", "9", "10", "9"], ("9", "10")),
        (["1.0", "0", "1"], ("0", "1")),
        (["01", "2", "01"], ("01", "2")),
        (["NA", "EU", "NA"], ("EU", "NA")),
        (["True", "False"], ("False", "True")),
        ([True, False, True], ("false", "true")),
        ([3, -1, 3, -1], ("-1", "3")),
        ([1.0, 0.0], ("0", "1")),
        (np.array([2**64 - 1, 0], np.uint64), ("0", str(2**64 - 1))),
        (list(range(20)) * 2, tuple(map(str, range(20)))),
        (list(range(50)) * 50, tuple(map(str, range(50)))),
    ],
)
def test_words_and_few_integers_are_classes(values, classes):
    task, targets = task_of(values)
    assert task == Classification(classes)
    assert targets.dtype == np.int64
    shown = [str(value).lower() for value in values]
    if classes != ("0", "1"):
        assert [name.lower() for name in task.show(targets)] == shown


@pytest.mark.parametrize(
    "values",
    [[0.5, 1.5, 1.0], ["0.5", "1"], list(range(21)) * 2, [1, 2, 3, 3, 4], ["1e3", "2.5"]],
)
def test_other_numbers_are_regression(values):
    task, targets = task_of(values)
    numbers = np.array(values, float)
    assert task == Regression(numbers.mean(), numbers.std())
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets * task.scale + task.mean, numbers, rtol=1e-6)


def test_the_task_can_be_said():
    assert task_of([1.5, 2.5, 1.5], "classification")[0] == Classification(("1.5", "2.5"))
    assert task_of([0, 1, 1], "regression")[0].kind == "regression"
    assert task_of(list(range(100)), "classification")[0].outputs == 100


def test_mean_scale_and_classes_come_from_the_training_split():
    train = [True, True, False]
    task, targets = task_of([1.0, 4.0, 10.5], train=train)
    assert (task.mean, task.scale) == (2.5, 1.5)
    np.testing.assert_allclose(targets, [-1, 1, 16 / 3], rtol=1e-6)
    message = "unknown label in a.csv, column 'y', row 3: got 'c', expected a label of the training split: a, b"
    with pytest.raises(WhenceError, match=message):
        task_of(["a", "b", "c"], train=train)


BAD = [
    (
        ["a", "a"],
        "auto",
        None,
        "only one class in the training split in a.csv, column 'y': got 'a', expected at least two",
    ),
    ([7, 7, 7], "auto", None, "only one class.*got '7'"),
    ([0.5, 0.5], "auto", None, "constant in the training split in a.csv, column 'y': got 0.5 in every row"),
    ([0.1] * 10, "regression", None, "constant in the training split"),
    (
        ["a", "b"],
        "regression",
        None,
        "a label that is not a number in .*row 1: got 'a', expected numbers for --task regression",
    ),
    ([1e308, -1e308, 1e308, 1.5], "auto", None, "too large to standardize"),
    (["a", "", "b"], "auto", None, "a missing value in a.csv, column 'y', row 2"),
    (["a", None], "auto", None, "a missing value in .*row 2"),
    ([True, None], "auto", None, "a missing (value|or infinite label) in .*row 2"),
    ([1, None, 2], "auto", pa.int64(), "a missing or infinite label in a.csv, column 'y', row 2: got None"),
    ([1.0, float("nan")], "auto", None, "a missing or infinite label in .*row 2: got nan"),
    ([1.0, float("inf")], "auto", None, "row 2: got inf"),
    (
        ["1", "0", "NA"],
        "auto",
        None,
        "a missing or infinite label in .*row 3: got 'NA', expected a number, as in other rows",
    ),
    (["", ""], "auto", None, "a missing or infinite label in .*row 1: got ''"),
    ([[1], [2]], "auto", None, r"not a label in a.csv, column 'y': got list<item: int64>"),
    ([datetime.date(2024, 5, 6)] * 2, "auto", None, "not a label"),
]


@pytest.mark.parametrize(("values", "task", "kind", "message"), BAD)
def test_bad_labels(values, task, kind, message):
    with pytest.raises(WhenceError, match=message):
        task_of(values, task, kind=kind)


def test_a_class_that_a_draw_keeps_from_training_is_moved_there(write):
    labels = ["0", "1"] * 10 + ["rare"]
    path = write("a.csv", "label,text\n" + "".join(f"{label},text\n" for label in labels))
    ids = np.arange(len(labels))
    seed = next(seed for seed in range(99) if divide(None, ids, seed=seed, where="")[-1] == "test")
    data = load(path, label="label", text="text", seed=seed)
    assert data.task.classes == ("0", "1", "rare")
    assert data.splits[-1] == "train"
    assert data.notes == ("no instance of rare fell into train, so all of them were moved there",)
    elsewhere = divide(None, ids, seed=seed, where="")
    assert (data.splits[:-1] == elsewhere[:-1]).all()  # nobody else is moved
    given = write("b.csv", "label,text,split\n0,a,train\n1,b,train\nrare,c,test\n")
    with pytest.raises(WhenceError, match="unknown label in .*row 3 .*add training instances"):
        load(given, label="label", text="text")  # splits that were given stay as they are


def test_a_class_that_the_draw_of_dev_takes_goes_back_with_its_group(write):
    rows = [(row % 2, f"g{row}", "train") for row in range(60)]
    ids = as_ids([group for _, group, _ in rows])
    lost = int(np.flatnonzero(divide(np.array(["train"] * 60, object), ids, seed=0, where="") == "dev")[0])
    rows[lost] = ("rare", f"g{lost}", "train")
    rows += [("1", f"g{lost}", "train"), ("0", "other", "test")]
    path = write("a.csv", "label,source,split,text\n" + "".join(f"{a},{b},{c},t\n" for a, b, c in rows))
    data = load(path, label="label", group="source", text="text", split_by="group")
    assert set(data.splits[data.group_names == f"g{lost}"]) == {"train"}
    assert data.splits[-1] == "test"
    assert "moved there" in data.notes[1]
