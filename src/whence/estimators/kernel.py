"""Influence through the last layer: the part of classical influence that one matrix product can give.

With features a (what the head reads, a one appended) and residuals e = −∂L/∂outputs (for cross-entropy: onehot − p),

    Î(z → x) = (1/N) · [a(z)ᵀ (A + λ·mean diag A·I)⁻¹ a(x)] · [e(z)ᵀ e_Q(x)] / g,     A = mean a aᵀ over training

which is Koh and Liang's (2017) −∇Q(x)ᵀ H⁻¹ ∇L(z) / N for the head alone, with the Hessian A ⊗ gI, g the mean curvature of
the loss per output. Instances that the network has memorized have no in-sample residual left, so residuals are softened by
the temperature that the flipped sub-networks call for (``softening.py``), or e(z) is taken out of sample: from the flipped
sub-network, or averaged over random sub-networks.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
import torch

from whence.data import Dataset
from whence.errors import WhenceError
from whence.estimators.base import instance_rows, many_at_stake, rounded
from whence.estimators.head import features_of, find_head
from whence.estimators.reused import Reused
from whence.estimators.softening import matched_temperature
from whence.forward import Mask, predict
from whence.quantities import Quantity
from whence.run import Run

__all__ = ["Kernel", "Residual", "mean_curvature", "residuals_at"]

Residual: TypeAlias = Literal["auto", "softened", "random", "flipped", "full"]
_MOST_SUBNETWORKS = 10_000
_IN_CACHE = 2**20  # scores


class Kernel:
    """Last-layer influence. Positive: z helps on x; to first order in the removal of z.

    Units are those of the quantity at the softened outputs: sizes are comparable with one another, but larger than what
    retraining would show, the more so the more the network has memorized. The order is what is meant.

    Args:
        run: the trained run.
        targets: M instances.
        quantity: differentiable in the outputs.
        residual: where residuals come from: "softened" (the full network's outputs over T, for z and x; classification
            only), e(z) from "random" (mean over sub-networks) or "flipped", or "full" (in sample). "auto": softened for
            classification, random for regression.
        damping: λ, in units of the mean diagonal of A; above 0.
        subnetworks: how many random sub-networks are averaged.

    Raises:
        WhenceError: the model does not end in a linear layer; the quantity has no gradient; a bad option.
    """

    version = 2
    at_once = 2**24
    rows_of = staticmethod(instance_rows)
    at_stake = staticmethod(many_at_stake)

    def __init__(self, run: Run, targets: Dataset, quantity: Quantity, *, residual: Residual = "auto",
                 damping: float = 0.1, subnetworks: int = 8) -> None:  # fmt: skip
        if residual not in get_args(Residual):
            raise WhenceError(
                "unknown residual", where="method kernel", got=repr(residual), expected=", ".join(get_args(Residual))
            )
        if not damping > 0 or not 1 <= subnetworks <= _MOST_SUBNETWORKS:
            raise WhenceError("an option out of range", where="method kernel", got=f"damping {damping}, subnetworks {subnetworks}",
                              expected=f"damping above 0, 1 to {_MOST_SUBNETWORKS} sub-networks")  # fmt: skip
        head = find_head(run.model, run.train)
        if head is None:
            raise WhenceError("the model does not end in a linear layer", where="method kernel",
                              mend="Use method turnover or first_order.")  # fmt: skip
        if residual == "auto":
            residual = "softened" if run.task.kind == "classification" else "random"
        features, full = features_of(run.model, head.linear, run.train)
        target_features, of_targets = features_of(run.model, head.linear, targets)
        self.temperature = matched_temperature(run, full) if residual == "softened" else 1.0
        masks: list[Mask] = ["flipped"] if residual == "flipped" else []
        if residual == "random":
            masks = [-1 - number for number in range(subnetworks)]
        said = [torch.from_numpy(predict(run.model, run.train, mask)) for mask in masks] or [full / self.temperature]
        self.residuals = torch.stack([residuals_at(given, run.train, run.loss) for given in said]).mean(0)  # (N, C)
        wanted = residuals_at(of_targets / self.temperature, targets, quantity) * quantity.helps  # (M, C)
        self.target_residuals = wanted / (len(run.train) * mean_curvature(said[0], run.train, run.loss))
        self.features = (
            features  # (N, H) on the model's device, as all that is multiplied; a one appended where it is used
        )
        second_moment = _second_moment(self.features)
        ridge = damping * second_moment.diagonal().mean().clamp_min(1e-12)
        inverse = torch.linalg.inv(second_moment + ridge * torch.eye(len(second_moment), dtype=torch.float64))
        whitened = torch.cat(
            [(inverse @ _with_one(some).cpu().double().T).float() for some in torch.split(target_features, 1024)], dim=1
        )
        self.targets = len(targets)
        self.whitened, self.asked = (  # (H+1, M), (C, M)
            rounded(given).contiguous().to(features.device) for given in (whitened, self.target_residuals.T)
        )
        self.residuals = self.residuals.to(features.device)
        self._reused, self._beside = Reused(features.device), Reused(features.device)

    def block(self, start: int, stop: int) -> np.ndarray:
        return self._scores(self.features[start:stop], self.residuals[start:stop])

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        some = torch.from_numpy(rows).to(self.features.device)
        return self._scores(self.features[some], self.residuals[some])

    def _scores(self, features: torch.Tensor, residuals: torch.Tensor) -> np.ndarray:
        scores = self._reused.empty(len(features), self.whitened.shape[1])
        torch.mm(features, self.whitened[:-1], out=scores)
        few = max(1, _IN_CACHE // scores.shape[1] if scores.device.type == "cpu" else len(scores))
        alike = self._beside.empty(few, scores.shape[1])
        for some, of_some in zip(torch.split(scores, few), torch.split(residuals, few), strict=True):
            some.add_(self.whitened[-1]).mul_(torch.mm(of_some, self.asked, out=alike[: len(some)]))
        return scores[:, : self.targets].cpu().numpy()


def residuals_at(outputs: torch.Tensor, data: Dataset, quantity: Quantity) -> torch.Tensor:
    """−∂Q/∂o of each instance at given outputs [N, C]: float32 [N, C].

    Raises:
        WhenceError: the quantity has no gradient.
    """
    if not quantity.differentiable:
        raise WhenceError("a quantity without a gradient", where="method kernel", got=quantity.name,
                          mend="Use method turnover, which takes any metric.")  # fmt: skip
    given = outputs.detach().clone().requires_grad_()
    with torch.enable_grad():
        values = quantity(given, torch.from_numpy(data.targets))
    return -torch.autograd.grad(values.sum(), given)[0]


def mean_curvature(outputs: torch.Tensor, data: Dataset, loss: Quantity) -> float:
    """g: the mean second derivative of a loss in one output, over outputs [N, C] of instances; of the first 2,048 of them."""
    given = outputs[:2048].detach().clone().requires_grad_()
    with torch.enable_grad():
        values = loss(given, torch.from_numpy(data.targets[: len(given)]))
        gradient = torch.autograd.grad(values.sum(), given, create_graph=True)[0]
        if not gradient.requires_grad:  # piecewise linear losses have none
            return 1.0
        diagonal = [
            torch.autograd.grad(gradient[:, c].sum(), given, retain_graph=True)[0][:, c] for c in range(given.shape[1])
        ]
    return max(float(torch.stack(diagonal).mean()), 1e-8)


def _second_moment(features: torch.Tensor) -> torch.Tensor:
    """Mean a aᵀ over instances [N, H], a one appended: float64 [H + 1, H + 1], pieces summed in double precision."""
    width = features.shape[1]
    total = torch.zeros(width + 1, width + 1, dtype=torch.float64)
    for some in torch.split(features, 1024):
        whole = rounded(some)
        total[:-1, :-1] += (whole.T @ whole)[:width, :width].cpu()
        total[-1, :-1] += some.sum(0).cpu()
    total[:-1, -1], total[-1, -1] = total[-1, :-1], len(features)
    return total / len(features)


def _with_one(features: torch.Tensor) -> torch.Tensor:
    return torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
