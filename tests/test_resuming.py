"""Nothing is lost when a training is killed, and nothing else is taken for it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import whence
from tests.toys import assert_same_weights, blobs, network, stopping_before, trained, weights
from whence import WhenceError


@pytest.mark.parametrize("stop_at", [0, 1, 7, 8, 23])
def test_resumed_runs_are_identical(tmp_path, stop_at, monkeypatch):
    """Stopped at any step, with checkpoints at every step, resume gives the undisturbed run bit for bit."""
    options = {"epochs": 4, "patience": 4, "checkpoint_seconds": 0, "n": 120}
    whole = trained(out=tmp_path / "whole", **options)
    with stopping_before(stop_at, monkeypatch):
        trained(out=tmp_path / "stopped", **options)
    resumed = trained(out=tmp_path / "stopped", **options)
    assert_same_weights(weights(whole), weights(resumed))
    assert [row["dev_loss"] for row in whole.history] == [row["dev_loss"] for row in resumed.history]
    assert (tmp_path / "stopped" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()


def test_ordinary_dropout_beside_ours_resumes_too(tmp_path, monkeypatch):
    def run(out):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3)
        )
        return whence.fit(
            whence.attach(model, "4"), blobs(60), epochs=3, batch_size=20, checkpoint_seconds=0, device="cpu", out=out
        )

    whole = run(tmp_path / "whole")
    with stopping_before(5, monkeypatch):
        run(tmp_path / "stopped")
    torch.manual_seed(77)
    assert_same_weights(weights(whole), weights(run(tmp_path / "stopped")))


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from tests.toys import trained
trained(out=sys.argv[1], epochs=30, n=400, checkpoint_seconds=0.0, batch_size=8)
"""


def test_killed_processes_resume(tmp_path):
    """kill -9 again and again; the run that is left equals one that nobody disturbed."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(root=str(Path(__file__).parents[1])))
    command = [sys.executable, str(script), str(tmp_path / "killed")]
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
    for _ in range(3):
        process = subprocess.Popen(command)
        seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == seen):
            time.sleep(0.01)
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True)
    whole = trained(out=tmp_path / "whole", epochs=30, n=400, checkpoint_seconds=0.0, batch_size=8)
    again = whence.open_run(tmp_path / "killed", model=network(6, 32, 3), train=blobs(400))
    assert_same_weights(weights(whole), weights(again))
    assert not checkpoint.exists()


@pytest.mark.parametrize("finished", [False, True])
def test_other_frozen_parameters_are_another_run(tmp_path, monkeypatch, finished):
    """A checkpoint goes on, and a finished run opens, only with the parameters that it trained."""

    def run(*layers):
        model = network(6, 8, 7, 3)
        for layer in layers:
            model[layer].requires_grad_(False)
        return whence.fit(
            model, blobs(60), epochs=2, batch_size=10, checkpoint_seconds=0, device="cpu", out=tmp_path / "run"
        )

    with contextlib.nullcontext() if finished else stopping_before(8, monkeypatch):
        run(0)
    told = (tmp_path / "run" / "run.json").read_bytes()
    for layers, named in (((), "0.bias and 1 more"), ((2,), "0.bias and 3 more"), ((0, 4), "4.bias and 1 more")):
        with pytest.raises(WhenceError) as caught:
            run(*layers)
        assert f"the directory holds another run in {tmp_path / 'run'}: got other frozen parameters ({named})" in str(
            caught.value
        )
    assert (tmp_path / "run" / "run.json").read_bytes() == told
    again = run(0)
    assert [parameter.requires_grad for parameter in again.model.parameters()] == [False, False, True, True, True, True]
    assert len(again.history) == 2


class Augmented(torch.utils.data.Dataset):
    """Items that are drawn anew each time they are asked for."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return (
            int(self.data.ids[i]),
            torch.from_numpy(self.data.inputs.array[i]) + 0.1 * torch.randn(6),
            int(self.data.targets[i]),
        )


def test_random_augmentation(tmp_path, monkeypatch):
    """Ids keep their masks, scores keep their fingerprint, and a resumed run draws what it would have drawn."""
    options = {"epochs": 3, "batch_size": 10, "checkpoint_seconds": 0, "device": "cpu"}
    whole = whence.fit(network(6, 16, 3), Augmented(blobs(40)), out=tmp_path / "whole", **options)
    with stopping_before(6, monkeypatch):
        whence.fit(network(6, 16, 3), Augmented(blobs(40)), out=tmp_path / "stopped", **options)
    torch.manual_seed(5)
    again = whence.fit(network(6, 16, 3), Augmented(blobs(40)), out=tmp_path / "stopped", workers=1, **options)
    assert_same_weights(weights(whole), weights(again))
    for _ in range(2):
        whence.influence(again, blobs(10, seed=3, start=900), method="turnover")
