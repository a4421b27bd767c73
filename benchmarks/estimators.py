"""Do scores foretell retraining? Linear datamodeling scores of every estimator and of kronecker without each of its parts.

    python benchmarks/estimators.py [--sets digits,fashion,…] [--seeds 3] [--truth FOLDER]

For each set: networks are retrained on 50 random halves of the training instances, twice each, and the mean over targets of
Spearman(sum of scores over the half, − loss after retraining) is printed, mean ± standard deviation over the seeds of the scored
network. Retrained networks are kept in FOLDER. The data are found as in the tests: in WHENCE_DATA, or beside the checkout.

Sets marked * were looked at while the defaults were chosen; the others were not.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.datasets import load_digits
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import nn

import whence
from many_networks import train_many
from peer_settings import BATCH, DECAY, EPOCHS, MOMENTUM, RATE
from real_data import shared_data
from whence.estimators import curvatures, parts

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # inputs and labels of training, of targets
HALVES, REPEATS = 50, 2


def digits(permuted: int, train: int, targets: int, wrong: float = 0.0) -> Arrays:
    inputs, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(permuted).permutation(len(labels))
    inputs, labels = (inputs[order] / 16).astype(np.float32), labels[order]
    given = labels[:train].copy()
    generator = np.random.default_rng(permuted + 1)
    chosen = generator.choice(train, int(wrong * train), replace=False)
    given[chosen] = (given[chosen] + generator.integers(1, 10, len(chosen))) % 10
    return inputs[:train], given, inputs[train : train + targets], labels[train : train + targets]


def fashion(start: int, train: int, targets: int) -> Arrays:
    arrays = np.load(shared_data() / "fashion_mnist.npz")
    rows, more = slice(start, start + train), slice(start // 10, start // 10 + targets)
    return (flat(arrays["x_train"][rows]), arrays["y_train"][rows].astype(int),
            flat(arrays["x_test"][more]), arrays["y_test"][more].astype(int))  # fmt: skip


def mnist(start: int, train: int, targets: int) -> Arrays:
    arrays = np.load(shared_data() / "mnist_test.npz")
    inputs, labels = flat(arrays["x_test"]), arrays["y_test"].astype(int)
    middle, end = start + train, start + train + targets
    return inputs[start:middle], labels[start:middle], inputs[middle:end], labels[middle:end]


def text(file: str, column: str, train: int, targets: int, words: int = 1000) -> Arrays:
    with gzip.open(shared_data() / file, "rt", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    split = {name: [row for row in rows if row["split"] == name] for name in ("train", "test", "dev", "all")}
    if split["all"]:
        order = np.random.default_rng(0).permutation(len(rows))
        split["train"], split["test"] = [rows[n] for n in order[:train]], [rows[n] for n in order[-targets:]]
    order = np.random.default_rng(0).permutation(len(split["train"]))[:train]
    train_rows, test_rows = [split["train"][n] for n in order], (split["test"] or split["dev"])[:targets]
    encoder = TfidfVectorizer(max_features=words, ngram_range=(1, 2))
    inputs = encoder.fit_transform([row[column] for row in train_rows]).toarray()
    more = encoder.transform([row[column] for row in test_rows]).toarray()
    labels = [np.array([int(row["label"]) for row in chosen]) for chosen in (train_rows, test_rows)]
    return 3 * inputs.astype(np.float32), labels[0], 3 * more.astype(np.float32), labels[1]


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255


SETS: dict[str, tuple[Callable[[], Arrays], tuple[int, ...]]] = {
    "digits, 10 % wrong labels *": (lambda: digits(5, 1200, 400, 0.1), (256, 256)),
    "MNIST *": (lambda: mnist(0, 3000, 400), (256, 128)),
    "SST-2 *": (lambda: text("sst2_sentences.tsv.gz", "sentence", 3000, 400), (128, 64)),
    "AG News *": (lambda: text("ag_news_10k.tsv.gz", "text", 3000, 400), (256,)),
    "digits, small *": (lambda: digits(21, 500, 400), (128,)),
    "Fashion-MNIST, other rows *": (lambda: fashion(30_000, 4000, 400), (256, 64)),
    "Subj": (lambda: text("subj.tsv.gz", "sentence", 3000, 400), (128, 64)),
    "SST-5": (lambda: text("sst5_sentences.tsv.gz", "sentence", 3000, 400), (128, 64)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", help="parts of names, separated by commas; by default all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--truth", type=Path, default=Path("benchmarks/results/truth"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, (make, hidden) in SETS.items():
        if options.sets and not any(part.lower() in name.lower() for part in options.sets.split(",")):
            continue
        arrays = make()
        members, losses = truth(options.truth / f"{name.strip(' *')}.npz", arrays, hidden)
        sizes = f"{len(arrays[1]):,} training instances, {len(arrays[3])} targets, hidden {hidden}"
        print(f"{name}: {sizes}, ceiling {ceiling(losses):.3f}", flush=True)
        found: dict[str, list[float]] = {}
        for seed in range(options.seeds):
            for method, scores in estimates(arrays, hidden, seed).items():
                found.setdefault(method, []).append(lds(scores, members, losses))
        for method, values in found.items():
            print(
                f"  {method:<48} {np.mean(values):.3f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.3f}",
                flush=True,
            )


def estimates(arrays: Arrays, hidden: tuple[int, ...], seed: int) -> dict[str, np.ndarray]:
    """Scores [N, M] of one network by every method."""
    run = trained(arrays, hidden, seed)

    def scores(method: str, **options: float | str) -> np.ndarray:
        return np.asarray(whence.influence(run, "test", method=method, **options))

    found = {method: scores(method) for method in ("turnover", "first_order", "kernel", "kronecker")}
    found["kronecker, residuals of the softened network only"] = scores("kronecker", share=0.0)
    kept, curvatures._MOST_CURVATURES = curvatures._MOST_CURVATURES, 1
    found["kronecker, one curvature for all classes"] = scores("kronecker")
    found["kronecker, neither"] = scores("kronecker", share=0.0)
    curvatures._MOST_CURVATURES = kept
    found["kronecker, damping 0.5 for all layers"] = scores("kronecker", damping=0.5)
    with mock.patch.object(parts, "_tempered", lambda moves, scale: moves):
        found["kronecker, J as long as it is"] = scores("kronecker")
    return found


def trained(arrays: Arrays, hidden: tuple[int, ...], seed: int) -> whence.Run:
    """A network with turn-over dropout after its last hidden layer, trained in a loop of one's own."""
    inputs, labels, targets, target_labels = (torch.from_numpy(array) for array in arrays)
    generator = torch.Generator().manual_seed(seed)
    widths = [inputs.shape[1], *hidden, int(labels.max()) + 1]
    model = nn.Sequential()
    for number, (before, after) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        layer = nn.Linear(before, after)
        nn.init.normal_(layer.weight, std=(2 / before) ** 0.5, generator=generator)
        nn.init.zeros_(layer.bias)
        model.add_module(f"linear{number}", layer)
        if number < len(hidden):
            model.add_module(f"relu{number}", nn.ReLU())
    whence.attach(model, [f"relu{len(hidden) - 1}"], keep=0.5, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    steps = EPOCHS * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(labels), generator=generator).split(BATCH):
            with whence.own(rows):
                loss = nn.functional.cross_entropy(model(inputs[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    ids = np.arange(len(labels))
    return whence.Run(
        model, (ids, inputs, labels), test=(np.arange(len(target_labels)) + 10**9, targets, target_labels)
    )


def truth(file: Path, arrays: Arrays, hidden: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Members bool [K, N] and losses [K, R, M] of networks retrained on halves, many at a time; from the file if it is there."""
    if not file.is_file():
        generator = torch.Generator().manual_seed(0)
        count = len(arrays[1])
        members = torch.stack([torch.randperm(count, generator=generator) < count // 2 for _ in range(HALVES)])
        losses = [
            retrain(arrays, hidden, chunk.repeat_interleave(REPEATS, 0), generator) for chunk in members.split(10)
        ]
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, members=members.numpy(), losses=np.concatenate(losses).reshape(HALVES, REPEATS, -1))
    kept = np.load(file)
    return kept["members"], kept["losses"]


def retrain(arrays: Arrays, hidden: tuple[int, ...], members: torch.Tensor, generator: torch.Generator) -> np.ndarray:
    """Losses [B, M] of B ordinary networks, each trained on its members, bool [B, N]."""
    inputs, labels, targets, target_labels = (torch.from_numpy(array) for array in arrays)
    given = train_many(inputs, labels, hidden, members, generator)(targets)
    loss = nn.functional.cross_entropy(given.flatten(0, 1), target_labels.repeat(len(members)), reduction="none")
    return loss.view(len(members), -1).numpy()


def lds(scores: np.ndarray, members: np.ndarray, losses: np.ndarray) -> float:
    return float(np.nanmean((ranks(members.astype(np.float64) @ scores) * ranks(-losses.mean(1))).sum(0)))


def ceiling(losses: np.ndarray) -> float:
    """The square root of the Spearman–Brown reliability of the mean over two repeats."""
    between = np.nanmean((ranks(losses[:, 0]) * ranks(losses[:, 1])).sum(0))
    return float(np.sqrt(2 * between / (1 + between)))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of columns, centered, of length 1; NaN where a column is constant."""
    ranked = rankdata(values, axis=0)
    ranked -= ranked.mean(0)
    with np.errstate(invalid="ignore"):
        return ranked / np.sqrt((ranked**2).sum(0))


if __name__ == "__main__":
    main()
