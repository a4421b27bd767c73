"""What a method of ``peers.py`` is given to score: a setting and the networks of one repetition, trained already.

Networks that were trained under turn-over dropout are, for other libraries, plain networks of the same weights: prediction uses
all units.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

import peer_settings as settings
import whence


@dataclass(frozen=True)
class Case:
    """One repetition: a setting, the networks that are scored together, and what is shared by the options of a method."""

    given: settings.Setting
    networks: list[dict[str, Any]]
    shared: dict[str, Any] = field(default_factory=dict)

    def model(self, number: int = 0) -> nn.Sequential:
        """A plain network."""
        model = settings.mlp(self.given.widths)
        model.load_state_dict(self.networks[number]["weights"])
        return model.eval()

    def run(self, number: int) -> whence.Run:
        """A run of this library."""
        model = settings.turnover_mlp(self.given.widths, self.networks[number]["seed"])
        model.load_state_dict(self.networks[number]["weights"])
        given, first = self.given, settings.FIRST_TARGET_ID
        train = (np.arange(len(given.x)), given.x.numpy(), given.y.numpy())
        test = (first + np.arange(len(given.test_x)), given.test_x.numpy(), given.test_y.numpy())
        return whence.Run(model.eval(), train, test=test)

    def train_set(self) -> TensorDataset:
        return TensorDataset(self.given.x, self.given.y)

    def test_set(self) -> TensorDataset:
        return TensorDataset(self.given.test_x, self.given.test_y)


def network_path(setting: str, kind: str, seed: int, folder: Path) -> Path:
    return folder / f"{setting}-{kind}-{seed}.pt"


def load_network(setting: str, kind: str, seed: int, folder: Path) -> dict[str, Any]:
    return {**torch.load(network_path(setting, kind, seed, folder), weights_only=True), "seed": seed}
