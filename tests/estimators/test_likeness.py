"""Likeness on random features beside a convolutional network's own layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.models.test_models import pictures
from whence.estimators import influence
from whence.estimators.kronecker import Kronecker
from whence.estimators.random_features import Looks
from whence.quantities import quantity_named


@pytest.fixture(scope="module")
def run():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 2)
    )
    data = whence.prepare(pictures(120), "mlp:4")[1]
    train, test = data.select(np.arange(100)), data.select(np.arange(100, 120))
    model(train.batch(np.arange(2)).inputs.float())
    return whence.fit(whence.attach(model, "5"), train, test=test, epochs=3, device="cpu")


def parts_of(estimator, count):
    """Scores of all layers, and of likeness alone."""
    both = estimator.block(0, count)
    likeness, estimator.likeness = estimator.likeness, None
    layers = estimator.block(0, count)
    estimator.likeness = likeness
    return layers, both - layers


def test_it_is_the_kernel_of_the_formula(run):
    """Two classes are one direction, in which residuals are e·√2 and the curvature is that of both."""
    test = run.splits["test"]
    estimator = Kronecker(run, test, quantity_named("loss", run.task))
    layers, found = parts_of(estimator, 100)
    likeness = estimator.likeness
    looks = Looks(run.train)
    train, others = (torch.cat([f for _, f in looks.blocks(data)]).double() for data in (None, test))
    if likeness.basis is not None:
        train, others = train @ likeness.basis.double(), others @ likeness.basis.double()
    weights = likeness.demand.weights(estimator_curvature(estimator, run))[:, 0].double()
    weights = torch.where(weights >= likeness.demand.least[0], weights, 0)
    moment = (train * weights[:, None]).T @ train / likeness.demand.totals[0]
    moment.diagonal().add_(0.02 * train.square().sum(1).mean())
    expected = train @ torch.linalg.solve(moment, others.T)
    expected = expected * estimator.residuals.double() * likeness.demand.amounts[:, 0].double() * likeness.weight
    np.testing.assert_allclose(found, expected.numpy(), rtol=2e-3, atol=2e-3 * np.abs(expected.numpy()).max())
    assert np.sqrt(np.square(found).mean()) == pytest.approx(np.sqrt(np.square(layers).mean()), rel=0.3)


def estimator_curvature(estimator, run):
    """p(1 − p) of both classes, by what is said of instances unseen, which residuals tell: e = onehot − p."""
    e = (estimator.residuals @ estimator.directions).numpy()
    wrong = np.abs(e[:, 0])
    return torch.from_numpy(2 * wrong * (1 - wrong))[:, None].float()


def test_weight_is_given_by_looks(run):
    test, loss = run.splits["test"], quantity_named("loss", run.task)
    once, twice = (parts_of(Kronecker(run, test, loss, looks=looks), 100) for looks in (1.0, 2.0))
    np.testing.assert_allclose(once[0], twice[0], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(2 * once[1], twice[1], rtol=1e-2, atol=1e-3 * np.abs(twice[1]).max())


def test_it_joins_convolutional_networks_of_pictures_only(run):
    test, loss = run.splits["test"], quantity_named("loss", run.task)
    assert Kronecker(run, test, loss, looks=0.0).likeness is None
    model, data = whence.prepare(pictures(60), "mlp:16")
    flat = whence.fit(model, data, epochs=1, device="cpu")
    assert Kronecker(flat, flat.train, loss).likeness is None
    with pytest.raises(whence.WhenceError, match="out of range.*looks -1.*looks of at least 0"):
        influence(run, "test", method="kronecker", looks=-1.0)


def test_blocks_do_not_matter_and_the_mean_is_that_of_the_scores(run):
    whole = np.asarray(influence(run, "test", method="kronecker", block_rows=100))
    np.testing.assert_allclose(influence(run, "test", method="kronecker", block_rows=7), whole, rtol=1e-4, atol=1e-8)
    assert np.isfinite(whole).all()


@pytest.mark.parametrize("task", ["many classes", "regression"])
def test_it_joins_with_many_classes_and_in_regressions(task):
    random = np.random.default_rng(0)
    shown = random.integers(0, 255, (80, 10, 10)).astype(np.uint8)
    given = np.arange(80) % 20 if task == "many classes" else shown.mean((1, 2)).astype(np.float32)
    data = whence.Dataset.of((np.arange(80), shown, given))
    outputs = 20 if task == "many classes" else 1
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 16), nn.ReLU(), nn.Linear(16, outputs)
    )
    train = whence.prepare(data, "mlp:4")[1]
    run = whence.fit(whence.attach(model, "4"), train, epochs=1, device="cpu")
    layers, alone = parts_of(Kronecker(run, run.train, quantity_named("loss", run.task)), 80)
    assert np.isfinite(alone).all()
    assert np.sqrt(np.square(alone).mean()) == pytest.approx(np.sqrt(np.square(layers).mean()), rel=0.3)
    assert alone.diagonal().mean() > 0, "an instance helps itself"
