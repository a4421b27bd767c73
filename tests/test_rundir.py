"""Files are whole or absent; foreign and damaged ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import whence
from tests.toys import blobs, network, trained
from whence import WhenceError
from whence.fingerprints import digest, digest_tensors
from whence.rundir import RunDirectory, write_aside


def test_write_aside(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with write_aside(path) as aside:
        aside.write_text("first")
        assert not path.exists()
    with pytest.raises(RuntimeError), write_aside(path) as aside:
        aside.write_text("second, half writ")
        raise RuntimeError
    assert path.read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_tied_weights_and_types_survive(tmp_path):
    directory = RunDirectory(tmp_path)
    shared = torch.randn(4, 3)
    tensors = {
        "a": shared,
        "b": shared,
        "half": torch.ones(2, dtype=torch.bfloat16),
        "n": torch.tensor(7),
        "view": shared.T,
    }
    directory.write_tensors("t.safetensors", tensors, {"note": "x"})
    read, metadata = directory.read_tensors("t.safetensors")
    assert metadata == {"note": "x"}
    assert all(torch.equal(read[name], value) and read[name].dtype == value.dtype for name, value in tensors.items())


def test_digests():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest("a") != digest("b")
    weights = {"w": torch.randn(3, 2)}
    assert digest_tensors(weights) == digest_tensors({"w": weights["w"].clone()})
    for other in ({"v": weights["w"]}, {"w": weights["w"].T}, {"w": weights["w"].double()}, {"w": weights["w"] + 1e-7}):
        assert digest_tensors(other) != digest_tensors(weights)


def test_fingerprints_see_every_change():
    data = blobs(20)
    base = data.fingerprint()
    assert blobs(20).fingerprint() == base
    array = data.inputs.array.copy()
    array[7, 3] += 1e-6
    targets = data.targets.copy()
    targets[2] = (targets[2] + 1) % 3
    from dataclasses import replace

    for other in (
        replace(data, inputs=type(data.inputs)(array)),
        replace(data, targets=targets),
        replace(data, ids=data.ids + 1),
        replace(data, groups=data.ids // 2),
        data.select(np.arange(19)),
        data.select(np.arange(20)[::-1]),
    ):
        assert other.fingerprint() != base


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", b"\xff\xfe", "damaged file.*expected JSON"),
        ("run.json", b"[" * 100_000, "damaged file.*expected JSON"),
        ("run.json", b'{"format": 2}', "a run of another format.*got 2, expected 1"),
        ("run.json", b'{"format": 1}', "the run is not trained yet"),
        ("run.json", b'{"format": 1, "status": "trained", "placement": 3}', "damaged"),
        ("model.safetensors", b"\x08\0\0\0\0\0\0\0{}      ", "weights do not fit"),
        ("model.safetensors", b"\xff" * 100, "damaged file.*expected safetensors"),
        ("history.parquet", b"PAR1", "damaged file.*expected Parquet"),
    ],
)
def test_damaged_runs_are_refused(tmp_path, name, content, message):
    trained(out=tmp_path / "run", epochs=1)
    (tmp_path / "run" / name).write_bytes(content)
    with pytest.raises(WhenceError, match=message):
        whence.open_run(tmp_path / "run", model=network(6, 32, 3), train=blobs(120))


def test_no_run(tmp_path):
    with pytest.raises(WhenceError, match="no run in this directory.*whence fit DATA --out RUN"):
        whence.open_run(tmp_path)


def test_no_pickle_anywhere(tmp_path):
    run = trained(out=tmp_path / "run", epochs=1)
    whence.influence(run, "test", method="turnover")
    whence.audit(run)
    for file in (tmp_path / "run").rglob("*"):
        if file.is_file():
            chunk = "matrix" in file.parts  # plain numbers, of the size that scores.json says
            assert chunk or file.suffix in {".json", ".safetensors", ".parquet", ".npy"}
            assert b"pickle" not in file.read_bytes()
            if file.suffix == ".npy":
                np.load(file, allow_pickle=False)
