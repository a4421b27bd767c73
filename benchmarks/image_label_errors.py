"""Label errors in pictures: one run against cross-validation of the same model with cleanlab, and other signals of one run.

    pip install -e .[bench]
    python -m benchmarks.image_label_errors [--sets NAME,…] [--regimes early,long] [--seeds 3] [--also self-influence,tracin,folds]
    python -m benchmarks.image_label_errors --overview

    fashion uniform       3,000 pictures of Fashion-MNIST, a tenth of the labels replaced by another class at random; mlp:512,512
    fashion confusable    the same, each class always by the one that it is most like
    cifar uniform         2,000 pictures of CIFAR-10, the same; vgg:16,32,64,256 in bfloat16, no augmentation
    cifar confusable
    cifar human           the labels of CIFAR-10N: the majority of three people (aggregate), against CIFAR-10's own
    cifar human worst     CIFAR-10N: the wrong one, where any of three people was wrong
    cifar verified        2,000 test pictures, among them the 275 whose labels people reviewed because cross-validation doubted
                          them; ranked among those
    mnist verified        2,000 test pictures of MNIST, 100 of them reviewed, likewise; mlp:512,512
    fashion clean         no label replaced: how many does an audit expect all the same?

early is 10 epochs (VGG: 15), long 60 (VGG: 30); by then own masks fit all labels, often wrong ones too. Ranked by

    one run, p_wrong      what an audit ranks by: the model of label noise on what is said out of sample
    one run, out of sample, flipped mask, full network   1 − the label's probability by each
    one run, all epochs   1 − the label's mean probability by the full network after each epoch
    one run, margins      AUM (Pleiss et al. 2020): the label's mean margin, of the full network after each epoch
    5 folds               held-out probabilities of the same model

cleanlab's self-confidence ranks by 1 − the label's probability too. --also self-influence adds the same run's EK-FAC (kronfluence)
and TRAK (traker, one model); tracin what dattri offers for wrong labels, TracIn in the last layer over five of the run's epochs;
folds two more readings of five folds, cleanlab's normalized margin and our model of label
noise, which tells how much of p_wrong's advantage is that model's. Prints area under the ROC curve, average precision,
precision in the top 1 %, and seconds of processor time next to one training; then how far p_wrong is a probability: the expected
number of errors beside the true one, the expected calibration error (ten bins) beside that of 1 − out of sample, and precision
and recall of what has p_wrong above one half. Mean ± standard deviation over seeds (of errors, weights, masks, folds; the
pictures are the same). A finished set, regime and seed is a line of results/image_label_errors.jsonl; --overview prints the tables
of docs/label_errors.md from what is there.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from benchmarks.noise_figures import calibration, p_wrong
from benchmarks.paper.material import RESULTS, Results, data_file
from sklearn.metrics import average_precision_score, roc_auc_score

import whence
from whence.data.images import unpack_sheet
from whence.forward import predict
from whence.label_noise import fit_noise
from whence.options import TrainingOptions
from whence.schedule import Schedule
from whence.subnetworks import probabilities

MLP, VGG = "mlp:512,512", "vgg:16,32,64,256"
SETS = ("fashion uniform", "fashion confusable", "cifar uniform", "cifar human", "cifar human worst", "cifar confusable",
        "cifar verified", "mnist verified", "fashion clean")  # fmt: skip
EPOCHS = {(MLP, "early"): 10, (MLP, "long"): 60, (VGG, "early"): 15, (VGG, "long"): 30}
# Each class, and the one that it is most like.
CONFUSED = {
    "fashion": (6, 3, 4, 1, 2, 7, 0, 5, 5, 7),
    "cifar": (8, 9, 4, 5, 7, 3, 3, 4, 0, 1),
}
SAID = {"expected": 0, "calibration error": 3, "calibration error of out of sample": 2, "precision": 2, "recall": 2}
PLANTED, WRONG = ("uniform", "confusable", "clean"), 0.1
P_WRONG, UNSEEN, FLIPPED, FULL = (
    f"one run, {name}" for name in ("p_wrong", "out of sample", "flipped mask", "full network")
)
EPOCH_MEAN, MARGINS, FOLDS = "one run, all epochs", "one run, margins", "5 folds"
FOLD_MARGINS, FOLD_NOISE = "5 folds, normalized margin", "5 folds, noise model"
EKFAC, TRAK, TRACIN = (f"one run, {name} self-influence" for name in ("EK-FAC", "TRAK", "TracIn"))
CHECKPOINTS = 5  # epochs, evenly spaced, that TracIn sums over
RANKED = (P_WRONG, UNSEEN, FLIPPED, FULL, EPOCH_MEAN, MARGINS, EKFAC, TRAK, TRACIN, FOLDS, FOLD_MARGINS, FOLD_NOISE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--regimes", default="early,long")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--also", default="", help="self-influence, tracin, folds: slow")
    parser.add_argument("--overview", action="store_true", help="nothing is trained")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pieces = {name: MORE[name] for name in filter(None, arguments.also.split(","))}
    results = Results(RESULTS / "image_label_errors.jsonl")
    if arguments.overview:
        overview(list(results.rows.values()))
    for regime in () if arguments.overview else arguments.regimes.split(","):
        for name in arguments.sets.split(","):
            rows = []
            for seed in range(arguments.seeds):
                settings = {"set": name, "regime": regime, "seed": seed}

                def work(name: str = name, regime: str = regime, seed: int = seed) -> dict[str, Any]:
                    return judged(Case(name, regime, seed))

                row = dict(results.once(settings, work))
                for piece, more in pieces.items():

                    def also(
                        name: str = name, regime: str = regime, seed: int = seed, more: Piece = more
                    ) -> dict[str, Any]:
                        return more(Case(name, regime, seed))

                    if not name.endswith("clean"):
                        row |= results.once({**settings, "piece": piece}, also)
                rows.append(row)
            table(name, rows)


class Case:
    """One set with its errors, and models of it.

    Attributes:
        pictures: uint8 [N, …]; labels: int64 [N], as given.
        wrong: bool [N], whose label is wrong; judged: bool [N], of which that is known.
    """

    def __init__(self, name: str, regime: str, seed: int) -> None:
        self.seed = seed
        self.model = VGG if name.startswith("cifar") else MLP
        self.epochs = EPOCHS[self.model, regime]
        source, kind = name.split(" ", 1)
        if kind == "verified":
            self.pictures, self.labels, self.wrong, self.judged = verified(source)
        else:
            self.pictures, true, people = cifar() if source == "cifar" else fashion()
            self.labels = people[kind] if kind in people else planted(true, kind, source, seed)
            self.wrong, self.judged = self.labels != true, np.ones(len(true), bool)

    def trained(self, rows: np.ndarray, seed: int) -> whence.Run:
        model, data = whence.prepare(self.data(rows), self.model, seed=seed)
        return whence.fit(model, data, exposure_limit=1, **self.options(seed))

    def data(self, rows: np.ndarray) -> whence.Dataset:
        data = whence.Dataset.of((rows, self.pictures[rows], self.labels[rows]))
        return replace(data, task=whence.data.Classification(tuple(map(str, range(10)))))

    def figures(self, suspicion: np.ndarray) -> dict[str, float]:
        """How well suspicion [N] ranks the errors among those that are known."""
        some, wrong = suspicion[self.judged], self.wrong[self.judged]
        first = np.argsort(-some, kind="stable")[: max(1, len(some) // 100)]
        return {"AUC": float(roc_auc_score(wrong, some)), "AP": float(average_precision_score(wrong, some)),
                "top 1 %": float(wrong[first].mean())}  # fmt: skip

    def options(self, seed: int) -> dict[str, Any]:
        return {"seed": seed, "epochs": self.epochs, "device": "cpu",
                "autocast": "bfloat16" if self.model == VGG else "off"}  # fmt: skip


def fashion() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    rows = np.random.default_rng(5).permutation(60_000)[:3000]
    with np.load(data_file("fashion_mnist.npz")) as file:
        return file["x_train"][rows], file["y_train"][rows].astype(np.int64), {}


def cifar() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Pictures, labels, and labels by people."""
    rows = np.random.default_rng(5).permutation(10_000)[:2000]
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


def judged(case: Case) -> dict[str, Any]:
    """What each ranking is worth and costs, and how far p_wrong is a probability."""
    labels, everyone = case.labels, np.arange(len(case.labels))
    given = everyone, labels
    began = time.process_time()
    run = case.trained(everyone, case.seed)
    once = time.process_time() - began
    found: dict[str, Any] = {"count": len(labels), "wrong": int(case.wrong.sum())}
    found |= {
        f"{mask} fit": float((probabilities(run, mask=mask).argmax(1) == labels).mean()) for mask in ("own", "full")
    }

    def rank(name: str, suspicion: Callable[[], np.ndarray], trainings: float) -> np.ndarray:
        began = time.process_time()
        everywhere = suspicion()
        cost = trainings + (time.process_time() - began) / once
        if case.wrong.any():
            found[name] = case.figures(everywhere) | {"cost": cost}
        return everywhere

    suspicion = rank(P_WRONG, lambda: p_wrong(run), 1)
    raw = rank(UNSEEN, lambda: 1 - whence.out_of_sample(run)[given], 1)
    rank(FLIPPED, lambda: 1 - probabilities(run, mask="flipped")[given], 1)
    rank(FULL, lambda: 1 - probabilities(run)[given], 1)
    found["p_wrong"] = calibration(suspicion, raw, case.wrong)
    if case.wrong.any():
        means, margins = over_epochs(case)
        rank(EPOCH_MEAN, lambda: 1 - means[given], 1)
        rank(MARGINS, lambda: -margins, 1)
        rank(FOLDS, lambda: 1 - cross_validated(case)[given], 0)
    return found


def by_self_influence(case: Case) -> dict[str, Any]:
    """What the self-influence of each instance is worth, on the network of one run."""
    from benchmarks import self_influence

    began = time.process_time()
    run = case.trained(np.arange(len(case.labels)), case.seed)
    once, found = time.process_time() - began, {}
    for name, method in ((EKFAC, self_influence.ekfac), (TRAK, self_influence.trak)):
        began = time.process_time()
        figures = case.figures(method(run))
        found[name] = figures | {"cost": 1 + (time.process_time() - began) / once}
    return found


def by_tracin(case: Case) -> dict[str, Any]:
    """What TracIn's self-influence is worth, by dattri."""
    from benchmarks import self_influence

    began = time.process_time()
    wanted = {case.epochs * number // CHECKPOINTS for number in range(1, CHECKPOINTS + 1)}
    run, weights, rates = None, [], []
    for epoch, (run, rate) in enumerate(epoch_by_epoch(case), start=1):
        if epoch in wanted:
            weights.append({name: value.clone() for name, value in run.model.state_dict().items()})
            rates.append(rate)
    assert run is not None
    once = time.process_time() - began
    figures = case.figures(self_influence.tracin(run, weights, rates))
    return {TRACIN: figures | {"cost": (time.process_time() - began) / once}}


def by_folds(case: Case) -> dict[str, Any]:
    """What else can be made of five folds."""
    from cleanlab.rank import get_label_quality_scores

    held_out = cross_validated(case)
    margins = get_label_quality_scores(case.labels, held_out, method="normalized_margin")
    noise = fit_noise(held_out, case.labels).p_wrong
    return {FOLD_MARGINS: case.figures(-margins), FOLD_NOISE: case.figures(noise)}


Piece = Callable[[Case], dict[str, Any]]
MORE: dict[str, Piece] = {"self-influence": by_self_influence, "tracin": by_tracin, "folds": by_folds}


def over_epochs(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The same training again: mean probabilities [N, C] after each epoch, and mean margins [N] of the label (logits)."""
    everyone = np.arange(len(case.labels))
    means, margins = np.zeros((len(everyone), 10)), np.zeros(len(everyone))
    for run, _ in epoch_by_epoch(case):
        logits = predict(run.model, run.train)
        means += torch.from_numpy(logits).softmax(1).numpy() / case.epochs
        own = logits[everyone, case.labels]
        logits[everyone, case.labels] = -np.inf
        margins += (own - logits.max(1)) / case.epochs
    return means, margins


def epoch_by_epoch(case: Case) -> Iterator[tuple[whence.Run, float]]:
    """The same training again: the run after each epoch, and the learning rate of its last step."""
    model, data = whence.prepare(case.data(np.arange(len(case.labels))), case.model, seed=case.seed)
    run, options = whence.Run(model, data), TrainingOptions(**case.options(case.seed))
    schedule = Schedule(run.train, options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    step = 0
    for epoch in range(options.epochs):
        model.train()
        for (batch,) in schedule.batches(epoch, skip=0):
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate(step)
            optimizer.zero_grad()
            with whence.own(batch.mask_ids), torch.autocast("cpu", torch.bfloat16, options.autocast != "off"):
                given = model(batch.inputs)
            run.loss(given.float(), batch.targets).mean().backward()
            optimizer.step()
            step += 1
        model.eval()
        yield run, schedule.learning_rate(step - 1)


def cross_validated(case: Case) -> np.ndarray:
    """Probabilities [N, C] by models that were not trained on the instance."""
    fold = np.random.default_rng(case.seed).permutation(len(case.labels)) % 5
    found = np.zeros((len(case.labels), 10), np.float32)
    for number in range(5):
        run = case.trained(np.flatnonzero(fold != number), 100 * case.seed + number + 1)
        rows = np.flatnonzero(fold == number)
        found[rows] = probabilities(run, case.data(rows))
    return found


def table(name: str, rows: Sequence[dict[str, Any]]) -> None:
    fit = {mask: np.mean([row[f"{mask} fit"] for row in rows]) for mask in ("own", "full")}
    print(f"\n{name}, {rows[0]['regime']}, {len(rows)} seeds: {rows[0]['count']:,} labels; own masks fit {fit['own']:.3f} of them, "
          f"the full network {fit['full']:.3f}")  # fmt: skip
    if P_WRONG in rows[0]:
        print("| ranked by | AUC | average precision | top 1 % | cost |\n| --- | --- | --- | --- | --- |")
        for ranked in (name for name in RANKED if name in rows[0]):
            cells = [ranked]
            for figure, digits in (("AUC", 4), ("AP", 3), ("top 1 %", 2)):
                cells.append(spread([row[ranked][figure] for row in rows], digits))
            costs = [row[ranked].get("cost", row[FOLDS]["cost"]) for row in rows]
            print("| " + " | ".join([*cells, f"{np.mean(costs):.2f}"]) + " |")
    said = {key: spread([row["p_wrong"][key] for row in rows], 3) for key in rows[0]["p_wrong"]}
    expected = spread([row["p_wrong"]["expected"] for row in rows], 0)
    print(f"p_wrong: expects {expected} errors, there are {np.mean([row['wrong'] for row in rows]):.0f}; calibration error "
          f"{said['calibration error']} (out of sample: {said['calibration error of out of sample']}); above one half precision "
          f"{said['precision']}, recall {said['recall']}", flush=True)  # fmt: skip


def overview(rows: list[dict[str, Any]]) -> None:
    """Areas of all sets and regimes with three seeds or more, those of further pieces, and p_wrong as a probability."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row.get("piece", ""), row["regime"], row["set"]), []).append(row)
    for piece in ("", *MORE):
        ranked = [name for name in RANKED if any(name in found[0] for key, found in groups.items() if key[0] == piece)]
        print("\n| set, epochs | " + " | ".join(ranked) + " |\n" + "| --- " * (1 + len(ranked)) + "|")
        for (of, regime, name), found in sorted(groups.items(), key=lambda item: (item[0][1], SETS.index(item[0][2]))):
            if of == piece and len(found) > 2 and ranked[0] in found[0]:
                cells = [spread([row[ranking]["AUC"] for row in found], 4) for ranking in ranked]
                costs = [np.mean([row[ranking].get("cost", np.nan) for row in found]) for ranking in ranked]
                cells = [f"{cell} · {cost:.1f}" for cell, cost in zip(cells, costs, strict=True)]
                print(f"| {name}, {epochs_of(name, regime)} | " + " | ".join(cells) + " |")
    print(
        "\n| set, epochs | wrong | expected | calibration error | of out of sample | precision | recall |\n"
        + "| --- " * 7
        + "|"
    )
    for (piece, regime, name), found in groups.items():
        if not piece and len(found) > 2:
            said = [row["p_wrong"] for row in found]
            cells = [spread([one[key] for one in said], digits) for key, digits in SAID.items()]
            wrong = np.mean([row["wrong"] for row in found])
            print(
                f"| {name}, {epochs_of(name, regime)} | {wrong:.0f} of {found[0]['count']:,} | "
                + " | ".join(cells)
                + " |"
            )


def epochs_of(name: str, regime: str) -> int:
    return EPOCHS[VGG if name.startswith("cifar") else MLP, regime]


def spread(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation."""
    error = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{error}"


if __name__ == "__main__":
    main()
