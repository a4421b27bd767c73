"""Passes of a run's instances through its model: what each layer reads, in few columns, and what the model says.

A pass over all training instances is the largest cost of the estimators that look at layers, so what one has found is kept
for the next where there is room.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from whence.data import Dataset
from whence.data.tokens import tokens_at_once
from whence.estimators.base import evenly
from whence.estimators.parts import Kind, Look, Part, kind_of, part_for, pooled_moves
from whence.estimators.views import LayerView, Views, probes_of
from whence.forward import device_of
from whence.run import Run

__all__ = ["Features", "Glimpse", "Reading"]

_BATCH = 1024  # instances
_BATCH_NUMBERS = 2**25  # that layers read and move, in one batch of instances
_SAMPLE, _SAMPLED_TEXTS = 2048, 512  # instances that principal components are taken from
_MOVING_SAMPLE, _MOVING_TEXTS = 128, 32  # and how far outputs move
_SAMPLE_NUMBERS = 2**26  # that layers read and move in them, at most
_KEPT_BYTES = 2**29  # of what was read of one data set, and as many of its features; above it, passes are repeated


@dataclass(frozen=True)
class Glimpse:
    """A batch of B instances in a pass.

    Attributes:
        rows: which they are, int64 [B].
        outputs: of the full network, float32 [B, C].
        reads: for each part, what it keeps of what its layer reads: float32 [B, P, d].
    """

    rows: np.ndarray
    outputs: torch.Tensor
    reads: list[torch.Tensor]


@dataclass(frozen=True)
class Features:
    """What ridge models are given of B instances.

    Attributes:
        rows, outputs: as of a ``Glimpse``.
        first, others: what the first layer reads [B, D] and what the other layers read [B, E], float32.
    """

    rows: np.ndarray
    outputs: torch.Tensor
    first: torch.Tensor
    others: torch.Tensor


class Reading:
    """The layers that estimators look at, each in the columns of its part, which a sample of training instances chose.

    Args:
        run: the trained run.
        averaged: whether only ``features`` will be asked for, in which case they have more columns.

    Attributes:
        views: the layers. Without any, nothing else is there.
        parts: one per layer.
        probes: of the outputs, float32 [R, C].
        per_class: whether that is one for each output.
        moving: whether any part asks how outputs move.
    """

    def __init__(self, run: Run, *, averaged: bool = False) -> None:
        self.views = Views(run.model, run.train)
        if not self.views.layers:
            return
        self.train, self.probes = run.train, probes_of(run.task.outputs)
        self.per_class = len(self.probes) == run.task.outputs
        self._reads: dict[int, _Kept] = {}
        self._features: dict[int, list[Features]] = {}
        lengths = _lengths(self.train)
        longest = 0 if lengths is None else int(np.argmax(lengths))
        _, first = self.views(self.train.batch(np.array([longest])), self.probes)
        kinds = [kind_of(layer, view.reads.shape[1]) for layer, view in zip(self.views.layers, first, strict=True)]
        self._allow(1 if lengths is None else int(lengths[longest]), first, kinds)
        whole = [kind == "maps" and self.per_class and not averaged for kind in kinds]
        sizes = (_SAMPLE, _MOVING_SAMPLE) if lengths is None else (_SAMPLED_TEXTS, _MOVING_TEXTS)
        reads, moves = self._reads_of_some(sizes[0], first, whole), self._moves_of_some(sizes[1], first, whole)
        self.parts: list[Part] = [
            part_for(kind, read, move, per_class=self.per_class, averaged=averaged)
            for kind, read, move in zip(kinds, reads, moves, strict=True)
        ]
        self.moving = any(part.moving for part in self.parts)

    def _allow(self, length: int, first: list[LayerView], kinds: list[Kind]) -> None:
        """Find out what fits in memory at once: so many instances or, of texts, so many tokens; tokens are asked for reads only."""
        numbers = sum(view.reads.numel() for view in first)
        numbers += sum(
            move.numel() for view, kind in zip(first, kinds, strict=True) if kind != "tokens" for move in view.each
        )
        texts = _lengths(self.train) is not None
        self._batch = _BATCH if texts else max(1, min(_BATCH, _BATCH_NUMBERS // numbers))
        self._tokens = min(_BATCH_NUMBERS * length // numbers, tokens_at_once(device_of(self.views.model)))

    def _reads_of_some(self, most: int, first: list[LayerView], whole: list[bool]) -> list[torch.Tensor]:
        """What each layer reads of a sample, all positions where ``whole`` says so and else their mean: [n, P, D] each."""

        def of(view: LayerView, all_positions: bool) -> torch.Tensor:
            return view.reads if all_positions else view.mean[:, None]

        numbers = sum(of(view, every).numel() for view, every in zip(first, whole, strict=True))
        found = [
            [of(view, every) for view, every in zip(views, whole, strict=True)]
            for views in self._sample(most, numbers, None)
        ]
        return [torch.cat(parts) for parts in zip(*found, strict=True)]

    def _moves_of_some(self, most: int, first: list[LayerView], whole: list[bool]) -> list[torch.Tensor]:
        """How outputs move with each layer, likewise, the sum over positions: [m, R, P, H] each."""

        def of(view: LayerView, all_positions: bool) -> torch.Tensor:
            return view.moves if all_positions else pooled_moves(view)

        numbers = sum(of(view, every).numel() for view, every in zip(first, whole, strict=True))
        found = [
            [of(view, every) for view, every in zip(views, whole, strict=True)]
            for views in self._sample(most, numbers, self.probes)
        ]
        return [torch.cat(parts) for parts in zip(*found, strict=True)]

    def divided(self, data: Dataset, rows: np.ndarray | None = None) -> list[np.ndarray]:
        """Rows of a data set, by default all, in batches that fit in memory under all probes."""
        return data.parts(self._batch, self._tokens, rows)

    def all(self, data: Dataset) -> Iterator[Glimpse]:
        """Every instance once, those of like length together."""
        if id(data) in self._reads:
            yield from self._reads[id(data)].batches(self._batch)
            return
        kept: _Kept | None = None
        for start, rows in enumerate(self.divided(data)):
            outputs, views = self.views(data.batch(rows), None)
            reads = [part.kept(view) for part, view in zip(self.parts, views, strict=True)]
            seen = Glimpse(rows, outputs.cpu(), reads)
            if start == 0:
                kept = _Kept.for_all(data, seen)
            kept = kept if kept is not None and kept.take(seen) else None
            yield seen
        if kept is not None:
            self._reads[id(data)] = kept

    def looks(self, data: Dataset, rows: np.ndarray, probes: torch.Tensor) -> list[Look]:
        """What each part compares some instances by, seen under probes [R, C] or [R, B, C].

        Where no part asks how outputs move, and an earlier pass was kept, the model is not asked.
        """
        kept = self._reads.get(id(data))
        if kept is not None and not self.moving:
            return [part.look(read, None) for part, read in zip(self.parts, kept.of(rows), strict=True)]
        _, views = self.views(data.batch(rows), probes if self.moving else None)
        pairs = list(zip(self.parts, views, strict=True))
        reads = [part.kept(view) for part, view in pairs] if kept is None else kept.of(rows)
        return [part.look(read, view) for (part, view), read in zip(pairs, reads, strict=True)]

    def features(self, data: Dataset) -> Iterator[Features]:
        """Every instance once: positions averaged, layers scaled by how far the outputs move with what they write."""
        if id(data) in self._features:
            yield from self._features[id(data)]
            return
        found: list[Features] = []
        size = 0
        for some in _gathered(self._features_of(seen) for seen in self.all(data)):
            size += 4 * (some.first.numel() + some.others.numel())
            if size <= _KEPT_BYTES:
                found.append(some)
            yield some
        if size <= _KEPT_BYTES and id(data) not in self._reads:
            self._features[id(data)] = found

    def _features_of(self, seen: Glimpse) -> Features:
        means = [part.pooled(read) * part.scale for part, read in zip(self.parts, seen.reads, strict=True)]
        return Features(seen.rows, seen.outputs, means[0], torch.cat([means[0][:, :0], *means[1:]], dim=1))

    def forget(self, data: Dataset) -> None:
        """Nothing more will be asked of it."""
        self._reads.pop(id(data), None)
        self._features.pop(id(data), None)

    def _sample(self, most: int, numbers: int, probes: torch.Tensor | None) -> Iterator[list[LayerView]]:
        """Views of training instances spread over the data, so many of them that memory allows."""
        size = max(8, min(most, _SAMPLE_NUMBERS // numbers))
        chosen = evenly(len(self.train), size)
        for rows in self.train.parts(min(512 if probes is None else 64, self._batch), self._tokens, chosen):
            yield self.views(self.train.batch(rows), probes)[1]


def _gathered(batches: Iterable[Features]) -> Iterator[Features]:
    """Small batches put together, since what is done with them has a cost for each."""
    waiting: list[Features] = []
    for some in batches:
        waiting.append(some)
        if sum(len(few.rows) for few in waiting) >= _BATCH:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[Features]) -> Features:
    outputs, first, others = (
        torch.cat([getattr(some, name) for some in batches]) for name in ("outputs", "first", "others")
    )
    return Features(np.concatenate([some.rows for some in batches]), outputs, first, others)


class _Kept:
    """What a pass found of all instances: outputs float32 [N, C], and of each part float32 [N, P, d]."""

    def __init__(self, outputs: torch.Tensor, whole: list[torch.Tensor]) -> None:
        self.outputs, self._whole = outputs, whole

    @classmethod
    def for_all(cls, data: Dataset, first: Glimpse) -> _Kept | None:
        """Room for a pass that begins so, if there is."""
        if 4 * len(data) * sum(read[0].numel() for read in first.reads) > _KEPT_BYTES:
            return None
        outputs, *whole = (part.new_empty(len(data), *part.shape[1:]) for part in (first.outputs, *first.reads))
        return cls(outputs, whole)

    def take(self, seen: Glimpse) -> bool:
        """Whether a batch fits; of texts, lengths may differ."""
        if any(read.shape[1:] != kept.shape[1:] for read, kept in zip(seen.reads, self._whole, strict=True)):
            return False
        self.outputs[seen.rows] = seen.outputs
        for read, kept in zip(seen.reads, self._whole, strict=True):
            kept[seen.rows] = read
        return True

    def batches(self, size: int) -> Iterator[Glimpse]:
        for rows in np.split(np.arange(len(self.outputs)), np.arange(size, len(self.outputs), size)):
            yield Glimpse(rows, self.outputs[rows], self.of(rows))

    def of(self, rows: np.ndarray) -> list[torch.Tensor]:
        """Some instances: float32 [B, P, d] of each part."""
        if len(rows) and rows[-1] - rows[0] + 1 == len(rows) and (np.diff(rows) == 1).all():
            return [kept[rows[0] : rows[-1] + 1] for kept in self._whole]  # not copied
        return [kept.index_select(0, torch.from_numpy(rows)) for kept in self._whole]


def _lengths(data: Dataset) -> np.ndarray | None:
    """Of texts, which differ."""
    lengths: np.ndarray | None = getattr(data.inputs, "lengths", None)
    return lengths
