"""Ids keep 64 bits and the user's writing; features are finite numbers or an error that names the cell."""

from __future__ import annotations

import datetime
import decimal
import uuid

import numpy as np
import pyarrow as pa
import pytest

from whence import WhenceError
from whence.data import load
from whence.data.columns import Place, ids_of, numbers_of
from whence.masks import as_ids, hash_id

PLACE = Place("a.csv, column 'c'", lambda row: f"row {row + 1}")


def column(values, kind=None):
    array = pa.array(values, kind)
    array = array.cast(pa.large_string()) if array.type == pa.string() else array
    return pa.chunked_array([array[:1], array[1:]])  # as files give them: in pieces


@pytest.mark.parametrize(
    "numbers",
    [[0, 1, 2], [-(2**63), -1, 2**63 - 1], [0, 2**63, 2**64 - 1], [-1, 2**63]],
)
def test_plain_integers_are_the_same_ids_as_numbers_and_as_text(numbers):
    expected = as_ids(numbers).tolist()
    written = [str(number) for number in numbers]
    for values, kind in ((written, None), ([decimal.Decimal(n) for n in numbers], pa.decimal128(38, 0))):
        ids, names = ids_of(column(values, kind), PLACE)
        assert ids.tolist() == expected
        assert names.tolist() == written
    if min(numbers) >= 0 or max(numbers) < 2**63:
        ids, names = ids_of(column(numbers, pa.uint64() if min(numbers) >= 0 else pa.int64()), PLACE)
        assert (ids.tolist(), names.tolist()) == (expected, written)


@pytest.mark.parametrize("odd", ["007", "+7", " 7", "-0", "7.0", "1e3", str(2**64), "seven", "\u0667"])
def test_one_text_that_is_no_plain_integer_makes_all_ids_text(odd):
    ids, names = ids_of(column(["1", odd, "3"]), PLACE)
    assert ids.tolist() == as_ids(["1", odd, "3"]).tolist()
    assert ids.view(np.uint64)[0] == hash_id("1")
    assert names.tolist() == ["1", odd, "3"]


def test_dates_are_ids_as_written():
    assert ids_of(column([datetime.date(2024, 5, 6)]), PLACE)[1].tolist() == ["2024-05-06"]


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (["a", None], None, "a missing value in a.csv, column 'c', row 2. Fill it in"),
        (["a", "b", "  "], None, "a missing value in a.csv, column 'c', row 3"),
        ([1, None], pa.int64(), "a missing value in .*row 2"),
        (
            [1.0, 2.0],
            None,
            r"not an id in .*: got 1.0 \(double\), expected an integer or text. .*lose ids above 2\^53",
        ),
        ([True], None, r"not an id in .*: got True \(bool\)"),
        ([[1]], None, "not an id"),
        ([decimal.Decimal("1.5")], None, "not an id"),
        (
            [decimal.Decimal(2**64)],
            pa.decimal128(38, 0),
            f"more than 64 bits in a.csv, column 'c', row 1: got {2**64}",
        ),
        ([uuid.uuid4().bytes], pa.binary(16), "not an id"),
    ],
)
def test_bad_ids(values, kind, message):
    with pytest.raises(WhenceError, match=message):
        ids_of(column(values, kind), PLACE)


def test_duplicate_ids_name_both_rows(write):
    path = write("a.csv", "id,label,text\nu1,0,a\nu2,1,b\nu3,0,c\nu2,1,d\nu2,1,e\n")
    message = "an id that occurs twice in .*, column 'id', row 2 of .* and row 4 .*: got 'u2'.*group column"
    with pytest.raises(WhenceError, match=message):
        load(path, label="label", text="text")


def test_row_numbers_are_the_ids_of_tables_without_ids(write):
    rows = "".join(f"{row % 2},text {row}\n" for row in range(40))
    path = write("a.csv", "label,text\n" + rows)
    data = load(path, label="label", text="text")
    assert data.ids.tolist() == list(range(40))
    few = load(path, label="label", text="text", limit=3)
    assert all(text == f"text {id}" for text, id in zip(few.texts, few.ids, strict=True))
    assert few.names.tolist() == [str(id) for id in few.ids]


def test_groups_share_a_mask(write):
    path = write("a.csv", "author,label,text,split\nann,0,a,train\nbob,1,b,train\nann,1,c,dev\n")
    data = load(path, label="label", text="text", group="author")
    assert data.group_names.tolist() == ["ann", "bob", "ann"]
    assert data.mask_ids.tolist() == as_ids(["ann", "bob", "ann"]).tolist()
    assert data.ids.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([" 1", "+2", "-3.5e2", ".5"], None, [1, 2, -350, 0.5]),
        (["1", "", "NA", "nan", "None"], None, [1, np.nan, np.nan, np.nan, np.nan]),
        (["inf", "-Infinity", "1e999"], None, [np.inf, -np.inf, np.inf]),
        (["True", "false", "FALSE"], None, [1, 0, 0]),
        ([True, None], None, [1, np.nan]),
        ([1, 2**63], pa.uint64(), [1, 2.0**63]),
        ([decimal.Decimal("1.25"), None], None, [1.25, np.nan]),
        ([None, None], None, [np.nan, np.nan]),
        (["1", "two"], None, None),
        (["1", "true"], None, None),
        (["1,5"], None, None),
        (["0x10"], None, None),
        ([[1.0]], None, None),
        ([datetime.date(2024, 5, 6)], None, None),
    ],
)
def test_numbers(values, kind, expected):
    found = numbers_of(column(values, kind))
    if expected is None:
        assert found is None
    else:
        np.testing.assert_array_equal(found, expected)


def test_features_are_float32_in_the_order_of_their_names(write):
    path = write("a.csv", "b,a,label,split\n1,2,0,train\n3,4.5,1,train\n5,6,1,dev\n")
    data = load(path, label="label", features="a,b")
    assert data.feature_names == ("a", "b")
    assert data.inputs.array.dtype == np.float32
    assert data.inputs.array.tolist() == [[2, 1], [4.5, 3], [6, 5]]
    assert data.texts is None
    assert load(path, label="label").feature_names == ("b", "a")


@pytest.mark.parametrize("value", ["", "nan", "NA", "inf", "1e300"])
def test_a_feature_that_is_not_finite(write, value):
    path = write("a.csv", f"a,label\n1,0\n2,1\n{value},1\n")
    message = rf"not a finite number in .*, column 'a', row 3 of the data \(the first .* is 1\): got '{value}'"
    for features in ("a", None):
        with pytest.raises(WhenceError, match=message + ".*Fill it in, or remove the row or the column"):
            load(path, label="label", features=features)


def test_a_feature_that_is_a_word(write):
    path = write("a.csv", "a,b,label\n1,2,0\n2,red,1\n")
    with pytest.raises(WhenceError, match=r"a feature that is not a number in .*column 'b', row 2 .*: got 'red'"):
        load(path, label="label", features="a,b")


def test_text_that_is_not_text(write):
    path = write("a.parquet", {"label": [0, 1], "text": [1.5, 2.5]})
    with pytest.raises(WhenceError, match=r"a column that is not text in .*column 'text': got double"):
        load(path, label="label", text="text")
    path = write("b.parquet", {"label": [0, 1], "text": ["a", None]})
    with pytest.raises(WhenceError, match=r"a missing value in .*column 'text', row 2 of the data \(the first is 1\)"):
        load(path, label="label", text="text")
