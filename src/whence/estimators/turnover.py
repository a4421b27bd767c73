"""Published turn-over influence, exact, for any architecture and any quantity.

Three ways to the numbers of ``reference.py``:

    affine   the only masked layer feeds the head: outputs are affine in the mask (``affine.py``)
    chain    on a CPU, where behind the first mask there are only linear layers, functions of single units and masks: only kept
             units are computed, mask by mask (``chain.py``)
    masks    otherwise: many masks through the network at once, vectorized over the mask (``torch.func.vmap``), so that
             whatever lies before the first masked layer is computed once per target and block of masks

A model that vmap cannot take is called once per mask.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from whence.data import Batch, Dataset
from whence.dropout import explicit, full
from whence.estimators.affine import Affine, measured
from whence.estimators.base import Precision, distinct_masks, dtype_named, mask_rows
from whence.estimators.chain import Chain, find_chain, multiplies_fast, positions
from whence.estimators.cores import a_core_each
from whence.estimators.head import features_of, find_head
from whence.forward import evaluating, outputs
from whence.quantities import Quantity
from whence.run import Run

__all__ = ["Turnover"]

_NUMBERS_AT_ONCE = 2**22  # outputs or masked activations held at a time
_TARGETS_AT_ONCE, _MASKS_AT_ONCE, _MASKS_TOGETHER = 256, 64, 16  # of a chain: activations that stay in the cache


class Turnover:
    """Î(z → x) = Q(x; m̃_z) − Q(x; m_z), or its negative when more of Q is better. Positive: z helps.

    Args:
        run: the trained run.
        targets: M instances.
        quantity: what is measured on them; any function of outputs and targets.
        path: "auto" takes "affine" or "chain" where they hold; "vmap" and "loop" force the general ways (tests).
        precision: of a chain; anything else is float32. "bfloat16" takes about a third of the time where the processor has units
            for it, and its scores are off by a hundredth of their spread or less (docs/speed.md).

    Raises:
        WhenceError: no such precision.
    """

    version = 1
    at_once = 2**22
    rows_of = staticmethod(mask_rows)

    @staticmethod
    def at_stake(run: Run) -> int:
        head = find_head(run.model, run.train)
        return 2**28 if head is not None and head.only else 2**25

    def __init__(
        self,
        run: Run,
        targets: Dataset,
        quantity: Quantity,
        *,
        path: Literal["auto", "vmap", "loop"] = "auto",
        precision: Precision = "float32",
    ) -> None:
        dtype = dtype_named(precision, "method turnover")
        self.run, self.targets, self.quantity = run, targets, quantity
        self.ids = distinct_masks(run.train)
        self.layers = run.layers
        head = find_head(run.model, targets)
        self.affine = path == "auto" and head is not None and head.only
        self.loop = path == "loop"
        # Mask by mask suits cores; other devices want many at once.
        chains = path == "auto" and not self.affine and run.device.type == "cpu"
        self.chain = find_chain(run.model, targets, dtype) if chains else None
        if self.chain is not None:
            self.before = features_of(run.model, self.layers[self.chain.first], targets)[0]  # (M, D)
        if self.affine:
            assert head is not None and head.masked is not None
            self.masked, linear = head.masked, head.linear
            features, labels = features_of(run.model, linear, targets)[0], self._target_values(slice(None))
            self.head = Affine(features, linear.weight, linear.bias, self.layers[head.masked].keep, labels, quantity)

    def block(self, start: int, stop: int) -> np.ndarray:
        ids = self.ids[start:stop]
        return self._scores({name: layer.bits(ids) for name, layer in self.layers.items()})

    def null(self, count: int, seed: int) -> np.ndarray:
        drawn = (seed << 32) + np.arange(count)
        return self._scores({name: layer.bits(drawn, "random") for name, layer in self.layers.items()})

    def _scores(self, bits: dict[str, np.ndarray]) -> np.ndarray:
        """bool [R, D] per layer → float32 [R, M]."""
        on_device = {name: torch.from_numpy(value).to(self.run.device) for name, value in bits.items()}
        with evaluating(self.run.model), torch.no_grad():
            if self.chain is not None:
                parts = self._chain(self.chain, on_device)
            else:
                parts = self.head.differences(on_device[self.masked]) if self.affine else self._masks(on_device)
        return (self.quantity.helps * parts).cpu().numpy()

    def _chain(self, chain: Chain, bits: dict[str, torch.Tensor]) -> torch.Tensor:
        count = len(next(iter(bits.values())))
        dense = multiplies_fast(chain.dtype)
        size = _MASKS_TOGETHER if dense else 1
        parts = [{name: value[top : top + size] for name, value in bits.items()} for top in range(0, count, size)]
        units = [] if dense else [{name: positions(value[0]) for name, value in part.items()} for part in parts]
        result = torch.empty(count, len(self.targets), device=self.run.device)
        for left in range(0, len(self.targets), _TARGETS_AT_ONCE):
            part = slice(left, min(left + _TARGETS_AT_ONCE, len(self.targets)))
            measure = measured(self.quantity, self._target_values(part))
            chain.begin(self.before[part])
            with a_core_each(self.run.device) as over:
                for top in range(0, count, _MASKS_AT_ONCE):
                    if dense:
                        some = parts[top // size : (top + _MASKS_AT_ONCE) // size]
                        own, flipped = map(torch.cat, zip(*over(chain.together, some), strict=True))
                    else:
                        pairs = over(chain.pair, units[top : top + _MASKS_AT_ONCE])
                        own, flipped = map(torch.stack, zip(*pairs, strict=True))
                    result[top : top + len(own), part] = measure(flipped) - measure(own)
        return result

    def _masks(self, bits: dict[str, torch.Tensor]) -> torch.Tensor:
        count = len(next(iter(bits.values())))
        at_once = max(1, _NUMBERS_AT_ONCE // (2 * self._largest_activation()))  # targets × masks, own and flipped
        masks = min(count, 64, at_once)
        columns = min(len(self.targets), max(1, at_once // masks))
        result = torch.empty(count, len(self.targets), device=self.run.device)
        for left in range(0, len(self.targets), columns):
            batch = self.targets.batch(np.arange(left, min(left + columns, len(self.targets)))).to(self.run.device)
            measure = measured(self.quantity, batch.targets)
            for top in range(0, count, masks):
                part = slice(top, min(top + masks, count))
                multipliers = {}
                for name, value in bits.items():
                    q = self.layers[name].keep
                    multipliers[name] = torch.cat(
                        [value[part] / q, ~value[part] / (1 - q)]
                    )  # (2R, D): own, then flipped
                own, flipped = self._under(multipliers, batch).chunk(2)  # (R, m, C) each
                result[part, left : left + len(batch.targets)] = measure(flipped) - measure(own)
        return result

    def _largest_activation(self) -> int:
        """Numbers in the largest output of any module, per instance: what one mask costs in memory."""
        sizes = [1]

        def measure(module: Any, inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                sizes.append(output.numel())

        hooks = [module.register_forward_hook(measure) for module in self.run.model.modules()]
        try:
            with full():
                outputs(self.run.model, self.targets.batch(np.arange(1)).to(self.run.device).inputs)
        finally:
            for hook in hooks:
                hook.remove()
        return max(sizes)

    def _under(self, multipliers: dict[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Outputs [K, m, C] of a batch of targets under K masks."""

        def one(multiplier: dict[str, torch.Tensor]) -> torch.Tensor:
            with explicit(multiplier):
                return outputs(self.run.model, batch.inputs)

        if not self.loop:
            try:
                # Fused attention has no batching rule: vmap would call it once per mask, with a warning.
                with sdpa_kernel(SDPBackend.MATH):
                    result: torch.Tensor = torch.func.vmap(one)(multipliers)
                return result.float()
            except (RuntimeError, ValueError):
                # Control flow on values, in-place writes and custom kernels are beyond vmap.
                self.loop = True
        return torch.stack([
            one({name: value[k] for name, value in multipliers.items()}) for k in range(len(next(iter(multipliers.values()))))
        ]).float()  # fmt: skip

    def _target_values(self, part: slice) -> torch.Tensor:
        return torch.from_numpy(self.targets.targets[part]).to(self.run.device)
