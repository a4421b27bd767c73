"""Augmentation: what it may do to a picture, and that ids, order and resumption do not notice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import whence
from tests.models.test_models import pictures
from tests.toys import assert_same_weights, blobs, stopping_before, weights
from whence import WhenceError
from whence.augmentation import AUGMENTATIONS, augmented


def test_flips_are_mirrored_and_row_by_row():
    batch = torch.rand(200, 3, 8, 6)
    torch.manual_seed(0)
    out = augmented(batch, "flip")
    same = (out == batch).flatten(1).all(1)
    mirrored = (out == batch.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 60 < same.sum() < 140


def test_crops_are_moves():
    """Each is the picture moved by at most an eighth, with zeros where nothing was; all moves occur."""
    batch = torch.rand(300, 2, 16, 8) + 1
    torch.manual_seed(1)
    out, seen = augmented(batch, "crop"), set()
    padded = torch.nn.functional.pad(batch, (1, 1, 2, 2))
    for row in range(len(batch)):
        moves = [
            (y, x) for y in range(5) for x in range(3) if torch.equal(out[row], padded[row, :, y : y + 16, x : x + 8])
        ]
        assert len(moves) == 1
        seen.add(moves[0])
    assert len(seen) == 15


@pytest.mark.parametrize("how", AUGMENTATIONS)
def test_shapes_and_seeds(how):
    batch = torch.rand(5, 1, 7, 9)
    torch.manual_seed(3)
    first = augmented(batch, how)
    torch.manual_seed(3)
    assert first.shape == batch.shape and torch.equal(first, augmented(batch, how))
    assert torch.equal(first, batch) == (how == "none")


def test_training_sees_other_pictures_and_workers_change_nothing():
    def trained(**options):
        model, data = whence.prepare(pictures(60), "conv:4,8,16")
        return whence.fit(model, data, epochs=2, device="cpu", **options).model.state_dict()["head.weight"]

    plain, varied = trained(), trained(augment="crop+flip")
    assert not torch.equal(plain, varied)
    assert torch.equal(varied, trained(augment="crop+flip", workers=2))


def test_a_resumed_run_sees_the_pictures_that_it_would_have_seen(tmp_path, monkeypatch):
    def trained(out):
        model, data = whence.prepare(pictures(40), "conv:4,8,16")
        return whence.fit(
            model, data, epochs=3, batch_size=10, augment="crop+flip", checkpoint_seconds=0, device="cpu", out=out
        )

    whole = trained(tmp_path / "whole")
    with stopping_before(6, monkeypatch):
        trained(tmp_path / "stopped")
    torch.manual_seed(5)
    again = trained(tmp_path / "stopped")
    assert_same_weights(weights(whole), weights(again))
    np.testing.assert_array_equal(again.train.ids, whole.train.ids)


def test_only_pictures_are_augmented():
    model, data = whence.prepare(blobs(30), "mlp:8")
    with pytest.raises(WhenceError, match="augmentation of inputs that are no pictures in augment: got 'flip'"):
        whence.fit(model, data, augment="flip")
    own_pictures = (np.arange(20), torch.rand(20, 3, 8, 8), np.arange(20) % 2)  # a user's tensors count too
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 8), torch.nn.Dropout(), torch.nn.Linear(8, 2))
    whence.fit(model, own_pictures, augment="crop", epochs=1, device="cpu")
