"""Runs on data of which some labels are wrong."""

from dataclasses import replace

import numpy as np

import whence
from tests.toys import blobs, network


def noisy(out=None, share=0.2, groups=None, n=200, seed=0):
    """A run on blobs of which a share of the training labels (of groups: all of the first groups) are wrong."""
    data = blobs(n, groups=groups)
    generator = np.random.default_rng(seed)
    if groups is None:
        wrong = generator.permutation(n) < share * n
    else:
        wrong = np.isin(data.groups, np.unique(data.groups)[: round(share * groups)])
    data = replace(data, targets=np.where(wrong, (data.targets + 1 + generator.integers(0, 2, n)) % 3, data.targets))
    run = whence.fit(network(6, 64, 3), data, dev=blobs(150, seed=1, start=1000), test=blobs(150, seed=2, start=2000), out=out,
                     epochs=12, learning_rate=1e-2, batch_size=16, device="cpu")  # fmt: skip
    return run, wrong
