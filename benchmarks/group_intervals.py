"""Do the 95 % intervals of groups' published effects contain what other trainings give? Ten groups, two of them corrupted.

    python -m benchmarks.group_intervals [--seeds 12]

On scikit-learn's digits (a perceptron of 512 hidden units), and on 300 training points of three Gaussian clusters (256), where the
corrupted groups have effects of many times the noise. Trains again from other seeds of weights and masks, and prints the share
of intervals (seeds × groups) that contain the mean effect over all seeds, which is nearly free of both kinds of noise: of all
groups, of the corrupted ones (most of their labels are wrong), and of the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

import whence

_GROUPS, _CORRUPTED, _SHARE = 10, (0, 1), 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12)
    seeds = parser.parse_args().seeds
    data, points = corrupted(whence.load("digits")), corrupted(clusters())

    def on_digits(seed: int) -> whence.Run:
        model, prepared = whence.prepare(data, "mlp:512", seed=seed)
        return whence.fit(model, prepared, seed=seed, device="cpu")

    def on_clusters(seed: int) -> whence.Run:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(6, 256), nn.ReLU(), nn.Linear(256, 3))
        whence.attach(model, ["1"], seed=seed)
        return whence.fit(model, points, epochs=30, learning_rate=5e-3, seed=seed, device="cpu")

    judge("digits", on_digits, seeds)
    judge("clusters", on_clusters, seeds)


def judge(name: str, train: Callable[[int], whence.Run], seeds: int) -> None:
    """Print how often the intervals contain the mean over seeds."""
    effects, lows, highs = [], [], []
    for seed in range(seeds):
        found = whence.group_effects(train(seed), kernel=None)
        order, (low, high) = np.argsort(found.ids), found.interval()
        effects.append(found.effect[order])
        lows.append(low[order])
        highs.append(high[order])
    mean = np.mean(effects, axis=0)
    covered = (np.array(lows) <= mean) & (mean <= np.array(highs))
    bad = np.isin(np.arange(_GROUPS), _CORRUPTED)
    half = (np.array(highs) - np.array(lows)).mean() / 2
    print(f"{name}, {_GROUPS} groups, {seeds} seeds: mean half width {half:.3f} nats")
    for title, which in (("all groups", np.ones(_GROUPS, bool)), ("corrupted", bad), ("others", ~bad)):
        spread = np.std(np.array(effects)[:, which], axis=0, ddof=1).mean()
        print(
            f"  {title:<10} mean effect {mean[which].mean():+.3f}   covered {covered[:, which].mean():.2f}   "
            f"standard deviation over seeds {spread:.3f}"
        )


def clusters() -> whence.Dataset:
    """300 training and 80 dev points of three clusters."""
    centers = 1.2 * np.random.default_rng(99).normal(size=(3, 6))
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 380)
    points = (centers[labels] + generator.normal(size=(380, 6))).astype(np.float32)
    splits = np.array(["train"] * 300 + ["dev"] * 80, object)
    return replace(whence.Dataset.of((np.arange(380), points, labels)), splits=splits)


def corrupted(data: whence.Dataset) -> whence.Dataset:
    """Groups by turns; most training labels of two of them are moved to the next class."""
    groups, generator = data.ids % _GROUPS, np.random.default_rng(0)
    assert data.splits is not None
    wrong = np.isin(groups, _CORRUPTED) & (data.splits == "train") & (generator.random(len(data)) < _SHARE)
    return replace(data, groups=groups, targets=np.where(wrong, (data.targets + 1) % data.task.outputs, data.targets))


if __name__ == "__main__":
    main()
