"""Find the head of any model: the linear layer whose output is the model's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from whence.attachment import attached
from whence.data import Batch, Dataset
from whence.data.tokens import tokens_at_once
from whence.dropout import TurnOverDropout, explicit, full
from whence.errors import WhenceError
from whence.forward import device_of, evaluating, outputs

__all__ = ["Head", "Written", "close", "features_of", "find_head"]

_BATCH = 512


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

    Nothing is taken on trust: the layer's own formula must give the output, tensors must not have been written to
    between their making and their use, and outputs under a random mask must be the affine ones.

    Returns:
        The head, or None when the outputs [B, C] are not those of a linear layer that reads [B, H].
    """
    layers = attached(model)
    seen: dict[nn.Linear, list[_Call]] = {}
    given: dict[str, list[Written]] = {}

    def on_linear(module: nn.Linear, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        seen.setdefault(module, []).append(_Call(Written.of(inputs[0]), inputs[0].clone(), Written.of(output)))

    def on_dropout(module: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        given.setdefault(module.layer, []).append(Written.of(output))

    hooks = [module.register_forward_hook(on_linear) for module in model.modules() if type(module) is nn.Linear]
    hooks += [layer.register_forward_hook(on_dropout) for layer in layers.values()]
    try:
        with evaluating(model), full(), torch.no_grad():
            batch = data.batch(np.arange(min(3, len(data)))).to(device_of(model))
            result = outputs(model, batch.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for linear, calls in seen.items():
        call = calls[0]
        if len(calls) > 1 or call.features.ndim != 2 or not call.made.is_still(result):
            continue
        if not close(F.linear(call.features, linear.weight, linear.bias), result):
            continue
        masked = next((name for name, made in given.items() if len(made) == 1 and made[0] == call.read), None)
        only = (
            masked is not None and len(layers) == 1 and _is_affine(model, linear, layers[masked], call.features, batch)
        )
        return Head(linear, masked, only)
    return None


@dataclass(frozen=True)
class Written:
    """A piece of memory as it was seen: where, which part, and how often it had been written to."""

    where: tuple[Any, ...]
    writes: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Written:
        return cls((tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype), tensor._version)

    def is_still(self, tensor: torch.Tensor) -> bool:
        return Written.of(tensor) == self


@dataclass(frozen=True)
class _Call:
    """One call of a linear layer: its input, the input's values, its output."""

    read: Written
    features: torch.Tensor
    made: Written


def _is_affine(
    model: nn.Module, linear: nn.Linear, layer: TurnOverDropout, features: torch.Tensor, batch: Batch
) -> bool:
    """Whether outputs under a random mask are those of the head on masked features."""
    bits = layer.bits(np.array([0]), "random")[0]
    multiplier = torch.from_numpy(bits).to(features) / layer.keep
    with evaluating(model), explicit({layer.layer: multiplier}), torch.no_grad():
        result = outputs(model, batch.inputs)
    return close(F.linear(features * multiplier, linear.weight, linear.bias), result)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two outputs are the same to rounding.

    Raises:
        WhenceError: they are not finite.
    """
    if not b.isfinite().all():
        raise WhenceError(
            "outputs that are not finite", where="the model", mend="Look for extreme weights or inputs in the run."
        )
    return a.shape == b.shape and torch.allclose(
        a.float(), b.float(), rtol=1e-3, atol=1e-4 * (1 + float(b.abs().max()))
    )


def features_of(model: nn.Module, layer: nn.Module, data: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """What a layer, such as the head, reads of each instance when all units are present, and what the model says.

    Returns:
        float32 [N, H] on the model's device; the model's outputs, float32 [N, C] on the CPU.
    """
    device = device_of(model)
    rows = np.empty(0, np.int64)
    features = said = torch.empty(0)

    def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal features
        read = inputs[0].detach()
        features = features if len(features) else read.new_empty(len(data), *read.shape[1:], dtype=torch.float32)
        features[rows] = read.float()  # a copy, as it may be written to later

    hook = layer.register_forward_pre_hook(keep)
    try:
        with evaluating(model), full(), torch.no_grad():
            for rows in data.parts(_BATCH, tokens_at_once(device)):
                given = outputs(model, data.batch(rows).to(device).inputs).float().cpu()
                said = said if len(said) else given.new_empty(len(data), *given.shape[1:])
                said[rows] = given
    finally:
        hook.remove()
    return features, said
