"""How alike pictures are to a convolutional network that has learned nothing.

    φ(z)ᵀ (Φ_c + λ·mean |φ|²·I)⁻¹ φ(x)

on random convolutional features φ (``random_features.py``), Φ_c their second moment weighed by p_c(1 − p_c) as of any layer
(``curvatures.py``). What a network's own layers read depends on the pictures it was trained on, by heart where it has memorized
them, and another training finds other features; what any network of its kind finds alike stays. With as much weight as the
network's layers together it foretells retraining of small networks better than they do (docs/estimators.md).
"""

from __future__ import annotations

import torch

from whence.data import Dataset
from whence.estimators.base import evenly
from whence.estimators.comparing import Asked, Desk
from whence.estimators.components import leading, project, width_after
from whence.estimators.curvatures import Classes, Curvatures, Demand
from whence.estimators.parts import Look
from whence.estimators.random_features import Looks

__all__ = ["Likeness"]

_DAMPING = 0.02
_SAMPLE = 2048
_MOST = 2**28  # numbers kept of all training pictures: 1 GiB


class Likeness:
    """A part of the kernel beside those of the layers (``parts.py``).

    Args:
        looks: of the training pictures.
        demand: what targets will ask of each class.
        curvature: float32 [N, C], of the loss in each output.
        device: where products are made.
    """

    def __init__(self, looks: Looks, demand: Demand, curvature: torch.Tensor, device: torch.device) -> None:
        self.looks, self.demand, self.device = looks, demand, device
        count = len(curvature)
        sample = looks.data.select(evenly(count, _SAMPLE))
        rows = torch.cat([features for _, features in looks.blocks(sample)])
        self.basis = leading(rows, max(1, min(looks.columns, _MOST // count)))
        width = width_after(looks.columns, self.basis)
        self.kept, curvatures = torch.empty(count, width), Curvatures(width, demand, device)
        for some, features in looks.blocks():
            self.kept[some] = project(features, self.basis)
            curvatures.learn(self.kept[some][:, None], curvature[some])
        self.inverses = curvatures.inverses(_DAMPING * float(self.kept.square().sum(1).mean()))
        self.asked = Asked(demand.amounts.shape[1])
        self.weight = 1.0

    def of(self, data: Dataset) -> torch.Tensor:
        """What is kept of other pictures: float32 [M, d]."""
        return torch.cat([project(features, self.basis) for _, features in self.looks.blocks(data)])

    def meet(self, kept: torch.Tensor, classes: Classes, amounts: torch.Tensor) -> None:
        """The next targets, [B, d], and how much each wants of each class: [B, C]."""
        for c in range(self.asked.classes):
            rows, _ = classes.of(c)
            met = kept[rows].to(self.device) @ self.inverses[self.demand.shared[c]]
            self.asked.add(c, met * amounts[rows, c, None].to(met))

    def met(self, orders: list[torch.Tensor]) -> None:
        """All targets have been met; of each class, in which order they are wanted: int64 [M_c]."""
        self.asked.close(orders)

    def pick(self, rows: torch.Tensor) -> Look:
        """What training pictures are compared by: their numbers, int64 [R], since more than one class matters to most of them."""
        return (rows,)

    def compare(self, picked: Look, c: int, columns: slice, total: torch.Tensor, desk: Desk) -> None:
        """Add to ``total`` [R, m] how alike pictures and some of the targets that ask of class c are."""
        kept = self.kept.index_select(0, picked[0]).to(self.device)
        total.addmm_(kept, self.asked.of(c, columns), alpha=self.weight)
