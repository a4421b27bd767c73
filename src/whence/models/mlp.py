"""A multilayer perceptron for features and small pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["MLP", "Standardize", "hidden_layers", "initialize"]


class Standardize(nn.Module):
    """(x − mean) / scale, feature by feature; both are fixed before training.

    Args:
        mean: [F], [channels, 1, 1] or a scalar.
        scale: of the same shape, above 0.
    """

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    @classmethod
    def fit(cls, features: torch.Tensor) -> Standardize:
        """Mean and deviation of training features [N, F]; a feature that never changes keeps scale 1."""
        deviation = features.std(dim=0, correction=0)
        return cls(features.mean(dim=0), torch.where(deviation > 1e-8, deviation, torch.ones_like(deviation)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        scaled: torch.Tensor = (features - self.mean) / self.scale  # type: ignore[operator]
        return scaled


def hidden_layers(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU: names linear1, relu1, linear2, …; widths[0] is the input's."""
    layers = nn.Sequential()
    for number, (before, after) in enumerate(zip(widths[:-1], widths[1:], strict=True), start=1):
        layers.add_module(f"linear{number}", nn.Linear(before, after))
        layers.add_module(f"relu{number}", nn.ReLU())
    return layers


def initialize(model: nn.Module) -> None:
    """Weights normal with variance 2/fan-in (He et al. 2015), biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            if module.weight.is_meta:  # to draw weights that do not exist takes torch a second to learn
                continue
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class MLP(nn.Module):
    """Flatten, standardize, hidden layers with ReLU, a linear head.

    Args:
        inputs: F, numbers per instance.
        hidden: widths of the hidden layers.
        outputs: C.
        standardize: a fixed scaling of the features, or None.
    """

    def __init__(
        self, inputs: int, hidden: Sequence[int], outputs: int, standardize: Standardize | None = None
    ) -> None:
        super().__init__()
        self.standardize = standardize or nn.Identity()
        self.body = hidden_layers([inputs, *hidden])
        self.head = nn.Linear(hidden[-1], outputs)
        initialize(self)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, …] with F numbers per instance → [B, C]."""
        hidden = self.body(self.standardize(features.flatten(1).float()))  # (B, H)
        logits: torch.Tensor = self.head(hidden)
        return logits
