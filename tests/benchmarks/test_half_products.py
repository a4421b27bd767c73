"""Products that are made in float32 and rounded are those of bfloat16."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from benchmarks.half_products import HalfProducts
from torch import nn


def test_they_are_those_of_bfloat16_and_so_are_their_gradients():
    torch.manual_seed(0)
    pictures, labels = torch.randn(16, 3, 12, 12), torch.randint(0, 5, (16,))
    found = []
    for emulated in (False, True):
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.Flatten(), nn.Linear(200, 5)
        )  # fmt: skip
        with HalfProducts() if emulated else nullcontext():
            with torch.autocast("cpu", torch.bfloat16):
                given = model(pictures)
            assert given.dtype == torch.bfloat16
            nn.functional.cross_entropy(given.float(), labels).backward()
        found.append([given.float().detach(), *(weight.grad for weight in model.parameters())])
    for native, ours in zip(*found, strict=True):
        # One bit of eight, where sums in another order round otherwise.
        torch.testing.assert_close(ours, native, rtol=2**-7, atol=2**-7 * float(native.abs().max()))
    in_float32 = model(pictures).detach()
    assert float((in_float32 - found[1][0]).abs().max()) > 4 * float((found[0][0] - found[1][0]).abs().max())


def test_other_products_are_left_alone():
    left, right = torch.randn(5, 7), torch.randn(7, 3)
    with HalfProducts():
        assert torch.equal(left @ right, left @ right)
        assert (left @ right).dtype == torch.float32
        assert (left.bfloat16() @ right.bfloat16()).dtype == torch.bfloat16
    expected = (left.bfloat16().float() @ right.bfloat16().float()).bfloat16()
    with HalfProducts():
        assert torch.equal(left.bfloat16() @ right.bfloat16(), expected)
