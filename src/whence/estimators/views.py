"""What each trained layer reads of an instance, and how the model's outputs move with what it writes.

The gradient of any function of the outputs in a layer's weights is a sum over positions p (tokens, pixels; one for a
plain layer) of outer products of what the layer reads there, a_p, and what the function's gradient says of its output
there, J_pᵀe. One forward pass gives a, and one backward pass per probe v of the outputs gives vᵀJ, for a whole batch:
nothing per instance is stored that is as large as the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from whence.data import Batch, Dataset
from whence.data.inputs import ModelInputs
from whence.dropout import full
from whence.estimators.base import frozen
from whence.forward import device_of, evaluating, outputs

__all__ = ["LayerView", "Views", "mean_read", "probes_of"]

_MOST_PROBES = 16
_SKETCH = 2048  # columns of a bag's sketch


class LayerView:
    """One layer and a batch of B instances.

    Attributes:
        each: for each of R probes of the outputs, its gradient in the layer's output: float32 [B, P, H].
    """

    def __init__(
        self, layer: nn.Module, given: tuple[Any, ...], inputs: ModelInputs, gradients: Sequence[torch.Tensor]
    ):
        self._layer, self._given, self._inputs = layer, given, inputs
        self.each = [_positions(layer, gradient) for gradient in gradients]

    @cached_property
    def reads(self) -> torch.Tensor:
        """What the layer reads at each position, a one appended where it has a bias: float32 [B, P, D (+ 1)]. Zeros at the
        padding of texts."""
        return _unpadded(_reads(self._layer, *self._given), self._inputs)

    @cached_property
    def mean(self) -> torch.Tensor:
        """What the layer reads, positions averaged, those of padding left out: float32 [B, D (+ 1)]."""
        given, *_ = self._given
        if not isinstance(self._layer, nn.Linear) or (there := _tokens_of(self._inputs, given)) is None:
            return mean_read(self.reads)
        there = there.to(given)
        mean = (there[:, None] @ given.detach())[:, 0].float() / there.sum(1, keepdim=True).clamp_min(1).float()
        return F.pad(mean, (0, 1), value=1.0) if self._layer.bias is not None else mean

    @property
    def moves(self) -> torch.Tensor:
        """The probes' gradients in one: float32 [B, R, P, H]."""
        return torch.stack(self.each, dim=1)


class Views:
    """The linear, convolutional and embedding-bag layers of a model that have trained weights and are called once.

    Layers whose first axis is not that of the instances (sequence-first, flattened tokens, chosen rows) are left out.

    Args:
        model: any module.
        data: one instance of it is passed through the model, to see which layers are called.

    Attributes:
        names: of the layers, in the order in which they are called.
    """

    def __init__(self, model: nn.Module, data: Dataset) -> None:
        self.model = model
        known = {
            module: name for name, module in model.named_modules() if _is_known(module) and module.weight.requires_grad
        }
        calls: list[nn.Module] = []
        fit: set[nn.Module] = set()
        read: dict[nn.Module, tuple[torch.Tensor, int]] = {}
        count = min(3, len(data))

        def called(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            calls.append(module)
            if _has_rows(module, one := _input(given, named), output, count):
                fit.add(module)
                read[module] = one, one._version

        hooks = [module.register_forward_hook(called, with_kwargs=True) for module in known]
        try:
            with evaluating(model), full(), torch.no_grad():
                outputs(model, data.batch(np.arange(count)).to(device_of(model)).inputs)
        finally:
            for hook in hooks:
                hook.remove()
        self.layers = [module for module in dict.fromkeys(calls) if calls.count(module) == 1 and module in fit]
        self.names = [known[module] for module in self.layers]
        self._overwritten = {module for module, (one, version) in read.items() if one._version != version}

    def __call__(self, batch: Batch, probes: torch.Tensor | None) -> tuple[torch.Tensor, list[LayerView]]:
        """Look at a batch, all units present.

        Args:
            probes: float32 [R, C], or [R, B, C] where each instance has its own; None: what layers read, and no backward pass.

        Returns:
            The outputs [B, C], and one view per layer.
        """
        nudged = probes is not None
        with (
            self._looking(nudged) as seen,
            evaluating(self.model),
            frozen(self.model),
            full(),
            torch.set_grad_enabled(nudged),
        ):
            inputs = batch.to(device_of(self.model)).inputs
            result = outputs(self.model, inputs)
            nudges = [seen[layer][1] for layer in self.layers]
            moved: list[tuple[torch.Tensor, ...]] = []
            for probe in [] if probes is None else probes:
                total = (result * probe.to(result)).sum()
                moved.append(torch.autograd.grad(total, nudges, retain_graph=True, materialize_grads=True))
        views = [
            LayerView(layer, seen[layer][0], inputs, [gradients[number] for gradients in moved])
            for number, layer in enumerate(self.layers)
        ]
        return result.detach().float(), views

    @contextmanager
    def _looking(self, nudged: bool) -> Iterator[dict[nn.Module, tuple[tuple[Any, ...], torch.Tensor]]]:
        """While it lasts, each layer's call leaves its inputs, and a zero that was added to its output if ``nudged``."""
        seen: dict[nn.Module, tuple[tuple[Any, ...], torch.Tensor]] = {}

        def look(
            module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: torch.Tensor
        ) -> torch.Tensor | None:
            read, *more = given or (_input(given, named),)
            nudge = torch.zeros_like(output, requires_grad=True) if nudged else output
            seen[module] = ((read.clone() if module in self._overwritten else read, *more, named), nudge)
            return output + nudge if nudged else None

        hooks = [layer.register_forward_hook(look, prepend=True, with_kwargs=True) for layer in self.layers]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()


def probes_of(outputs: int) -> torch.Tensor:
    """Each output, or 16 random signs whose mean product is the identity: [R, C], scaled so that R terms make a mean."""
    if outputs <= _MOST_PROBES:
        return torch.eye(outputs)
    signs = torch.randint(2, (_MOST_PROBES, outputs), generator=torch.Generator().manual_seed(0))
    return (2.0 * signs - 1) / outputs**0.5


def _is_known(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros"
    return isinstance(module, nn.Linear | nn.EmbeddingBag)


def _input(given: tuple[Any, ...], named: dict[str, Any]) -> Any:
    return given[0] if given else named.get("input")


def _has_rows(module: nn.Module, given: Any, output: Any, count: int) -> bool:
    """Whether the first axis of what a layer reads and writes is that of the instances."""
    if not (isinstance(given, torch.Tensor) and isinstance(output, torch.Tensor)) or given.ndim < 2:
        return False
    if isinstance(module, nn.EmbeddingBag):
        return given.shape[0] == count and given.ndim == 2 and module.mode != "max" and module.max_norm is None
    batched = not isinstance(module, nn.Conv1d | nn.Conv2d) or given.ndim == len(module.kernel_size) + 2
    return batched and given.shape[0] == output.shape[0] == count


def _reads(layer: nn.Module, given: torch.Tensor, *more: Any) -> torch.Tensor:
    """[B, P, D (+ 1)]"""
    if isinstance(layer, nn.EmbeddingBag):
        return _bag(layer, given, *more)[:, None]
    given = given.detach()
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        flat = isinstance(layer, nn.Conv1d)  # a picture of height 1
        sizes = [(1, *g) if flat else tuple(g) for g in (layer.kernel_size, layer.stride, layer.dilation)]
        padded = F.pad(given, _padding(layer))
        read = _patches(padded[:, :, None] if flat else padded, *sizes)
    else:
        read = given.reshape(len(given), -1, given.shape[-1]).float()
    return F.pad(read, (0, 1), value=1.0) if layer.bias is not None else read


def _unpadded(reads: torch.Tensor, inputs: ModelInputs) -> torch.Tensor:
    """Zeros where a text has no token, as the inputs' ``attention_mask`` [B, P] says."""
    mask = _tokens_of(inputs, reads)
    return reads if mask is None else reads * mask[..., None].to(reads)


def _tokens_of(inputs: ModelInputs, positions: torch.Tensor) -> torch.Tensor | None:
    """Where texts have tokens, if ``positions`` [B, P, D] are those of texts: [B, P].

    What is read once of each text, [B, D], may be as wide as texts are long.
    """
    mask = inputs.get("attention_mask") if isinstance(inputs, dict) else None
    if not isinstance(mask, torch.Tensor) or positions.ndim != 3 or mask.shape != positions.shape[:2]:
        return None
    return mask


def mean_read(reads: torch.Tensor) -> torch.Tensor:
    """Positions [B, P, D] averaged, those of padding (all zero) left out: [B, D]."""
    if reads.shape[1] == 1:
        return reads[:, 0]
    return reads.sum(1) / (reads != 0).any(2).sum(1, keepdim=True).clamp_min(1)


def _padding(layer: nn.Conv1d | nn.Conv2d) -> list[int]:
    """What ``F.pad`` is to add: before and after, the last axis first."""
    if layer.padding == "valid":
        return [0, 0] * len(layer.kernel_size)
    if layer.padding == "same":
        total = [d * (size - 1) for d, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        pairs = [(t // 2, t - t // 2) for t in total]
    else:
        pairs = [(int(p), int(p)) for p in layer.padding]
    return [amount for pair in reversed(pairs) for amount in pair]


def _patches(maps: torch.Tensor, size: Any, stride: Any, dilation: Any) -> torch.Tensor:
    return F.unfold(maps.float(), size, dilation, 0, stride).transpose(1, 2)


def _positions(layer: nn.Module, gradient: torch.Tensor) -> torch.Tensor:
    """A gradient in a layer's output as [B, P, H]."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return gradient.float().flatten(2).transpose(1, 2)
    return gradient.float().reshape(len(gradient), -1, gradient.shape[-1])


def _bag(layer: nn.EmbeddingBag, indices: torch.Tensor, *more: Any) -> torch.Tensor:
    """What an embedding bag reads, a sparse vector as long as its vocabulary, or its count sketch: [B, D].

    Each entry of a long vector goes to one of 2,048 columns with a sign, both fixed by its index, which keeps inner products
    up to a few percent of the lengths (Charikar, Chen, Farach-Colton 2002).
    """
    named = more[-1]
    weights = named.get("per_sample_weights", more[1] if len(more) > 2 else None)
    weights = torch.ones_like(indices, dtype=torch.float32) if weights is None else weights.detach().float()
    if layer.padding_idx is not None:
        weights = weights * (indices != layer.padding_idx)
    if layer.mode == "mean":
        weights = weights / (weights != 0).sum(1, keepdim=True).clamp_min(1)
    columns, entries = indices, weights
    width = layer.num_embeddings
    if width > _SKETCH:
        generator = torch.Generator().manual_seed(0)
        place = torch.randint(_SKETCH, (width,), generator=generator).to(indices.device)
        sign = (2.0 * torch.randint(2, (width,), generator=generator) - 1).to(indices.device)
        columns, entries, width = place[indices], weights * sign[indices], _SKETCH
    return torch.zeros(len(indices), width, device=indices.device).scatter_add_(1, columns, entries)
