"""Sub-networks of a model whose only mask feeds its head: outputs are affine in the mask.

    own(b) = W(h∘b)/q + c        flipped = (full − q·own)/(1 − q)        full = Wh + c

so that one matrix product gives the own outputs of many masks on many targets, and their complement the flipped ones.

Cross-entropy on a CPU needs no outputs. With f_c how far class c is above the label for the full network, and
d_c = (b/q − 1)ᵀ(h∘(W_c − W_label)) how much further for the own mask, what flipping does to the loss is

    ln(1 + Σ_c exp(f_c − d_c·q/(1 − q))) − ln(1 + Σ_c exp(f_c + d_c)),   c over the other classes than the label

where at q = ½ one exponential serves both sums. Blocks of d are about as large as a core's cache, and each core works on its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from whence.estimators.base import ROUND
from whence.estimators.cores import a_core_each
from whence.quantities import Quantity, cross_entropy

__all__ = ["Affine", "measured"]

_NUMBERS_AT_ONCE = 2**22  # outputs held at a time
_MASKS, _IN_CACHE = 384, 2**21  # masks, and numbers about them, that a core works on
_LONG = 64  # targets from which on sums go class by class
_KEPT_NUMBERS = 2**26  # of directions, which are the same for all masks
_MODERATE = 80.0  # exponents whose exponentials are neither zero nor infinite


class Affine:
    """What flipping masks does to a quantity of M targets.

    Args:
        features: h, float32 [M, D], what the masked layer reads.
        weight, bias: W [C, D] and c [C] or None, of the head.
        keep: q.
        targets: labels or numbers, [M].
        quantity: of outputs [K, C] and targets [K].
    """

    def __init__(
        self,
        features: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        keep: float,
        targets: torch.Tensor,
        quantity: Quantity,
    ) -> None:
        self.features, self.weight, self.keep = features, weight.detach().float(), keep
        self.bias = torch.zeros_like(self.weight[:, 0]) if bias is None else bias.detach().float()
        self.targets, self.quantity = targets, quantity
        self._columns = max(1, _IN_CACHE // (_MASKS * len(self.weight)))
        self._columns -= self._columns % ROUND if self._columns > ROUND else 0
        self._directions: dict[int, torch.Tensor] = {}
        self._fits = self.weight.numel() * len(features) <= _KEPT_NUMBERS
        self._above: torch.Tensor | None = None
        if quantity.function is cross_entropy and features.device.type == "cpu":
            full = self.features @ self.weight.T
            above = full - full.gather(1, targets[:, None]) + (self.bias - self.bias[targets, None])
            self._above = above if bool((above.abs() <= _MODERATE).all()) else None

    def differences(self, kept: torch.Tensor) -> torch.Tensor:
        """Quantity under the flipped masks less that under the masks bool [R, D]: float32 [R, M]."""
        result = torch.empty(len(kept), len(self.targets), device=kept.device)
        if self._above is None:
            return self._by_outputs(kept.float(), result)
        steps = (kept.float() / self.keep).sub_(1)
        with a_core_each(kept.device) as over:
            list(over(partial(self._losses, steps, self._above, result), range(0, len(self.targets), self._columns)))
        return result if result.sum().isfinite() else self._by_outputs(kept.float(), result)

    def _losses(self, steps: torch.Tensor, above: torch.Tensor, result: torch.Tensor, left: int) -> None:
        """Fill in some columns, by exponentials alone."""
        part = slice(left, min(left + self._columns, len(self.targets)))
        directions = self._directions_of(part)  # (D, (C−1)·m)
        weights = above[part].gather(1, self._others(part).T).T.contiguous().exp()  # (C−1, m)
        for top in range(0, len(steps), _MASKS):
            own = steps[top : top + _MASKS] @ directions
            shape = len(own), *weights.shape
            if self.keep == 0.5:
                flipped_sum = _sum_over(own.exp_().view(shape), weights)
            else:
                flipped_sum = _sum_of((own * (-self.keep / (1 - self.keep))).exp_().view(shape), weights)
                own.exp_()
            own_sum = _sum_of(own.view(shape), weights)
            torch.sub(flipped_sum.log_(), own_sum.log_(), out=result[top : top + len(own), part])

    def _directions_of(self, part: slice) -> torch.Tensor:
        """Where masks move the distances of other classes from the labels of some targets: [D, (C−1)·m]."""
        if (found := self._directions.get(part.start)) is not None:
            return found
        away = self.weight[self._others(part)] - self.weight[self.targets[part]]  # (C−1, m, D)
        made = away.mul_(self.features[part]).flatten(0, 1).T.contiguous()
        if self._fits:
            self._directions[part.start] = made
        return made

    def _others(self, part: slice) -> torch.Tensor:
        """The classes that are not the label, of some targets: int64 [C−1, m]."""
        classes = torch.arange(len(self.weight) - 1)[:, None]
        return classes + (classes >= self.targets[part])

    def _by_outputs(self, kept: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        """Fill in all columns, whatever the quantity is."""
        q, classes = self.keep, len(self.weight)
        columns = max(1, _NUMBERS_AT_ONCE // (classes * kept.shape[1]))
        for left in range(0, len(self.targets), columns):
            part = slice(left, min(left + columns, len(self.targets)))
            per_unit = self.features[part, None, :] * self.weight  # (m, C, D): what each unit adds to each output
            full = per_unit.sum(-1)  # (m, C), without the bias, which would cancel digits
            rows = max(1, _NUMBERS_AT_ONCE // full.numel())
            for top in range(0, len(kept), rows):
                block = kept[top : top + rows]
                kept_sums = (block @ per_unit.flatten(0, 1).T).view(len(block), *full.shape)
                own, flipped = kept_sums / q + self.bias, (full - kept_sums) / (1 - q) + self.bias
                measure = measured(self.quantity, self.targets[part])
                result[top : top + rows, part] = measure(flipped) - measure(own)
        return result


def _sum_of(terms: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """1 + Σ_c weights[c] · terms[:, c], of terms [R, C−1, m], which are lost, and weights [C−1, m]: [R, m]."""
    if weights.shape[1] < _LONG:
        return terms.mul_(weights).sum(1).add_(1)
    total = torch.ones(len(terms), weights.shape[1])
    for c, weight in enumerate(weights):
        total.addcmul_(terms[:, c], weight)
    return total


def _sum_over(terms: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """1 + Σ_c weights[c] / terms[:, c]: [R, m]."""
    if weights.shape[1] < _LONG:
        return torch.div(weights, terms).sum(1).add_(1)
    total = torch.ones(len(terms), weights.shape[1])
    for c, weight in enumerate(weights):
        total.addcdiv_(weight, terms[:, c])
    return total


def measured(quantity: Quantity, targets: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Of the outputs [K, m, C] of K sub-networks for targets [m], the quantity: [K, m]."""
    return lambda given: quantity(given.flatten(0, 1), targets.repeat(len(given))).view(given.shape[:2])
