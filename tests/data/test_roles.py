"""Which column is what: what is named, what is guessed, and what is refused."""

from __future__ import annotations

import pytest

from whence import WhenceError
from whence.data import load
from whence.data.roles import assign

NAMES = ("id", "split", "label", "text", "age", "pixel1", "pixel2", "size, cm", "a[1]")


def test_columns_called_id_and_split_are_taken_for_what_they_say():
    roles = assign(NAMES, label="label", text="text", where="a.csv")
    assert (roles.id, roles.split, roles.group, roles.inputs) == ("id", "split", None, ("text",))


@pytest.mark.parametrize(
    ("given", "id", "split"),
    [
        ({"label": "split", "text": "text"}, "id", None),
        ({"label": "label", "text": "id"}, None, "split"),
        ({"label": "label", "text": "text", "group": "id"}, None, "split"),
        ({"label": "label", "features": ["age,id"]}, None, "split"),
        ({"label": "label", "features": ["*"]}, "id", "split"),
        ({"label": "label", "text": "text", "split": "none"}, "id", None),
        ({"label": "label", "text": "text", "id": "none"}, None, "split"),
        ({"label": "label", "text": "text", "id": "age"}, "age", "split"),
        ({"label": "label", "text": "text", "split": "id"}, None, "id"),
        ({"label": "label", "text": "text", "id": "id", "group": "id"}, "id", "split"),
    ],
)
def test_unless_they_have_another_role(given, id, split):
    roles = assign(NAMES, where="a.csv", **given)
    assert (roles.id, roles.split) == (id, split)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (["age, pixel*"], ("age", "pixel1", "pixel2")),
        (["pixel2", "pixel*"], ("pixel2", "pixel1")),
        (["size, cm", "a[1]"], ("size, cm", "a[1]")),
        (["pixel[!1]", "age"], ("pixel2", "age")),
    ],
)
def test_features_are_names_lists_and_globs(features, expected):
    assert assign(NAMES, label="label", features=features, where="a.csv").features == expected


def test_a_glob_leaves_out_columns_with_another_role():
    roles = assign(NAMES, label="label", features=["*"], group="text", where="a.csv")
    assert roles.features == ("age", "pixel1", "pixel2", "size, cm", "a[1]")


def test_without_text_and_features_all_other_columns_are_the_inputs_but_not_the_index_of_pandas():
    names = ("", "Unnamed: 0", "__index_level_0__", "x", "label", "y", "id", "source")
    assert assign(names, label="label", group="source", where="a.csv").inputs == ("x", "y")


BAD = [
    (
        {},
        "which column is the label is not said in a.csv: got columns id, split, label.*Did you mean --label label?",
    ),
    (
        {"label": "labl"},
        r"no such column in a.csv, --label: got 'labl', expected one of id, .* Did you mean label",
    ),
    ({"label": "LABEL"}, "Did you mean label"),
    ({"label": "label", "text": "zzz"}, "no such column in a.csv, --text.*Name another with --text"),
    ({"label": "label", "features": ["age", "pxel*"]}, r"--features: got 'pxel\*'"),
    ({"label": "label", "features": ["age,pixle1"]}, "got 'pixle1'.*Did you mean pixel1"),
    ({"label": "label", "features": [","]}, "no features are named"),
    ({"label": "label", "features": ["label"]}, "the label is among the features in a.csv.*fed its answer"),
    ({"label": "text", "text": "text"}, "one column is both text and label"),
    ({"label": "age", "text": "text", "text_pair": "age"}, "one column is both text and label in a.csv: got 'age'"),
    ({"label": "label", "text": "text", "text_pair": "zzz"}, "no such column in a.csv, --text-pair: got 'zzz'"),
    ({"label": "label", "group": "none"}, "no such column in a.csv, --group: got 'none'"),
]


@pytest.mark.parametrize(("given", "message"), BAD)
def test_bad_roles(given, message):
    with pytest.raises(WhenceError, match=message):
        assign(NAMES, **{"label": None, **given}, where="a.csv")


def test_a_pair_of_texts():
    names = ("id", "label", "first", "second")
    roles = assign(names, label="label", text="first", text_pair="second", where="a.csv")
    assert roles.inputs == ("first", "second") and roles.used == ("label", "id", "first", "second")
    assert assign(names, label="label", text="first", text_pair="id", where="a.csv").id is None


def test_no_column_is_left():
    with pytest.raises(WhenceError, match=r"no column is left for the inputs in a.csv: got columns id, label"):
        assign(("id", "label"), label="label", where="a.csv")


def test_a_header_with_another_separator(write):
    with pytest.raises(WhenceError, match=r"The header holds ';': separate columns by commas"):
        load(write("a.csv", "label;text\n0;a\n"), label="label", text="text")


def test_words_among_the_other_columns_ask_for_a_choice(write):
    path = write("a.csv", "label,city,review,size\n0,Bonn,much longer than a city,1\n1,Köln,another long text,2\n")
    message = "so the inputs have to be named in .*: got city, review. Name the text with --text review"
    with pytest.raises(WhenceError, match=message):
        load(path, label="label")
