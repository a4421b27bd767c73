"""A device that is not the CPU, for tests on machines without another one.

Its tensors stand for tensors of the CPU, of which torch knows nothing: an operation on tensors of both is refused, as on a GPU, and so
is ``numpy()``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend


class _Module(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


_setup_privateuseone_for_python_backend("elsewhere", _Module())
_MIXING = {"copy_", "_copy_from", "_to_copy", "index", "index_put_", "_index_put_impl_", "index_put"}  # as on a GPU
_held: dict[int, torch.Tensor] = {}  # by the storage of who stands for it, which what autograd keeps of it shares


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _standing_for(held: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = torch._C._acc.create_empty_tensor(list(held.shape), held.dtype)
    _held[_place(made)] = held
    return made


def _strided(held: torch.Tensor, size: list[int], stride: list[int], offset: int | None = None) -> torch.Tensor:
    """A view whose strides are meant for a contiguous tensor, as all that stand for others seem to be."""
    seeming = torch.empty(held.shape, device="meta").stride()
    order = sorted((dim for dim in range(held.dim()) if held.shape[dim] > 1), key=lambda dim: -seeming[dim])
    start, rest = held.storage_offset(), offset or 0
    for dim in order:
        start, rest = start + rest // seeming[dim] * held.stride(dim), rest % seeming[dim]
    steps = []
    for step in stride:
        dim = next((dim for dim in order if step and step % seeming[dim] == 0), None)
        steps.append(0 if dim is None else step // seeming[dim] * held.stride(dim))
    return held.as_strided(size, steps, start)


def _elsewhere(op: Any, *args: Any, **kwargs: Any) -> Any:
    here, there = [], []

    def inner(given: Any) -> Any:
        if isinstance(given, torch.device) and given.type == "elsewhere":
            return torch.device("cpu")
        if not isinstance(given, torch.Tensor):
            return given
        (there if given.device.type == "elsewhere" else here).append(given)
        return _held[_place(given)] if given.device.type == "elsewhere" else given

    name = op._schema.name.split("::")[1]
    given = [
        torch.tensor(value)
        if str(argument.type) == "Tensor" and isinstance(value, int | float)
        else tree_map(inner, value)
        for argument, value in zip(op._schema.arguments, args, strict=False)
    ]
    named = tree_map(inner, kwargs)
    if there and any(tensor.dim() for tensor in here) and name not in _MIXING:
        raise RuntimeError(f"Expected all tensors to be on the same device: {name} found elsewhere and cpu")
    if name == "_copy_from":
        given[1].copy_(given[0])
        return args[1]
    if name == "view":
        found = given[0].reshape(given[1])
    elif name == "as_strided":
        found = _strided(*given)
    else:
        found = op(*given, **named)

    for tensor in there:  # what is written to may have grown
        if tensor.shape != (grown := _held[_place(tensor)]).shape:
            tensor.data = _standing_for(grown)

    def outer(made: Any) -> Any:
        if not isinstance(made, torch.Tensor):
            return made
        for tensor in (*there, *here):  # what was written to
            if made is (_held[_place(tensor)] if tensor.device.type == "elsewhere" else tensor):
                return tensor
        return _standing_for(made)

    return tree_map(outer, found)


def _convolution(*args: Any) -> Any:
    return _elsewhere(torch.ops.aten.convolution.default, *args)


def _convolution_backward(gradient: Any, read: Any, weight: Any, *rest: Any) -> Any:
    *shape, mask = rest
    return _elsewhere(torch.ops.aten.convolution_backward.default, gradient, read, weight, [len(weight)], *shape, mask)


_libraries = [torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")]  # which undo all when they go
_libraries[0].fallback(_elsewhere, "PrivateUse1")
_libraries[1].impl("convolution_overrideable", _convolution, "PrivateUse1")
_libraries[1].impl("convolution_backward_overrideable", _convolution_backward, "PrivateUse1")
