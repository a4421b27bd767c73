"""ResNet-18 (He et al. 2016), for small pictures and large ones."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from whence.models.mlp import Standardize, initialize

__all__ = ["ResNet18"]

_SMALL = 64  # pixels; larger pictures are brought to a quarter by the first layers, as on ImageNet


class ResNet18(nn.Module):
    """Four stages of two residual blocks each, global average pooling, a linear head.

    Each ReLU is a module of its own (``layer1.0.relu1``, ``layer1.0.relu2``, …), so that each can be masked. ``body.flatten`` gives
    the pooled features that the head reads.

    Args:
        picture: (channels, height, width). Up to 64 pixels the first convolution is 3×3 with stride 1, without pooling.
        width: channels of the first stage; 64 in the paper. They double from stage to stage.
        outputs: C.
        standardize: a fixed scaling of the pictures.
    """

    def __init__(self, picture: tuple[int, int, int], width: int, outputs: int, standardize: Standardize) -> None:
        super().__init__()
        self.standardize = standardize
        small = max(picture[1:]) <= _SMALL
        size, stride = (3, 1) if small else (7, 2)
        self.conv = nn.Conv2d(picture[0], width, size, stride, size // 2, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.pool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        before = width
        for number in range(1, 5):
            after = width * 2 ** (number - 1)
            first = _Block(before, after, stride=1 if number == 1 else 2)
            self.add_module(f"layer{number}", nn.Sequential(first, _Block(after, after, stride=1)))
            before = after
        self.body = nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten()))
        self.head = nn.Linear(before, outputs)
        initialize(self)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """[B, channels, H, W] → [B, C]."""
        maps = self.pool(self.relu(self.norm(self.conv(self.standardize(pictures.float())))))
        for number in range(1, 5):
            maps = self.get_submodule(f"layer{number}")(maps)
        logits: torch.Tensor = self.head(self.body(maps))
        return logits


class _Block(nn.Module):
    """Two 3×3 convolutions whose result is added to what they read."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.relu2 = nn.ReLU()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        change = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(maps)))))
        added: torch.Tensor = self.relu2(change + self.shortcut(maps))
        return added
