"""Is what means nothing called significant, and are published scores of single instances said to be noise?

    python benchmarks/null.py [--seeds 5]

5,000 pictures of Fashion-MNIST, MLP 784-512-512-10 with turn-over dropout after the last hidden activation (512 masked units), 20
epochs, published (turn-over) scores on 200 test pictures. Three sets of ids are scored on each trained network:

    own          the ids that were trained on
    reshuffled   the same ids, dealt to other instances after training
    strangers    ids that were never trained on: the null as it is defined

Printed, mean ± standard deviation over seeds of the network: the share of mean effects of rows, and of single pairs, with
p < .05 (chance: 5 %), and the p-value and verdict of the noise floor.
"""

from __future__ import annotations

import argparse
from collections import Counter
from statistics import mean, stdev

import numpy as np
import torch

import peer_settings as settings
import whence

WIDTHS = (784, 512, 512, 10)
ROWS, TARGETS = 5000, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    found: dict[str, list[whence.Scores]] = {"own": [], "reshuffled": [], "strangers": []}
    for seed in range(seeds):
        for ids, scores in scored(seed).items():
            found[ids].append(scores)
    print(
        f"{ROWS:,} instances, 512 masked units, {seeds} seeds: p < .05 among means of rows, among pairs; the noise floor"
    )
    for ids, runs in found.items():
        rows = [(one.significance().p < 0.05).mean() for one in runs]
        pairs = [one.significance("pairs").counts(0.05).mean() / ROWS for one in runs]
        floors = [one.noise_floor() for one in runs]
        said = Counter(floor.verdict().split(":")[0].split(",")[0] for floor in floors)
        verdicts = ", ".join(f"{verdict} ({count})" for verdict, count in said.items())
        p = ", ".join(f"{floor.p_value:.2g}" for floor in floors)
        print(f"  {ids:<11} {percent(rows)}   {percent(pairs)}   {verdicts}; p {p}")


def scored(seed: int) -> dict[str, whence.Scores]:
    """Published scores by three sets of ids."""
    x, y, test_x, test_y = settings.fashion(ROWS, TARGETS)
    model = settings.turnover_mlp(WIDTHS, seed)
    settings.train(model, x, y, seed, torch.arange(ROWS))
    test = (settings.FIRST_TARGET_ID + np.arange(TARGETS), test_x, test_y)
    sets = {"own": np.arange(ROWS), "reshuffled": np.random.default_rng(seed).permutation(ROWS),
            "strangers": 1_000_000 + np.arange(ROWS)}  # fmt: skip
    return {
        name: whence.influence(whence.Run(model, (ids, x, y), test=test), "test", method="turnover")
        for name, ids in sets.items()
    }


def percent(shares: list[float]) -> str:
    return f"{100 * mean(shares):.1f} ± {100 * stdev(shares) if len(shares) > 1 else 0:.1f} %"


if __name__ == "__main__":
    main()
