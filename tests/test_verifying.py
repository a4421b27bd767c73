"""A run's directory is what it says it is, or the check says what is not."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

import whence
from tests.toys import blobs, network, trained
from whence import WhenceError, influence, verify
from whence.evaluation import retrain

METHODS = ("turnover", "first_order", "kernel", "kronecker")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with scores of all kinds, and what opening it takes."""
    out = tmp_path_factory.mktemp("verify") / "run"
    run = trained(out=out, epochs=1, groups=10)
    for method in METHODS:
        influence(run, "test", method=method)
    influence(run, "errors", method="kernel", name="errors")
    influence(run, "test", method="kernel", level="group", name="groups")
    influence(run, "test", method="kernel", name="means", keep_matrix=False, quantity="margin")
    influence(run, blobs(9, seed=7, start=9000), method="kernel", name="given")
    influence(run, run.splits["test"].select(np.array([7, 2, 11])), method="turnover", name="some")
    retrain(run, "test", subsets=2, seeds=1, out=out / "truth" / "halves")
    whence.cleanse(run, drop="5%", seeds=2, method="kernel", name="harmful")
    return out, {"train": run.train, "dev": run.splits["dev"], "test": run.splits["test"]}


def states(path, data, **options):
    found = verify(path, model=network(6, 32, 3), **data, **options)
    return {check.what: check.state for check in found}, {check.what: check.detail for check in found}


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "run")
    return tmp_path / "run", made[1]


def test_nothing_differs(made):
    before = {file: file.stat().st_mtime_ns for file in made[0].rglob("*")}
    found, details = states(*made)
    assert found.pop("scores/given") == "skipped" and "new instances" in details["scores/given"]
    assert len(found) == 3 + len(METHODS) + 8 and set(found.values()) == {"ok"}, details
    assert (
        "means and extremes of 16 rows" in details["scores/means"] and "scores of 10 rows" in details["scores/groups"]
    )
    assert {file: file.stat().st_mtime_ns for file in made[0].rglob("*")} == before


def chunk(path):
    file = path / "scores" / "kernel-test" / "matrix" / "c" / "0" / "0"
    return file, np.fromfile(file, np.float32)


def other_numbers(path):
    """All of them, and their summary too: only scoring anew can tell."""
    file, numbers = chunk(path)
    (numbers * 1.01).astype(np.float32).tofile(file)
    summary = next((path / "scores" / "kernel-test").glob("block-*.safetensors"))
    tensors = {name: value * 1.01 if value.is_floating_point() else value for name, value in load_file(summary).items()}
    save_file(tensors, summary)


def one_number(path):
    file, numbers = chunk(path)
    numbers[numbers.argmin()] -= 1
    numbers.tofile(file)


def no_number(path):
    file, numbers = chunk(path)
    numbers[5] = np.nan
    numbers.tofile(file)


def a_lost_block(path):
    next((path / "scores" / "kernel-test").glob("block-*.safetensors")).unlink()


def described_as(**changes):
    def change(path):
        file = path / "scores" / "kernel-test" / "scores.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def in_summary(**changes):
    """Of the scores without a matrix."""

    def change(path):
        summary = next((path / "scores" / "means").glob("block-*.safetensors"))
        tensors = load_file(summary)
        for name, how in changes.items():
            tensors[name] = how(tensors[name]).contiguous()
        save_file(tensors, summary)

    return change


def in_array(name, how):
    def change(path):
        file = path / "scores" / "first_order-test" / name
        np.save(file, how(np.load(file)))

    return change


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        ("means", in_summary(helpful_values=lambda values: 100 * values), "extremes that were kept are not those"),
        ("means", in_summary(harmful_rows=lambda rows: rows + 10**6), "damaged file.*rows of other blocks"),
        ("means", in_summary(helpful_rows=lambda rows: rows.flip(0)), "extremes that were kept are not those"),
        ("means", in_summary(helpful_rows=lambda rows: rows * 0), "name a row twice"),
        (
            "means",
            in_summary(harmful_values=lambda values: values.flip(0)),
            "harmful extremes of block 0 are not in order",
        ),
        ("means", in_summary(even_sum=lambda sums: 0 * sums), "even means of 16 rows, made anew"),
        ("means", in_summary(row_sum=lambda sums: sums * np.nan), "means of 16 rows, made anew"),
        ("means", in_summary(row_sum=lambda sums: sums.float()), "damaged file.*a block's summary"),
        (
            "first_order-test",
            in_array("null.npy", lambda null: null / 1000),
            "never trained on are not those that are made anew",
        ),
        ("first_order-test", in_array("null.npy", lambda null: null[:7]), r"never trained on have the shape \(7, 30\)"),
        (
            "first_order-test",
            in_array("null.npy", lambda null: null * np.nan),
            "damaged file.*null.npy.*finite float32",
        ),
        ("first_order-test", in_array("sizes.npy", lambda sizes: 1e6 * sizes), "typical sizes of scores"),
        (
            "first_order-test",
            lambda path: (path / "scores/first_order-test/null.npy").unlink(),
            "never trained on are missing",
        ),
        ("kernel-test", lambda path: (path / "scores/kernel-test/scores.json").unlink(), "no scores in this directory"),
        (
            "kernel-test",
            lambda path: (path / "scores/kernel-test/sizes.npy").write_bytes(b""),
            "damaged file.*sizes.npy",
        ),
        (
            "kernel-test",
            lambda path: (path / "scores/kernel-test/matrix/zarr.json").write_text("[" * 200_000),
            "nested too deeply",
        ),
    ],
)
def test_what_was_tampered_with_is_told(copy, name, harm, message):
    harm(copy[0])
    found, details = states(*copy)
    assert [one for one, state in found.items() if state == "differs"] == [f"scores/{name}"], details
    assert re.search(message, details[f"scores/{name}"]), details[f"scores/{name}"]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (described_as(block_rows=2**40), "damaged file.*scores.json"),
        (described_as(block_rows=True), "damaged file.*scores.json"),
        (described_as(summary_k="x"), "damaged file.*scores.json"),
        (described_as(matrix=None), "damaged file.*scores.json"),
        (described_as(options={"bogus": 1}), "files that cannot be made sense of"),
        (described_as(unit="bits"), "said to be in bits, and are in nats"),
        (other_numbers, "scores of 16 rows, made anew, are off by up to 0.0"),
        (one_number, "summary of block 0 is not that of its scores"),
        (no_number, "block 0 has scores that are not finite"),
        (a_lost_block, "unfinished scores.*1 blocks missing"),
        (described_as(run="0" * 32), "of other weights, masks or training data"),
        (described_as(version=0), "made by version 0 of kernel, which is 2 now"),
        (described_as(format=1), "scores of another format"),
    ],
)
def test_what_differs_in_scores_is_told(copy, harm, message):
    harm(copy[0])
    found, details = states(*copy)
    assert [name for name, state in found.items() if state == "differs"] == ["scores/kernel-test"]
    assert re.search(message, details["scores/kernel-test"]), details["scores/kernel-test"]


def with_numbers(change):
    """Other numbers in the first file of a directory."""

    def harm(folder):
        file = sorted(folder.glob("*.safetensors"))[0]
        save_file({name: change(value) if name == "loss" else value for name, value in load_file(file).items()}, file)

    return harm


@pytest.mark.parametrize("change", [lambda loss: loss * np.nan, lambda loss: loss.long(), lambda loss: loss.double() * 1e300],
                         ids=["not finite", "integers", "enormous"])  # fmt: skip
def test_damaged_retrainings_are_told(copy, change):
    for folder, name in (("truth/halves", "truth/halves"), ("cleanse/models", "cleanse/models")):
        with_numbers(change)(copy[0] / folder)
        found, details = states(*copy)
        assert found[name] == "differs" and re.search("damaged file|finite float64", details[name]), details


def test_other_cleansings_and_truths_are_told(copy):
    path, data = copy
    record = json.loads((path / "cleanse" / "harmful" / "cleanse.json").read_text())
    (path / "cleanse" / "harmful" / "cleanse.json").write_text(json.dumps({**record, "run": "0" * 32}))
    truth = json.loads((path / "truth" / "halves" / "truth.json").read_text())
    (path / "truth" / "halves" / "truth.json").write_text(json.dumps({**truth, "train": "0" * 32}))
    found, details = states(path, data)
    assert {name for name, state in found.items() if state == "differs"} == {"cleanse", "truth/halves"}
    assert "another run or data" in details["cleanse"] and "other training data" in details["truth/halves"]


def test_what_differs_in_the_run_is_told(copy):
    path, data = copy
    table = pq.read_table(path / "instances.parquet")
    index = table.column_names.index("id")
    pq.write_table(table.set_column(index, "id", pa.array(table["id"].to_numpy() + 1)), path / "instances.parquet")
    found, details = states(path, data)
    assert [name for name, state in found.items() if state == "differs"] == ["instances"]
    assert details["instances"] == "column id is not that of the data"
    weights = load_file(path / "model.safetensors")
    save_file({name: value + 1e-3 for name, value in weights.items()}, path / "model.safetensors")
    found, details = states(path, data)
    assert found == {"masks": "ok", "run": "differs"} and "weights are not those of the run" in details["run"]


def test_a_machine_that_miscalculates_is_told(made, monkeypatch):
    monkeypatch.setattr("whence.verifying.philox4x32", lambda counter, key: (0, 0, 0, 0))
    found, details = states(*made)
    assert found["masks"] == "differs" and "miscalculates" in details["masks"]


def test_on_the_command_line(whence, tmp_path):
    run = tmp_path / "run"
    assert whence("fit", "digits", "--out", run, "--epochs", 1, "--model", "mlp:32", "--limit", 200)[0] == 0
    assert whence("influence", run, "--targets", "test")[0] == 0
    code, out, err = whence("verify", run)
    assert (code, err) == (0, "") and out.splitlines()[-1] == "4 checks: nothing differs"
    assert out.splitlines()[0].startswith("ok       masks: Random123's known answers")
    chunk = run / "scores" / "kronecker-test" / "matrix" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-4])
    code, out, err = whence("verify", run, "--json")
    record = json.loads(out)
    assert code == 1 and record["differs"] == ["scores/kronecker-test"]
    assert "damaged file" in record["checks"][-1]["detail"]
    code, _, err = whence("verify", run, "--rows", 0)
    assert code == 2 and err.startswith("whence: an option out of range in --rows: got 0")
    assert whence("verify", tmp_path)[0] == 2


def test_no_run(tmp_path):
    with pytest.raises(WhenceError, match="no run in this directory"):
        verify(tmp_path)


def test_a_run_of_ones_own_is_not_said_to_differ(made):
    with pytest.raises(WhenceError, match="trained on data given from Python.*Give them again"):
        verify(made[0])
    with pytest.raises(WhenceError, match="trained with a model of your own.*Give it again"):
        verify(made[0], **made[1])


def test_a_tampered_mask_is_another_runs(copy):
    """Masks of another seed give another fingerprint, whatever else is the same."""
    path, data = copy
    config = json.loads((path / "run.json").read_text())
    config["placement"][0]["seed"] += 1
    (path / "run.json").write_text(json.dumps(config))
    assert states(path, data)[0]["run"] == "differs"
