"""A network with convolutions of every kind of geometry, and pictures for it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import whence
from whence.data import Dataset


class Pictures(nn.Module):
    """Convolutions of every kind of geometry, in-place ReLU, a token-wise linear layer, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, padding=1, stride=2)
        self.second = nn.Conv2d(3, 4, (3, 1), padding="same", dilation=(2, 1), bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.line = nn.Conv1d(4, 4, 2)
        self.tokens = nn.Linear(4, 5)
        self.dropped = nn.Dropout(0.5)
        self.head = nn.Linear(5, 3)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        maps = self.relu(self.second(self.relu(self.first(pictures))))
        line = self.relu(self.line(maps.flatten(2)))
        return self.head(self.dropped(torch.tanh(self.tokens(line.transpose(1, 2))).mean(1)))


def pictures(n=40, seed=0, start=0):
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 3, n)
    images = generator.normal(size=(n, 2, 6, 6)).astype(np.float32) + targets[:, None, None, None].astype(np.float32)
    return Dataset.of((np.arange(n) + start, torch.from_numpy(images), torch.from_numpy(targets)))


def picture_run(**options):
    torch.manual_seed(0)
    model = whence.attach(Pictures(), ["dropped"])
    return whence.fit(
        model, pictures(), test=pictures(9, 1, 100), epochs=3, learning_rate=1e-2, device="cpu", **options
    )
