"""VGG (Simonyan & Zisserman 2015) with batch normalization, for pictures of any size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from whence.models.mlp import Standardize, hidden_layers, initialize

__all__ = ["VGG", "VGG16_BLOCKS"]

VGG16_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG(nn.Module):
    """Blocks of 3×3 convolutions with batch normalization and ReLU, each block ending in 2×2 pooling; hidden layers; a linear head.

    Names: ``features.conv1_1``, ``features.norm1_1``, ``features.relu1_1``, …, ``features.pool1``; ``body.relu1``; ``head``.

    Args:
        picture: (channels, height, width). What is left of height and width behind the blocks is averaged down to 4 at most.
        blocks: channels of each convolution of each block.
        hidden: widths of the hidden layers.
        outputs: C.
        standardize: a fixed scaling of the pictures.
    """

    def __init__(
        self,
        picture: tuple[int, int, int],
        blocks: Sequence[Sequence[int]],
        hidden: Sequence[int],
        outputs: int,
        standardize: Standardize,
    ) -> None:
        super().__init__()
        self.standardize = standardize
        self.features = nn.Sequential()
        channels, height, width = picture
        for block, layers in enumerate(blocks, start=1):
            for number, after in enumerate(layers, start=1):
                self.features.add_module(f"conv{block}_{number}", nn.Conv2d(channels, after, 3, padding=1, bias=False))
                self.features.add_module(f"norm{block}_{number}", nn.BatchNorm2d(after))
                self.features.add_module(f"relu{block}_{number}", nn.ReLU())
                channels = after
            if min(height, width) >= 2:
                self.features.add_module(f"pool{block}", nn.MaxPool2d(2))
                height, width = height // 2, width // 2
        height, width = min(height, 4), min(width, 4)
        self.pool = nn.AdaptiveAvgPool2d((height, width))
        self.body = hidden_layers([channels * height * width, *hidden])
        self.head = nn.Linear(hidden[-1], outputs)
        initialize(self)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """[B, channels, H, W] → [B, C]."""
        maps = self.pool(self.features(self.standardize(pictures.float())))
        logits: torch.Tensor = self.head(self.body(maps.flatten(1)))
        return logits
