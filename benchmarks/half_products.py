"""Products of bfloat16 on processors that have none.

Torch emulates them there, convolutions ten times as slowly as in float32 and more. Numbers of bfloat16 are float32 too, and
hardware adds up their products in float32: so a product made in float32 and rounded at the end is the same number, but for the
order of sums.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from whence.training import emulates_half

__all__ = ["HalfProducts", "half_products"]

_PRODUCTS = {
    getattr(torch.ops.aten, name).default
    for name in ("convolution", "convolution_backward", "mm", "addmm", "bmm", "baddbmm")
}


class HalfProducts(TorchDispatchMode):
    """While it is open, products of bfloat16 tensors are made in float32 and rounded, gradients' too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _PRODUCTS or not any(_is_half(each) for each in args):
            return func(*args, **(kwargs or {}))
        found = func(*[each.float() if _is_half(each) else each for each in args], **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            return found.bfloat16()
        return tuple(each.bfloat16() if isinstance(each, torch.Tensor) else each for each in found)


def half_products() -> AbstractContextManager[Any]:
    """``HalfProducts`` where the processor has no products of bfloat16 (x86 without AVX-512), else nothing."""
    return HalfProducts() if emulates_half() else nullcontext()


def _is_half(given: Any) -> bool:
    return isinstance(given, torch.Tensor) and given.dtype == torch.bfloat16
