"""Label errors in pictures: one run against cross-validation of the same model with cleanlab, and other signals of one run.

    pip install -e .[bench]
    python -m benchmarks.image_label_errors [--sets NAME,…] [--regimes stopped,early,long] [--seeds 3]
                                            [--also self-influence,tracin,folds,regression,losses,ordinary]
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
    cifar10k uniform      10,000 pictures of CIFAR-10, augmented (crop+flip): a network that knows more than the regression;
    cifar10k human        20 epochs, in regime early alone

stopped is 3 epochs (VGG: 5), early 10 (15), long 60 (30); own masks fit wrong labels too from early on. Ranked by

    one run, p_wrong      what an audit ranks by: the model of label noise on what is said out of sample
    one run, out of sample, flipped mask, full network   1 − the label's probability by each
    one run, all epochs   1 − the label's mean probability by the full network after each epoch
    one run, margins      AUM (Pleiss et al. 2020): the label's mean margin, of the full network after each epoch
    5 folds               held-out probabilities of the same model

cleanlab's self-confidence ranks by 1 − the label's probability too. --also adds, in the bench extra's environment,

    self-influence   EK-FAC (kronfluence) and TRAK (traker, one model) on the same run
    tracin       what dattri offers for wrong labels, TracIn in the last layer over five of the run's epochs
    folds        cleanlab's normalized margin on the five folds, and our model of label noise, which tells how much of p_wrong's
                 advantage is that model's
    regression   the part of what is said out of sample that asks no network; the same in all regimes, so early alone is made
    losses       the label's mean loss over epochs, and which share of wrong labels networks fit
    ordinary     five folds of the same model without masks

Prints area under the ROC curve, average precision, precision in the top 1 %, and seconds of processor time next to one
training (one run with its training dynamics, of which folds have none); then how far p_wrong is a probability: the expected
number of errors beside the true one, the expected calibration error (ten bins) beside that of 1 − out of sample, and precision
and recall of what has p_wrong above one half. Mean ± standard deviation over seeds (of errors, weights, masks, folds; the
pictures are the same). A finished set, regime and seed is a line of results/image_label_errors.jsonl; --overview prints the tables
of docs/label_errors.md from what is there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from benchmarks.label_error_cases import EPOCHS, SETS, Case, cross_validated, source_of
from benchmarks.label_error_rivals import MORE, Piece, over_epochs
from benchmarks.label_error_tables import EPOCH_MEAN, FLIPPED, FOLDS, FULL, MARGINS, P_WRONG, UNSEEN, overview, table
from benchmarks.noise_figures import MOMENTS, calibration, p_wrong, seconds_of_looks
from benchmarks.paper.material import RESULTS, Results

import whence
from whence.subnetworks import probabilities, shared_gradient


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--regimes", default="early,long")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--also", default="", help="self-influence, tracin, folds, regression, losses, ordinary")
    parser.add_argument("--overview", action="store_true", help="nothing is trained")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pieces = {name: MORE[name] for name in filter(None, arguments.also.split(","))}
    results = Results(RESULTS / "image_label_errors.jsonl")
    if arguments.overview:
        for name, lines in overview(list(results.rows.values())).items():
            print(f"\n<!-- {name} -->", *lines, "<!-- end -->", sep="\n")
    for regime in () if arguments.overview else arguments.regimes.split(","):
        for name in arguments.sets.split(","):
            if regime not in EPOCHS[source_of(name)]:
                continue
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

                    if not name.endswith("clean") and (piece != "regression" or regime == "early"):
                        row |= results.once({**settings, "piece": piece}, also)
                rows.append(row)
            table(name, rows)


def judged(case: Case) -> dict[str, Any]:
    """What each ranking is worth and costs, and how far p_wrong is a probability."""
    labels, everyone = case.labels, np.arange(len(case.labels))
    given = everyone, labels
    began = time.process_time()
    run = case.trained(everyone, case.seed, moments=MOMENTS)
    spent = time.process_time() - began
    once = spent - seconds_of_looks(run)
    found: dict[str, Any] = {"count": len(labels), "wrong": int(case.wrong.sum())}
    found["shared gradient"] = shared_gradient(run)
    found |= {
        f"{mask} fit": float((probabilities(run, mask=mask).argmax(1) == labels).mean()) for mask in ("own", "full")
    }

    def rank(name: str, suspicion: Callable[[], np.ndarray], before: float) -> np.ndarray:
        began = time.process_time()
        everywhere = suspicion()
        cost = (before + time.process_time() - began) / once
        if case.wrong.any():
            found[name] = case.figures(everywhere) | {"cost": cost}
        return everywhere

    suspicion = rank(P_WRONG, lambda: p_wrong(run), spent)
    raw = rank(UNSEEN, lambda: 1 - whence.out_of_sample(run)[given], spent)
    rank(FLIPPED, lambda: 1 - probabilities(run, mask="flipped")[given], once)
    rank(FULL, lambda: 1 - probabilities(run)[given], once)
    found["p_wrong"] = calibration(suspicion, raw, case.wrong)
    if case.wrong.any():
        means, margins = over_epochs(case)
        rank(EPOCH_MEAN, lambda: 1 - means[given], once)
        rank(MARGINS, lambda: -margins, once)
        rank(FOLDS, lambda: 1 - cross_validated(case)[given], 0)
    return found


if __name__ == "__main__":
    main()
