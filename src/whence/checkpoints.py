"""Checkpoints of a training: all that a step depends on beside the data and the seed, in one file that holds no pickle."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from whence.dynamics import Dynamics, fault
from whence.rundir import RunDirectory

__all__ = ["CHECKPOINT", "Progress", "kept", "restore", "save"]

CHECKPOINT = "checkpoint.safetensors"
_NUMBERS = {"step": int, "history": list, "seconds": float, "stopped": bool, "best_epoch": int}
_DYNAMICS = ("dynamics", "before_best")


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        step: optimizer steps done.
        history: the measurements of each finished epoch.
        seconds: spent on finished epochs.
        stopped: whether early stopping has ended it.
        best_loss, best_epoch, best: the lowest loss on dev, the epoch that reached it, and its weights; of trainings with
            early stopping.
        dynamics, before_best: what flipped sub-networks said so far, and before the end of the best epoch.
    """

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False
    best_loss: float = math.inf
    best_epoch: int = -1
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    dynamics: Dynamics = field(default_factory=Dynamics)
    before_best: Dynamics = field(default_factory=Dynamics)


def save(directory: RunDirectory, identity: str, progress: Progress, model: nn.Module, optimizer: torch.optim.Optimizer,
         scaler: Any) -> None:  # fmt: skip
    """Write the checkpoint of a training in place of the one before.

    Args:
        identity: of the training, as run.json has it.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in progress.best.items()}
    for number, entry in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in entry.items() if value is not None
        }
    numbers = {name: getattr(progress, name) for name in _NUMBERS}
    for name in _DYNAMICS:
        dynamics: Dynamics = getattr(progress, name)
        numbers[name] = dynamics.moments
        if dynamics.flipped is not None:
            tensors[f"looks.{name}"] = dynamics.flipped
    numbers["best_loss"] = None if math.isinf(progress.best_loss) else progress.best_loss
    numbers["scaler"] = scaler.state_dict()
    directory.write_tensors(CHECKPOINT, tensors, {"identity": identity, "state": json.dumps(numbers)})


def restore(directory: RunDirectory, identity: str, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: Any,
            shape: tuple[int, int]) -> Progress | None:  # fmt: skip
    """Put model, optimizer and scaler where the checkpoint was made.

    Args:
        identity: as for ``save``; shape: (N, C), of the training instances.

    Returns:
        How far the training is; None without a checkpoint of this training.

    Raises:
        WhenceError: it is damaged.
    """
    if not directory.has(CHECKPOINT):
        return None
    tensors, metadata = directory.read_tensors(CHECKPOINT)
    if metadata.get("identity") != identity:  # a process wrote it whose directory was taken away from under it
        return None
    try:
        return _restored(tensors, metadata, model, optimizer, scaler, shape)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, RecursionError) as error:
        raise directory.damaged(
            CHECKPOINT, f"{type(error).__name__}: {error}", "a checkpoint of this training"
        ) from error


def _restored(
    tensors: dict[str, torch.Tensor],
    metadata: dict[str, str],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: Any,
    shape: tuple[int, int],
) -> Progress:
    parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "best": {}, "optimizer": {}, "looks": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    model.load_state_dict(parts["model"])
    restored = optimizer.state_dict()
    for name, value in parts["optimizer"].items():
        number, _, entry = name.partition(".")
        restored["state"].setdefault(int(number), {})[entry] = value
    optimizer.load_state_dict(restored)
    numbers = json.loads(metadata["state"])
    if wrong := [name for name, kind in _NUMBERS.items() if type(numbers[name]) is not kind]:
        raise ValueError(f"{wrong[0]} {numbers[wrong[0]]!r:.40}")
    looks = {name: Dynamics(numbers[name], parts["looks"].get(name)) for name in _DYNAMICS}
    for found in looks.values():
        if (said := fault(found, shape)) is not None:
            raise ValueError(said)
    scaler.load_state_dict(numbers["scaler"])
    best_loss = math.inf if numbers["best_loss"] is None else numbers["best_loss"]
    known = {name: numbers[name] for name in _NUMBERS}
    return Progress(
        **known, best_loss=best_loss, best=parts["best"], dynamics=looks["dynamics"], before_best=looks["before_best"]
    )


def kept(out: str | os.PathLike[str]) -> str:
    """What an interrupted training left in its run directory, in words."""
    directory = RunDirectory(out)
    if not directory.has(CHECKPOINT):
        return "no epoch was finished, so nothing is kept"
    _, metadata = directory.read_tensors(CHECKPOINT)
    try:
        done = len(json.loads(metadata["state"])["history"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return "its checkpoint is damaged"
    return f"training is kept to the end of epoch {done}" if done else "the beginning of epoch 1 is kept"
