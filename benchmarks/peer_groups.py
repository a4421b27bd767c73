"""Groups that share a mask each, held against retraining without half of the groups (``peers.py --groups``).

3,000 Fashion-MNIST training images in G random groups of equal size. In a fifth of the groups half of the members get labels
drawn at random from all ten classes, so that a tenth of these stay right. The network is an MLP 784-512-512-10 with turn-over
dropout after the last hidden activation, 20 epochs, one mask per group. Truth: the same MLP without masks, trained 20 epochs
on each of 40 random halves of the groups; its losses on 300 test images. Seeds are of the scored network; groups, corruption
and truth stay.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.nn.functional import cross_entropy

import peer_settings as settings
import whence
from many_networks import train_many
from whence.estimators import METHODS
from whence.evaluation.correlations import reliability, spearman

WIDTHS = (784, 512, 512, 10)
TRAIN, TARGETS, SUBSETS = 3000, 300, 40
CORRUPTED_GROUPS, RANDOM_LABELS = 0.2, 0.5
AT_ONCE = 8  # models that are trained together


def groups(count: int, seeds: int, truth_seeds: int, folder: Path) -> dict[str, Any]:
    """How each method does on ``count`` groups, and what the truth is."""
    data, targets, corrupted = corrupt(count)
    members = halves(count)
    loss = np.stack([_truth(data, targets, members, seed, folder) for seed in range(truth_seeds)], axis=1)
    found: dict[str, dict[str, Any]] = {method: {"lds": [], "lds_of_mean": [], "auc": []} for method in METHODS}
    for seed in range(seeds):
        run = scored_run(data, targets, seed)
        for method, row in found.items():
            try:
                scores = whence.influence(run, "test", method=method, level="group")
                for key, value in _judge(scores, members, loss, corrupted).items():
                    row[key].append(value)
            except Exception as error:  # the other methods go on
                row["failed"] = f"{type(error).__name__}: {error}"[:300]
    truth = {
        "subsets": SUBSETS,
        "seeds": truth_seeds,
        "corrupted_groups": CORRUPTED_GROUPS,
        "random_labels": RANDOM_LABELS,
    }
    if truth_seeds > 1:
        whole = loss.astype(np.float64)
        truth["ceiling"] = reliability(whole) ** 0.5
        truth["ceiling_of_mean"] = reliability(whole.mean(axis=2, keepdims=True)) ** 0.5
    return {"methods": found, "truth": truth, "torch": torch.__version__, "threads": torch.get_num_threads()}


def corrupt(count: int) -> tuple[whence.Dataset, whence.Dataset, np.ndarray]:
    """Training data in ``count`` groups, targets, and which groups are corrupted: bool [G]."""
    x, y, test_x, test_y = settings.fashion(TRAIN, TARGETS)
    generator = np.random.default_rng(count)
    owners = generator.permutation(np.arange(TRAIN) % count)
    corrupted = np.zeros(count, bool)
    corrupted[generator.choice(count, round(CORRUPTED_GROUPS * count), replace=False)] = True
    labels = y.numpy().copy()
    for group in np.flatnonzero(corrupted):
        rows = np.flatnonzero(owners == group)
        chosen = generator.choice(rows, round(RANDOM_LABELS * len(rows)), replace=False)
        labels[chosen] = generator.integers(0, 10, len(chosen))
    data = whence.Dataset.of((np.arange(TRAIN), x.numpy(), labels))
    targets = (settings.FIRST_TARGET_ID + np.arange(TARGETS), test_x.numpy(), test_y.numpy())
    return replace(data, groups=owners), whence.Dataset.of(targets, task=data.task), corrupted


def halves(count: int) -> np.ndarray:
    """Random halves of the groups: bool [SUBSETS, G]."""
    generator = np.random.default_rng(1000 + count)
    members = np.zeros((SUBSETS, count), bool)
    for row in members:
        row[generator.choice(count, count // 2, replace=False)] = True
    return members


def _truth(data: whence.Dataset, targets: whence.Dataset, members: np.ndarray, seed: int, folder: Path) -> np.ndarray:
    """Losses float32 [K, M] after retraining on each half of the groups; kept in a file."""
    path = folder / f"groups-{members.shape[1]}-{seed}.npy"
    if path.exists():
        return np.load(path)
    x, y = data.batch(np.arange(len(data))).inputs, torch.from_numpy(data.targets)
    test_x, test_y = targets.batch(np.arange(len(targets))).inputs, torch.from_numpy(targets.targets)
    kept = torch.from_numpy(members[:, data.groups])  # [K, N]
    parts = []
    for chosen in kept.split(AT_ONCE):
        order = torch.Generator().manual_seed(seed)
        first = settings.mlp(WIDTHS, seed=seed)
        given = train_many(x, y, WIDTHS[1:-1], chosen, order, first=first, epochs=settings.EPOCHS)(test_x)
        parts.append(
            cross_entropy(given.flatten(0, 1), test_y.repeat(len(chosen)), reduction="none").view(given.shape[:2])
        )
    loss = torch.cat(parts).numpy()
    np.save(path, loss)
    return loss


def scored_run(data: whence.Dataset, targets: whence.Dataset, seed: int) -> whence.Run:
    """A network trained with one mask per group."""
    model = settings.turnover_mlp(WIDTHS, seed)
    x, y = data.batch(np.arange(len(data))).inputs, torch.from_numpy(data.targets)
    settings.train(model, x, y, seed, torch.from_numpy(data.groups))
    return whence.Run(model, data, test=targets)


def _judge(scores: whence.Scores, members: np.ndarray, loss: np.ndarray, corrupted: np.ndarray) -> dict[str, float]:
    """LDS per target (mean), LDS of the mean loss, and how well the even mean of scores ranks corrupted groups (AUC)."""
    ahead, real = members[:, scores.ids] @ np.asarray(scores, np.float64), -loss.mean(axis=1).astype(np.float64)
    return {
        "lds": float(np.nan_to_num(spearman(ahead, real)).mean()),
        "lds_of_mean": float(spearman(ahead.mean(axis=1, keepdims=True), real.mean(axis=1, keepdims=True))[0]),
        "auc": float(roc_auc_score(corrupted[scores.ids], -scores.mean_over_targets(even=True))),
    }
