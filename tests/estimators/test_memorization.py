"""Memorization against retraining, and its closed forms against plain refits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.toys import blobs, network, trained
from whence import WhenceError
from whence.data.inputs import ArrayInputs
from whence.estimators.memorization import memories
from whence.estimators.unseen import LeftOut
from whence.evaluation import memorization_agreement, retrain
from whence.subnetworks import turnover_memorization


def noisy(n=160, every=8):
    """Blobs that overlap a little, every eighth label wrong."""
    data = blobs(n, spread=2.0)
    wrong = np.arange(n) % every == 0
    return replace(data, targets=np.where(wrong, (data.targets + 1) % 3, data.targets)), wrong


@pytest.fixture(scope="module")
def run():
    return whence.fit(network(6, 64, 64, 3, where=("3",)), noisy()[0], epochs=25, learning_rate=5e-3, device="cpu")


def ordinary(data, seed):
    """A network without masks, trained on all instances at once."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    batch = data.batch(np.arange(len(data)))
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch.inputs), batch.targets).backward()
        optimizer.step()
    return model


def test_it_foretells_retraining_better_than_two_sub_networks(run):
    truth = retrain(run, blobs(5, start=9000), subsets=120, seeds=1, fit=ordinary)
    found = memorization_agreement(whence.memorization(run), truth)
    published = memorization_agreement(turnover_memorization(run), truth)
    assert found.reliability > 0.85
    assert found.pearson > 0.6
    assert found.pearson > published.pearson + 0.1


def solved(first, others, targets):
    model = LeftOut(targets.shape[1])
    model.learn(first, others, targets)
    model.solve()
    return model


def test_leverages_are_how_far_an_instance_moves_its_own_fit():
    generator = torch.Generator().manual_seed(0)
    first, others, targets = (torch.randn(30, width, generator=generator) for width in (5, 3, 2))
    without, leverages = solved(first, others, targets).left_out(first, others, targets)
    for row in (0, 7, 29):
        moved, filled = targets.clone(), targets.clone()
        moved[row] += 1.0
        fits = [solved(first, others, wanted).predict(first, others)[:, row] for wanted in (targets, moved)]
        torch.testing.assert_close(fits[1] - fits[0], leverages[:, row, None].expand(2, 2), rtol=1e-3, atol=1e-5)
        # A target that the regression without the row would give anyway does not move it.
        filled[row] = without[1, row]
        fit = solved(first, others, filled).predict(first, others)[1, row]
        torch.testing.assert_close(fit, without[1, row], rtol=1e-3, atol=1e-4)


def test_an_instance_counts_for_more_in_a_smaller_part():
    """The lift q/f: z beside a part f of the others pulls like z with weight 1/f beside all of them."""
    generator = torch.Generator().manual_seed(1)
    first, others, targets = (torch.randn(200, width, generator=generator) for width in (4, 2, 1))
    rows = torch.cat([torch.arange(200), torch.tensor([3])])  # row 3 twice
    leverage = solved(first, others, targets).left_out(first, others, targets)[1][1, 3]
    given = first[rows], others[rows], targets[rows]
    doubled = 2 * solved(*given).left_out(*given)[1][1, 3]  # of both copies together
    torch.testing.assert_close(doubled / (1 - doubled), 2 * leverage / (1 - leverage), rtol=0.05, atol=0)


def test_range_and_fraction(run):
    half, most, all_ = (whence.memorization(run, fraction=f) for f in (0.5, 0.9, 1.0))
    assert half.dtype == np.float32
    assert half.shape == (160,)
    assert (half >= 0).all()
    assert (half <= 1).all()
    assert (half >= most).all()
    assert (most >= all_).all()
    assert half.mean() > 1.2 * all_.mean()
    for bad in (0.0, 1.5, float("nan")):
        with pytest.raises(WhenceError, match="out of range in fraction: got"):
            whence.memorization(run, fraction=bad)


def test_the_easy_and_the_hopeless_are_not_memorized(run):
    """Deep inside a class a right label is right anyway, and a wrong one is not learned even when it is trained on."""
    memory, sure = whence.memorization(run), whence.subnetworks.probabilities(run).max(1)
    data, wrong = noisy()
    deep = sure > 0.97
    assert (deep & wrong).any()
    assert memory[deep & ~wrong].mean() < 0.05
    border = (sure < 0.8) & ~wrong
    assert memory[border].mean() > 3 * memory[deep & wrong].mean()


def test_a_network_that_learned_wrong_labels_by_heart_memorizes_more():
    data, wrong = noisy(96)
    short = whence.fit(network(6, 256, 3), data, epochs=3, learning_rate=1e-3, device="cpu")
    by_heart = network(6, 256, 3)
    by_heart.load_state_dict(short.model.state_dict())
    batch = data.batch(np.arange(96))
    optimizer = torch.optim.Adam(by_heart.parameters(), lr=3e-3)
    for _ in range(1500):
        optimizer.zero_grad()
        nn.functional.cross_entropy(by_heart.eval()(batch.inputs), batch.targets).backward()
        optimizer.step()
    long = whence.Run(by_heart, data)
    fits = [(whence.subnetworks.probabilities(r).argmax(1) == data.targets)[wrong].mean() for r in (short, long)]
    assert fits[0] < 0.3
    assert fits[1] > 0.9
    found = [whence.memorization(r)[wrong].mean() for r in (short, long)]
    assert found[1] > 0.5
    assert found[1] > found[0] + 0.2


def test_the_order_of_instances_does_not_matter(run):
    order = np.random.default_rng(0).permutation(160)
    shuffled = whence.Run(run.model, run.train.select(order))
    np.testing.assert_allclose(whence.memorization(shuffled), whence.memorization(run)[order], atol=1e-3)


def test_without_known_layers_it_is_that_of_two_sub_networks():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Parameter(torch.randn(6, 16)), nn.Parameter(torch.randn(16, 3))
            self.drop = nn.Dropout()

        def forward(self, x):
            return self.drop((x @ self.first).relu()) @ self.last

    torch.manual_seed(0)
    own = whence.fit(whence.attach(Own()), blobs(40), epochs=3, device="cpu")
    np.testing.assert_array_equal(whence.memorization(own), turnover_memorization(own))
    assert np.abs(whence.memorization(own)).max() > 0.01


def test_regression_is_the_difference_of_losses():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 6)).astype(np.float32)
    run = whence.fit(network(6, 32, 1), (np.arange(60), x, x[:, 0] ** 2), epochs=3, device="cpu")
    expected = whence.subnetworks.losses(run, "flipped") - whence.subnetworks.losses(run, "own")
    np.testing.assert_array_equal(whence.memorization(run), expected)


def test_groups_and_many_classes():
    grouped = trained(groups=5, epochs=3)
    assert len(np.unique(whence.memorization(grouped))) > 100  # of each instance, not of its group
    generator = np.random.default_rng(0)
    x = generator.normal(size=(120, 6)).astype(np.float32)
    many = whence.fit(network(6, 32, 20), (np.arange(120), x, np.arange(120) % 20), epochs=2, device="cpu")
    found = whence.memorization(many)
    assert np.isfinite(found).all()
    assert found.max() <= 1


def test_pictures():
    """Layers of many positions are averaged over them; wide ones kept in principal components."""
    generator = np.random.default_rng(0)
    images = generator.normal(size=(50, 3, 8, 8)).astype(np.float32)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 20, 3, padding=1), nn.ReLU(), nn.Conv2d(20, 8, 3), nn.ReLU(), nn.Flatten(),
                          nn.Linear(288, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 2))  # fmt: skip
    data = replace(blobs(50, classes=2), inputs=ArrayInputs(images))
    found = whence.memorization(whence.fit(whence.attach(model), data, epochs=2, device="cpu"))
    assert found.shape == (50,)
    assert np.isfinite(found).all()
    assert found.std() > 0


def test_by_heart_is_wrong_without_and_right_with(run):
    """It follows from the two margins: more where there is less data, and it never contains what is right anyway."""
    half, whole = (memories(run, fraction=f) for f in (0.5, 1.0))
    assert half.by_heart.any()
    assert (half.by_heart | ~whole.by_heart).all()
    assert half.memorization[half.by_heart].min() > np.median(half.memorization)
    np.testing.assert_array_equal(half.memorization, whence.memorization(run))
