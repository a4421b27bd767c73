"""Many ordinary networks of one shape, trained at once by batched products: what retraining takes, in a fraction of the time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from peer_settings import BATCH, DECAY, MOMENTUM, RATE

__all__ = ["train_many"]

HALVES_EPOCHS = 15


def train_many(
    inputs: torch.Tensor,
    labels: torch.Tensor,
    hidden: tuple[int, ...],
    members: torch.Tensor,
    generator: torch.Generator,
    *,
    first: nn.Sequential | None = None,
    epochs: int = HALVES_EPOCHS,
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Train B networks of linear layers and ReLU, each on its members.

    Args:
        inputs, labels: float32 [N, F] and int64 [N].
        hidden: widths of hidden layers.
        members: bool [B, N], equally many in each row.
        generator: of weights and of the order of instances.
        first: a network of these widths whose weights all B begin with, and then all visit the places of their members in one
            order: they differ in their members alone. None: each has weights and an order of its own.
        epochs: passes over the members.

    Returns:
        float32 [M, F] → what each network says of it, [B, M, C].
    """
    many, half = len(members), int(members[0].sum())
    rows = torch.stack([row.nonzero()[:, 0] for row in members])
    weights, biases = (
        _drawn([inputs.shape[1], *hidden, int(labels.max()) + 1], many, generator)
        if first is None
        else _copies(first, many)
    )

    def forward(units: torch.Tensor) -> torch.Tensor:
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            units = torch.baddbmm(bias, units if number == 0 else units.relu(), weight)
        return units

    parameters = [tensor.requires_grad_() for tensor in (*weights, *biases)]
    # Fused steps round otherwise, and twenty epochs make that visible: each kind goes on as its published numbers were made.
    optimizer = torch.optim.SGD(parameters, lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, fused=first is not None)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, epochs * -(-half // BATCH))
    for _ in range(epochs):
        if first is None:
            order = torch.rand(many, half, generator=generator).argsort(1)
        else:
            order = torch.randperm(half, generator=generator).expand(many, -1)
        for places in order.split(BATCH, dim=1):
            batch = rows.gather(1, places)
            losses = cross_entropy(forward(inputs[batch]).flatten(0, 1), labels[batch].flatten(), reduction="none")
            optimizer.zero_grad()
            losses.view(many, -1).mean(1).sum().backward()
            optimizer.step()
            schedule.step()

    def outputs(asked: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([forward(some.expand(many, -1, -1)) for some in asked.split(500)], dim=1)

    return outputs


def _drawn(widths: list[int], many: int, generator: torch.Generator) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Weights [B, F, H], normal of variance 2/F, and biases [B, 1, H], zero, of each layer."""
    pairs = list(zip(widths[:-1], widths[1:], strict=True))
    weights = [torch.randn(many, a, b, generator=generator) * (2 / a) ** 0.5 for a, b in pairs]
    return weights, [torch.zeros(many, 1, b) for _, b in pairs]


def _copies(network: nn.Sequential, many: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Those of a network, B times."""
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    weights = [layer.weight.detach().T.expand(many, -1, -1).clone() for layer in layers]
    return weights, [layer.bias.detach().expand(many, 1, -1).clone() for layer in layers]
