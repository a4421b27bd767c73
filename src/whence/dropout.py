"""Turn-over dropout, and who is in the room: ``own(ids)``, ``flipped(ids)``, ``random(seed)``, ``full()``.

Kobayashi et al. 2020 (arXiv 2012.04207), section 4. Instance i keeps the units with bits b_i, a share q of them:

    own      multiplies by b_i / q              the sub-network that learns instance i
    flipped  multiplies by (1 − b_i) / (1 − q)  the other units: a sub-network that never learned it
    random   multiplies by b / q, b drawn from a seed and no instance's
    full     multiplies by 1: prediction

The context belongs to the process, not to a thread, because backward passes run in threads of their own. One process
therefore runs one training loop at a time. This is the only room that knows how a mask is applied.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from whence.arguments import instance_of, seed_of, whole
from whence.errors import WhenceError
from whence.masks import Domain, Scheme, as_ids, draw_bits, exact_keep, mask_key

__all__ = [
    "MaskContext",
    "TurnOverDropout",
    "checkpoint_contexts",
    "explicit",
    "flipped",
    "full",
    "in_force",
    "own",
    "random",
]

Mode: TypeAlias = Literal["own", "flipped", "random", "full", "explicit"]


class _Room:
    """Holds the context in force. A plain object, so that torch.compile reads it as an input of the graph."""

    current: MaskContext | None = None


_room = _Room()


class MaskContext:
    """Says which masks the turn-over dropout layers use while the ``with`` block lasts. Blocks nest; the inner one holds.

    Attributes:
        mode: own, flipped, random, full or explicit.
        ids: int64 [B], one per row of the batch, or [1] for all rows; None for full and explicit.
        shared: whether one id holds for all rows.
        multipliers: for explicit, layer name → multipliers [D] for all rows or [B, D].
    """

    def __init__(
        self,
        mode: Mode,
        ids: torch.Tensor | None = None,
        *,
        shared: bool = False,
        multipliers: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.mode, self.ids, self.shared = mode, ids, shared
        self.multipliers = dict(multipliers or {})
        self._outer: list[tuple[MaskContext | None, bool]] = []
        self._seen: dict[str, list[torch.Tensor]] = {}
        self._recomputed: Counter[tuple[int, str]] = Counter()

    def __enter__(self) -> MaskContext:
        fast = torch.backends.mha.get_fastpath_enabled()
        self._outer.append((_room.current, fast))
        _room.current = self
        # torch's fused transformer layers leave out their dropout modules in evaluation mode, and our masks with them.
        torch.backends.mha.set_fastpath_enabled(False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _room.current, fast = self._outer.pop()
        torch.backends.mha.set_fastpath_enabled(fast)

    def calls(self, layer: str) -> int:
        """How many forward passes a layer made in this context, recomputations left out."""
        return len(self._seen.get(layer, []))

    def see(self, layer: str, features: torch.Tensor) -> None:
        """Remember a forward pass, and refuse the recomputation (gradient checkpointing) of another context's.

        A recomputation has the features of its forward pass; a sample of them tells whose it is.
        """
        flat = features.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 64)][:64]
        if not _recomputing():
            self._seen.setdefault(layer, []).append(sample.clone())
            return
        self._recomputed[torch._C._current_graph_task_id(), layer] += 1
        often = self._recomputed[torch._C._current_graph_task_id(), layer] > self.calls(layer)
        if often or not any(_alike(sample, before) for before in self._seen.get(layer, [])):
            raise WhenceError(
                "gradient checkpointing recomputes a batch under other ids than its own", where=f"layer {layer!r}",
                mend="Call backward() inside the batch's own `with whence.own(ids)`, or give the checkpoint "
                     "context_fn=whence.checkpoint_contexts.")  # fmt: skip


def _recomputing() -> bool:
    """Whether a backward pass is under way, so that a forward pass can only be a recomputation."""
    return torch._C._current_graph_task_id() != -1


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(
        a.float(), b.float().to(a.device), rtol=1e-2, atol=1e-4, equal_nan=True
    )


def own(ids: Any) -> MaskContext:
    """Each row under its instance's own mask: the context of a training step.

    Args:
        ids: one id per row of the batch (integers of 64 bits or strings; see ``whence.masks.as_ids``),
            or a single id for all rows.
    """
    return _with_ids("own", ids)


def flipped(ids: Any) -> MaskContext:
    """Each row under the flipped mask of its id: the units that never learned that instance. Arguments as ``own``."""
    return _with_ids("flipped", ids)


def random(seeds: Any) -> MaskContext:
    """A sub-network that belongs to no instance: one integer for all rows, or one per row. Equal seeds, equal masks."""
    return _with_ids("random", seeds)


def full() -> MaskContext:
    """All units, unscaled, also in training mode."""
    return MaskContext("full")


def explicit(multipliers: Mapping[str, torch.Tensor]) -> MaskContext:
    """Given multipliers: layer name → [D] for all rows, or [B, D]. Layers that are not named are full.

    The multipliers may require gradients, and may be batched by ``torch.func.vmap``.
    """
    return MaskContext("explicit", multipliers=multipliers)


def checkpoint_contexts() -> tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]:
    """The ``context_fn`` of ``torch.utils.checkpoint.checkpoint(..., use_reentrant=False)``.

    The recomputation then sees the ids of its forward pass, wherever ``backward()`` is called.
    """
    return contextlib.nullcontext(), _room.current or contextlib.nullcontext()


def in_force() -> MaskContext | None:
    """The context that layers see now, or None."""
    return _room.current


def _with_ids(mode: Mode, ids: Any) -> MaskContext:
    if isinstance(ids, torch.Tensor) and ids.dtype == torch.int64:
        return MaskContext(mode, ids.detach().reshape(-1), shared=ids.ndim == 0)
    shared = isinstance(ids, str | int) or getattr(ids, "ndim", 1) == 0
    return MaskContext(mode, torch.from_numpy(as_ids(ids)), shared=shared)


class TurnOverDropout(nn.Module):
    """Dropout whose mask belongs to the training instance.

    Units are the last axis of [B, D] and [B, T, D] (one mask for all tokens) and the channels of [B, C, H, W] and
    [B, C, D, H, W]; ``axis`` says otherwise.

    Args:
        layer: the layer's name: part of what determines its masks.
        keep: share q of units kept, 0.05 to 0.95.
        seed: of the masks.
        scheme: "independent" or "balanced" (exactly half of the units, keep 0.5).
        axis: the axis of units; None for the rule above.

    Attributes:
        units: D, known after the first forward pass.

    Raises:
        WhenceError: in training mode without a context, since a step without ids would void every score;
            when the batch has another number of rows than ids.
    """

    def __init__(
        self, layer: str, *, keep: float = 0.5, seed: int = 0, scheme: Scheme = "independent", axis: int | None = None
    ) -> None:
        super().__init__()
        self.layer, self.seed = instance_of(layer, str, "layer"), seed_of(seed)
        self.keep, self.scheme = exact_keep(keep, scheme), scheme
        self.axis = None if axis is None else whole(axis, "axis", low=-8, high=8)
        self.units: int | None = None
        self._masked = False  # whether the last forward pass was made in a context
        # Hashed here once: torch.compile cannot follow a hash.
        self._keys: dict[Domain, tuple[int, int]] = {
            "own": mask_key(seed, layer),
            "random": mask_key(seed, layer, "random"),
        }

    def extra_repr(self) -> str:
        axis = "" if self.axis is None else f", axis={self.axis}"
        return f"{self.layer!r}, keep={self.keep:g}, seed={self.seed}, scheme={self.scheme!r}{axis}"

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features [B, …, D] (or channels on axis 1) times each row's multipliers; same shape and dtype."""
        self._see(features)
        context = _room.current
        if context is None:
            if self.training or (self._masked and _recomputing()):
                raise WhenceError(
                    "turn-over dropout in training mode without ids", where=f"layer {self.layer!r}",
                    mend="Wrap the forward and backward pass in `with whence.own(ids):` (whence.full() for no masks).")  # fmt: skip
            if not torch.compiler.is_compiling():
                self._masked = False
            return features
        if not torch.compiler.is_compiling():
            context.see(self.layer, features)
            self._masked = True
        multipliers = self._multipliers(context, features)
        if multipliers is None:
            return features
        axis = self._axis(features)
        if multipliers.ndim == 1:
            shape = [1] * features.ndim
        elif len(multipliers) in (features.shape[0], 1):
            shape = [len(multipliers)] + [1] * (features.ndim - 1)
        else:
            raise WhenceError("not one id per row", where=f"layer {self.layer!r}", got=f"{len(multipliers)} ids",
                              expected=f"{features.shape[0]} (the batch is the first axis)")  # fmt: skip
        shape[axis] = features.shape[axis]
        return features * multipliers.reshape(shape).to(features.dtype)

    def after(self, module: nn.Module, inputs: Any, output: Any) -> torch.Tensor:
        """A forward hook that masks the output of another module."""
        if not isinstance(output, torch.Tensor):
            raise WhenceError("turn-over dropout after a module that does not give a tensor",
                              where=f"module {self.layer!r}", got=type(output).__name__,
                              mend="Name a module whose output is one tensor.")  # fmt: skip
        self.training = module.training
        masked: torch.Tensor = self(output)
        return masked

    def bits(self, ids: Any, domain: Domain = "own") -> Any:
        """bool [B, D]: which units int64 ids [B] keep, as ``whence.masks.keep_bits``. Needs ``units``."""
        if self.units is None:
            raise WhenceError("a masked layer of unknown width", where=f"layer {self.layer!r}",
                              mend="Run the model once first.")  # fmt: skip
        return draw_bits(ids, self.units, self._keys[domain], self.keep, self.scheme)

    def _axis(self, features: torch.Tensor) -> int:
        axis = self.axis if self.axis is not None else 1 if features.ndim >= 4 else -1
        return axis % features.ndim

    def _see(self, features: torch.Tensor) -> None:
        if features.ndim < 2:
            raise WhenceError("features without a batch axis", where=f"layer {self.layer!r}",
                              got=f"shape {tuple(features.shape)}", expected="[B, …, D]")  # fmt: skip
        units = features.shape[self._axis(features)]
        if self.units is None:
            self.units = units
        elif self.units != units:
            raise WhenceError("one dropout layer serves features of different widths", where=f"layer {self.layer!r}",
                              got=f"{units} and {self.units} units", mend="Give each place its own nn.Dropout.")  # fmt: skip

    def _multipliers(self, context: MaskContext, features: torch.Tensor) -> torch.Tensor | None:
        if context.mode == "full":
            return None
        if context.mode == "explicit":
            return context.multipliers.get(self.layer)
        assert context.ids is not None
        if not context.shared and len(context.ids) != features.shape[0]:
            raise WhenceError("not one id per row", where=f"layer {self.layer!r}", got=f"{len(context.ids)} ids",
                              expected=f"{features.shape[0]} (the batch is the first axis)")  # fmt: skip
        domain: Domain = "random" if context.mode == "random" else "own"
        if features.device.type == "cpu" and not torch.compiler.is_compiling():
            bits = torch.from_numpy(self.bits(context.ids.numpy(), domain))
        else:
            bits = self.bits(context.ids.to(features.device), domain)
        if context.mode == "flipped":
            return ~bits * (1 / (1 - self.keep))
        return bits * (1 / self.keep)
