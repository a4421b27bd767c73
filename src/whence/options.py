"""Options of training, checked when they are made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import torch

from whence.arguments import is_number, seed_of
from whence.augmentation import AUGMENTATIONS
from whence.errors import WhenceError

__all__ = ["WITHOUT_EFFECT", "TrainingOptions"]


def _option(
    default: Any, help: str, choices: tuple[Any, ...] = (), low: float | None = None, high: float | None = None
) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices, "low": low, "high": high})


# Options on which no weight depends, if not the last bits.
WITHOUT_EFFECT = frozenset({"device", "workers", "checkpoint_seconds", "exposure_limit", "dynamics"})


@dataclass(frozen=True)
class TrainingOptions:
    """How to train. Every field's help is also the command line's.

    Raises:
        WhenceError: a value out of its range.
    """

    epochs: int = _option(20, "passes over the training instances", low=1)
    batch_size: int = _option(64, "instances per step", low=1)
    learning_rate: float = _option(1e-3, "learning rate at which the schedule begins", low=0, high=1e30)
    optimizer: Literal["adamw", "sgd"] = _option(
        "adamw", "which optimizer: adamw, or sgd with momentum 0.9", choices=("adamw", "sgd")
    )
    weight_decay: float = _option(1e-2, "weight decay of the optimizer", low=0, high=1e30)
    schedule: Literal["linear", "cosine", "constant"] = _option(
        "linear",
        "how the learning rate goes on: linear or cosine, which fall to zero, or constant",
        choices=("linear", "cosine", "constant"),
    )
    warmup: float = _option(0.0, "share of all steps in which the learning rate rises from zero", low=0, high=1)
    augment: Literal["none", "flip", "crop", "crop+flip"] = _option(
        "none",
        "how training pictures are varied: flip (left to right), crop (moved by up to an eighth), crop+flip, or none",
        choices=AUGMENTATIONS,
    )
    accumulate: int = _option(1, "batches whose gradients are added up for one step", low=1)
    patience: int | None = _option(
        None, "stop after this many epochs without a lower dev loss, and keep the best epoch", low=1
    )
    seed: int = _option(0, "of the order of instances and of ordinary dropout")
    device: str = _option(
        "auto", "where to train: cpu, cuda, cuda:1, mps, or auto, which takes a GPU where there is one"
    )
    autocast: Literal["off", "bfloat16", "float16"] = _option(
        "off", "mixed precision: off, bfloat16 or float16", choices=("off", "bfloat16", "float16")
    )
    workers: int = _option(0, "processes that gather batches", low=0, high=1024)
    checkpoint_seconds: float = _option(
        300.0, "most seconds between checkpoints; one is also made after each epoch", low=0
    )
    exposure_limit: int = _option(2000, "instances on which losses under own and flipped mask are followed", low=1)
    dynamics: int = _option(
        3,
        "how often before its end a training asks flipped sub-networks about all instances, for audits",
        low=0,
        high=10_000,
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            value, rule = getattr(self, option.name), option.metadata
            if option.name == "seed":
                object.__setattr__(self, "seed", seed_of(value))
                continue
            if value is None and option.default is None:
                continue
            wanted = type(option.default) if option.default is not None else int
            number = isinstance(value, int | float) and not isinstance(value, bool)
            right = (
                number and is_number(value)
                if wanted is float
                else isinstance(value, wanted) and not isinstance(value, bool)
            )
            if not right:
                raise WhenceError(
                    "an option of the wrong type", where=option.name, got=repr(value), expected=wanted.__name__
                )
            if rule["choices"] and value not in rule["choices"]:
                raise WhenceError("an option that does not exist", where=option.name, got=repr(value),
                                  expected=" or ".join(rule["choices"]))  # fmt: skip
            low, high = rule["low"], rule["high"]
            if (low is not None and value < low) or (high is not None and value > high):
                expected = f"{low} to {high}" if low is not None and high is not None else f"at least {low}"
                raise WhenceError("an option out of range", where=option.name, got=value, expected=expected)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def torch_device(self) -> torch.device:
        """The device; "auto" takes CUDA or Apple's MPS where there is one."""
        if self.device != "auto":
            try:
                device = torch.device(self.device)
                if device.type == "meta":  # whose tensors hold nothing
                    raise RuntimeError(f"no weights can be on {device}")
                torch.empty(0, device=device)
            except (RuntimeError, AssertionError, NotImplementedError) as error:
                raise WhenceError(
                    "no such device", where="device", got=repr(self.device), mend="Use --device cpu."
                ) from error
            return device
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
