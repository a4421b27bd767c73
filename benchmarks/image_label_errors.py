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
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from benchmarks.label_error_cases import SETS, Case, cross_validated, epochs_of
from benchmarks.label_error_rivals import MORE, RANKED_MORE, Piece, over_epochs
from benchmarks.noise_figures import calibration, p_wrong
from benchmarks.paper.material import RESULTS, Results

import whence
from whence.subnetworks import probabilities

SAID = {"expected": 0, "calibration error": 3, "calibration error of out of sample": 2, "precision": 2, "recall": 2}
P_WRONG, UNSEEN, FLIPPED, FULL = (
    f"one run, {name}" for name in ("p_wrong", "out of sample", "flipped mask", "full network")
)
EPOCH_MEAN, MARGINS, FOLDS = "one run, all epochs", "one run, margins", "5 folds"
RANKED = (P_WRONG, UNSEEN, FLIPPED, FULL, EPOCH_MEAN, MARGINS, FOLDS, *RANKED_MORE)


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


def spread(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation."""
    error = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{error}"


if __name__ == "__main__":
    main()
