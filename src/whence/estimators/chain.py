"""Sub-networks of a model that is a chain behind its first mask: linear layers, functions of single units, and masks.

Then only kept units need to be computed. Of a linear layer that reads masked units, the columns of kept ones are taken, of one
whose outputs are masked, the rows; each mask and its complement together cost one layer instead of two. Behind the first mask,
where both sub-networks read the same values h, the flipped one is what is left: W(h∘(1 − b)) = Wh − W(h∘b). What lies before the
first mask is computed once per target. Nothing is approximated: in float32 the outputs are those of the model to rounding.

bfloat16 rounds weights, and what lies between products, to 8 bits; sums within a product are in float32. A processor with
units for products of bfloat16 (AMX) multiplies faster than it gathers kept units: there all units are computed, of many masks at
once, and masks are multiplied in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from whence.attachment import ACTIVATIONS, attached
from whence.data import Dataset
from whence.dropout import TurnOverDropout, explicit
from whence.estimators.head import Written, close
from whence.forward import device_of, evaluating, outputs

__all__ = ["Chain", "find_chain", "multiplies_fast", "positions"]

_NOTHING = (nn.Identity, nn.Dropout)  # in evaluation

_Units = dict[
    str, tuple[torch.Tensor, torch.Tensor]
]  # of each masked layer, int64 positions of kept units, and of the others


@dataclass(eq=False)
class _Block:
    """A mask or none, a linear layer, functions of its outputs, and the mask on those, or none."""

    read: str | None
    linear: nn.Linear
    functions: list[Callable[[torch.Tensor], torch.Tensor]] = field(default_factory=list)
    written: str | None = None


class Chain:
    """The blocks behind the first mask.

    Args:
        blocks: in order; the first one reads masked units.
        keeps: share of units kept by masked layer.
        dtype: float32 or bfloat16, of products and of what lies between them.
    """

    def __init__(self, blocks: list[_Block], keeps: dict[str, float], dtype: torch.dtype = torch.float32) -> None:
        assert blocks[0].read is not None
        self.blocks, self.keeps, self.dtype, self.first = blocks, keeps, dtype, blocks[0].read
        self.biases = [None if block.linear.bias is None else block.linear.bias.detach().to(dtype) for block in blocks]
        self.weights = [self._weights(block) for block in blocks]
        self._memory = threading.local()

    def _weights(self, block: _Block) -> tuple[torch.Tensor, torch.Tensor]:
        """For a mask and for its complement, [H, D]; of blocks that read masked units [D, H], times what masks multiply kept
        units by, so that what is gathered lies together in memory."""
        weight = block.linear.weight.detach().float()
        if block.read is None:
            return (weight.to(self.dtype),) * 2
        q, columns = self.keeps[block.read], weight.T.contiguous()
        own = (columns / q).to(self.dtype)
        return own, own if q == 0.5 else (columns / (1 - q)).to(self.dtype)

    def begin(self, features: torch.Tensor) -> None:
        """What the first mask is laid on, for the next targets: [m, D]."""
        self.features = features.to(self.dtype)
        self.transposed = features.T.contiguous().to(self.dtype)
        weight = self.blocks[0].linear.weight.detach().float()
        # What the first layer would make of all units, times what the flipped mask multiplies by: [m, H].
        self._whole_sums = (self.features.float() @ weight.T / (1 - self.keeps[self.first])).to(self.dtype)
        self._dense = [block.linear.weight.detach().T.contiguous().to(self.dtype) for block in self.blocks]
        self.whole = None
        if self.blocks[0].written is None:
            self.whole = (self.transposed.T.float() @ self.weights[0][1].float()).to(self.dtype)

    @torch.no_grad()
    def together(self, bits: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """As ``pair``, of K masks, bool [K, D] of each layer, at once, all units computed: [K, m, C] each."""
        (size, columns), masks = self.features.shape, len(bits[self.first])
        own, flipped = self._multipliers(self.first, bits)
        read = torch.mul(self.features, own, out=self._scratch("read", (masks, size, columns)))
        values = self._scratch(0, (2, masks, size, self._dense[0].shape[1]))
        torch.mm(read.view(-1, columns), self._dense[0], out=values[0].view(-1, values.shape[-1]))
        q = self.keeps[self.first]
        torch.sub(self._whole_sums, values[0], alpha=q / (1 - q), out=values[1])
        values = self._finished(0, values, None)
        for number in range(1, len(self.blocks)):
            if (name := self.blocks[number].read) is not None:
                own, flipped = self._multipliers(name, bits)
                values[0] *= own
                values[1] *= flipped
            written = self._scratch(number, (2, masks, size, self._dense[number].shape[1]))
            torch.mm(values.view(-1, values.shape[-1]), self._dense[number], out=written.view(-1, written.shape[-1]))
            values = self._finished(number, written, None)
        found = values.float()
        return (found[0], found[1]) if found is not values else (found[0].clone(), found[1].clone())

    def _multipliers(self, name: str, bits: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """What masks and their complements multiply the units of a layer by: [K, 1, D] each."""
        q = self.keeps[name]
        return (bits[name] / q).to(self.dtype)[:, None], (~bits[name] / (1 - q)).to(self.dtype)[:, None]

    def _scratch(self, use: str | int, shape: tuple[int, ...]) -> torch.Tensor:
        """Memory of this thread, of whatever content, that the next call uses again: new memory costs as much as a product."""
        kept: dict[Any, torch.Tensor] = self._memory.__dict__
        if (use, shape) not in kept:
            kept[use, shape] = torch.empty(shape, dtype=self.dtype)
        return kept[use, shape]

    @torch.no_grad()
    def pair(self, units: _Units) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs [m, C] of the sub-network of a mask, and of that of its complement. Threads may ask side by side."""
        kept, others = units[self.first]
        read = self.transposed.index_select(0, kept).T
        if self.whole is None:
            own = self._block(0, read, units, 0)
            flipped = self._block(0, self.transposed.index_select(0, others).T, units, 1)
        else:
            q = self.keeps[self.first]
            sums = read @ self.weights[0][0].index_select(0, kept)
            flipped = self._finished(0, torch.sub(self.whole, sums, alpha=q / (1 - q)), None)
            own = self._finished(0, sums, None)
        for number in range(1, len(self.blocks)):
            own, flipped = self._block(number, own, units, 0), self._block(number, flipped, units, 1)
        return own.float(), flipped.float()

    def _block(self, number: int, read: torch.Tensor, units: _Units, side: int) -> torch.Tensor:
        """Of the units [m, d] that one side keeps of what a block reads, those that the side keeps of what it writes."""
        block, weight = self.blocks[number], self.weights[number][side]
        rows = None if block.written is None else units[block.written][side]
        if block.read is None:
            return self._finished(number, read @ (weight if rows is None else weight.index_select(0, rows)).T, rows)
        weight = weight.index_select(0, units[block.read][side])
        return self._finished(number, read @ (weight if rows is None else weight.index_select(1, rows)), rows)

    def _finished(self, number: int, sums: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
        bias = self.biases[number]
        if bias is not None:
            sums += bias if rows is None else bias.index_select(0, rows)
        for function in self.blocks[number].functions:
            sums = function(sums)
        return sums


def find_chain(model: nn.Module, data: Dataset, dtype: torch.dtype = torch.float32) -> Chain | None:
    """Follow tensors back through one forward pass, from the outputs to the first mask.

    Nothing is taken on trust: under two random masks, and their complements, the chain must give what the model gives.

    Returns:
        The chain, or None where anything else lies behind the first mask.
    """
    layers = attached(model)
    if not layers or any(layer.units is None for layer in layers.values()):
        return None
    batch = data.batch(np.arange(min(3, len(data)))).to(device_of(model))
    for seed in range(2):
        bits = {name: torch.from_numpy(layer.bits(np.array([seed]), "random")[0]) for name, layer in layers.items()}
        made = _follow(model, layers, batch.inputs, {name: bit / layers[name].keep for name, bit in bits.items()})
        if made is None:
            return None
        blocks, features, own = made
        chain = Chain(blocks, {name: layer.keep for name, layer in layers.items()})
        chain.begin(features)
        found = chain.pair({name: positions(bit.to(features.device)) for name, bit in bits.items()})
        multipliers = {name: (~bit / (1 - layers[name].keep)).to(features.device) for name, bit in bits.items()}
        with evaluating(model), explicit(multipliers), torch.no_grad():
            flipped = outputs(model, batch.inputs)
        if not (close(found[0], own) and close(found[1], flipped)):
            return None
    return Chain(blocks, chain.keeps, dtype)


def multiplies_fast(dtype: torch.dtype) -> bool:
    """Whether the processor has units for products of a type, so that computing all units takes less time than choosing some."""
    has_tiles = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return dtype == torch.bfloat16 and bool(has_tiles())


def positions(bits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a mask [D], int64 positions of kept units, and of the others."""
    return bits.nonzero()[:, 0], (~bits).nonzero()[:, 0]


@dataclass(frozen=True, eq=False)
class _Call:
    """One call of a module: what it read and what it made, and the tensors, kept so that their memory is not used again."""

    module: nn.Module
    read: Written
    made: Written
    tensors: tuple[torch.Tensor, torch.Tensor]
    values: torch.Tensor | None  # what a masked layer read


def _follow(
    model: nn.Module, layers: dict[str, TurnOverDropout], inputs: Any, multipliers: dict[str, torch.Tensor]
) -> tuple[list[_Block], torch.Tensor, torch.Tensor] | None:
    """The blocks, what the first mask is laid on, and the outputs, of a batch under given masks; None where there is no chain."""
    calls: list[_Call] = []
    pending: list[tuple[Written, torch.Tensor]] = []

    def before(module: nn.Module, given: tuple[Any, ...]) -> None:
        pending.append((Written.of(given[0]), given[0]))

    def after(module: nn.Module, given: tuple[Any, ...], made: torch.Tensor) -> None:
        read, tensor = pending.pop()
        values = tensor.detach().float().clone() if isinstance(module, TurnOverDropout) else None
        calls.append(_Call(module, read, Written.of(made), (tensor, made), values))

    kinds = (nn.Linear, *ACTIVATIONS, *_NOTHING)
    watched = [module for module in model.modules() if type(module) in kinds] + list(layers.values())
    hooks = [module.register_forward_pre_hook(before) for module in watched]
    hooks += [module.register_forward_hook(after, prepend=True) for module in watched]  # before a mask that hangs on it
    try:
        moved = {name: value.to(device_of(model)) for name, value in multipliers.items()}
        with evaluating(model), explicit(moved), torch.no_grad():
            result = outputs(model, inputs)
    except (AttributeError, IndexError):  # modules that are given keywords, or make other things than tensors
        return None
    finally:
        for hook in hooks:
            hook.remove()
    steps: list[_Call] = []
    now, missing = Written.of(result), set(map(id, layers.values()))
    while missing:
        made = [call for call in calls if call.made == now and all(call is not step for step in steps)]
        # A mask's output may stand for that of the module it hangs on; a call that made nothing new stands for nothing.
        masks = [call for call in made if isinstance(call.module, TurnOverDropout)]
        if not made:
            return None
        step = (masks or made)[-1]
        if step.tensors[0].ndim != 2 or sum(call.module is step.module for call in calls) > 1:
            return None
        steps.append(step)
        missing.discard(id(step.module))
        now = step.read
    first = steps[-1].values
    blocks = _blocks([step.module for step in reversed(steps)])
    return None if blocks is None or first is None else (blocks, first, result)


def _blocks(modules: list[nn.Module]) -> list[_Block] | None:
    """Modules in their order as blocks; None where a mask is not read by a linear layer at once."""
    blocks: list[_Block] = []
    mask: str | None = None
    for module in modules:
        if isinstance(module, TurnOverDropout):
            if mask is not None:
                return None
            mask = module.layer
            if blocks:
                blocks[-1].written = mask
        elif type(module) is nn.Linear:
            blocks.append(_Block(mask, module))
            mask = None
        elif type(module) in ACTIVATIONS:
            if mask is not None or not blocks:
                return None
            # Not the module: a mask may hang on it. What it is given is never needed again.
            blocks[-1].functions.append(torch.relu_ if type(module) is nn.ReLU else module.forward)
    return blocks if blocks and mask is None else None
