"""Small data and models that several tests share."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

import whence
from whence.data import Classification, Dataset
from whence.data.inputs import ArrayInputs
from whence.training import _Loop


def blobs(n=120, classes=3, features=6, seed=0, groups=None, start=0, spread=1.5):
    """Gaussian clusters with ids far from row numbers: a classification that is easy but not trivial."""
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(classes, features)) * spread
    targets = generator.integers(0, classes, n)
    inputs = (centers[targets] + generator.normal(size=(n, features))).astype(np.float32)
    ids = np.arange(start, start + n, dtype=np.int64) * 7919 + 2**40
    return Dataset(
        ids, ArrayInputs(inputs), targets.astype(np.int64), Classification(tuple("abc"[:classes])),
        groups=None if groups is None else (np.arange(n) % groups).astype(np.int64) + 10**12,
    )  # fmt: skip


def network(*widths, where=("1",), seed=0, keep=0.5, scheme="independent", head_bias=True):
    """Linear and ReLU in turn; names 0, 1, 2, …; turn-over dropout after the modules named."""
    torch.manual_seed(seed)
    layers = []
    for before, after in zip(widths[:-2], widths[1:-1], strict=True):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return whence.attach(
        nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=head_bias)), list(where), keep=keep, scheme=scheme
    )


def trained(
    *, where=("1",), widths=(6, 32, 3), n=120, groups=None, keep=0.5, out=None, scheme="independent", **options
):
    """A run on blobs with dev and test splits."""
    options = {"epochs": 5, "learning_rate": 1e-2, "batch_size": 16, "device": "cpu", **options}
    return whence.fit(network(*widths, where=where, keep=keep, scheme=scheme), blobs(n, groups=groups), dev=blobs(40, seed=1, start=1000),
                      test=blobs(30, seed=2, start=2000), out=out, **options)  # fmt: skip


def weights(run):
    """Copies of a run's weights by name."""
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def assert_same_weights(first, second, exact=True):
    for name, value in first.items():
        if exact:
            assert torch.equal(value, second[name]), name
        else:
            torch.testing.assert_close(value, second[name], rtol=1e-4, atol=1e-5)


class Stop(Exception):
    """What ends a training as a killed process would."""


@contextmanager
def stopping_before(number, monkeypatch):
    """The training inside must be stopped before its step of this number."""
    step = _Loop._step

    def stopping(self, batches):
        if self.progress.step == number:
            raise Stop
        return step(self, batches)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(_Loop, "_step", stopping)
        yield
