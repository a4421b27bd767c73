"""Every table format gives the same dataset, exactly as written, or one error that names the place."""

from __future__ import annotations

import gzip
import json
import string
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence import WhenceError
from whence.data import Source, load

SEED = np.random.default_rng
ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".parquet")
REVIEWS = {
    "id": ["a", "b", "c", "d"],
    "split": ["train", "train", "dev", "test"],
    "label": ["good", "bad", "good", "bad"],
    "text": ["NA", "007", "2020-01-02", "naïve 漢字 🎬"],
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_gives_the_same_dataset(write, ending):
    from_csv = load(write("expected.csv", REVIEWS), label="label", text="text")
    data = load(write("reviews" + ending, REVIEWS), label="label", text="text")
    assert data.texts.tolist() == REVIEWS["text"]
    assert data.names.tolist() == REVIEWS["id"]
    assert data.splits.tolist() == REVIEWS["split"]
    assert data.task.classes == ("bad", "good")
    assert data.targets.tolist() == [1, 0, 1, 0]
    assert data.fingerprint() == from_csv.fingerprint()


WORD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n"), max_size=12)
ROWS = st.lists(
    st.tuples(WORD, st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from("xyz")),
    min_size=3,
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(rows=ROWS, ids=st.lists(st.integers(0, 2**64 - 1), unique=True, min_size=14, max_size=14))
def test_formats_round_trip_any_text_and_number(tmp_path_factory, rows, ids):
    rows = [*rows, ("2024-05-06", 0.0, "x"), ("", 1.0, "y")]
    ids = ids[: len(rows)]
    texts, numbers, groups = (list(column) for column in zip(*rows, strict=True))
    columns = {
        "id": ids,
        "split": ["train"] * (len(rows) - 2) + ["dev", "test"],
        "y": ["yes" if row % 2 else "no" for row in range(len(rows))],
        "text": texts,
        "size": numbers,
        "group": groups,
    }
    folder = tmp_path_factory.mktemp("round", numbered=True)
    write_all(folder, columns)
    for inputs in ({"text": "text"}, {"features": "size"}):
        prints = set()
        for ending in ENDINGS:
            data = load(folder / f"t{ending}", label="y", group="group", **inputs)
            assert data.names.tolist() == [str(number) for number in ids]
            assert data.ids.view(np.uint64).tolist() == ids
            assert data.group_names.tolist() == groups
            if "text" in inputs:
                assert data.texts.tolist() == texts
            else:
                np.testing.assert_array_equal(data.inputs.array[:, 0], np.array(numbers, np.float32))
            prints.add(data.fingerprint())
        assert len(prints) == 1


def write_all(folder: Path, columns: dict[str, list[object]]) -> None:
    rows = list(zip(*columns.values(), strict=True))

    def quoted(value: object) -> str:  # csv.writer of Python 3.10 takes no NUL
        text = str(value)
        return '"' + text.replace('"', '""') + '"' if set(text) & set(',"') else text

    contents = {
        ".csv": "".join(",".join(map(quoted, row)) + "\r\n" for row in [list(columns), *rows]),
        ".tsv": "".join("\t".join(map(str, row)) + "\n" for row in [list(columns), *rows]),
        ".jsonl": "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows),
    }
    for ending, content in contents.items():
        (folder / f"t{ending}").write_bytes(content.encode())
        (folder / f"t{ending}.gz").write_bytes(gzip.compress(content.encode(), 1))
    kinds = {"id": pa.uint64()}
    pq.write_table(
        pa.table({name: pa.array(values, kinds.get(name)) for name, values in columns.items()}),
        folder / "t.parquet",
    )


def test_csv_quoting_is_the_standard_one(write):
    path = write("a.csv", 'label,text\r\n1,"two\r\nlines, and a ""quote"""\r\n0,mid"dle\r\n\r\n1,""\r\n0,NA\r\n')
    data = load(path, label="label", text="text", split="none", seed=3)
    assert data.texts.tolist() == ['two\r\nlines, and a "quote"', 'mid"dle', "", "NA"]
    assert data.names.tolist() == ["0", "1", "2", "3"]


def test_tsv_has_no_quoting(write):
    path = write("a.tsv", 'split\tlabel\ttext\ntrain\t0\t"open\ntrain\t1\tclose" ""\ndev\t1\t, \n')
    assert load(path, label="label", text="text").texts.tolist() == ['"open', 'close" ""', ", "]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.gz"])
def test_byte_order_mark_is_dropped(write, name):
    content = b"\xef\xbb\xbf" + (
        b'{"label": "a", "split": "train", "text": "x"}\n{"label": "b", "split": "train", "text": "y"}\n'
        b'{"label": "b", "split": "dev", "text": "z"}\n'
        if "jsonl" in name
        else b"label,split,text\na,train,x\nb,train,y\nb,dev,z\n"
    )
    path = write(name, gzip.compress(content) if name.endswith("gz") else content)
    assert load(path, label="label", text="text").task.classes == ("a", "b")


def test_a_text_may_be_longer_than_a_block(write):
    long = "word " * 5_000_000
    path = write("a.tsv", f"split\tlabel\ttext\ntrain\t0\t{long}\ntrain\t1\tb\ndev\t1\tc\n")
    data = load(path, label="label", text="text")
    assert data.texts[0] == long


def test_unused_columns_are_not_looked_at(write):
    path = write(
        "a.jsonl",
        '{"label": 0, "text": "a", "more": {"x": [1]}, "split": "train"}\n'
        '{"label": 1, "text": "b", "more": null, "split": "train"}\n'
        '{"label": 1, "text": "c", "split": "dev"}\n',
    )
    assert load(path, label="label", text="text").texts.tolist() == ["a", "b", "c"]


def test_dictionary_columns_of_parquet_are_decoded(tmp_path):
    table = pa.table(
        {
            "label": pa.array(["a", "b", "a"]).dictionary_encode(),
            "text": pa.array(["x", "y", "z"], pa.large_string()),
            "split": ["train", "train", "dev"],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    data = load(tmp_path / "a.parquet", label="label", text="text")
    assert data.task.classes == ("a", "b")


BAD = {
    "empty": ("a.csv", b"", "an empty file in .*a.csv: got 0 bytes"),
    "empty gzip": ("a.tsv.gz", gzip.compress(b""), "an empty file"),
    "empty parquet": ("a.parquet", b"", "an empty file.*expected Parquet"),
    "blank": ("a.csv", b"\n\n", "a table without columns"),
    "blank lines": ("a.jsonl", b"\n\n", "a table without columns|an empty file"),
    "empty objects": ("a.jsonl", b"{}\n{}\n", "a table without columns"),
    "header only": ("a.csv", b"label,text\n", "a table without rows in .*: got 0 rows"),
    "header without a line end": ("a.tsv", b"label\ttext", "a table without rows"),
    "ragged csv": (
        "a.csv",
        b"label,text\n0,a\n1,b,c\n",
        r"a row of another length in .*a.csv, row 2 of the data \(the first after the header is 1\): "
        "got 3 values, expected 2. Put values that hold commas",
    ),
    "ragged tsv": (
        "a.tsv",
        b"label\ttext\n0\ta\n\n1\n",
        "row 2 of the data.*got 1 values, expected 2. Put single tabs",
    ),
    "ragged, and not UTF-8": ("a.csv", b"label,text\n0,a\n1,b,\xff\n", "another length in .*row 2 of"),
    "open quote": ("a.csv", b'label,text\n0,a\n1,"b\n0,c\n', "a quote that never closes in .*row 2 of"),
    "open quote, ragged": ("a.csv", b'label,text\n0,a\n"1,b\n0,c\n', "a quote that never closes in .*row 2"),
    "open quote, long": (
        "a.csv",
        b'label,text\n0,a\n"1,b\n' + b"0,c\n" * 50_000,
        "a quote that never closes in .*row 2",
    ),
    "open quote in the header": ("a.csv", b'label,"text\n0,a\n', "a header that cannot be read in .*a.csv"),
    "latin-1": (
        "a.csv",
        "label,text\n0,a\n1,café\n".encode("latin-1"),
        "not UTF-8 text in .*a.csv: got byte 0xe9 in line 3, at offset 20, expected UTF-8. Save it as UTF-8",
    ),
    "latin-1 header": ("a.tsv", "label\ttéxt\n0\ta\n".encode("latin-1"), "not UTF-8.*byte 0xe9 in line 1"),
    "latin-1 json": ("a.jsonl", b'{"label": 0}\n{"label": 1, "text": "\xe9"}\n', "not UTF-8.*line 2"),
    "latin-1 key": ("a.jsonl", b'{"label": 0, "t\xe9xt": "a"}\n', "not UTF-8.*line 1"),
    "utf-16": ("a.csv", "label,text\n0,a\n".encode("utf-16"), "not UTF-8.*got UTF-16.*Save it as UTF-8"),
    "packed csv": ("a.csv", gzip.compress(b"label,text\n"), "got gzip, expected UTF-8. Add .gz to its name"),
    "zip as csv": ("a.csv", b"PK\x03\x04....", "a zip archive or a spreadsheet"),
    "parquet as csv": ("a.csv", b"PAR1....", "got Parquet.*end in .parquet"),
    "not gzip": ("a.csv.gz", b"label,text\n0,a\n", "not a sound gzip file.*if it is not packed, drop .gz"),
    "cut gzip": ("a.tsv.gz", gzip.compress(b"label\ttext\n" + bytes(range(48, 90)))[:-9], "cut off"),
    "broken gzip": ("a.csv.gz", gzip.compress(b"label,text\n")[:-8] + b"12345678", "not a sound gzip file"),
    "twice": ("a.csv", b"label,text,text\n0,a,b\n", "a column name that occurs twice in .*: got 'text'"),
    "key twice": ("a.jsonl", b'{"label": 0, "text": "a", "text": "b"}\n', "twice in .*, line 1"),
    "broken json": ("a.jsonl", b'{"label": 0}\n\n{"label": 1, "text"\n', "not JSON in .*, line 3: got"),
    "json array": ("a.jsonl", b'[{"label": 0}]\n', "a line that is not an object in .*, line 1: got a list"),
    "deep json": ("a.jsonl", b'{"a":' + b"[" * 200_000, "not JSON|cannot be read"),
    "mixed json": (
        "a.jsonl",
        b'{"label": 0, "text": "a"}\n{"label": "b", "text": "b"}\n',
        "values of different kinds in .*, line 2, key 'label': got text, expected a number as in line 1",
    ),
    "parquet": ("a.parquet", b"PAR1" + b"\0" * 50 + b"PAR1", "not a sound Parquet file.*Write or copy it"),
    "text as parquet": ("a.parquet", b"label,text\n0,a\n", "not a sound Parquet file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_give_one_error_that_names_the_place(write, case):
    name, content, message = BAD[case]
    with pytest.raises(WhenceError, match=message) as caught:
        load(write(name, content), label="label", text="text")
    assert "\n" not in str(caught.value)


def test_a_row_is_missing_a_key(write):
    path = write("a.jsonl", '\n{"label": 0, "text": "a"}\n\n{"label": 1}\n')
    with pytest.raises(WhenceError, match=r"a missing value in .*a.jsonl, column 'text', line 4. Fill it in"):
        load(path, label="label", text="text")
    with pytest.raises(WhenceError, match=r"a missing or infinite label in .*, column 'label', line 2"):
        load(write("b.jsonl", '{"label": 0, "text": "a"}\n{"text": "b"}\n'), label="label", text="text")


@pytest.mark.parametrize("role", ["label", "text", "group", "id"])
def test_nested_values_in_a_used_column(write, role):
    row = {"label": 0, "text": "a", "group": "g", "id": 1, "split": "train"}
    path = write("a.jsonl", "".join(json.dumps(row | {"id": n, role: {"x": n}}) + "\n" for n in range(3)))
    with pytest.raises(WhenceError, match=rf"column '{role}'.*struct<x: int64>"):
        load(path, label="label", text="text", group="group")


def test_parquet_that_lies_about_its_text(tmp_path):
    table = pa.table({"label": ["a", "b"], "text": pa.array([b"\xff", b"b"], pa.binary())})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(WhenceError, match=r"text that is not UTF-8 in .*a.parquet, column 'text'"):
        load(tmp_path / "a.parquet", label="label", text="text")


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1), byte=st.integers(0, 255), ending=st.sampled_from(ENDINGS), cut=st.booleans())
def test_damaged_files_never_give_another_error(tmp_path_factory, place, byte, ending, cut):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    if not folder.exists():
        folder.mkdir()
        words = list(string.ascii_lowercase)
        write_all(folder, {"id": list(range(26)), "y": ["a", "b"] * 13, "text": words, "size": [0.5] * 26})
    content = bytearray((folder / f"t{ending}").read_bytes())
    position = min(int(place * len(content)), len(content) - 1)
    content[position] = byte
    path = folder / f"d{ending}"
    path.write_bytes(content[:position] if cut else content)
    with suppress(WhenceError):
        data = load(path, label="y", text="text")
        assert len(data) == len(data.texts)


GAPS = "id,label,text,a\nr0,x,good,1\nr1,,bad,2\nr2,y, ,3\nr3,x,fine,NA\nr4,y,ok,5\nr5,,no,6\nr6,y,so,7\n"


def test_rows_with_gaps_are_left_out_and_counted(write):
    path = write("a.csv", GAPS)
    message = r"a missing value in .*column 'label', row 2 of the data .*: got 2 such rows of 7. Fill them in, .*--drop-missing"
    with pytest.raises(WhenceError, match=message):
        load(path, label="label", text="text")
    data = load(path, label="label", text="text", drop_missing=True)
    assert data.names.tolist() == ["r0", "r3", "r4", "r6"]
    assert data.notes[0] == "3 of 7 rows were left out: label, text or a feature is missing"
    assert load(path, label="label", features="a", drop_missing=True).names.tolist() == ["r0", "r2", "r4", "r6"]
    numbered = load(path, label="label", text="text", id="none", drop_missing=True)
    assert numbered.ids.tolist() == [0, 3, 4, 6]  # the numbers of the rows in the file
    path = write("b.csv", "label,a\n0,1\n1,NA\n")
    with pytest.raises(
        WhenceError, match="not a finite .*column 'a', row 2 of .*: got 'NA', expected a number.*--drop-missing"
    ):
        load(path, label="label", features="a")


def test_places_after_gaps_are_those_of_the_file(write):
    path = write("a.csv", "label,a\n,1\n0,2\n1,red\n")
    with pytest.raises(WhenceError, match="not a number in .*column 'a', row 3 of the data"):
        load(path, label="label", features="a", drop_missing=True)
    with pytest.raises(WhenceError, match="no row without a missing value in .*: got 2 rows"):
        load(write("b.csv", "label,a\n,1\n0,\n"), label="label", features="a", drop_missing=True)
    with pytest.raises(
        WhenceError,
        match=r"twice in .*, column 'id', row 1 of the data and row 3 of the data \(the first after the header is 1\): got",
    ):
        load(write("c.csv", "id,label,a\n7,0,1\n8,1,2\n7,1,2\n"), label="label", features="a")


@pytest.mark.parametrize("ending", [".csv", ".tsv.gz", ".jsonl", ".parquet"])
def test_a_wide_table_is_what_was_written(write, ending):
    values = SEED(0).normal(size=(6, 3000)).astype(np.float32)
    columns = {"y": list("ababab"), "split": ["train"] * 4 + ["dev", "test"]}
    columns |= {f"c{number}": [float(value) for value in values[:, number]] for number in range(3000)}
    path = write("wide" + ending, columns)
    data = load(path, label="y", features="*")
    assert data.feature_names == tuple(f"c{number}" for number in range(3000))
    np.testing.assert_array_equal(data.inputs.array, values)
    backwards = tuple(reversed(data.feature_names))
    np.testing.assert_array_equal(load(path, label="y", features=backwards).inputs.array, values[:, ::-1])
    source = Source(str(path), label="y", features=backwards)
    np.testing.assert_array_equal(source.load_more(path, source.load()).inputs.array, values[:, ::-1])


def test_each_column_of_a_wide_table_is_read_as_if_it_stood_alone(write):
    """Numbers, truth, gaps and words side by side, in the same call or not."""
    kinds = {
        "number": ["1", "2.5", " -3 ", "1e3"],
        "truth": ["true", "False", "TRUE", "false"],
        "bits": ["1", "0", "1", "0"],
    }
    columns = {f"{kind}{number}": values for number in range(40) for kind, values in kinds.items()}
    columns |= {"y": list("aabb"), "split": ["train", "dev", "train", "dev"]}
    data = load(write("a.csv", columns), label="y", features="*")
    expected = np.array([[1, 1, 1], [2.5, 0, 0], [-3, 1, 1], [1000, 0, 0]], np.float32)
    np.testing.assert_array_equal(data.inputs.array, np.tile(expected, 40))
    gap = {**columns, "bits7": ["1", "NA", "1", "0"], "truth9": ["true", "", "true", "true"]}
    assert load(write("b.csv", gap), label="y", features="*", drop_missing=True).names.tolist() == ["0", "2", "3"]
    with pytest.raises(WhenceError, match=r"not a finite number in .*column 'bits7', row 2 of .*got 'NA'"):
        load(write("b.csv", gap), label="y", features="*")
    with pytest.raises(WhenceError, match=r"not a number in .*column 'bits7', row 3 of .*got 'red'"):
        load(write("c.csv", {**columns, "bits7": ["1", "0", "red", "0"]}), label="y", features="*")


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_table_of_too_many_columns(write, monkeypatch, ending):
    path = write("a" + ending, {"y": list("abab"), **{f"c{number}": [1, 2, 3, 4] for number in range(30)}})
    for module in ("tables", "jsonlines"):
        monkeypatch.setattr(f"whence.data.{module}.MOST_COLUMNS", 30)
    with pytest.raises(WhenceError, match=r"too many columns in .*: got 31 or more, expected at most .*numpy\.savez"):
        load(path, label="y")


NESTED = [
    '{"y": %d, "k%d": 1}',
    '{"y": %d, "x": {"k%d": 1}}',
    '{"y": %d, "x": [{"k%d": 1}]}',
    '{"y": %d, "x": {"z": [[{"k%d": 1}]]}}',
]


@pytest.mark.parametrize("line", NESTED)
def test_keys_that_most_lines_lack(write, line):
    content = "".join(line % (number % 2, number) + "\n" for number in range(6000))
    with pytest.raises(WhenceError, match=r"keys that most lines lack in .*got 6,00\d keys in 6,000 lines") as caught:
        load(write("a.jsonl", content), label="y", features="k0")
    assert "\n" not in str(caught.value)


def test_keys_that_many_lines_lack(write):
    content = "".join(
        json.dumps({"y": row % 2, "x": row, f"more{row % 50}": [{"z": row}]}) + "\n" for row in range(2000)
    )
    assert load(write("a.jsonl", content), label="y", features="x").inputs.array[:, 0].tolist() == list(range(2000))


def test_two_objects_in_a_line(write):
    with pytest.raises(WhenceError, match=r"a line that is not JSON in .*, line 2: got Extra data"):
        load(write("a.jsonl", '{"y": 0, "x": 1}\n{"y": 1, "x": 1} {"y": 0, "x": 1}\n'), label="y")
