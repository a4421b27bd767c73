"""Commands on harmed runs and data: exit code 2, one line, no traceback; ``verify`` says what differs, with exit code 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile import makers
from tests.hostile.test_fuzzed_commands import command, refused

HARMS: dict[str, tuple[str, makers.Harm]] = {
    "nested description": ("run.json", makers.holding(b"[" * makers.DEEP)),
    "a number that is none": ("run.json", makers.holding(b'{"format": NaN}')),
    "an untrained run": ("run.json", makers.holding(b'{"format": 1}')),
    "weights cut off": ("model.safetensors", makers.cut(0.5)),
    "weights of another model": ("model.safetensors", makers.holding(makers.safetensors({}))),
    "a header of 2^62 bytes": ("model.safetensors", makers.holding(makers.safetensors({}, length=2**62))),
    "a link out of the run": ("model.safetensors", makers.a_link_out),
    "a directory": ("history.parquet", makers.a_directory),
    "history cut off": ("history.parquet", makers.cut(0.9)),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", ["influence", "audit", "report", "evaluate", "verify"])
def test_harmed_runs(run: Path, name: str, harm: str) -> None:
    file, maker = HARMS[harm]
    maker(run / file)
    code, out, err = command(name, run)
    if name == "verify":  # looks at what there is and says what differs
        assert (code, err) == (1, "") and "differs  run: " in out and "Traceback" not in out
    else:
        refused(code, out, err)


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        ("rows.parquet", makers.cut(0.5)),
        ("null.npy", makers.holding(makers.npy("(1000000000000,)"))),
        ("scores.json", makers.holding(b'{"format": 3, "format": 3}')),
        ("block-00000.safetensors", makers.holding(makers.safetensors({}))),
        ("matrix/c/0/0", makers.cut(0.5)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_harmed_scores(run: Path, file: str, harm: makers.Harm) -> None:
    harm(run / "scores" / "turnover-test" / file)
    code, out, err = command("verify", run)
    assert (code, err) == (1, "") and "differs  scores/turnover-test: " in out
    if file != "rows.parquet":  # finished scores are asked for what is needed alone
        refused(*command("influence", run, "--method", "turnover", "--targets", "test"))


NAMES = ["../x", "/etc/x", "..", "a/../../x", "x\\..\\y", "\x00", "\x1b[2J"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_out_of_the_run(run: Path, name: str) -> None:
    before = sorted(run.parent.rglob("*"))
    refused(*command("influence", run, "--targets", "test", "--name", name))
    refused(*command("evaluate", run, "--subsets", 2, "--seeds", 1, "--name", name))
    assert sorted(run.parent.rglob("*")) == before


DATA: dict[str, tuple[str, bytes]] = {
    "a pickle in an archive": (
        "x.npz",
        makers.npz(x_train=makers.npy("(2,)", "|O"), y_train=makers.npy("(2,)", "<i8", b"\0" * 16)),
    ),
    "10^12 rows": ("x.npz", makers.npz(x_train=makers.npy(f"({10**12}, 1)"), y_train=makers.npy(f"({10**12},)"))),
    "an unbalanced header": ("x.npz", makers.npz(x_train=makers.npy("((((2,)"), y_train=makers.npy("(2,)"))),
    "no archive": ("x.npz", b"PK\x03\x04" + b"\xff" * 50),
    "an empty file": ("x.parquet", b""),
    "no Parquet": ("x.parquet", b"PAR1" + b"\xff" * 64 + b"PAR1"),
    "a nested line": ("x.jsonl", b'{"label": 1, "x": ' + b"[" * makers.DEEP),
    "a key twice": ("x.jsonl", b'{"label": 1, "label": 2}\n'),
    "NaN": ("x.jsonl", b'{"label": NaN, "x": 1}\n'),
    "no gzip": ("x.csv.gz", b"label,x\n1,2\n"),
    "gzip cut off": ("x.csv.gz", bytes.fromhex("1f8b0800000000000003cb494c4acd01")),
    "zeros": ("x.csv", b"\0" * 100),
    "a terminal's orders": ("x.csv", b"\x1b[2J,\x1b]0;x\x07\n1,2\n"),
    "one line without end": ("x.tsv", b"a" * 10**6),
}


@pytest.mark.parametrize("kind", DATA)
def test_hostile_data(tmp_path: Path, kind: str) -> None:
    name, content = DATA[kind]
    (tmp_path / name).write_bytes(content)
    refused(
        *command(
            "fit", tmp_path / name, "--out", tmp_path / "run", *([] if name.endswith("npz") else ["--label", "label"])
        )
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_fourth_split_is_in_the_table_of_instances(tmp_path: Path) -> None:
    """Fuzzing found that it was not, so that a run was not what it said."""
    lines = [f"{row % 7},{('train', 'train', 'test', 'mine')[row % 4]},{'ab'[row % 2]}" for row in range(40)]
    (tmp_path / "x.csv").write_text("\n".join(["x,split,label", *lines]))
    fit = ("fit", tmp_path / "x.csv", "--out", tmp_path / "run", "--label", "label", "--model", "mlp:4", "--epochs", 1)
    refused(*command(*fit, "--learning-rate", "inf"))
    assert not (tmp_path / "run").exists()
    assert command(*fit)[0] == 0
    code, out, _ = command("verify", tmp_path / "run")
    assert code == 0 and "ok       instances: 40 ids" in out
