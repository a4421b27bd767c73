"""Outputs affine in the mask: exponentials alone say what the outputs would."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from whence.data import Classification
from whence.estimators.affine import Affine
from whence.quantities import loss_of, quantity_named


def head(*, classes=5, targets=70, units=24, scale=1.0, keep=0.5, quantity="loss", bias=True):
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(targets, units, generator=generator)
    weight = scale * torch.randn(classes, units, generator=generator)
    labels = torch.randint(classes, (targets,), generator=generator)
    task = Classification(tuple(map(str, range(classes))))
    constant = torch.randn(classes, generator=generator) if bias else None
    return Affine(features, weight, constant, keep, labels, quantity_named(quantity, task)), (
        features,
        weight,
        constant,
        labels,
    )


def masks(count=300, units=24, keep=0.5):
    return torch.rand(count, units, generator=torch.Generator().manual_seed(1)) < keep


def plain(parts, kept, keep):
    features, weight, constant, labels = (
        part if part is None else part.double() if part.is_floating_point() else part for part in parts
    )
    constant = 0 if constant is None else constant
    losses = []
    for multiplier in (~kept / (1 - keep), kept / keep):
        given = torch.einsum("rd,md,cd->rmc", multiplier.double(), features, weight) + constant
        losses.append(torch.stack([cross_entropy(one, labels, reduction="none") for one in given]))
    return losses[0] - losses[1]


@pytest.mark.parametrize("keep", [0.5, 0.3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_losses_by_exponentials(keep, bias, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        affine, parts = head(keep=keep, bias=bias)
        kept = masks(keep=keep)
        assert affine._above is not None  # the fast way
        np.testing.assert_allclose(affine.differences(kept), plain(parts, kept, keep), rtol=1e-4, atol=2e-5)
        np.testing.assert_array_equal(affine.differences(kept), affine.differences(kept))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("scale", [6.0, 12.0, 40.0])
def test_large_outputs_are_as_exact(scale):
    """Where exponentials would be zero or infinite, outputs are made."""
    affine, parts = head(scale=scale)
    kept = masks()
    expected = plain(parts, kept, 0.5)
    np.testing.assert_allclose(affine.differences(kept), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_directions_need_not_be_kept(monkeypatch):
    affine, _ = head()
    expected = affine.differences(masks())
    monkeypatch.setattr("whence.estimators.affine._KEPT_NUMBERS", 0)
    other, _ = head()
    np.testing.assert_array_equal(other.differences(masks()), expected)
    assert not other._directions


def test_other_quantities_are_measured_on_outputs():
    task = Classification(tuple("abcde"))
    mine = replace(loss_of(task), function=lambda outputs, targets: cross_entropy(outputs, targets, reduction="none"))
    affine, (features, weight, constant, labels) = head()
    other = Affine(features, weight, constant, 0.5, labels, mine)
    assert other._above is None
    np.testing.assert_allclose(other.differences(masks()), affine.differences(masks()), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("keep", [0.5, 0.9])
@pytest.mark.parametrize("fast", [True, False])
def test_a_large_bias_costs_no_digits(keep, fast):
    affine, (features, weight, _, labels) = head(keep=keep)
    constant = torch.full((5,), 1e4)
    other = Affine(features, weight, constant, keep, labels, affine.quantity)
    if not fast:
        other._above = None
    kept = masks(keep=keep)
    expected = plain((features, weight, constant, labels), kept, keep)
    np.testing.assert_allclose(other.differences(kept), expected, atol=1e-4 if fast else 3e-3)
