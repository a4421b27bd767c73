"""Label errors in texts: one run against cross-validation of the same model with cleanlab.

    pip install -e .[bench,text]
    python -m benchmarks.text_label_errors [--encoder FOLDER] [--sets sst2,ag_news,reviews,imdb] [--seeds 3] [--noise]
                                           [--masked frozen] [--epochs 6,40]
    python -m benchmarks.text_label_errors --masked updates --epochs 3 --sets sst2,ag_news,reviews

2,000 texts of each set. frozen: a head of 1,024 masked units on the frozen features of MiniLM, trained for few epochs and for many.
updates: MiniLM fine-tuned; texts of at most 64 tokens, reviews of 128. In all sets but imdb a tenth of the labels is
replaced by another class at random. imdb is 758 test reviews whose labels people confirmed or would correct (173), among which
labels are ranked, and 1,242 others that nobody looked at. Ranked by: ``whence.out_of_sample`` of one run, and what an audit makes
of it, p_wrong; the same run's flipped sub-network and full network (plain loss); and held-out probabilities of 3 and 5 folds (of
updates 5). All but p_wrong are ranked by cleanlab's self-confidence.

Prints area under the ROC curve, average precision, precision in the top 1 % and seconds of processor time next to one training,
mean ± standard deviation over seeds (of errors, weights, masks, folds). --noise prints instead the number of errors that p_wrong
expects, its calibration error (ten bins) beside that of 1 − out of sample, and precision and recall of what is above one half. A
finished set, seed and number of epochs is a line of results/text_label_errors.jsonl.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from benchmarks.noise_figures import MOMENTS, calibration, figures_of, p_wrong, seconds_of_looks
from benchmarks.paper.material import RESULTS, Results, chosen_encoder, data_file, encoder_option
from cleanlab.rank import get_label_quality_scores

import whence
from whence.forward import predict
from whence.subnetworks import probabilities, shared_gradient

SETS = {
    "sst2": ("sst2_sentences.tsv.gz", "sentence"),
    "ag_news": ("ag_news_10k.tsv.gz", "text"),
    "reviews": ("multidomain_sentiment.tsv.gz", "text"),
}
COUNT, WRONG = 2000, 0.1
IMDB = "imdb"
LONGEST = {"sst2": 64, "ag_news": 64, "reviews": 128, IMDB: 256}  # tokens, of an encoder that is trained
P_WRONG, OURS, FLIPPED, FULL = (
    f"one run, {name}" for name in ("p_wrong", "out of sample", "flipped mask", "full network")
)
FROZEN = "frozen"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    encoder_option(parser)
    parser.add_argument("--sets", default=",".join([*SETS, IMDB]))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--masked", default=FROZEN, help="frozen, updates, or another placement of masks")
    parser.add_argument("--epochs", default="6,40")
    parser.add_argument("--noise", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder, results = chosen_encoder(arguments), Results(RESULTS / "text_label_errors.jsonl")
    for name in arguments.sets.split(","):
        for epochs in map(int, arguments.epochs.split(",")):
            rows = []
            for seed in range(arguments.seeds):
                settings = {"set": name, "masked": arguments.masked, "epochs": epochs, "seed": seed}

                def work(name: str = name, epochs: int = epochs, seed: int = seed) -> dict[str, Any]:
                    return judged(Case(name, encoder, arguments.masked, epochs, seed))

                rows.append(results.once(settings, work))
            (noise_table if arguments.noise else table)(f"{name}, {arguments.masked}, {epochs} epochs", rows)


class Case:
    """One set with its errors, and models of it.

    Attributes:
        data: instances with given labels, as the model reads them.
        wrong: bool [N], whose label is wrong; judged: bool [N], of which that is known.
    """

    def __init__(self, name: str, encoder: str, masked: str, epochs: int, seed: int) -> None:
        self.encoder, self.masked, self.epochs, self.seed = encoder, masked, epochs, seed
        self.longest = 256 if masked == FROZEN else LONGEST[name]
        texts, self.wrong, self.judged = imdb() if name == IMDB else planted(name, seed)
        _, self.data = self.prepared(texts, seed)

    def prepared(self, data: whence.Dataset, seed: int) -> tuple[torch.nn.Module, whence.Dataset]:
        return whence.prepare(data, self.encoder, masked=self.masked, seed=seed, max_length=self.longest)

    def trained(self, rows: np.ndarray, seed: int, *, moments: int = 0) -> whence.Run:
        """A model of some texts; moments: at which flipped sub-networks are asked."""
        return whence.fit(
            *self.prepared(self.data.select(rows), seed),
            seed=seed,
            epochs=self.epochs,
            device="cpu",
            exposure_limit=1,
            dynamics=moments,
        )


def planted(name: str, seed: int) -> tuple[whence.Dataset, np.ndarray, np.ndarray]:
    """Texts with a tenth of the labels replaced."""
    file, column = SETS[name]
    texts = whence.load(data_file(file), text=column, label="label")
    rows = np.flatnonzero(texts.splits == "train") if texts.has_split("train") else np.arange(len(texts))
    texts = replace(texts.select(np.random.default_rng(5).permutation(rows)[:COUNT]), splits=None)
    generator, classes = np.random.default_rng(100 + seed), len(np.unique(texts.targets))
    wrong = np.zeros(len(texts), bool)
    wrong[generator.choice(len(texts), round(WRONG * len(texts)), replace=False)] = True
    labels = texts.targets.copy()
    labels[wrong] = (labels[wrong] + generator.integers(1, classes, wrong.sum())) % classes
    return replace(texts, targets=labels), wrong, np.ones(len(texts), bool)


def imdb() -> tuple[whence.Dataset, np.ndarray, np.ndarray]:
    """Test reviews: all whose label people confirmed or would correct, and others to train on."""
    path = data_file("imdb_10k.tsv.gz")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        review = {
            row["id"]: row["label_review"] for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        }
    texts = whence.load(path, text="text", label="label", id="id")
    said = np.array([review[texts.name_of(row)] for row in range(len(texts))])
    known = np.isin(said, ["given_ok", "correctable"])
    others = np.flatnonzero((texts.splits == "test") & (said == "not_reviewed"))
    rows = np.concatenate([np.flatnonzero(known), np.random.default_rng(5).permutation(others)[: COUNT - known.sum()]])
    return replace(texts.select(rows), splits=None), (said == "correctable")[rows], known[rows]


def judged(case: Case) -> dict[str, Any]:
    """What each ranking is worth, and its cost in trainings."""
    labels, everyone = case.data.targets, np.arange(len(case.data))
    began = time.process_time()
    run = case.trained(everyone, case.seed, moments=MOMENTS)
    spent = time.process_time() - began
    once = spent - seconds_of_looks(run)
    found: dict[str, Any] = {
        "own accuracy": float((probabilities(run, mask="own").argmax(1) == labels).mean()),
        "shared gradient": shared_gradient(run),
        "full accuracy": float((probabilities(run).argmax(1) == labels).mean()),
    }

    def rank(name: str, suspicion: Callable[[], np.ndarray], before: float) -> np.ndarray:
        began = time.process_time()
        everywhere = suspicion()
        cost = (before + time.process_time() - began) / once
        found[name] = figures_of(everywhere[case.judged], case.wrong[case.judged]) | {"cost": cost}
        return everywhere

    def doubted(said: np.ndarray) -> np.ndarray:
        confidence: np.ndarray = get_label_quality_scores(labels, said, method="self_confidence")
        return 1 - confidence

    suspicion = rank(P_WRONG, lambda: p_wrong(run), spent)
    raw = rank(OURS, lambda: doubted(whence.out_of_sample(run)), spent)
    found["p_wrong"] = {"errors": int(case.wrong.sum()), **calibration(suspicion, raw, case.wrong)}
    rank(FLIPPED, lambda: doubted(probabilities(run, mask="flipped")), once)
    rank(FULL, lambda: doubted(probabilities(run)), once)
    for folds in (3, 5) if case.masked == FROZEN else (5,):
        rank(f"{folds} folds", lambda folds=folds: doubted(cross_validated(case, folds)), 0)  # type: ignore[misc]
    return found


def noise_table(title: str, rows: Sequence[dict[str, Any]]) -> None:
    figures = {"errors": 0, "expected": 0, "calibration error": 3, "calibration error of out of sample": 3,
               "precision": 2, "recall": 2}  # fmt: skip
    said = []
    for figure, digits in figures.items():
        values = [row["p_wrong"][figure] for row in rows]
        said.append(
            f"{figure} {np.mean(values):.{digits}f}"
            + (f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else "")
        )
    print(f"{title}: {', '.join(said)}", flush=True)


def cross_validated(case: Case, folds: int) -> np.ndarray:
    """Probabilities [N, C] by models that were not trained on the instance."""
    fold = np.random.default_rng(case.seed).permutation(len(case.data)) % folds
    parts = np.zeros((len(case.data), len(np.unique(case.data.targets))), np.float32)
    for number in range(folds):
        run = case.trained(np.flatnonzero(fold != number), 100 * case.seed + number)
        rows = np.flatnonzero(fold == number)
        parts[rows] = torch.from_numpy(predict(run.model, case.data.select(rows))).softmax(1).numpy()
    return parts


def table(title: str, rows: Sequence[dict[str, Any]]) -> None:
    accuracy = {mask: np.mean([row[f"{mask} accuracy"] for row in rows]) for mask in ("own", "full")}
    print(f"\n{title}: own masks fit {accuracy['own']:.3f} of the given labels, the full network "
          f"{accuracy['full']:.3f}")  # fmt: skip
    if known := [row["shared gradient"] for row in rows if "shared gradient" in row]:
        print(f"of flipped gradients {np.mean(known):.2f} lie in weights that own masks train too")
    print("| ranked by | AUC | average precision | top 1 % | cost |\n| --- | --- | --- | --- | --- |")
    for ranked in (name for name in (P_WRONG, OURS, FLIPPED, FULL, "3 folds", "5 folds") if name in rows[0]):
        cells = [ranked]
        for figure, digits in (("AUC", 4), ("AP", 3), ("top 1 %", 2), ("cost", 2)):
            values = [row[ranked][figure] for row in rows]
            spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 and figure != "cost" else ""
            cells.append(f"{np.mean(values):.{digits}f}{spread}")
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
