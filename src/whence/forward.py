"""Call any model on a batch and find its outputs: the one place that knows calling conventions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import nn

from whence.data import Batch, Dataset
from whence.data.inputs import ModelInputs
from whence.data.tokens import tokens_at_once
from whence.dropout import flipped, full, own, random
from whence.errors import WhenceError

__all__ = ["Mask", "device_of", "evaluating", "outputs", "predict"]

Mask: TypeAlias = Literal["own", "flipped", "full"] | int


def outputs(model: nn.Module, inputs: ModelInputs) -> torch.Tensor:
    """The model's outputs [B, C] for a batch: logits, or predictions of a regression.

    A tuple of inputs is passed as positional, a dict as keyword arguments. Of what the model returns, the tensor,
    its ``logits`` (Hugging Face), or the first element of a tuple is taken.
    """
    if isinstance(inputs, dict):
        given = model(**inputs)
    elif isinstance(inputs, tuple):
        given = model(*inputs)
    else:
        given = model(inputs)
    if not isinstance(given, torch.Tensor):
        given = _logits(given)
    return given[:, None] if given.ndim == 1 else given


def _logits(given: Any) -> torch.Tensor:
    logits = getattr(given, "logits", None)
    if logits is None and isinstance(given, dict):
        logits = given.get("logits")
    if logits is None and isinstance(given, tuple) and given:
        logits = given[0]
    if not isinstance(logits, torch.Tensor):
        raise WhenceError("a model without logits", got=type(given).__name__,
                          expected="a tensor, an object or dict with logits, or a tuple that begins with them")  # fmt: skip
    return logits


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode while the block lasts; every module's own mode comes back after it."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes.items():
            module.training = mode


def predict(model: nn.Module, data: Dataset, mask: Mask = "full", *, batch_size: int = 512) -> np.ndarray:
    """The model's outputs for every instance, in evaluation mode.

    Args:
        mask: "own" or "flipped" (each instance under its own id's), "full", or an integer: the random sub-network of that
            seed, the same for all instances.

    Returns:
        float32 [N, C]: logits, or predictions of a regression.
    """
    device = device_of(model)
    parts = data.parts(batch_size, tokens_at_once(device))
    blocks = []
    with evaluating(model), torch.no_grad():
        for rows in parts:
            batch = data.batch(rows).to(device)
            with mask_context(mask, batch):
                blocks.append(outputs(model, batch.inputs).float().cpu())
    given = torch.cat(blocks).numpy()
    return given[np.argsort(np.concatenate(parts))]


def mask_context(mask: Mask, batch: Batch) -> AbstractContextManager[Any]:
    """The context that a mask's name stands for, for a batch."""
    if isinstance(mask, int):
        return random(mask)
    contexts = {"own": lambda: own(batch.mask_ids), "flipped": lambda: flipped(batch.mask_ids), "full": full}
    if not isinstance(mask, str) or mask not in contexts:
        raise WhenceError("unknown mask", got=repr(mask), expected="own, flipped, full, or an integer seed")
    return contexts[mask]()
