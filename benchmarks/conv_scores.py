"""Do scores of a convolutional network foretell retraining it? Linear datamodeling scores of all methods.

    python -m benchmarks.conv_scores [--sets fashion,cifar] [--subsets 40] [--seeds 3] [--truth FOLDER]

    fashion   Fashion-MNIST, 2,000 pictures from the 20,000th on; vgg:8,16,64, 10 epochs
    cifar     CIFAR-10, 2,000 pictures from the 5,000th on; vgg:16,32,64,256, 15 epochs

300 test pictures are the targets. Each set's model is trained again on --subsets random halves (``whence.evaluation.retrain``, two
trainings each, the recipe of the scored run) and the mean over targets of Spearman(sum of scores over the half, − loss after
retraining) is printed for --seeds scored models, of other seeds than the retrained ones, with the seconds of processor time of the
scores and the ceiling that the noise of retraining sets; of kronecker also without likeness on random features (looks 0) and with
twice its weight. Retrainings are kept in FOLDER.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from benchmarks.halves import by, report
from benchmarks.paper.material import data_file

import whence
from whence.data.images import unpack_sheet

SETS = {"fashion": ("vgg:8,16,64", 10), "cifar": ("vgg:16,32,64,256", 15)}
METHODS = {name: by(name) for name in ("turnover", "first_order", "kernel", "kronecker")}
METHODS |= {f"kronecker, looks {looks:g}": by("kronecker", looks=looks) for looks in (0.0, 2.0)}
COUNT, TARGETS = 2000, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--subsets", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--truth", type=Path, default=Path("benchmarks/results/conv_truth"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.sets.split(","):
        report(f"{name}, {SETS[name][0]}", partial(trained, name), "test", METHODS, subsets=arguments.subsets, retrainings=2,
               seeds=arguments.seeds, folder=arguments.truth / name)  # fmt: skip


def trained(name: str, seed: int) -> whence.Run:
    model, epochs = SETS[name]
    module, data = whence.prepare(material(name), model, seed=seed)
    return whence.fit(module, data, seed=seed, epochs=epochs, device="cpu", exposure_limit=1,
                      autocast="off" if name == "fashion" else "bfloat16")  # fmt: skip


def material(name: str) -> whence.Dataset:
    """Training pictures and, as test, the first ones of the official test part."""
    if name == "fashion":
        with np.load(data_file("fashion_mnist.npz")) as file:
            train, test = (file["x_train"], file["y_train"]), (file["x_test"], file["y_test"])
        first = 20_000
    else:
        with np.load(data_file("cifar10/labels.npz")) as file:
            labels = file["y_train"], file["y_test"]
        sheets = [unpack_sheet(data_file(f"cifar10/{part}.webp"), 32, 32) for part in ("train_1", "test")]
        train, test = zip(sheets, labels, strict=True)
        first = 5_000
    chosen = slice(first, first + COUNT)
    pictures, labels = (
        np.concatenate([ours[chosen], theirs[:TARGETS]]) for ours, theirs in zip(train, test, strict=True)
    )
    data = whence.Dataset.of((np.arange(COUNT + TARGETS), pictures, labels.astype(np.int64)))
    return replace(data, splits=np.array(["train"] * COUNT + ["test"] * TARGETS, dtype=object))


if __name__ == "__main__":
    main()
