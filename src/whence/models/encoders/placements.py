"""Where masks are in an encoder, what is trained, and how: the choices of ``--masked`` for encoders.

    updates    frozen encoder; full updates of all linear layers, masks on what they add and on the pooled features
    lora       frozen encoder; low-rank updates of all linear layers, masks on the rank and on the pooled features
    adapter    frozen encoder; a bottleneck adapter after each layer, masks on the bottlenecks and on the pooled features
    frozen     frozen encoder, whose features are computed once; masks on a wide head
    head       the whole encoder is trained; masks on a wide head alone, so the encoder learns every instance: a leak
    dropouts   the whole encoder is trained; its own dropouts become masks

docs/text.md has their accuracy and isolation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from whence.data import Dataset
from whence.dropout import full
from whence.errors import WhenceError
from whence.forward import evaluating, outputs
from whence.models.encoders.folder import Encoder
from whence.models.encoders.network import EncoderClassifier

__all__ = ["DEFAULT", "HIDDEN", "PLACEMENTS", "Placement"]

DEFAULT = "updates"
HIDDEN = 1024  # units of a head that is masked
_BOTTLENECK = 64
_RANK = 16


@dataclass(frozen=True)
class Placement:
    """One choice.

    Attributes:
        build: (encoder, outputs C) → the module, its weights drawn from torch's generator.
        masked: (module, data) → names of the modules that masks are put in place of, or after.
        options: of training, where the user gives none.
        keep: share of units that an instance keeps, likewise.
    """

    build: Callable[[Encoder, int], nn.Module]
    masked: Callable[[nn.Module, Dataset], list[str]]
    options: dict[str, Any] = field(default_factory=dict)
    keep: float = 0.5


def _updated(encoder: Encoder, outputs: int) -> nn.Module:
    return EncoderClassifier(encoder.load(), encoder.width, outputs, hidden=0, frozen=True, updated=True)


def _adapted(encoder: Encoder, outputs: int) -> nn.Module:
    return EncoderClassifier(encoder.load(), encoder.width, outputs, hidden=0, frozen=True, bottleneck=_BOTTLENECK)


def _low_rank(encoder: Encoder, outputs: int) -> nn.Module:
    try:
        import peft
    except ImportError as error:
        raise WhenceError("LoRA needs peft, which is not installed", where="--masked", got="lora",
                          mend="pip install 'whence[text]', or choose --masked adapter.") from error  # fmt: skip
    chosen = peft.LoraConfig(r=_RANK, lora_alpha=_RANK, target_modules="all-linear")
    model = EncoderClassifier(
        peft.inject_adapter_in_model(chosen, encoder.load()), encoder.width, outputs, hidden=0, frozen=True
    )
    for name, parameter in model.base.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return model


def _tuned(encoder: Encoder, outputs: int) -> nn.Module:
    return EncoderClassifier(encoder.load(), encoder.width, outputs, hidden=HIDDEN)


def _plain(encoder: Encoder, outputs: int) -> nn.Module:
    return EncoderClassifier(encoder.load(), encoder.width, outputs, hidden=0)


def _in_head(model: nn.Module, data: Dataset) -> list[str]:
    return ["body.relu1"]


def _in_updates(model: nn.Module, data: Dataset) -> list[str]:
    return [f"updates.{number}" for number in range(len(model.updates))] + ["body.dropout"]  # type: ignore[arg-type]


def _in_adapters(model: nn.Module, data: Dataset) -> list[str]:
    return [f"adapters.{number}.relu" for number in range(len(model.adapters))] + ["body.dropout"]  # type: ignore[arg-type]


def _in_ranks(model: nn.Module, data: Dataset) -> list[str]:
    return [name for name, _ in model.named_modules() if name.endswith(".lora_A.default")] + ["body.dropout"]


def _in_dropouts(model: nn.Module, data: Dataset) -> list[str]:
    """Every dropout that a forward pass calls: attention that is computed in one piece calls none of its own."""
    found = {module: name for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    called: dict[str, None] = {}
    hooks = [
        module.register_forward_hook(lambda module, given, output: called.setdefault(found[module])) for module in found
    ]
    try:
        with evaluating(model), full(), torch.no_grad():
            outputs(model, data.batch(np.arange(1)).inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return list(called)


_TRAINING: dict[str, Any] = {"epochs": 3, "batch_size": 16, "warmup": 0.1, "exposure_limit": 500}

PLACEMENTS = {
    "updates": Placement(_updated, _in_updates, {**_TRAINING, "learning_rate": 8e-5}, keep=0.75),
    "lora": Placement(_low_rank, _in_ranks, {**_TRAINING, "learning_rate": 5e-4}),
    "adapter": Placement(_adapted, _in_adapters, {**_TRAINING, "learning_rate": 3e-4}),
    "head": Placement(_tuned, _in_head, {**_TRAINING, "learning_rate": 5e-5}),
    "dropouts": Placement(_plain, _in_dropouts, {**_TRAINING, "learning_rate": 5e-5}),
}
"""All but "frozen", whose model is a multilayer perceptron on features."""
