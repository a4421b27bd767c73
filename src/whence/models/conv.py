"""A small convolutional net for pictures, quick enough for two cores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from whence.models.mlp import hidden_layers, initialize

__all__ = ["ConvNet"]


class ConvNet(nn.Module):
    """3×3 convolutions with ReLU, each followed by 2×2 pooling; one hidden layer with ReLU; a linear head.

    Args:
        picture: (channels, height, width).
        widths: channels of each convolution, then the width of the hidden layer.
        outputs: C.
    """

    def __init__(self, picture: tuple[int, int, int], widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        channels, height, width = picture
        self.features = nn.Sequential()
        for number, after in enumerate(widths[:-1], start=1):
            self.features.add_module(f"conv{number}", nn.Conv2d(channels, after, 3, padding=1))
            self.features.add_module(f"relu{number}", nn.ReLU())
            if min(height, width) >= 2:
                self.features.add_module(f"pool{number}", nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            channels = after
        self.body = hidden_layers([channels * height * width, widths[-1]])
        self.head = nn.Linear(widths[-1], outputs)
        initialize(self)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] in [0, 1] → [B, classes]."""
        maps = self.features(pictures.float() - 0.5)  # (B, channels, h, w)
        logits: torch.Tensor = self.head(self.body(maps.flatten(1)))
        return logits
