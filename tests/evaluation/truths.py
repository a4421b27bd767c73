"""Ground truths made by hand, and training loops of one's own."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

from whence.evaluation import GroundTruth
from whence.evaluation.subsets import random_subsets
from whence.scores import Labels, Scores


def labels(ids):
    return Labels(np.asarray(ids, np.int64), [str(i) for i in ids])


def truth_of(goodness, members, *, kind="random", owners=None, train_correct=None):
    """A truth whose loss is −goodness [K, R, M]."""
    goodness, members = np.asarray(goodness), np.asarray(members)
    rows = labels(100 + np.arange(members.shape[1]))
    instances, level = rows, "instance"
    if owners is not None:
        instances, level = labels(5000 + np.arange(len(owners))), "group"
    return GroundTruth(rows, labels(900 + np.arange(goodness.shape[2])), instances,
                       np.arange(len(rows)) if owners is None else np.asarray(owners), members, {"loss": -goodness.astype(np.float32)},
                       train_correct, {"kind": kind, "level": level, "fraction": 0.5, "subsets": len(members), "seeds": goodness.shape[1],
                                       "seed": 0})  # fmt: skip


def planted(*, n=30, m=7, subsets=40, seeds=2, noise=0.0, seed=0):
    """Effects [N, M], and the truth they add up to, with normal noise of ``noise`` times its deviation on every seed."""
    generator = np.random.default_rng(seed)
    effects = generator.normal(size=(n, m))
    members = random_subsets(100 + np.arange(n), subsets, 0.5, seed)
    signal = members @ effects
    jitter = generator.normal(size=(subsets, seeds, m)) * noise * signal.std(axis=0)
    return effects, truth_of(signal[:, None] + jitter, members)


def scores_of(matrix, rows, columns, *, level="instance", block_rows=None):
    """Scores in memory, in blocks."""
    matrix, size = np.asarray(matrix, np.float32), block_rows or len(matrix)
    info = {"method": "planted", "quantity": "loss", "unit": "nats", "level": level, "block_rows": size, "summary_k": 0}
    memory = {number: matrix[start : start + size] for number, start in enumerate(range(0, len(matrix), size))}
    return Scores(labels(rows), labels(columns), info, memory=memory)


def features(data):
    return torch.from_numpy(data.inputs.array).double()


def ridge(instances, seed, penalty=1.0):
    """Least squares with a penalty and no intercept, in closed form; the seed does nothing."""
    x, y = features(instances), torch.from_numpy(instances.targets).double()
    model = nn.Linear(x.shape[1], 1, bias=False)
    with torch.no_grad():
        model.weight[0] = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]), x.T @ y)
    return model


def centroids(instances, seed):
    """The nearest class mean as a linear layer, from a start that depends on the seed."""
    x, y = features(instances).float(), torch.from_numpy(instances.targets)
    model = nn.Linear(x.shape[1], instances.task.outputs)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for label in range(instances.task.outputs):
            mean = x[y == label].mean(dim=0) + 0.1 * torch.randn(x.shape[1], generator=generator)
            model.weight[label], model.bias[label] = mean, -mean.square().sum() / 2
    return model


def slow_centroids(instances, seed):
    """The same, in time to be killed."""
    time.sleep(0.1)
    return centroids(instances, seed)
