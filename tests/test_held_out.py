"""Probabilities in place of cross-validated ones: they do not believe a label because it was trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

import whence
from tests.toys import blobs, network, trained
from whence.data.inputs import ArrayInputs
from whence.held_out import _share
from whence.masks import keep_bits
from whence.quantities import loss_of
from whence.subnetworks import probabilities


def memorizing():
    """400 instances, every sixteenth with a wrong label, trained until the full network knows most labels by heart."""
    data = blobs(400, spread=2.5)
    wrong = np.arange(400) % 16 == 0
    noisy = replace(data, targets=np.where(wrong, (data.targets + 1) % 3, data.targets))
    model = network(6, 256, 3)
    optimizer, batch = torch.optim.Adam(model.parameters(), lr=3e-3), noisy.batch(np.arange(400))
    for _ in range(1500):
        optimizer.zero_grad()
        with whence.full():
            nn.functional.cross_entropy(model.train()(batch.inputs), batch.targets).backward()
        optimizer.step()
    return whence.Run(model.eval(), noisy), wrong


def test_what_was_memorized_is_not_believed():
    run, wrong = memorizing()
    rows = np.arange(400)
    full, unseen = (p[rows, run.train.targets] for p in (probabilities(run), whence.out_of_sample(run)))
    assert full[wrong].mean() > 0.8
    assert unseen[wrong].mean() < 0.3
    assert unseen[~wrong].mean() > 0.6
    assert roc_auc_score(wrong, -unseen) > roc_auc_score(wrong, -full)
    assert roc_auc_score(wrong, -unseen) > 0.95
    audit = whence.audit(run)
    p_wrong = audit.column("p_wrong")
    assert roc_auc_score(wrong, p_wrong) > 0.95
    assert 0.5 < p_wrong.sum() / wrong.sum() < 1.5


def test_they_are_probabilities_in_the_order_of_the_data():
    run = trained(widths=(6, 16, 3))
    found = whence.out_of_sample(run)
    assert found.dtype == np.float32
    assert found.shape == (120, 3)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    order = np.random.default_rng(0).permutation(120)
    dynamics = whence.Dynamics(run.dynamics.moments, run.dynamics.flipped[order])
    shuffled = whence.Run(run.model, run.train.select(order), dynamics=dynamics)
    np.testing.assert_allclose(whence.out_of_sample(shuffled), found[order], atol=2e-3)


def test_an_instance_among_others_of_its_kind_takes_their_label():
    data = blobs(150, spread=1.0)
    inputs, targets = data.inputs.gather(np.arange(150)).numpy().copy(), data.targets.copy()
    inputs[:6], targets[:6] = inputs[0], targets[0]
    targets[3] = (targets[0] + 1) % 3  # the sixth of six copies has another label
    train = replace(data, inputs=ArrayInputs(inputs), targets=targets)
    run = whence.fit(network(6, 64, 3), train, epochs=40, learning_rate=1e-2, device="cpu")
    found = whence.out_of_sample(run)
    assert found[3].argmax() == targets[0]
    assert found[3, targets[3]] < found[0, targets[0]]


def test_of_other_losses_and_numbers_it_is_the_flipped_sub_network():
    data = blobs(80)
    other = whence.fit(network(6, 16, 3), data, loss=nn.MultiMarginLoss(reduction="none"), epochs=1, device="cpu")
    assert other.loss.fingerprint(other.task) != loss_of(other.task).fingerprint(other.task)
    np.testing.assert_array_equal(whence.out_of_sample(other), probabilities(other, mask="flipped"))
    inputs = data.inputs.gather(np.arange(80)).numpy()
    numbers = whence.fit(network(6, 16, 1), (np.arange(80), inputs, inputs[:, 0] * 3), epochs=1, device="cpu")
    assert whence.out_of_sample(numbers).shape == (80, 1)
    np.testing.assert_array_equal(whence.out_of_sample(numbers), probabilities(numbers, mask="flipped"))


@pytest.mark.parametrize("keep", [0.5, 0.75])
def test_what_is_left_out_lies_between_what_full_and_flipped_parts_say(keep):
    """The formulas of ``held_out.py``, of a linear model with many masked features that has learned its labels by heart."""
    count, units, random = 24, 400_000, np.random.default_rng(0)
    latent = random.standard_normal((count, 6))
    features = latent @ random.standard_normal((6, units)) / units**0.5
    features += random.standard_normal((count, units)) / units**0.5
    labels = random.choice([-1.0, 1.0], count)
    bits = keep_bits(np.arange(count), units, seed=3, layer="features", keep=keep)
    own, flipped = features * bits / keep, features * ~bits / (1 - keep)
    kernel = features @ features.T
    diagonal = np.diag(kernel)

    def weights(rows):
        return own[rows].T @ np.linalg.solve(own[rows] @ own[rows].T, labels[rows])

    everyone = np.arange(count)
    learned, alpha = weights(everyone), np.linalg.solve(own @ own.T, labels)
    scale = np.abs(diagonal * alpha).mean()
    np.testing.assert_allclose(own @ learned, labels)
    np.testing.assert_allclose(features @ learned, labels - (1 / keep - 1) * diagonal * alpha, atol=0.06 * scale)
    of_flipped = (flipped * learned).sum(1)
    np.testing.assert_allclose(of_flipped, labels - diagonal * alpha / keep, atol=0.06 * scale)
    with_ridge = kernel + (1 / keep - 1) * np.diag(diagonal)
    for row in everyone:
        others = np.delete(everyone, row)
        solved = np.linalg.solve(with_ridge[np.ix_(others, others)], kernel[others, row])
        explained = kernel[row, others] @ solved / diagonal[row]
        assert 0 < explained < 1
        without = explained * (features @ learned)[row] + (1 - explained) * of_flipped[row]
        assert without == pytest.approx(features[row] @ weights(others), abs=0.1 * scale)


def test_a_network_is_believed_as_far_as_labels_bear_it_out_and_flipped_masks_hold():
    random = np.random.default_rng(0)
    labels = torch.from_numpy(random.integers(0, 3, 2000))

    def sure(right):
        said = torch.where(torch.from_numpy(random.random(2000) < right), labels, (labels + 1) % 3)
        return 0.1 + 0.7 * nn.functional.one_hot(said, 3).float()

    good, poor, by_heart = sure(0.9), sure(0.5), sure(1.0)
    assert _share(good, poor, sure(0.7), labels, 0) > 0.45
    assert _share(poor, good, poor, labels, 0) < 0.25
    assert _share(by_heart, good, by_heart, labels, 0) == pytest.approx(0.15)  # nothing is held out by masks that leak
    half = _share(good, poor, sure(0.9), labels, 0), _share(good, poor, sure(0.75), labels, 0)
    assert half[0] < half[1] - 0.05 < half[1] < _share(good, poor, sure(0.5), labels, 0) + 1e-9
    falling = [_share(by_heart, good, poor, labels, shared) for shared in (0, 0.5, 1)]
    assert falling == pytest.approx([0.65, 0.4, 0.15], abs=0.02)  # where layers remember, flipped units alone are asked
    for shared in (0, 0.5, 1):
        assert all(
            0.15 <= _share(*three, labels, shared) <= 0.65 for three in ((good,) * 3, (poor,) * 3, (by_heart,) * 3)
        )
