"""Find the head of any model: the linear layer whose output is the model's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from whence.attachment import attached
from whence.data import Dataset
from whence.dropout import full
from whence.forward import device_of, evaluating, outputs

__all__ = ["Head", "features_of", "find_head"]


@dataclass(frozen=True)
class Head:
    """Attributes:
    linear: outputs = linear(features).
    masked: the name of the turn-over dropout layer whose output is exactly ``features``; None if there is none.
    only: whether that layer is the model's only masked one, so that outputs are affine in its mask.
    """

    linear: nn.Linear
    masked: str | None
    only: bool


def find_head(model: nn.Module, data: Dataset) -> Head | None:
    """Follow tensors through one forward pass: which linear layer made the output, and what it read.

    Returns:
        The head, or None when the outputs [B, C] are not those of a linear layer that reads [B, H].
    """
    layers = attached(model)
    read: dict[nn.Linear, torch.Tensor] = {}
    made: dict[nn.Linear, torch.Tensor] = {}
    calls: dict[nn.Linear, int] = {}
    given: dict[str, torch.Tensor] = {}
    uses: dict[str, int] = {}

    def on_linear(module: nn.Linear, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        read[module], made[module] = inputs[0], output
        calls[module] = calls.get(module, 0) + 1

    def on_dropout(module: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        given[module.layer] = output
        uses[module.layer] = uses.get(module.layer, 0) + 1

    hooks = [module.register_forward_hook(on_linear) for module in model.modules() if type(module) is nn.Linear]
    hooks += [layer.register_forward_hook(on_dropout) for layer in layers.values()]
    try:
        with evaluating(model), full(), torch.no_grad():
            batch = data.batch(np.arange(min(2, len(data)))).to(device_of(model))
            result = outputs(model, batch.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for linear, output in made.items():
        if _same(output, result) and read[linear].ndim == 2 and calls[linear] == 1:
            masked = next(
                (name for name, value in given.items() if _same(value, read[linear]) and uses[name] == 1), None
            )
            return Head(linear, masked, only=masked is not None and len(layers) == 1)
    return None


def features_of(model: nn.Module, head: Head, data: Dataset, batch_size: int = 512) -> torch.Tensor:
    """What the head reads for each instance when all units are present: float32 [N, H], on the model's device."""
    blocks: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        blocks.append(inputs[0].detach().float())

    hook = head.linear.register_forward_pre_hook(keep)
    try:
        with evaluating(model), full(), torch.no_grad():
            for batch in data.batches(batch_size):
                outputs(model, batch.to(device_of(model)).inputs)
    finally:
        hook.remove()
    return torch.cat(blocks)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are one and the same piece of memory, seen the same way."""
    return a is b or (
        a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride() and a.dtype == b.dtype
    )
