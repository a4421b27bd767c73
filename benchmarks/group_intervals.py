"""Do the 95 % intervals of groups' published effects contain what other trainings give? Ten groups, two of them corrupted.

    python -m benchmarks.group_intervals [--seeds 12]

On scikit-learn's digits, and on 300 training points of three Gaussian clusters, where effects are large beside their noise.
Trains the same perceptron from other seeds of weights and masks, and prints the share of intervals (seeds × groups) that contain
the mean effect over all seeds, which is nearly free of both kinds of noise: of all groups, of the corrupted ones (most of their
labels are wrong), and of the others. The interval claims to cover the draw of masks alone, so what is short of 95 % is what
training adds.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from sklearn.datasets import make_blobs

import whence

_GROUPS, _CORRUPTED, _SHARE = 10, (0, 1), 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12)
    seeds = parser.parse_args().seeds
    for name, data in (("digits", whence.load("digits")), ("clusters", clusters())):
        judge(name, corrupted(data), seeds)


def judge(name: str, data: whence.Dataset, seeds: int) -> None:
    """Print how often intervals of one set contain the mean over seeds."""
    effects, lows, highs = [], [], []
    for seed in range(seeds):
        model, prepared = whence.prepare(data, "mlp:512", seed=seed)
        found = whence.group_effects(whence.fit(model, prepared, seed=seed, device="cpu"), kernel=None)
        order, (low, high) = np.argsort(found.ids), found.interval()
        effects.append(found.effect[order])
        lows.append(low[order])
        highs.append(high[order])
    mean = np.mean(effects, axis=0)
    covered = (np.array(lows) <= mean) & (mean <= np.array(highs))
    bad = np.isin(np.arange(_GROUPS), _CORRUPTED)
    half = (np.array(highs) - np.array(lows)).mean() / 2
    print(f"{name}, {_GROUPS} groups, mlp:512, {seeds} seeds: mean half width {half:.3f} nats")
    for title, which in (("all groups", np.ones(_GROUPS, bool)), ("corrupted", bad), ("others", ~bad)):
        spread = np.std(np.array(effects)[:, which], axis=0, ddof=1).mean()
        print(
            f"  {title:<10} effect {mean[which].mean():+.3f}   covered {covered[:, which].mean():.2f}   "
            f"standard deviation over seeds {spread:.3f} nats"
        )


def clusters() -> whence.Dataset:
    points, labels = make_blobs(400, 6, centers=3, cluster_std=4.0, random_state=0)
    splits = np.array(["train"] * 300 + ["dev"] * 100, object)
    return replace(whence.Dataset.of((np.arange(400), points.astype(np.float32), labels)), splits=splits)


def corrupted(data: whence.Dataset) -> whence.Dataset:
    """Groups by turns; most training labels of two of them are moved to the next class."""
    groups, generator = data.ids % _GROUPS, np.random.default_rng(0)
    assert data.splits is not None
    wrong = np.isin(groups, _CORRUPTED) & (data.splits == "train") & (generator.random(len(data)) < _SHARE)
    return replace(data, groups=groups, targets=np.where(wrong, (data.targets + 1) % data.task.outputs, data.targets))


if __name__ == "__main__":
    main()
