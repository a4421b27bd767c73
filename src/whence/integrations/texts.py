"""Causal language models: the loss of a text, and so the influence of training texts on it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["TextLoss"]


class TextLoss(nn.Module):
    """A causal language model that says of each text how surprising it is: what ``whence.Run`` asks of a language model.

    The reduction over tokens happens here, so that no [N, L, V] is ever kept; the run's quantity divides.

    Args:
        model: gives ``logits`` [B, L, V] for ``input_ids`` [B, L]; turn-over dropout may be attached to it already.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor | None = None, **more: Any) -> torch.Tensor:
        """The summed loss of each text's tokens given those before them, in nats, and their number: [B, 2].

        Args:
            input_ids: int64 [B, L].
            labels: int64 [B, L]: the tokens that count, −100 elsewhere; by default all that ``attention_mask`` does not leave out.
            more: further arguments of the model, such as ``attention_mask``.
        """
        logits = self.model(input_ids=input_ids, **more).logits[:, :-1].float()  # (B, L − 1, V)
        if labels is None:
            padding = more.get("attention_mask")
            labels = input_ids if padding is None else input_ids.masked_fill(padding == 0, -100)
        wanted = labels[:, 1:]
        losses = F.cross_entropy(logits.transpose(1, 2), wanted, ignore_index=-100, reduction="none")  # (B, L − 1)
        counted = (wanted != -100).sum(1).clamp_min(1)
        return torch.stack([losses.sum(1), counted.to(losses)], dim=1)
