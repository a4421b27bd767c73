"""Ridge regression on random features of pictures: left out means left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

import whence
from tests.models.test_models import pictures, texts
from tests.toys import blobs
from whence.estimators import random_features
from whence.estimators.random_features import Looks, RidgeOnLooks, are_pictures


def left_out_by_looks(data, targets):
    return RidgeOnLooks(Looks(data), targets).left_out


def wanted(data):
    return one_hot(torch.from_numpy(data.targets), data.task.outputs).float()


def test_it_is_refitting_without_the_instance():
    data = pictures(40, side=12)
    targets, features = wanted(data), torch.cat([f for _, f in Looks(data).blocks()]).double()
    found = left_out_by_looks(data, targets)
    ridge = 0.3 * float(features.square().sum()) / 40
    for row in (0, 17, 39):
        rest = np.delete(np.arange(40), row)
        # Ridge regression with an intercept that is not penalized, by augmented least squares.
        design = torch.cat([torch.ones(39, 1, dtype=torch.float64), features[rest]], dim=1)
        penalty = torch.diag(torch.tensor([0.0] + [ridge] * features.shape[1], dtype=torch.float64))
        weights = torch.linalg.solve(design.T @ design + penalty, design.T @ targets[rest].double())
        expected = weights[0] + features[row] @ weights[1:]
        torch.testing.assert_close(found[row].double(), expected, atol=1e-4, rtol=1e-4)


def test_what_is_said_of_an_instance_does_not_depend_on_its_label():
    data = pictures(60)
    targets = wanted(data)
    other = targets.clone()
    other[7] = other[7].flip(0)
    before, after = left_out_by_looks(data, targets), left_out_by_looks(data, other)
    torch.testing.assert_close(after[7], before[7], atol=1e-5, rtol=1e-4)
    assert (after - before).abs().max() > 1e-3  # of others it does


def test_others_are_predicted_by_the_same_features():
    data = pictures(300)
    train, others = data.select(np.arange(290)), data.select(np.arange(290, 300))
    targets, looks = wanted(train), Looks(train)
    ridge = RidgeOnLooks(looks, targets)
    assert ridge.predict(others).shape == (10, targets.shape[1])
    seen = ridge.predict(train)  # an instance left out is predicted worse than one that is in
    assert (seen - targets).square().mean() < (ridge.left_out - targets).square().mean()
    one = train.select(np.array([7]))
    torch.testing.assert_close(ridge.predict(one)[0], seen[7], atol=1e-4, rtol=1e-4)


def test_features_may_be_made_again_instead_of_kept(monkeypatch):
    data = pictures(300)
    kept = left_out_by_looks(data, wanted(data))
    monkeypatch.setattr(random_features, "_KEPT", 0)
    torch.testing.assert_close(left_out_by_looks(data, wanted(data)), kept)


def test_order_does_not_matter_and_torch_is_left_alone():
    data = pictures(80)
    order = np.random.default_rng(0).permutation(80)
    torch.manual_seed(4)
    expected = torch.rand(1)
    torch.manual_seed(4)
    found, shuffled = left_out_by_looks(data, wanted(data)), left_out_by_looks(data.select(order), wanted(data)[order])
    assert torch.equal(torch.rand(1), expected)
    torch.testing.assert_close(shuffled, found[order], atol=2e-3, rtol=2e-3)


def test_large_and_odd_pictures():
    generator = np.random.default_rng(0)
    large = whence.Dataset.of(
        (np.arange(20), generator.integers(0, 255, (20, 90, 150, 3)).astype(np.uint8), np.arange(20) % 2)
    )
    assert torch.isfinite(left_out_by_looks(large, wanted(large))).all()
    empty = whence.Dataset.of((np.arange(20), np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2))
    assert torch.isfinite(left_out_by_looks(empty, wanted(empty))).all()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pictures(10), True),
        (pictures(10, side=4), False),
        (blobs(10), False),
        (whence.Dataset.of((np.arange(9), torch.rand(9, 3, 8, 8), np.arange(9) % 3)), True),
        (whence.Dataset.of((np.arange(9), torch.rand(9, 16, 8, 8), np.arange(9) % 3)), False),  # maps of features
        (whence.prepare(texts(), "ngrams:4")[1], False),
    ],
)
def test_what_counts_as_pictures(data, expected):
    assert are_pictures(data) is expected


def test_wrong_labels_of_memorized_pictures_are_found():
    """A network that knows all labels by heart, wrong ones too."""
    data = pictures(300)
    wrong = np.arange(300) % 10 == 0
    data = whence.Dataset.of((data.ids, data.images, np.where(wrong, 1 - data.targets, data.targets)))
    model, data = whence.prepare(data, "mlp:256")
    run = whence.fit(model, data, epochs=60, learning_rate=3e-3, device="cpu")
    audit = whence.audit(run)
    assert set(audit.issues) == set(np.flatnonzero(wrong))
    assert audit.expected_errors == pytest.approx(30, rel=0.2)
