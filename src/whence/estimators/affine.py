"""Sub-networks of a model whose only mask feeds its head: outputs are affine in the mask.

    own(b) = W(h∘b)/q + c        flipped = (full − q·own)/(1 − q)        full = Wh + c

so that one matrix product gives the own outputs of many masks on many targets, and their complement the flipped ones.

Cross-entropy on a CPU needs no outputs. With f_c how far class c is above the label for the full network, and
d_c = (b/q − 1)ᵀ(h∘(W_c − W_label)) how much further for the own mask, what flipping does to the loss is

    ln Σ_c exp(f_c − d_c·q/(1 − q)) − ln Σ_c exp(f_c + d_c)

where at q = ½ one exponential serves both sums. Blocks of d are as large as a core's cache, and each core works on its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from whence.estimators.cores import a_core_each
from whence.quantities import Quantity, cross_entropy

__all__ = ["Affine", "measured"]

_NUMBERS_AT_ONCE = 2**22  # outputs held at a time
_MASKS, _IN_CACHE = 128, 2**18  # masks and numbers in a core's block: rows are long, since each has a cost of its own
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
        directions = self._directions_of(part)  # (D, C·m)
        shape = -1, len(self.weight), part.stop - left
        weights = above[part].T.contiguous().exp()  # (C, m)
        own, flipped = torch.empty(2, _MASKS, directions.shape[1])
        for top in range(0, len(steps), _MASKS):
            some = steps[top : top + _MASKS]
            one, other = own[: len(some)], flipped[: len(some)]
            torch.mm(some, directions, out=one)
            if self.keep == 0.5:
                torch.reciprocal(one.exp_(), out=other)
            else:
                torch.mul(one, -self.keep / (1 - self.keep), out=other).exp_()
                one.exp_()
            sums = [each.view(shape).mul_(weights).sum(1).log_() for each in (one, other)]  # (r, m) each
            torch.sub(sums[1], sums[0], out=result[top : top + len(some), part])

    def _directions_of(self, part: slice) -> torch.Tensor:
        """Where masks move the distances of classes from the labels of some targets: [D, C·m]."""
        if (found := self._directions.get(part.start)) is not None:
            return found
        away = self.weight[:, None] - self.weight[self.targets[part]]  # (C, m, D)
        made = away.mul_(self.features[part]).flatten(0, 1).T.contiguous()
        if self._fits:
            self._directions[part.start] = made
        return made

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


def measured(quantity: Quantity, targets: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Of the outputs [K, m, C] of K sub-networks for targets [m], the quantity: [K, m]."""
    return lambda given: quantity(given.flatten(0, 1), targets.repeat(len(given))).view(given.shape[:2])
