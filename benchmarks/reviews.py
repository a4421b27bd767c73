"""How well do few labels that somebody looked at tell how many of all are wrong, and how sure is p_wrong then?

    python -m benchmarks.reviews [--sets cifar human,...] [--counts 50,100,200] [--seeds 3]

The pictures and the errors of ``image_label_errors`` (3,000 of Fashion-MNIST after 10 epochs, 2,000 of CIFAR-10 after 15), where
all wrong labels are known. Each run is reviewed 200 times by somebody who is always right (``Review``, draws of 200 seeds). Prints
for each set, with nothing reviewed and with so many labels: errors expected (mean, and standard deviation over draws), how often
the 95 % limits hold and how far apart they are; beside them those of as many labels drawn evenly (Clopper and Pearson); the
calibration error of p_wrong on labels that nobody looked at; precision and recall above one half on these. Mean ± standard
deviation over seeds of runs where it says so. A finished set and seed is a line of results/reviews.jsonl.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from benchmarks.label_error_cases import Case
from benchmarks.label_error_tables import heading, line, number, title
from benchmarks.noise_figures import MOMENTS, calibration_error, p_wrong
from benchmarks.paper.material import RESULTS, Results
from scipy.stats import binomtest

from whence.reviewing import drawn, reviewed

COLUMNS = ("looked at", "wrong labels", "expected", "limits hold", "apart", "apart, drawn evenly", "calibration error",
           "precision above ½", "recall")  # fmt: skip
SETS = (
    "fashion uniform",
    "fashion confusable",
    "cifar uniform",
    "cifar confusable",
    "cifar human",
    "cifar human worst",
)
DRAWS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--counts", default="50,100,200")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results, counts = Results(RESULTS / "reviews.jsonl"), [int(count) for count in arguments.counts.split(",")]
    print("\n".join(heading("set, epochs", COLUMNS)))
    for name in arguments.sets.split(","):
        rows = [
            results.once({"set": name, "seed": seed, "counts": counts}, partial(judged, name, seed, counts))
            for seed in range(arguments.seeds)
        ]
        print("\n".join(of_set(name, rows)), flush=True)


def judged(name: str, seed: int, counts: Sequence[int]) -> dict[str, Any]:
    """What reviews of one run say, by how many labels were looked at."""
    case = Case(name, "early", seed)
    run = case.trained(np.arange(len(case.labels)), seed, moments=MOMENTS)
    p, wrong = p_wrong(run), case.wrong
    found = {"0": {"expected": float(p.sum()), **above_half(p, wrong)}}
    for count in counts:
        draws = [one_review(run.train, p, wrong, count, draw) for draw in range(DRAWS)]
        found[str(count)] = {figure: mean([one[figure] for one in draws]) for figure in draws[0]}
        found[str(count)]["spread"] = float(np.std([one["expected"] for one in draws], ddof=1))
    return {"wrong": int(wrong.sum()), "of": len(wrong), "reviews": found}


def mean(values: Sequence[float]) -> float:
    """Of those that are known."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def one_review(train: Any, p: np.ndarray, wrong: np.ndarray, count: int, draw: int) -> dict[str, float]:
    review = drawn(train, p, count, draw)
    rows, given = review.rows, train.targets[review.rows]
    told = reviewed(p, replace(review, answers=np.where(wrong[rows], -1, given)))
    assert told is not None
    others = np.delete(np.arange(len(p)), rows)  # that nobody looked at
    evenly = np.random.default_rng(draw).choice(wrong, count, replace=False)
    plain = binomtest(int(evenly.sum()), count).proportion_ci(method="exact")
    return {"expected": float(told.p_wrong.sum()), "held": float(told.low <= wrong.sum() <= told.high),
            "apart": told.high - told.low, "apart, drawn evenly": (plain.high - plain.low) * len(p),
            **above_half(told.p_wrong[others], wrong[others])}  # fmt: skip


def above_half(p: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """How far p is a probability, and what is above one half."""
    suspected = p > 0.5
    return {
        "calibration error": calibration_error(p, wrong),
        "precision": float(wrong[suspected].mean()) if suspected.any() else float("nan"),
        "recall": float(wrong[suspected].sum() / max(wrong.sum(), 1)),
    }


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The table of docs/label_errors.md."""
    lines = heading("set, epochs", COLUMNS)
    for name in SETS:
        lines += of_set(name, [row for row in rows if row["set"] == name])
    return lines


def of_set(name: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of one set: with nothing reviewed, then by how many labels were looked at."""
    return [line(title(name, "early"), cells(count, rows)) for count in rows[0]["reviews"]]


def cells(count: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Means over runs; of what is expected before a review, and of calibration errors, their standard deviation too."""
    found = [row["reviews"][count] for row in rows]

    def over(figure: str, digits: int, spread: bool = False) -> str:
        values = [one[figure] for one in found if not np.isnan(one.get(figure, np.nan))]
        if not values:
            return ""
        deviation = f" ± {number(np.std(values, ddof=1), digits)}" if spread and len(values) > 1 else ""
        return number(np.mean(values), digits) + deviation

    reviewed = count != "0"
    wrong = f"{np.mean([row['wrong'] for row in rows]):.0f} of {rows[0]['of']:,}"
    expected = over("expected", 0, not reviewed) + (f" ({over('spread', 0)})" if reviewed else "")
    return [count if reviewed else "none", wrong, expected, over("held", 2), over("apart", 0), over("apart, drawn evenly", 0),
            over("calibration error", 3, True), over("precision", 2), over("recall", 2)]  # fmt: skip


if __name__ == "__main__":
    main()
