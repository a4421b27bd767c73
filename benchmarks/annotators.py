"""Which annotators harm, from one run: CIFAR-10N's people as sources, against training without each.

    python -m benchmarks.annotators [--seeds 3] [--train 3000] [--epochs 15] [--retrainings 2] [--model vgg:16,32,64,256]

3,000 pictures of CIFAR-10, each labeled by one of four sources, drawn at random: CIFAR-10's own labels; CIFAR-10N's majority of
three people (aggregate), one person (random1), and the wrong one where any was wrong (worst). One mask per source. Dev is 1,000
test pictures with CIFAR-10's labels. Prints, per source and as means over seeds, the share of its labels that are wrong; the
published effect on dev with its z, the kernel effect and how often each verdict was given (``whence.group_effects``); the share
of its labels that an audit expects to be wrong; and, as truth, by how much the mean loss on dev is higher without the source
(several retrainings of each).
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from benchmarks.noise_figures import p_wrong
from benchmarks.paper.material import data_file

import whence
from whence.data.images import unpack_sheet
from whence.subnetworks import losses

SOURCES = {
    "CIFAR-10's own": "y_train",
    "aggregate": "human_aggregate",
    "one person": "human_random1",
    "worst": "human_worst",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--retrainings", type=int, default=2)
    parser.add_argument("--model", default="vgg:16,32,64,256")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = [one(arguments, seed) for seed in range(arguments.seeds)]
    print(
        "| source | wrong labels | published effect (z) | kernel effect | verdicts | audit: share wrong | loss without it |"
    )
    print("| --- " * 7 + "|")
    for number, name in enumerate(SOURCES):
        mine = [rows[number] for rows in found]
        cells = [
            f"{np.mean([row[key] for row in mine]):{form}}" for key, form in (("wrong", ".3f"), ("effect", "+.4f"))
        ]
        cells[1] += f" ({np.mean([row['z'] for row in mine]):+.1f})"
        cells.append(spread([row["kernel"] for row in mine]))
        cells.append(
            ", ".join(f"{verdict} {count}" for verdict, count in Counter(row["verdict"] for row in mine).items())
        )
        cells += [f"{np.mean([row['suspected'] for row in mine]):.3f}", spread([row["truth"] for row in mine])]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def one(arguments: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """A row for each source."""
    data, source, wrong = material(arguments.train, seed)
    run = trained(arguments, data, seed)
    effects, suspicion = whence.group_effects(run, "dev"), p_wrong(run)
    place = {name: row for row, name in enumerate(effects.names)}
    train = np.flatnonzero(data.splits == "train")
    dev, rows = np.flatnonzero(data.splits == "dev"), []
    repeats = [1000 * seed + number for number in range(arguments.retrainings)]
    everything = np.mean([dev_loss(trained(arguments, data, repeat)) for repeat in repeats])
    for number, name in enumerate(SOURCES):
        without = data.select(np.concatenate([train[source != number], dev]))
        loss = np.mean([dev_loss(trained(arguments, without, repeat)) for repeat in repeats])
        row = place[name]
        rows.append({"wrong": wrong[source == number].mean(), "effect": float(effects.effect[row]), "z": float(effects.z[row]),
                     "kernel": float(effects.kernel[row]), "verdict": effects.verdicts[row],
                     "suspected": float(suspicion[source == number].mean()), "truth": float(loss - everything)})  # fmt: skip
    print(rows, flush=True)
    return rows


def material(count: int, seed: int) -> tuple[whence.Dataset, np.ndarray, np.ndarray]:
    """The pictures with dev; of the training pictures, which source labeled each, and whether wrongly."""
    random = np.random.default_rng(seed)
    rows, source = np.random.default_rng(5).permutation(10_000)[:count], random.integers(0, len(SOURCES), count)
    with np.load(data_file("cifar10/labels.npz")) as file:
        given = np.stack([file[name][rows].astype(np.int64) for name in SOURCES.values()])[source, np.arange(count)]
        true, test = file["y_train"][rows].astype(np.int64), file["y_test"][:1000].astype(np.int64)
    train, dev = (unpack_sheet(data_file(f"cifar10/{name}.webp"), 32, 32) for name in ("train_1", "test"))
    data = whence.Dataset.of(
        (np.arange(count + 1000), np.concatenate([train[rows], dev[:1000]]), np.concatenate([given, test]))
    )
    names = np.array([*SOURCES, "dev"], dtype=object)[np.concatenate([source, np.full(1000, len(SOURCES))])]
    groups = np.concatenate([source, np.full(1000, len(SOURCES))]).astype(np.int64)
    splits = np.array(["train"] * count + ["dev"] * 1000, dtype=object)
    return replace(data, splits=splits, groups=groups, group_names=names), source, given != true


def trained(arguments: argparse.Namespace, data: whence.Dataset, seed: int) -> whence.Run:
    model, data = whence.prepare(data, arguments.model, seed=seed)
    return whence.fit(
        model, data, seed=seed, epochs=arguments.epochs, device="cpu", autocast="bfloat16", exposure_limit=1
    )


def dev_loss(run: whence.Run) -> float:
    return float(losses(run, "full", run.splits["dev"]).mean())


def spread(values: list[float]) -> str:
    """Mean ± standard deviation."""
    return f"{np.mean(values):+.4f}" + (f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
