"""Does memorization foretell retraining? Pearson correlation of estimates with P(correct; in) − P(correct; out).

    python benchmarks/memorization.py [--sets digits,fashion,…] [--seeds 10] [--truth FOLDER]

For each set, networks are retrained on random halves of the training instances (Feldman and Zhang 2020). *ordinary*: 150 networks
without masks, each from its own weights; the scored network has the same layers and optimizer, and turn-over dropout after the
last hidden one. *recipe*: ``whence.evaluation.retrain`` of the scored run, a ready-made ``mlp`` trained by ``whence.fit``, 60
halves twice; *published*: halves of digits that are kept beside the folder of real data. Printed are the reliability of the truth,
and for the difference of own and flipped mask (old) and ``whence.memorization`` (new) the Pearson correlation of one run, mean ±
standard deviation over seeds, and of the mean of the estimates of all runs. Then how many instances one run calls known by
heart (old: a difference above one half), and how many of these memorize by more than one half in truth. Retrained networks'
answers are kept in FOLDER.

Sets marked * were looked at while the estimate was chosen; the others were not.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import whence
from estimators import Arrays, digits, fashion, mnist, text, train_many, trained
from peer_settings import setting, shared_data
from whence.estimators.memorization import memories
from whence.evaluation import memorization_agreement, retrain
from whence.evaluation.ground_truth import GroundTruth
from whence.scores import Labels
from whence.subnetworks import turnover_memorization

HALVES, AT_ONCE = 150, 10


@dataclass(frozen=True)
class Case:
    """A set, the hidden layers, and where its truth comes from: ordinary, recipe or published."""

    make: Callable[[], Arrays]
    hidden: tuple[int, ...]
    truth: str = "ordinary"


def wrong(arrays: Arrays, share: float, seed: int) -> Arrays:
    """Give a share of the training instances another class."""
    inputs, labels, *targets = arrays
    generator = np.random.default_rng(seed)
    given, chosen = labels.copy(), generator.choice(len(labels), round(share * len(labels)), replace=False)
    classes = int(labels.max()) + 1
    given[chosen] = (given[chosen] + generator.integers(1, classes, len(chosen))) % classes
    return inputs, given, targets[0], targets[1]


def published() -> Arrays:
    given = setting("A")
    return given.x.numpy(), given.y.numpy(), given.test_x.numpy(), given.test_y.numpy()


CASES = {
    "digits *, 1,000, 10 % wrong": Case(lambda: wrong(digits(5, 1000, 300), 0.1, 5), (512, 512)),
    "digits *, 1,446, 10 % wrong": Case(lambda: wrong(digits(6, 1446, 170), 0.1, 6), (512, 512)),
    "digits, other draw, 1,446, 10 % wrong": Case(lambda: wrong(digits(31, 1446, 170), 0.1, 32), (512, 512)),
    "digits, other draw, 1,200, 10 % wrong": Case(lambda: wrong(digits(41, 1200, 170), 0.1, 42), (512, 512), "recipe"),
    "digits *, 1,000": Case(published, (512, 512), "published"),
    "Fashion-MNIST *, 5,000, 10 % wrong": Case(lambda: wrong(fashion(0, 5000, 400), 0.1, 7), (128, 64)),
    "Fashion-MNIST, other rows, 4,000": Case(lambda: fashion(30_000, 4000, 400), (256, 64)),
    "MNIST, 3,000, 10 % wrong": Case(lambda: wrong(mnist(0, 3000, 400), 0.1, 51), (256, 128)),
    "SST-2 *, 3,000": Case(lambda: text("sst2_sentences.tsv.gz", "sentence", 3000, 400), (128, 64)),
    "Subj, 3,000, 10 % wrong": Case(lambda: wrong(text("subj.tsv.gz", "sentence", 3000, 400), 0.1, 61), (128, 64)),
    "AG News *, 3,000, 10 % wrong": Case(lambda: wrong(text("ag_news_10k.tsv.gz", "text", 3000, 400), 0.1, 8), (256,)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", help="parts of names, separated by commas; by default all")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--truth", type=Path, default=Path("benchmarks/results/memorization"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, case in CASES.items():
        if not options.sets or any(part.lower() in name.lower() for part in options.sets.split(",")):
            report(name, case, options.seeds, options.truth)


def report(name: str, case: Case, seeds: int, folder: Path) -> None:
    arrays = case.make()
    found: dict[str, list[np.ndarray]] = {"old": [], "new": []}
    heart: dict[str, list[np.ndarray]] = {"old": [], "new": []}
    truth = None
    for run in runs(arrays, case, seeds):
        truth = truth or truth_of(run, arrays, case, folder / name.replace("*", "").replace(" ", "_"))
        found["old"].append(turnover_memorization(run))
        estimated = memories(run)
        found["new"].append(estimated.memorization)
        heart["old"].append(found["old"][-1] > 0.5)
        heart["new"].append(estimated.by_heart)
    assert truth is not None
    judged = memorization_agreement(found["new"][0], truth)
    print(f"{name}, hidden {case.hidden}, {case.truth}: reliability {judged.reliability:.3f}", flush=True)
    for estimate, values in found.items():
        each = [memorization_agreement(value, truth).pearson for value in values]
        spread = np.std(each, ddof=1) if seeds > 1 else 0.0
        together = memorization_agreement(np.mean(values, axis=0), truth).pearson
        real = judged.memorization > 0.5
        called = np.mean([some.sum() for some in heart[estimate]])
        right = np.mean([(some & real).sum() for some in heart[estimate]])
        print(
            f"  {estimate}  one run {np.mean(each):.3f} ± {spread:.3f}  mean of {seeds} {together:.3f}  "
            f"by heart: {called:.0f}, {right:.0f} of them among {real.sum()}",
            flush=True,
        )


def runs(arrays: Arrays, case: Case, seeds: int) -> Iterator[whence.Run]:
    """Runs that differ in seed, of the recipe of the truth."""
    for seed in range(100, 100 + seeds):
        if case.truth != "recipe":
            yield trained(arrays, case.hidden, seed)
            continue
        data = whence.Dataset.of((np.arange(len(arrays[1])), arrays[0], arrays[1]))
        model, encoded = whence.prepare(data, "mlp:" + ",".join(map(str, case.hidden)), seed=seed)
        test = encoded.select(np.arange(10))  # retrain wants targets; they are not looked at
        yield whence.fit(model, encoded, test=test, seed=seed, device="cpu")


def truth_of(run: whence.Run, arrays: Arrays, case: Case, path: Path) -> GroundTruth:
    if case.truth == "recipe":
        return retrain(run, subsets=60, seeds=2, out=path)
    if case.truth == "published":
        kept = np.load(shared_data().parent / "groundtruth" / "digits_mlp.npz")
        return as_truth(kept["subsets"], kept["train_correct"])
    file = path.with_name(path.name + ".npz")
    if not file.is_file():
        generator = torch.Generator().manual_seed(0)
        count = len(arrays[1])
        members = torch.stack([torch.randperm(count, generator=generator) < count // 2 for _ in range(HALVES)])
        correct = [answers(arrays, case.hidden, some, generator) for some in members.split(AT_ONCE)]
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, members=members.numpy(), correct=np.concatenate(correct))
    with np.load(file) as kept:
        return as_truth(kept["members"], kept["correct"][:, None])


def as_truth(members: np.ndarray, correct: np.ndarray) -> GroundTruth:
    """A ground truth [K, N] and [K, R, N] that judges training instances alone."""
    rows = Labels(np.arange(members.shape[1]), [str(row) for row in range(members.shape[1])])
    nothing = Labels(np.empty(0, np.int64), [])
    values = {"loss": np.zeros((*correct.shape[:2], 0), np.float32)}
    settings = {"kind": "random", "level": "instance", "seeds": correct.shape[1]}
    return GroundTruth(rows, nothing, rows, np.arange(members.shape[1]), members, values, correct, settings)


def answers(arrays: Arrays, hidden: tuple[int, ...], members: torch.Tensor, generator: torch.Generator) -> np.ndarray:
    """Whether each of B networks, trained on its members, bool [B, N], gets each training instance right: bool [B, N]."""
    inputs, labels = torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1])
    return (train_many(inputs, labels, hidden, members, generator)(inputs).argmax(2) == labels).numpy()


if __name__ == "__main__":
    main()
