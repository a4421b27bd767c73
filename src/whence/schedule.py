"""What each training step sees: a pure function of (seed, step), so that a killed training resumes exactly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from whence.augmentation import augmented
from whence.data import Batch, Dataset
from whence.masks import philox4x32
from whence.options import TrainingOptions

__all__ = ["Schedule", "alike", "derived"]

_ORDER, _STEP, _BATCH = range(3)  # what a seed is derived for
_BATCHES_SORTED = 32  # between which texts may change places, so that those of one batch are of like length


class Schedule:
    """Which instances a step trains on, at what learning rate, and with which random numbers.

    Attributes:
        steps_per_epoch: optimizer steps.
        steps: of all epochs.
    """

    def __init__(self, data: Dataset, options: TrainingOptions) -> None:
        self.data, self.options = data, options
        self._batches_per_epoch = math.ceil(len(data) / options.batch_size)
        self.steps_per_epoch = math.ceil(self._batches_per_epoch / options.accumulate)
        self.steps = options.epochs * self.steps_per_epoch

    def batches(self, epoch: int, skip: int) -> Iterator[list[Batch]]:
        """The batches of each optimizer step of an epoch, from step ``skip`` on."""
        generator = torch.Generator().manual_seed(derived(self.options.seed, _ORDER, epoch))
        order = torch.randperm(len(self.data), generator=generator).numpy()
        size, accumulate = self.options.batch_size, self.options.accumulate
        rows = [order[start : start + size] for start in range(0, len(order), size)]
        if (lengths := getattr(self.data.inputs, "lengths", None)) is not None:
            rows = alike(rows, lengths)
        rows = rows[skip * accumulate :]
        feed = _Feed(self.data, rows, self.options, epoch * self._batches_per_epoch + skip * accumulate)
        source: Any = feed
        if self.options.workers:
            source = torch.utils.data.DataLoader(feed, batch_size=None, num_workers=self.options.workers)
        pending: list[Batch] = []
        for batch in source:
            pending.append(batch)
            if len(pending) == accumulate:
                yield pending
                pending = []
        if pending:
            yield pending

    def learning_rate(self, step: int) -> float:
        """Rising over the warmup, then of the schedule's shape."""
        rising = self.options.warmup * self.steps
        if step < rising:
            return self.options.learning_rate * ((step + 1) / (rising + 1))
        share = (step - rising) / max(1.0, self.steps - rising)
        shapes = {"linear": 1 - share, "cosine": 0.5 * (1 + math.cos(math.pi * share)), "constant": 1.0}
        return self.options.learning_rate * shapes[self.options.schedule]

    def seed(self, step: int) -> int:
        """Of random numbers that the model draws in a step, such as those of ordinary dropout."""
        return derived(self.options.seed, _STEP, step)


class _Feed(torch.utils.data.Dataset[Batch]):
    """Item i is the whole of batch i; loader workers gather it with its ids, and augment it."""

    def __init__(self, data: Dataset, rows: list[np.ndarray], options: TrainingOptions, first: int) -> None:
        self.data, self.rows, self.options, self.first = data, rows, options, first

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Batch:
        if number >= len(self.rows):
            raise IndexError(number)
        # Random augmentation draws from a stream of its own batch, in whatever process it is gathered.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived(self.options.seed, _BATCH, self.first + number))
            batch = self.data.batch(self.rows[number])
            if self.options.augment != "none":
                assert isinstance(batch.inputs, torch.Tensor)  # as fit has made sure
                batch = replace(batch, inputs=augmented(batch.inputs, self.options.augment))
            return batch


def alike(batches: list[np.ndarray], lengths: np.ndarray) -> list[np.ndarray]:
    """The same rows in batches of like length: less padding, the same epoch.

    Rows change places within 32 consecutive batches only. The order of the new batches is random, and so is which of them is
    a shorter one, since the order of the given rows is.

    Args:
        batches: int64 [B] each, rows in random order.
        lengths: int64 [N], of each row.
    """
    result: list[np.ndarray] = []
    for start in range(0, len(batches), _BATCHES_SORTED):
        some = batches[start : start + _BATCHES_SORTED]
        rows = np.concatenate(some)
        sizes = [len(batch) for batch in sorted(some, key=lambda batch: int(batch[-1]))]
        parts = np.split(rows[np.argsort(lengths[rows], kind="stable")], np.cumsum(sizes)[:-1])
        order = np.argsort([int(batch[0]) for batch in some])
        result += [parts[place] for place in order]
    return result


def derived(seed: int, purpose: int, number: int) -> int:
    """A 63-bit seed for one purpose and one epoch, step or batch, by Philox."""
    words = philox4x32(
        tuple(np.array([word], np.uint64) for word in (number & 0xFFFFFFFF, number >> 32, purpose, 0)),
        (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF),
    )
    return int(words[0][0]) | (int(words[1][0]) & 0x7FFFFFFF) << 32
