"""First-order influence: exact where it is linear, a central difference elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import whence
from tests.toys import blobs, network, trained
from whence.data import Dataset
from whence.estimators import influence, reference
from whence.quantities import Quantity


def test_first_order_is_exact_where_the_quantity_is_linear_in_the_mask():
    run = trained(where=["3"], widths=(6, 16, 24, 3), keep=0.3)

    def first_logit(outputs, targets):
        return outputs[:, 0]

    targets = run.splits["test"]
    expected = reference(run, targets, Quantity("logit", first_logit, "logits"))
    np.testing.assert_allclose(
        influence(run, targets, method="first_order", quantity=first_logit, softened=False), expected, atol=1e-4
    )


def test_first_order_ranks_as_the_reference(run):
    expected = reference(run, run.splits["test"])
    scores = np.asarray(influence(run, "test", method="first_order", softened=False))
    assert np.mean([spearmanr(scores[:, m], expected[:, m])[0] for m in range(30)]) > 0.9


def test_first_order_is_a_central_difference():
    """At keep ½ its error is of third order in the masked layer's share: halving that share divides it by eight."""

    class Scaled(nn.Module):
        def __init__(self, share):
            super().__init__()
            self.inner, self.drop, self.head, self.share = nn.Linear(6, 32), nn.Dropout(), nn.Linear(32, 3), share

        def forward(self, x):
            hidden = self.inner(x).tanh()
            return self.head(hidden + self.share * (self.drop(hidden) - hidden))

    errors = []
    for share in (0.2, 0.1, 0.05):
        torch.manual_seed(0)
        run = whence.Run(
            whence.attach(Scaled(share).double()), as_double(blobs(40)), test=as_double(blobs(9, seed=2, start=500))
        )
        gap = np.asarray(influence(run, "test", method="first_order", softened=False)) - reference(
            run, run.splits["test"]
        )
        errors.append(np.abs(gap).max())
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.4)


def test_softened_first_order_sees_that_a_corrupted_group_harms():
    """A network that is too sure gains from any unit that makes it less so, and those are the corrupted group's."""
    places = {True: [], False: []}
    for seed in range(4):
        data = blobs(600, groups=10, spread=0.7)
        targets = np.where(data.groups == data.groups[3], (data.targets + 1) % 3, data.targets)
        model = network(6, 128, 3, seed=seed)
        run = whence.fit(model, replace(data, targets=targets), test=blobs(200, seed=1, start=5000, spread=0.7), seed=seed,
                         epochs=40, learning_rate=1e-2, batch_size=16, device="cpu")  # fmt: skip
        for softened, found in places.items():
            effects = influence(run, "test", method="first_order", softened=softened).mean_over_targets()
            found.append(int((effects < effects[3]).sum()))
    assert places[True] == [0, 0, 0, 0]
    assert np.mean(places[False]) > 2


class DoubleInputs:
    def __init__(self, array):
        self.array = array

    def __len__(self):
        return len(self.array)

    def gather(self, rows):
        return torch.from_numpy(self.array[rows])

    def select(self, rows):
        return DoubleInputs(self.array[rows])

    def chunks(self):
        yield self.array.tobytes()


def as_double(data):
    return Dataset(data.ids, DoubleInputs(data.inputs.array.astype(np.float64)), data.targets, data.task)
