"""What the README shows is what happens."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import torch
from torch import nn

import whence
from tests.toys import blobs
from whence.cli import commands

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_loop_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 3))
    sets = {}
    for number, name in enumerate(("train", "dev", "test")):
        data = blobs(60, seed=number, start=1000 * number)
        sets[name] = [(f"{name}-{i}", torch.from_numpy(data.inputs.array[i]), int(data.targets[i])) for i in range(60)]
    names = {
        "model": model, "criterion": nn.CrossEntropyLoss(), "optimizer": torch.optim.Adam(model.parameters()),
        "train_set": sets["train"], "dev_set": sets["dev"], "test_set": sets["test"],
        "loader": torch.utils.data.DataLoader(sets["train"], batch_size=16, shuffle=True),
    }  # fmt: skip
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    exec(code, names)
    scores = names["scores"]
    assert scores.shape == (60, 60)
    np.testing.assert_allclose(scores, whence.influence(names["run"], "test"))
    assert (tmp_path / "runs" / "mine" / "report.html").exists()
    assert (tmp_path / "runs" / "mine" / "audit.parquet").exists()


def test_the_commands_exist():
    """Every whence command of the README parses, with the options it shows."""
    lines = re.findall(r"^\$ (whence [^#\n]*)", README, flags=re.M)
    assert len(lines) >= 4
    for line in lines:
        _, name, *arguments = shlex.split(line)
        commands.commands[name].make_context(name, arguments)


def test_methods_are_those_of_the_code():
    table = set(re.findall(r"^\| `(\w+)` \|", README, flags=re.M))
    assert table == set(whence.estimators.METHODS)
