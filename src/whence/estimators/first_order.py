"""First-order turn-over: both masks lie about the full network, so one gradient per target serves all instances.

    Î(z → x) ≈ (m̃_z − m_z)ᵀ ∂Q(x; m)/∂m at m = 1,   m = b/q,   m̃ = (1−b)/(1−q)

over the masked units of all layers, Q taken at the outputs over T. At q = ½, m̃ − m = −2(2b − 1) and the estimate is a
central difference: its error is of third order. Costs one forward and backward pass per target and one product of [N, D]
with [D, M].

The full network is surer than any of its sub-networks, often too sure: its loss would fall if all of its outputs were smaller.
At T = 1 the derivative in a mask is therefore mostly that of confidence, and units that learned from clean data, being surer, seem
to harm: the mean effect of groups has the wrong sign (docs/estimators.md). T is the temperature at which the full network
is as unsure as its flipped sub-networks (``softening.py``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from whence.data import Dataset
from whence.dropout import explicit
from whence.errors import WhenceError
from whence.estimators import fused
from whence.estimators.base import Precision, distinct_masks, dtype_named, frozen, many_at_stake, mask_rows, rounded
from whence.estimators.reused import Reused
from whence.estimators.softening import matched_temperature
from whence.forward import evaluating, outputs
from whence.masks import mask_key
from whence.quantities import Quantity
from whence.run import Run

__all__ = ["FirstOrder"]

_TARGETS_AT_ONCE = 256


class FirstOrder:
    """The linear part of turn-over influence in the masks. Positive: z helps.

    Args:
        run: the trained run.
        targets: M instances.
        quantity: differentiable in the outputs.
        precision: "bfloat16" rounds the derivatives to 8 bits; sums are in float32. On an NVIDIA GPU with Triton masks are then
            drawn inside the product (``fused.py``). Its scores are off by some thousandths of their spread.
        softened: of a classifier, take it at outputs over the temperature that flipped sub-networks call for; False is the
            central difference of the published estimate.

    Raises:
        WhenceError: the quantity has no gradient; no such precision.
    """

    version = 1
    at_once = 2**24
    rows_of = staticmethod(mask_rows)
    at_stake = staticmethod(many_at_stake)

    def __init__(
        self,
        run: Run,
        targets: Dataset,
        quantity: Quantity,
        *,
        softened: bool = True,
        precision: Precision = "float32",
    ) -> None:
        self.dtype = dtype_named(precision, "method first_order")
        if not quantity.differentiable:
            raise WhenceError("a quantity without a gradient", where="method first_order", got=quantity.name,
                              mend="Use method turnover, which takes any metric.")  # fmt: skip
        self.run, self.quantity, self.targets = run, quantity, len(targets)
        self.ids = distinct_masks(run.train)
        self.layers, self._reused = run.layers, Reused(run.device)
        self.temperature = matched_temperature(run) if softened and run.task.kind == "classification" else 1.0
        with evaluating(run.model), frozen(run.model):
            parts = [self._gradients(targets, start) for start in range(0, len(targets), _TARGETS_AT_ONCE)]
        # Of each layer [D, M], times what makes them those of flipped minus own: 1/(1 − q) − b/(q(1 − q)) is (q − b)/(q(1 − q)).
        self.gradients = [
            rounded(torch.cat(of_layer).T * (-quantity.helps / (layer.keep * (1 - layer.keep))))
            .contiguous()
            .to(self.dtype)
            for layer, of_layer in zip(self.layers.values(), zip(*parts, strict=True), strict=True)
        ]

    def block(self, start: int, stop: int) -> np.ndarray:
        return self._scores(self.ids[start:stop], "own")

    def null(self, count: int, seed: int) -> np.ndarray:
        return self._scores((seed << 32) + np.arange(count), "random")

    def _scores(self, ids: np.ndarray, domain: Any) -> np.ndarray:
        total: torch.Tensor | None = None
        for layer, gradients in zip(self.layers.values(), self.gradients, strict=True):
            total = self._with(total, layer, gradients, ids, domain)
        assert total is not None  # a run has a masked layer
        return total[:, : self.targets].cpu().numpy()

    def _with(
        self, before: torch.Tensor | None, layer: Any, gradients: torch.Tensor, ids: np.ndarray, domain: Any
    ) -> torch.Tensor:
        """What a layer's masks do to each target on top of what the layers before it do: float32 [R, M]."""
        if self.dtype == torch.bfloat16 and fused.available(self.run.device) and layer.scheme == "independent":
            on_device, key = torch.from_numpy(ids).to(self.run.device), mask_key(layer.seed, layer.layer, domain)
            product = fused.mask_product(on_device, gradients, key, layer.keep)
            return product if before is None else before.add_(product)
        steps = torch.from_numpy(layer.bits(ids, domain)).to(self.run.device).to(self.dtype).sub_(layer.keep)
        if before is not None:
            return before.addmm_(steps, gradients) if self.dtype == torch.float32 else before.add_(steps @ gradients)
        room = self._reused.empty(len(ids), gradients.shape[1])
        return torch.mm(steps, gradients, out=room) if self.dtype == torch.float32 else room.copy_(steps @ gradients)

    def _gradients(self, targets: Dataset, start: int) -> list[torch.Tensor]:
        """∂Q(x; m)/∂m at m = 1 for some targets: of each layer float32 [m, D]."""
        batch = targets.batch(np.arange(start, min(start + _TARGETS_AT_ONCE, len(targets)))).to(self.run.device)
        ones = {
            name: torch.ones(len(batch.targets), layer.units, device=self.run.device, requires_grad=True)
            for name, layer in self.layers.items()
        }
        with torch.enable_grad(), explicit(ones):
            given = outputs(self.run.model, batch.inputs) / self.temperature
            values = self.quantity(given, batch.targets)
            if not values.requires_grad:
                raise WhenceError("a quantity without a gradient", where="method first_order", got=self.quantity.name,
                                  mend="Use method turnover, which takes any metric.")  # fmt: skip
            return [gradient.float() for gradient in torch.autograd.grad(values.sum(), list(ones.values()))]
