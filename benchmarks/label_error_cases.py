"""Pictures with label errors, planted, by people, or found by review, and the models that are trained on them."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from benchmarks.half_products import half_products
from benchmarks.noise_figures import figures_of
from benchmarks.paper.material import data_file

import whence
from whence.data.images import unpack_sheet
from whence.options import TrainingOptions
from whence.schedule import Schedule
from whence.subnetworks import probabilities

__all__ = ["EPOCHS", "SETS", "Case", "cross_validated", "epoch_by_epoch", "epochs_of", "source_of"]

MLP, VGG = "mlp:512,512", "vgg:16,32,64,256"
SETS = ("fashion uniform", "fashion confusable", "cifar uniform", "cifar human", "cifar human worst", "cifar confusable",
        "cifar verified", "mnist verified", "fashion clean", "cifar10k uniform", "cifar10k human")  # fmt: skip
EPOCHS = {"fashion": {"stopped": 3, "early": 10, "long": 60}, "cifar": {"stopped": 5, "early": 15, "long": 30},
          "cifar10k": {"early": 20}}  # fmt: skip
EPOCHS["mnist"] = EPOCHS["fashion"]
# Each class, and the one that it is most like.
CONFUSED = {
    "fashion": (6, 3, 4, 1, 2, 7, 0, 5, 5, 7),
    "cifar": (8, 9, 4, 5, 7, 3, 3, 4, 0, 1),
}
WRONG = 0.1


class Case:
    """One set with its errors, and models of it.

    Attributes:
        pictures: uint8 [N, …]; labels: int64 [N], as given.
        wrong: bool [N], whose label is wrong; judged: bool [N], of which that is known.
    """

    def __init__(self, name: str, regime: str, seed: int) -> None:
        self.seed = seed
        self.model = VGG if name.startswith("cifar") else MLP
        self.epochs = epochs_of(name, regime)
        source, kind = name.split(" ", 1)
        self.augment = "crop+flip" if source == "cifar10k" else "none"
        if kind == "verified":
            self.pictures, self.labels, self.wrong, self.judged = verified(source)
        else:
            self.pictures, true, people = (
                fashion() if source == "fashion" else cifar(10_000 if source == "cifar10k" else 2000)
            )
            self.labels = people[kind] if kind in people else planted(true, kind, source, seed)
            self.wrong, self.judged = self.labels != true, np.ones(len(true), bool)

    def trained(self, rows: np.ndarray, seed: int, *, moments: int = 0) -> whence.Run:
        """A model of some pictures; moments: at which flipped sub-networks are asked."""
        model, data = whence.prepare(self.data(rows), self.model, seed=seed)
        with half_products():
            return whence.fit(model, data, exposure_limit=1, dynamics=moments, **self.options(seed))

    def data(self, rows: np.ndarray) -> whence.Dataset:
        data = whence.Dataset.of((rows, self.pictures[rows], self.labels[rows]))
        return replace(data, task=whence.data.Classification(tuple(map(str, range(10)))))

    def figures(self, suspicion: np.ndarray) -> dict[str, float]:
        """How well suspicion [N] ranks the errors among those that are known."""
        return figures_of(suspicion[self.judged], self.wrong[self.judged])

    def options(self, seed: int) -> dict[str, Any]:
        return {"seed": seed, "epochs": self.epochs, "device": "cpu", "augment": self.augment,
                "autocast": "bfloat16" if self.model == VGG else "off"}  # fmt: skip


def fashion() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    rows = np.random.default_rng(5).permutation(60_000)[:3000]
    with np.load(data_file("fashion_mnist.npz")) as file:
        return file["x_train"][rows], file["y_train"][rows].astype(np.int64), {}


def cifar(count: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Pictures, labels, and labels by people."""
    rows = np.random.default_rng(5).permutation(10_000)[:count]
    with np.load(data_file("cifar10/labels.npz")) as file:
        true, *people = (file[name][rows].astype(np.int64) for name in ("y_train", "human_aggregate", "human_worst"))
    pictures = unpack_sheet(data_file("cifar10/train_1.webp"), 32, 32)[rows]
    return pictures, true, dict(zip(("human", "human worst"), people, strict=True))


def verified(source: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Test pictures: all whose label people reviewed, and others to train on."""
    if source == "cifar":
        pictures, review = unpack_sheet(data_file("cifar10/test.webp"), 32, 32), "cifar10_test_label_review.tsv.gz"
        with np.load(data_file("cifar10/labels.npz")) as file:
            labels = file["y_test"].astype(np.int64)
    else:
        review = "mnist_test_label_review.tsv.gz"
        with np.load(data_file("mnist_test.npz")) as file:
            pictures, labels = file["x_test"], file["y_test"].astype(np.int64)
    with gzip.open(data_file(review), "rt", encoding="utf-8", newline="") as lines:
        said = {int(row["test_index"]): row["majority"] for row in csv.DictReader(lines, delimiter="\t")}
    known = np.array(sorted(said))
    others = np.setdiff1d(np.arange(len(labels)), known)
    rows = np.concatenate([known, np.random.default_rng(5).permutation(others)[: 2000 - len(known)]])
    wrong = np.array([said.get(row, "given_ok") != "given_ok" for row in rows])
    return pictures[rows], labels[rows], wrong, np.isin(rows, known)


def planted(true: np.ndarray, kind: str, source: str, seed: int) -> np.ndarray:
    """Labels of which a tenth is replaced; none of a clean set."""
    random, labels = np.random.default_rng(100 + seed), true.copy()
    if kind != "clean":
        rows = random.choice(len(true), round(WRONG * len(true)), replace=False)
        others = (true[rows] + random.integers(1, 10, len(rows))) % 10
        labels[rows] = others if kind == "uniform" else np.array(CONFUSED[source])[true[rows]]
    return labels


def epochs_of(name: str, regime: str) -> int:
    """How long a set is trained on."""
    return EPOCHS[source_of(name)][regime]


def source_of(name: str) -> str:
    """The data set that a set is of."""
    return name.split(" ", 1)[0]


def epoch_by_epoch(
    case: Case, rows: np.ndarray | None = None, seed: int | None = None, *, masks: bool = True
) -> Iterator[tuple[whence.Run, float]]:
    """A training as ``Case.trained`` does it: the run after each epoch, and the learning rate of its last step.

    Args:
        rows: of the pictures, by default all; seed: by default the case's; masks: False for the same model without dropout.
    """
    rows, seed = np.arange(len(case.labels)) if rows is None else rows, case.seed if seed is None else seed
    model, data = whence.prepare(case.data(rows), case.model, seed=seed)
    run, options = whence.Run(model, data), TrainingOptions(**case.options(seed))
    schedule = Schedule(run.train, options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    step = 0
    for epoch in range(options.epochs):
        model.train()
        for (batch,) in schedule.batches(epoch, skip=0):
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate(step)
            optimizer.zero_grad()
            units: AbstractContextManager[Any] = whence.own(batch.mask_ids) if masks else whence.full()
            with half_products():
                with units, torch.autocast("cpu", torch.bfloat16, options.autocast != "off"):
                    given = model(batch.inputs)
                run.loss(given.float(), batch.targets).mean().backward()
            optimizer.step()
            step += 1
        model.eval()
        yield run, schedule.learning_rate(step - 1)


def cross_validated(case: Case, *, masks: bool = True) -> np.ndarray:
    """Probabilities [N, C] by models that were not trained on the instance; of the same model without dropout if not masks."""
    fold = np.random.default_rng(case.seed).permutation(len(case.labels)) % 5
    found = np.zeros((len(case.labels), 10), np.float32)
    for number in range(5):
        others, seed = np.flatnonzero(fold != number), 100 * case.seed + number + 1
        if masks:
            run = case.trained(others, seed)
        else:
            for run, _ in epoch_by_epoch(case, others, seed, masks=False):  # noqa: B007
                pass
        rows = np.flatnonzero(fold == number)
        found[rows] = probabilities(run, case.data(rows))
    return found
