"""Ridge models with an instance left out, by hand; and where they are not asked."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import whence
from tests.toys import trained
from whence.estimators.unseen import LeftOut


def test_ridge_models_leave_instances_out_exactly():
    generator = torch.Generator().manual_seed(0)
    features, targets = torch.randn(60, 5, generator=generator), torch.randn(60, 2, generator=generator)
    model = LeftOut(2)
    for part in (slice(0, 25), slice(25, 60)):
        model.learn(features[part, :2], features[part, 2:], targets[part])
    model.solve()
    first, both = model.without(features[:, :2], features[:, 2:], targets)
    for said, columns in ((first, 2), (both, 5)):
        left_out_by_hand(said, features[:, :columns], targets)
    torch.testing.assert_close(model.predict(features[:7, :2], features[:7, 2:])[1], fitted(features, targets)[:7])


def left_out_by_hand(said, features, targets):
    columns = features.shape[1]
    ridge = 1e-3 * float(features.var(0, correction=0).sum()) * 60
    for row in (0, 17, 59):
        rest = [n for n in range(60) if n != row]
        # the penalty and the intercept are those of all 60
        mean = features.mean(0)
        x = torch.cat([features - mean, torch.ones(60, 1)], 1).double()
        penalty = ridge * torch.diag(torch.tensor([1.0] * columns + [0.0])).double()
        weights = torch.linalg.solve(x[rest].T @ x[rest] + penalty, x[rest].T @ targets[rest].double())
        torch.testing.assert_close(said[row].double(), x[row] @ weights, rtol=1e-4, atol=1e-4)


def fitted(features, targets):
    x = features - features.mean(0)
    ridge = 1e-3 * float(x.square().sum()) * torch.eye(x.shape[1])
    return x @ torch.linalg.solve(x.T @ x + ridge, x.T @ (targets - targets.mean(0))) + targets.mean(0)


def test_ridge_models_are_asked_only_where_outputs_are_what_they_predict():
    def one_against_all(given, wanted):
        return nn.functional.binary_cross_entropy_with_logits(
            given, nn.functional.one_hot(wanted, 3).float(), reduction="none"
        ).sum(1)

    run = trained(loss=one_against_all)
    np.testing.assert_array_equal(
        whence.influence(run, method="kronecker"), whence.influence(run, method="kronecker", share=0.0)
    )
