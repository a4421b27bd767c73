"""Random tables and options through the command line: exit code 0 and a sound run, or 2, one line and nothing left behind.

Seeds are fixed (``derandomize``), so that what fails fails again.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import whence
from whence.cli import main
from whence.data import Classification

QUICK = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
MANY = settings(QUICK, max_examples=5500)


def command(*arguments: Any) -> tuple[int, str, str]:
    """A command in this process: exit code, standard output, standard error."""
    out, err, before, code = io.StringIO(), io.StringIO(), sys.argv, 0
    sys.argv = ["whence", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before
    return code, out.getvalue(), err.getvalue()


TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**63), 2**64),
    st.floats(),
    st.floats(-5, 5),
    st.sampled_from([2**63, 1e308, 10**30]),
)
FORMULAS = st.sampled_from(["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", '"', "a,b", "a\nb", "\u202e", "\x00", "</script>", "NA", "nan", "None",
                            "", " ", "true", "007", "1e5", "inf", "\u2028", "\ufeff"])  # fmt: skip
VALUES = st.one_of(st.none(), TEXTS, NUMBERS, FORMULAS, st.booleans())
NAMES = ["id", "x", "z", "text", "group", "split", "label"]
Table = list[dict[str, Any]]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Eight to thirty rows, sound but for one or two columns or values, or for none."""
    count = draw(st.integers(8, 30))
    generator = np.random.default_rng(draw(st.integers(0, 9)))
    splits = ("train", "train", "train", "dev", "test")
    rows: Table = [
        {"id": f"r{row}", "x": float(generator.normal()), "z": int(generator.integers(9)), "text": f"word{row % 3} and word{row % 2}",
         "group": f"s{row % 4}", "split": splits[row % 5], "label": "ab"[row % 2]}
        for row in range(count)
    ]  # fmt: skip
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(NAMES))
        match draw(st.sampled_from(["column", "kind", "value", "gone", "renamed", "constant", "numbers"])):
            case "column":
                _put(rows, name, draw(st.lists(VALUES, min_size=count, max_size=count)))
            case "kind":
                of = draw(
                    st.sampled_from(
                        [TEXTS, st.integers(-(2**63), 2**63 - 1), st.floats(), st.booleans(), st.integers(0, 3)]
                    )
                )
                _put(rows, name, draw(st.lists(of, min_size=count, max_size=count)))
            case "value":
                rows[draw(st.integers(0, count - 1))][name] = draw(VALUES)
            case "gone":
                for row in rows:
                    row.pop(name, None)
            case "renamed":
                other = draw(st.one_of(TEXTS, st.sampled_from(NAMES)))
                for row in rows:
                    row[other] = row.pop(name, None)
            case "constant":
                _put(rows, name, [draw(VALUES)] * count)
            case _:
                _put(rows, name, generator.normal(size=count).tolist())
    return rows


def _put(rows: Table, name: str, values: list[Any]) -> None:
    for row, value in zip(rows, values, strict=True):
        row[name] = value


def write(rows: Table, path: Path) -> None:
    """A table as its ending says; what a format cannot hold is written as text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".parquet":
        columns = {}
        for name in names:
            values = [row.get(name) for row in rows]
            try:
                columns[name] = pa.array(values)
            except (pa.ArrowException, OverflowError):
                columns[name] = pa.array([None if value is None else str(value) for value in values])
        pq.write_table(pa.table(columns), path)
        return
    text = io.StringIO(newline="")
    if ".jsonl" in path.name:
        for row in rows:
            text.write(json.dumps(row, ensure_ascii=len(names) % 2 == 0) + "\n")
    else:
        writer = csv.DictWriter(text, names, delimiter="\t" if ".tsv" in path.name else ",", restval="")
        writer.writeheader()
        writer.writerows(rows)
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


OPTIONS: dict[str, list[Any]] = {
    "--label": ["label"] * 8 + ["x", "z", "text", "nothing", "", "id"],
    "--text": ["text"] * 4 + ["x", "label", "nothing"],
    "--features": ["x,z", "x", "*", "z*", "x,text", "x,label", "", ",", "nothing", "x,x"],
    "--text-pair": ["text", "x", "nothing"],
    "--image": ["text", "x"],
    "--id": ["id", "none", "x", "z", "group", "nothing", "text"],
    "--group": ["group"] * 4 + ["x", "id", "label", "nothing", "text", "split"],
    "--split": ["split", "none", "group", "nothing", "label"],
    "--split-by": ["auto", "instance", "group", "x"],
    "--task": ["auto", "classification", "regression", "x"],
    "--limit": [1, 2, 5, 100, 0, -1, "x", 2**63],
    "--split-seed": [1, -1, 2**64, 2**64 - 1, "x", -(2**63)],
    "--model": ["mlp:4"] * 4 + ["ngrams:4", "auto", "mlp:0", "mlp:-1", "mlp:x", "conv:4,4", "vgg:4", "", "mlp:4,", "mlp:2147483648", "a/b",
                                "mlp:999999999", "/nothing", "\x00", "resnet18:4", "ngrams:2000000000"],
    "--masked": ["last", "all", "auto", "*", "x", "", "body.*", "["],
    "--keep": [0.5, 0.3, 0.05, 0, 1, "nan", "inf", "x", -1],
    "--scheme": ["independent", "balanced", "x"],
    "--seed": [0, 7, 2**63 - 1, 2**63, -(2**63), "x", 2**70],
    "--batch-size": [1, 4, 1000, 0, "x", 2**40],
    "--learning-rate": [0, 0.01, -1, "nan", "inf", 1e30, "x"],
    "--optimizer": ["sgd", "adamw", "x"],
    "--patience": [1, 0, "x"],
    "--warmup": [0.5, 2, "nan"],
    "--augment": ["none", "flip", "x"],
    "--autocast": ["off", "float8"],
    "--device": ["cpu", "cuda:9", "x", ""],
    "--accumulate": [1, 2, 0],
    "--max-length": [8, 0, -1, "x"],
    "--drop-missing": [None],
    "--json": [None],
    "--bogus": [1],
}  # fmt: skip


@st.composite
def options(draw: st.DrawFn) -> list[str]:
    """A label, mostly also inputs, and up to three others."""
    chosen = {
        "--label": "label",
        **draw(st.sampled_from([{}, {"--text": "text"}, {"--features": "x,z"}, {"--features": "x,z"}])),
    }
    for name in draw(st.lists(st.sampled_from(sorted(OPTIONS)), max_size=3, unique=True)):
        chosen[name] = draw(st.sampled_from(OPTIONS[name]))
    return [
        str(part) for name, value in chosen.items() for part in ((name,) if value is None else (f"{name}={value}",))
    ]


OTHER = "OTHER"  # another run of the same data
LATER: dict[str, list[list[Any]]] = {
    "influence": [
        [], ["--targets", "test"], ["--targets", "dev"], ["--targets", "x"], ["--targets", "x.csv"], ["--method", "turnover"],
        ["--method", "first_order"], ["--method", "kernel", "--targets", "train"], ["--method", "x"], ["--quantity", "margin"],
        ["--quantity", "absolute_error"], ["--top", "0"], ["--top", "100"], ["--top", "x"], ["--level", "group"], ["--level", "instance"],
        ["--name", "../x"], ["--name", "é"], ["--name", ""], ["--no-matrix"], ["--shard", "0/2"], ["--shard", "2/2"], ["--shard", "x"],
        ["--device", "x"], ["--json"],
    ],
    "audit": [[], ["--method", "turnover"], ["--method", "x"], ["--show", "-1"], ["--show", "3"], ["--json"], ["--review", "9"],
              ["--review", "12"], ["--review", "x"]],
    "report": [
        [], ["--targets", "test"], ["--targets", "x"], ["--top", "0"], ["--method", "turnover"], ["--out", "."], ["--json"],
        ["--against", OTHER], ["--against", OTHER, "--method", "kernel"], ["--against", OTHER, "--top", "0"],
        ["--against", OTHER, "--method", "x"], ["--against", "."], ["--against", "x"], ["--against", ""],
    ],
    "evaluate": [
        *([*option, "--subsets", "2", "--seeds", "1"] for option in (
            [], ["--json"], ["--method", "turnover"], ["--method", "kernel", "--method", "x"], ["--targets", "x"], ["--targets", "dev"],
            ["--kind", "leave-one-out"], ["--level", "group"], ["--fraction", "0"], ["--fraction", "nan"], ["--seed", 2**64],
            ["--seed", 2**64 - 1], ["--seed", -(2**63) - 1], ["--seed", -1], ["--jobs", "0"], ["--name", "../x"],
            ["--name", "é"],
        )),
        ["--subsets", "1"], ["--subsets", 2**64], ["--seeds", "0"], ["--seeds", 2**64],
    ],
    "cleanse": [
        *([*option, "--seeds", "2"] for option in (
            [], ["--drop", "1", "--json"], ["--drop", "0"], ["--drop", "nan"], ["--drop", "significant"], ["--drop", "1,x"],
            ["--relabel"], ["--groups"], ["--groups", "1"], ["--by", "p_wrong"], ["--method", "turnover"], ["--method", "x"],
            ["--runs", "2"], ["--runs", "0"], ["--runs", 2**64], ["--targets", "x"], ["--targets", "dev"], ["--seed", 2**64],
            ["--seed", -(2**63)], ["--jobs", "0"], ["--name", "models"], ["--name", ""],
        )),
        ["--seeds", "1"], ["--seeds", 2**64],
    ],
    "verify": [[], ["--rows", "0"], ["--rows", "x"], ["--json"]],
    "plan": [["--no-trial"], ["--no-trial", "--runs", "0"], ["--no-trial", "--targets", "0"]],
}  # fmt: skip


def everything(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def refused(code: int, out: str, err: str) -> None:
    """Exactly one line on standard error, and nothing on standard output."""
    assert code == 2, (code, out, err)
    assert out == ""
    assert err.startswith("whence: ") and err.count("\n") == 1 and err.endswith("\n"), err
    assert "Traceback" not in err and all(letter.isprintable() for letter in err[:-1])


def fitted(rows: Table, ending: str, given: list[str], later: tuple[str, int], again: list[str]) -> None:
    """Fit, then ask something of the run, then fit something else there."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data, run = folder / f"data.{ending}", folder / "run"
        write(rows, data)
        before = everything(folder)
        code, out, err = command("fit", data, "--out", run, "--epochs", 1, *_defaults(given), *given)
        if code:
            refused(code, out, err)
            assert everything(folder) == before
            return
        assert err == "" and everything(folder)[data.name] == before[data.name]
        _sound(run, rows, json.loads(out) if "--json" in given else None)

        name, number = later
        extra = LATER[name][number % len(LATER[name])]
        if OTHER in extra:
            extra = [folder / "other" if part == OTHER else part for part in extra]
            command(
                "fit", data, "--out", folder / "other", "--epochs", 1, *_defaults(given), *given, "--learning-rate", 0.1
            )
        held = everything(folder)
        code, out, err = command(name, *([data, *given, *_defaults(given)] if name == "plan" else [run]), *extra)
        if code == 2:
            refused(code, out, err)
            now = everything(folder)
            assert all(now[file] == content for file, content in held.items())
            assert all(_is_kept(file) for file in set(now) - set(held)), sorted(set(now) - set(held))
        else:
            assert code == 0 and out and "Traceback" not in err, (name, extra, code, out, err)
            if name == "influence" and "--shard" not in extra:
                _scores(run)
        held = everything(folder)
        code, out, err = command("fit", data, "--out", run, "--epochs", 1, *_defaults(again), *again)
        if code:
            refused(code, out, err)
        assert everything(folder) == held, "another fit changed the run"


def _is_kept(file: str) -> bool:
    """Whether a command that fails while it trains, or scores a second time, may leave a file: finished parts of its work."""
    places = ("run/scores/", "other/scores/", "run/truth/", "run/cleanse/models/")
    return file == "run/cleanse" or (f"{file}/".startswith(places) and "evaluation" not in file)


def _defaults(given: list[str]) -> list[str]:
    words = any(part.startswith("--text=") for part in given)
    named = {part.partition("=")[0] for part in given}
    quick = {"--model": "ngrams:4" if words else "mlp:4", "--device": "cpu"}
    return [f"{name}={value}" for name, value in quick.items() if name not in named]


def _sound(path: Path, rows: Table, record: dict[str, Any] | None) -> None:
    """The run has rows of the table in their order, and speaks in finite numbers of labels that were given."""
    run = whence.open_run(path)
    assert sum(map(len, run.splits.values())) <= len(rows)
    assert record is None or record["splits"] == {name: len(part) for name, part in run.splits.items()}
    written = [str(row.get("id")) for row in rows]
    for part in run.splits.values():
        assert len(np.unique(part.ids)) == len(part)
        names = part.all_names()
        if set(names) <= set(written) and len(set(written)) == len(written):
            places = [written.index(name) for name in names]
            assert places == sorted(places)
    said = whence.out_of_sample(run)
    assert said.shape == (len(run.train), run.task.outputs) and np.isfinite(said).all()
    if isinstance(run.task, Classification):
        assert np.allclose(said.sum(1), 1, atol=1e-4) and (said >= 0).all()
        assert len(set(run.task.classes)) == len(run.task.classes)
    table = pq.read_table(path / "instances.parquet")
    assert table["id"].to_pylist() == [one for part in run.splits.values() for one in part.ids.tolist()]


def _scores(path: Path) -> None:
    folders = [folder for folder in (path / "scores").glob("*/") if not folder.name.startswith(".")]
    assert len(folders) == 1
    scores = whence.load_scores(folders[0])
    best = scores.top(3)
    assert np.isfinite(best.values).all() and set(best.ids.ravel().tolist()) <= set(scores.ids.tolist())


ENDINGS = st.sampled_from(["csv", "tsv", "jsonl", "parquet", "csv.gz", "jsonl.gz"])
ASKED = st.tuples(st.sampled_from(sorted(LATER)), st.integers(0, 99))


@given(rows=tables(), ending=ENDINGS, given=options(), later=ASKED, again=options())
@QUICK
def test_commands(rows: Table, ending: str, given: list[str], later: tuple[str, int], again: list[str]) -> None:
    """100 cases, of up to three commands each."""
    fitted(rows, ending, given, later, again)


@pytest.mark.long
@pytest.mark.timeout(7200)
@given(rows=tables(), ending=ENDINGS, given=options(), later=ASKED, again=options())
@MANY
def test_many_commands(rows: Table, ending: str, given: list[str], later: tuple[str, int], again: list[str]) -> None:
    """5,500 cases, of up to three commands each."""
    fitted(rows, ending, given, later, again)
