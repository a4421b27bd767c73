"""Kernel influence, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import whence
from tests.toys import blobs, network, trained
from whence.data import Dataset
from whence.estimators import influence


def ridge(x, y, damping):
    """Least squares with the kernel's ridge: (XᵀX/n + λ mean diag I) w = Xᵀy/n."""
    moment = x.T @ x / len(x)
    return moment, np.linalg.solve(
        moment + damping * np.trace(moment) / len(moment) * np.eye(len(moment)), x.T @ y / len(x)
    )


def test_kernel_is_leave_one_out_for_least_squares():
    """A linear model with squared loss, refitted without each point: the kernel gives its first order."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 5)).astype(np.float32)
    y = (x @ generator.normal(size=5) + generator.normal(size=200)).astype(np.float32)
    test_x, test_y = generator.normal(size=(20, 5)).astype(np.float32), generator.normal(size=20).astype(np.float32)

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.head = nn.Dropout(), nn.Linear(5, 1)

        def forward(self, x):
            return self.head(self.drop(x))

    model, damping = whence.attach(Linear()), 1e-6
    with_one = np.c_[x, np.ones(200)]
    _, weights = ridge(with_one, y, damping)
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weights[None, :5]))
        model.head.bias.fill_(weights[5])
    run = whence.Run(model, (np.arange(200), x, y), test=(np.arange(20), test_x, test_y))
    scores = np.asarray(influence(run, "test", method="kernel", residual="full", damping=damping))
    test_one, exact = np.c_[test_x, np.ones(20)], np.empty((200, 20))
    before = (test_one @ weights - test_y) ** 2
    for i in range(200):
        rest = np.delete(np.arange(200), i)
        _, without = ridge(with_one[rest], y[rest], damping)
        exact[i] = (test_one @ without - test_y) ** 2 - before
    for m in range(20):
        assert np.corrcoef(scores[:, m], exact[:, m])[0, 1] > 0.98
        assert np.polyfit(scores[:, m], exact[:, m], 1)[0] == pytest.approx(1, abs=0.15)


def test_kernel_is_the_last_layer_s_gradient_product():
    """Against autograd: gradients of the head's weights, whitened by the features' second moment."""
    run = trained(epochs=3)
    targets, head = run.splits["test"], run.model[2]
    scores = np.asarray(influence(run, targets, method="kernel", residual="full", damping=0.3))

    def gradients(data):
        rows = []
        for i in range(len(data)):
            batch = data.batch(np.array([i]))
            loss = nn.functional.cross_entropy(run.model(batch.inputs), batch.targets)
            weight, bias = torch.autograd.grad(loss, (head.weight, head.bias))
            rows.append(torch.cat([weight, bias[:, None]], dim=1).double())
        return torch.stack(rows)  # (n, C, H + 1)

    of_train, of_targets = gradients(run.train), gradients(targets)
    with torch.no_grad():
        hidden = torch.cat(
            [run.model[1](run.model[0](run.train.batch(np.arange(120)).inputs)), torch.ones(120, 1)], 1
        ).double()
    moment = hidden.T @ hidden / 120
    moment += 0.3 * moment.diagonal().mean() * torch.eye(33)
    expected = torch.einsum("ich,hk,mck->im", of_train, torch.linalg.inv(moment), of_targets).numpy()
    ratio = (scores * expected).sum() / (expected**2).sum()
    np.testing.assert_allclose(scores, ratio * expected, atol=1e-4 * np.abs(scores).max())
    assert ratio > 0


def test_kernel_signs():
    """A copy of the target helps it; the same input with another label hurts it."""
    data = blobs(200)
    x = data.inputs.array[:1]
    other = (data.targets[:1] + 1) % 3
    targets = (np.array([1]), np.concatenate([x]), data.targets[:1])
    relabeled = data.targets.copy()
    relabeled[1] = other[0]
    array = data.inputs.array.copy()
    array[1] = x[0]
    train = Dataset(data.ids, type(data.inputs)(array), relabeled, data.task)
    run = whence.fit(network(6, 64, 3), train, epochs=10, learning_rate=1e-2, device="cpu")
    scores = np.asarray(influence(run, Dataset.of(targets, task=run.task), method="kernel"))[:, 0]
    assert scores[0] > 0
    assert scores[1] == scores.min() < 0


@pytest.mark.parametrize("residual", ["softened", "random", "flipped", "full"])
@pytest.mark.parametrize("quantity", ["loss", "probability", "margin"])
def test_kernel_variants_agree_in_sign_of_quantity(residual, quantity):
    """Helping the loss is helping the probability and the margin."""
    run = trained(epochs=3)
    loss = np.asarray(influence(run, "test", method="kernel", residual=residual))
    other = np.asarray(influence(run, "test", method="kernel", residual=residual, quantity=quantity))
    assert spearmanr(loss.ravel(), other.ravel())[0] > 0.6
