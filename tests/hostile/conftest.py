"""A whole run of a table, with scores, audit and report, and copies of it to do harm to."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import whence
from whence.data import Classification, Dataset, Regression
from whence.data.inputs import ArrayInputs
from whence.data.loading import Source
from whence.models import prepare
from whence.reporting.review_page import begin_review


def write_rows(path: Path) -> None:
    """Forty instances of two classes and five sources."""
    generator = np.random.default_rng(0)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "x", "z", "split", "label"])
        for row in range(40):
            split = ("train", "train", "train", "dev", "test")[row % 5]
            writer.writerow([f"r{row}", generator.normal(2 * (row % 2)), generator.normal(), split, "ab"[row % 2]])


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's directory; its data lie beside it."""
    home = tmp_path_factory.mktemp("hostile")
    write_rows(home / "data.csv")
    source = Source(str(home / "data.csv"), label="label")
    model, data = prepare(source.load(), "mlp:4")
    run = whence.fit(model, data, out=home / "run", source=source, epochs=2, device="cpu")
    for method in ("turnover", "kernel"):
        whence.influence(run, "test", method=method)
    whence.influence(run, "test", method="kernel", name="means", keep_matrix=False)
    whence.evaluation.retrain(run, "test", subsets=2, seeds=1, out=home / "run" / "truth" / "t")
    whence.cleanse(run, drop="10%", seeds=2, method="kernel", name="c")
    review = whence.audit(run).to_review(10)
    begin_review(run, review.answered({review.names()[0]: "a"}))
    whence.report(run)
    return home / "run"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def network(inputs: int, outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, outputs))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[whence.Run]:
    """A classifier, one with groups, a regression, and the first from other weights, of a dozen instances each."""
    generator, count = np.random.default_rng(0), 12
    inputs, targets = generator.normal(size=(count, 3)).astype(np.float32), np.arange(count) % 2
    made = []
    for number, (task, groups) in enumerate(
        [
            (Classification(("a", "b")), None),
            (Classification(("a", "b")), np.arange(count) // 3),
            (Regression(), None),
            (Classification(("a", "b")), None),
        ]
    ):
        aims = targets.astype(np.int64) if isinstance(task, Classification) else inputs[:, 0]
        data = Dataset(np.arange(count) + 5, ArrayInputs(inputs), aims, task, groups=groups)
        out = tmp_path_factory.mktemp("small") / str(number)
        model = whence.attach(network(3, task.outputs), seed=number)
        made.append(whence.fit(model, data, dev=data, test=data, out=out, epochs=1, device="cpu"))
    return made
