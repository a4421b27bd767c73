"""Do scores of a convolutional network foretell retraining it? Linear datamodeling scores of all methods.

    python -m benchmarks.conv_scores [--sets fashion,cifar] [--subsets 40] [--seeds 3] [--truth FOLDER]

    fashion   Fashion-MNIST, 2,000 pictures from the 20,000th on; vgg:8,16,64, 10 epochs
    cifar     CIFAR-10, 2,000 pictures from the 5,000th on; vgg:16,32,64,256, 15 epochs

300 test pictures are the targets. Each set's model is trained again on --subsets random halves (``whence.evaluation.retrain``, two
trainings each, the recipe of the scored run) and the mean over targets of Spearman(sum of scores over the half, − loss after
retraining) is printed for --seeds scored models, of other seeds than the retrained ones, with the seconds of processor time of the
scores and the ceiling that the noise of retraining sets. Retrainings are kept in FOLDER.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from benchmarks.paper.material import data_file

import whence
from whence.data.images import unpack_sheet
from whence.evaluation import lds, retrain

SETS = {"fashion": ("vgg:8,16,64", 10), "cifar": ("vgg:16,32,64,256", 15)}
METHODS = ("turnover", "first_order", "kernel", "kronecker")
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
        report(name, arguments.subsets, arguments.seeds, arguments.truth / name)


def report(name: str, subsets: int, seeds: int, folder: Path) -> None:
    found: dict[str, list[tuple[float, float]]] = {}
    truth = None
    for seed in range(100, 100 + seeds):
        run = trained(name, seed)
        truth = truth or retrain(run, "test", subsets=subsets, seeds=2, out=folder)
        for method in METHODS:
            began = time.process_time()
            value = lds(whence.influence(run, "test", method=method), truth)
            found.setdefault(method, []).append((value.value, time.process_time() - began))
    print(f"{name}, {SETS[name][0]}, {subsets} halves; ceiling {value.ceiling:.3f}")
    for method, values in found.items():
        scores, seconds = np.transpose(values)
        spread = f" ± {np.std(scores, ddof=1):.3f}" if seeds > 1 else ""
        print(f"  {method:<12} {scores.mean():.3f}{spread}   {seconds.mean():.0f} s", flush=True)


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
