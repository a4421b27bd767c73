"""Principal components: all of them change nothing, few are taken where they lose next to nothing."""

from __future__ import annotations

import numpy as np
import torch

import whence
from tests.toys import trained
from whence.estimators import components, parts


def test_components_that_hold_everything_change_nothing(monkeypatch):
    run = trained(widths=(6, 8, 7, 3))
    scores = np.asarray(whence.influence(run, method="kronecker", share=0.0))
    monkeypatch.setattr(parts, "_MOVES", 7)  # of 8 and 7, but units that are never on take no part
    near = np.asarray(whence.influence(run, method="kronecker", share=0.0))
    assert np.corrcoef(scores.ravel(), near.ravel())[0, 1] > 0.99


def test_few_components_are_taken_only_where_they_lose_next_to_nothing():
    generator = torch.Generator().manual_seed(0)
    smooth = torch.randn(900, 40, generator=generator) @ torch.randn(40, 300, generator=generator)
    smooth += 0.1 * torch.randn(900, 300, generator=generator)
    basis = components.leading(smooth, 2048)
    assert basis.shape == (300, 64)
    torch.testing.assert_close(basis.T @ basis, torch.eye(64), atol=1e-5, rtol=0)
    held = components.project(smooth, basis).square().sum(0)
    assert held.sum() > 0.985 * smooth.square().sum() and held[0] == held.max()
    for rows, most, width in [
        (torch.randn(900, 300, generator=generator), 2048, None),  # no direction is better than another
        (torch.randn(900, 300, generator=generator), 200, 200),
        (torch.randn(40, 300, generator=generator), 2048, None),  # too few rows to tell
        (torch.zeros(900, 300), 2048, None),
        (smooth[:, :100], 2048, None),
    ]:
        found = components.leading(rows, most)
        assert (None if found is None else found.shape[1]) == width
