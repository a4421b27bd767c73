"""What ``whence cleanse`` says of digits: with wrong labels, without, and of rows that were chosen at random.

    python -m benchmarks.cleanse [--seeds 5] [--noise 0.1] [--trials 60] [--jobs 2]

Prints, for each change of the training data and each of --seeds runs, the verdict and the differences of loss, AUC and accuracy on
test against no change and against random removal of the same labels: mean ± standard deviation over runs. Then how often rows drawn
at random (of --trials draws) are called a gain or harm, which should be seldom: what is drawn at random is no better than chance.
Models are mlp:256 trained for 10 epochs, five trainings of each treatment.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

import whence
from whence.cleansing import Cleansing
from whence.cleansing.treatments import NONE, SAME_LABELS
from whence.demo import plant_label_errors

CHANGES: tuple[Mapping[str, Any], ...] = (
    {"drop": "1%"},
    {"drop": "5%"},
    {"drop": "significant"},
    {"drop": "10%", "by": "p_wrong"},
    {"relabel": True},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--noise", type=float, default=0.1, help="share of training labels that are wrong")
    parser.add_argument("--trials", type=int, default=60, help="draws at random")
    parser.add_argument("--share", type=float, default=0.05, help="of the rows, in each draw")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for noise in (arguments.noise, 0.0):
        print(f"digits, {noise:.0%} of the training labels wrong, {arguments.seeds} runs")
        runs = [fitted(noise, seed) for seed in range(arguments.seeds)]
        for change in CHANGES:
            summarized(
                change, [whence.cleanse(run, seed=seed, jobs=arguments.jobs, **change) for seed, run in enumerate(runs)]
            )
    at_random(fitted(arguments.noise, 0), arguments.trials, arguments.share, arguments.jobs)


def fitted(noise: float, seed: int) -> whence.Run:
    data = whence.load("digits")
    if noise:
        data, _ = plant_label_errors(data, noise, seed=seed)
    model, data = whence.prepare(data, "mlp:256", seed=seed)
    return whence.fit(model, data, seed=seed, epochs=10, device="cpu")


def summarized(change: Mapping[str, Any], found: Sequence[Cleansing]) -> None:
    """One line for the verdicts of all runs, and one for each reference."""
    said = Counter(one.verdict for one in found)
    rows = np.mean([one.steps[0].rows if one.steps else 0 for one in found])
    words = " ".join(f"{name} {value}" for name, value in change.items())
    print(
        f"  {words} ({rows:.0f} rows): "
        + ", ".join(f"{verdict} {count} of {len(found)}" for verdict, count in said.items())
    )
    steps = [one.steps[0] for one in found if one.steps]
    for against in (NONE, SAME_LABELS) if len(steps) > 1 else ():
        cells = []
        for name, scale, digits in (("loss", 1, 4), ("AUC", 1, 4), ("accuracy", 100, 2)):
            values = scale * np.array([step.of(name, against).mean for step in steps])
            cells.append(f"{name} {values.mean():+.{digits}f} ± {values.std(ddof=1):.{digits}f}")
        print(f"    against {against}: {', '.join(cells)}")


def at_random(run: whence.Run, trials: int, share: float, jobs: int) -> None:
    """How often a choice at random is called something."""
    said: Counter[str] = Counter()
    missed = total = 0
    for trial in range(trials):
        count = round(share * len(run.train))
        rows = np.random.default_rng(trial).choice(run.train.ids, count, replace=False)
        found = whence.cleanse(run, rows=rows, seed=trial, jobs=jobs)
        said[found.verdict] += 1
        same = [one for one in found.steps[0].differences if one.against == SAME_LABELS]
        missed, total = missed + sum(one.sign != 0 for one in same), total + len(same)
    print(f"{share:.0%} of the rows, drawn at random {trials} times: "
          + ", ".join(f"{verdict} {count}" for verdict, count in said.most_common()))  # fmt: skip
    print(f"  single intervals against other rows drawn at random that leave out zero: {missed} of {total}")


if __name__ == "__main__":
    main()
