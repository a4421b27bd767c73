"""What kronfluence has to know of a classifier: its loss, and what is measured on a target. Needs kronfluence."""

from __future__ import annotations

from typing import Any

import torch
from kronfluence.task import Task
from torch import nn
from torch.nn.functional import cross_entropy

__all__ = ["Classify"]


class Classify(Task):
    """Cross-entropy as both; labels of the Fisher information are drawn from what the model says."""

    def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> torch.Tensor:
        logits = model(batch[0])
        labels = torch.multinomial(logits.detach().softmax(1), 1).flatten() if sample else batch[1]
        return cross_entropy(logits, labels, reduction="sum")

    def compute_measurement(self, batch: Any, model: nn.Module) -> torch.Tensor:
        return cross_entropy(model(batch[0]), batch[1], reduction="sum")
