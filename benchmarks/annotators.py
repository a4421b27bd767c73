"""Which annotators harm, and whose labels are wrong, from one run: CIFAR-10N's people as sources, against training without each.

    python -m benchmarks.annotators [--seeds 3] [--train 3000] [--epochs 15] [--retrainings 2] [--model vgg:16,32,64,256]

3,000 pictures of CIFAR-10, each labeled by one of five annotators, drawn at random: CIFAR-10N's three people (random1 to random3);
worst, the wrong one where any of three was wrong; and a careless one, whose labels are drawn at random. One mask per annotator.
Dev is 1,000 test pictures with CIFAR-10's labels. Prints, per annotator and as means over seeds, the share of labels that are wrong
and the share that an audit expects to be; the published effect on dev with its z, the kernel effect and how often each verdict was
given (``whence.group_effects``); and, as truth, by how much the mean loss on dev is higher without the annotator (several
retrainings of each). Then how well p_wrong ranks wrong labels when the audit knows who labeled what, and when it does not: area
under the ROC curve and the expected number of errors. A finished seed is a line of results/annotators.jsonl.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from benchmarks.half_products import half_products
from benchmarks.paper.material import RESULTS, Results, data_file
from sklearn.metrics import roc_auc_score

import whence
from whence.auditing import label_noise
from whence.data.images import unpack_sheet
from whence.held_out import held_out
from whence.label_noise import fit_noise
from whence.subnetworks import losses

ANNOTATORS = ("human_random1", "human_random2", "human_random3", "human_worst", "careless")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--retrainings", type=int, default=2)
    parser.add_argument("--model", default="vgg:16,32,64,256")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(RESULTS / "annotators.jsonl")
    given = {name: getattr(arguments, name) for name in ("train", "epochs", "retrainings", "model")}
    found = [
        results.once(given | {"seed": seed}, lambda seed=seed: one(arguments, seed)) for seed in range(arguments.seeds)
    ]
    print(
        "| annotator | wrong | expected | published effect (z) | kernel effect | verdicts | loss without |\n"
        + "| --- " * 7
        + "|"
    )
    for number, name in enumerate(ANNOTATORS):
        mine = [row["annotators"][number] for row in found]
        verdicts = Counter(row["verdict"] for row in mine)
        cells = [
            spread([row["wrong"] for row in mine], 3),
            spread([row["expected"] for row in mine], 3),
            f"{spread([row['effect'] for row in mine], 2)} ({np.mean([row['z'] for row in mine]):+.1f})",
            spread([row["kernel"] for row in mine], 3),
            ", ".join(f"{verdict} {count}" for verdict, count in verdicts.items()),
            spread([row["truth"] for row in mine], 3),
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")
    for key, said in (("knows", "knowing the annotator"), ("blind", "not knowing")):
        figures = [row[key] for row in found]
        print(f"{said}: AUC {spread([of['AUC'] for of in figures], 4)}, expects {spread([of['expected'] for of in figures], 0)} "
              f"of {np.mean([row['wrong'] for row in found]):.0f}")  # fmt: skip


def one(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """What one run says of each annotator and of the labels, and what retraining says."""
    data, annotator, wrong = material(arguments.train, seed)
    run = trained(arguments, data, seed)
    effects, suspicion = whence.group_effects(run, "dev"), label_noise(run).p_wrong
    unseen = held_out(run)
    blind = fit_noise(unseen.pooled, run.train.targets, unseen.witnesses).p_wrong
    place = {name: row for row, name in enumerate(effects.names)}
    train, dev = (np.flatnonzero(data.splits == split) for split in ("train", "dev"))
    rows = []
    repeats = [1000 * seed + number for number in range(arguments.retrainings)]
    everything = np.mean([dev_loss(trained(arguments, data, repeat)) for repeat in repeats])
    for number, name in enumerate(ANNOTATORS):
        without = data.select(np.concatenate([train[annotator != number], dev]))
        loss = np.mean([dev_loss(trained(arguments, without, repeat)) for repeat in repeats])
        row, mine = place[name], annotator == number
        rows.append({"wrong": float(wrong[mine].mean()), "expected": float(suspicion[mine].mean()),
                     "effect": float(effects.effect[row]), "z": float(effects.z[row]), "kernel": float(effects.kernel[row]),
                     "verdict": effects.verdicts[row], "truth": float(loss - everything)})  # fmt: skip
    ranked = {name: {"AUC": float(roc_auc_score(wrong, found)), "expected": float(found.sum())}
              for name, found in (("knows", suspicion), ("blind", blind))}  # fmt: skip
    return {"annotators": rows, "wrong": int(wrong.sum()), **ranked}


def material(count: int, seed: int) -> tuple[whence.Dataset, np.ndarray, np.ndarray]:
    """The pictures with dev; of the training pictures, which annotator labeled each, and whether wrongly."""
    random, kinds = np.random.default_rng(seed), len(ANNOTATORS)
    rows, annotator = np.random.default_rng(5).permutation(10_000)[:count], random.integers(0, kinds, count)
    with np.load(data_file("cifar10/labels.npz")) as file:
        people = [file[name][rows].astype(np.int64) for name in ANNOTATORS[:-1]]
        true, test = file["y_train"][rows].astype(np.int64), file["y_test"][:1000].astype(np.int64)
    given = np.stack([*people, random.integers(0, 10, count)])[annotator, np.arange(count)]
    train, dev = (unpack_sheet(data_file(f"cifar10/{name}.webp"), 32, 32) for name in ("train_1", "test"))
    data = whence.Dataset.of(
        (np.arange(count + 1000), np.concatenate([train[rows], dev[:1000]]), np.concatenate([given, test]))
    )
    groups = np.concatenate([annotator, np.full(1000, kinds)]).astype(np.int64)
    names = np.array([*ANNOTATORS, "dev"], dtype=object)[groups]
    splits = np.array(["train"] * count + ["dev"] * 1000, dtype=object)
    return replace(data, splits=splits, groups=groups, group_names=names), annotator, given != true


def trained(arguments: argparse.Namespace, data: whence.Dataset, seed: int) -> whence.Run:
    model, data = whence.prepare(data, arguments.model, seed=seed)
    with half_products():
        return whence.fit(
            model, data, seed=seed, epochs=arguments.epochs, device="cpu", autocast="bfloat16", exposure_limit=1
        )


def dev_loss(run: whence.Run) -> float:
    return float(losses(run, "full", run.splits["dev"]).mean())


def spread(values: list[float], digits: int) -> str:
    """Mean ± standard deviation."""
    return f"{np.mean(values):.{digits}f}" + (f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
