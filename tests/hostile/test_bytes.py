"""Files of a run that are cut off, damaged, swapped or of another kind: refused, and nothing in them runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile import makers
from tests.hostile.using import outcomes, refusal

FILES = {
    "run.json": "open",
    "model.safetensors": "open",
    "history.parquet": "open",
    "instances.parquet": "verify",
    "dynamics.safetensors": "verify",
    "review.safetensors": "verify",
    "scores/turnover-test/scores.json": "scores/turnover-test",
    "scores/turnover-test/rows.parquet": "scores/turnover-test",
    "scores/turnover-test/targets.parquet": "scores/turnover-test",
    "scores/turnover-test/null.npy": "scores/turnover-test",
    "scores/turnover-test/sizes.npy": "scores/turnover-test",
    "scores/turnover-test/block-00000.safetensors": "scores/turnover-test",
    "scores/turnover-test/matrix/zarr.json": "scores/turnover-test",
    "scores/turnover-test/matrix/c/0/0": "scores/turnover-test",
    "truth/t/truth.json": "truth/t",
    "truth/t/rows.parquet": "truth/t",
    "truth/t/targets.parquet": "truth/t",
    "truth/t/instances.parquet": "truth/t",
    "truth/t/00000-0.safetensors": "truth/t",
    "cleanse/c/cleanse.json": "verify",
    "cleanse/c/cleansed.parquet": "verify",
}
"""What each file is refused by, at the latest."""

CUTS = (0, 0.02, 0.3, 0.7, 1)
TABLES = [name for name in FILES if name.endswith(".parquet")]
ARRAYS = [name for name in FILES if name.endswith(".npy")]
TENSORS = [name for name in FILES if name.endswith(".safetensors")]


def refused(run: Path, name: str, harm: makers.Harm) -> str:
    """The refusal of a run with one harmed file, by whatever meets the file first."""
    harm(run / name)
    message = refusal(run, FILES[name])
    assert message is not None, name
    return message


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_cut_off(run: Path, name: str) -> None:
    content = (run / name).read_bytes()
    for share in CUTS:
        message = refused(run, name, makers.cut(share))
        assert "damaged file" in message or "no scores" in message, message
        assert Path(name).name in message or "/matrix/" in name, message
        (run / name).write_bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_directories_in_place_of_files(run: Path, name: str) -> None:
    message = refused(run, name, makers.a_directory)
    expected = "no run in this directory" if name == "run.json" else "a directory in place of a file"
    assert expected in message, message


@pytest.mark.parametrize("name", FILES)
def test_links_that_lead_out_of_the_run(run: Path, name: str) -> None:
    message = refused(run, name, makers.a_link_out)
    assert "a link out of the directory" in message, message
    assert "away-" in message


@pytest.mark.parametrize("name", ["scores", "scores/turnover-test", "scores/turnover-test/matrix", "truth"])
def test_directories_that_are_links_out_of_the_run(run: Path, name: str) -> None:
    """Nothing is written, moved or deleted where they lead."""
    away = run.parent / "away"
    shutil.move(run / name, away)
    (run / name).symlink_to(away, target_is_directory=True)
    before = {file: file.stat().st_mtime_ns for file in away.rglob("*")}
    said = outcomes(run)
    assert any(message and "a link out of the directory" in message for message in said.values()) or name == "truth"
    assert {file: file.stat().st_mtime_ns for file in away.rglob("*")} == before


@pytest.mark.parametrize("name", FILES)
def test_pickles_do_not_run(run: Path, tmp_path: Path, name: str) -> None:
    sign = tmp_path / "the canary sang"
    content = (run / name).read_bytes()
    for maker in (makers.a_pickle, makers.a_torch_file, makers.an_array_of_objects):
        assert "damaged file" in refused(run, name, maker(sign))
        assert not sign.exists()
        (run / name).write_bytes(content)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize(
    "content",
    [
        makers.npy("(1000000000000,)"),
        makers.npy("(4, -4)"),
        makers.npy("(1e3,)"),
        makers.npy("('a',)"),
        makers.npy("(" * 3000),
        makers.npy("(9,)", "|O"),
        makers.npy("(8,)", "<U2"),
        makers.npy("()"),
        makers.npz(a=makers.npy("(2,)", "<f8")),
        makers.npy("(7,)", "<f8", b"\0" * 56),
        makers.npy(f"({2**62}, 4)"),
    ],
    ids=["too long", "negative", "no integer", "text", "nested", "objects", "words", "scalar", "archive", "other", "overflow"],
)  # fmt: skip
def test_arrays_that_are_others(run: Path, name: str, content: bytes) -> None:
    message = refused(run, name, makers.holding(content))
    assert "damaged file" in message or "not those" in message or "shape" in message, message


HEADERS = {
    "length 2^62": makers.safetensors({}, length=2**62),
    "length 0": makers.safetensors(b"", length=0),
    "nested": makers.safetensors(b'{"a":' + b"[" * makers.DEEP),
    "beyond the end": makers.safetensors({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}),
    "another size": makers.safetensors({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 8]}}, b"\0" * 8),
    "unknown kind": makers.safetensors({"a": {"dtype": "F31", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8),
    "others": makers.safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8),
    "none": makers.safetensors({}),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("content", HEADERS.values(), ids=list(HEADERS))
def test_tensors_that_are_others(run: Path, name: str, content: bytes) -> None:
    message = refused(run, name, makers.holding(content))
    assert "damaged file" in message or "weights do not fit" in message or "too large" in message, message


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(
    "table",
    [
        pa.table({}),
        pa.table({"id": pa.array([], pa.int64()), "name": pa.array([], pa.string())}),
        pa.table({"id": ["a"], "name": ["a"]}),
        pa.table({"id": [1.5], "name": [None]}),
        pa.table({"id": [1, None], "name": ["a", "b"]}),
        pa.table({"id": [[1]], "name": ["a"]}),
        pa.table({"id": [1], "name": ["a"], "group": ["g"], "row": ["r"], "epoch": ["e"]}),
        pa.table({"id": [1], "name": ["a"], "group": [1], "row": [10**12]}),
        pa.table({"id": pa.array([1], pa.uint64()), "name": [1], "row": [-1]}),
    ],
    ids=["empty", "no rows", "words", "floats", "gaps", "lists", "words for numbers", "far rows", "unsigned"],
)
def test_tables_that_are_others(run: Path, name: str, table: pa.Table) -> None:
    def harm(path: Path) -> None:
        pq.write_table(table, path)

    if name == "history.parquet":  # any numbers may be followed
        harm(run / name)
        outcomes(run)
    else:
        refused(run, name, harm)


@pytest.mark.parametrize("name", ["audit.parquet", "report.html", "groups.parquet", "review.html"])
def test_what_is_only_written_is_never_read(run: Path, tmp_path: Path, name: str) -> None:
    sign = tmp_path / "sign"
    makers.a_pickle(sign)(run / name)
    assert set(outcomes(run).values()) == {None}
    assert not sign.exists()


@pytest.mark.parametrize("name", ["audit.parquet", "report.html"])
def test_a_directory_where_something_is_to_be_written(run: Path, name: str) -> None:
    makers.a_directory(run / name)
    said = outcomes(run)
    message = said["audit" if name == "audit.parquet" else "report"]
    assert message is not None and ("cannot be written" in message or "not a file" in message), said
    assert not list(run.glob(".*.tmp"))


@pytest.mark.parametrize(("harm", "said"), [
    (makers.cut(0.4), "a row of another length"),
    (makers.cut(0), "an empty file"),
    (makers.a_directory, "a directory"),
    (makers.a_link_out, "a link out of the directory"),
    (makers.holding(b"id,right_label\n\xff\xfe,a\n"), "not UTF-8"),
    (makers.holding(b"id,right_label\nr1," + b"x" * 10**6), "not among those to review"),
])  # fmt: skip
def test_tables_of_a_review_that_are_others(run: Path, harm: makers.Harm, said: str) -> None:
    """The table is the user's: it is refused in words of a table, and left as it is."""
    harm(run / "review.csv")
    for message in (refusal(run, "verify"), outcomes(run)["audit"]):
        assert message is not None and said in message and len(message) < 1000, message


def test_a_link_in_place_of_what_is_written_is_replaced(run: Path) -> None:
    """And the file that it points to is left alone."""
    other = run.parent / "precious"
    other.write_text("mine")
    for name in ("audit.parquet", "report.html"):
        (run / name).unlink()
        (run / name).symlink_to(other)
    assert set(outcomes(run).values()) == {None}
    assert other.read_text() == "mine"
    assert not (run / "audit.parquet").is_symlink()


def flip(run: Path, name: str, share: float, bit: int) -> None:
    content = (run / name).read_bytes()
    makers.flipped(share, bit)(run / name)
    try:
        refusal(run, FILES[name])
    finally:
        (run / name).write_bytes(content)


@given(name=st.sampled_from(sorted(FILES)), share=st.floats(0, 1), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_flipped_bits(run: Path, name: str, share: float, bit: int) -> None:
    """60 cases: what a flipped bit leaves readable may be read, but nothing else than a WhenceError rises."""
    flip(run, name, share, bit)


@pytest.mark.long
@pytest.mark.timeout(1800)
@given(name=st.sampled_from(sorted(FILES)), share=st.floats(0, 1), bit=st.integers(0, 7))
@settings(max_examples=2000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_many_flipped_bits(run: Path, name: str, share: float, bit: int) -> None:
    """2,000 cases."""
    flip(run, name, share, bit)


def test_outcomes_of_a_sound_run(run: Path) -> None:
    """All of these tests mean something: nothing is refused of a run that is as it was made."""
    said = outcomes(run)
    assert set(said.values()) == {None}, said
    assert len(said) >= 9
    assert np.load(run / "scores/turnover-test/null.npy").shape[0] >= 100
