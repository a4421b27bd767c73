"""What differs between two runs in data, model, masks and training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from whence.comparison.shared import Shared
from whence.options import WITHOUT_EFFECT
from whence.run import Run

__all__ = ["Setting", "compare_settings", "only_seeds_differ"]

_SECTIONS = (("source", "data"), ("model_spec", "model"), ("options", "training"))
_SEEDS = {"model: seed", "training: seed", "masks: seed", "model: initial weights"}


@dataclass(frozen=True)
class Setting:
    """One setting that differs: what it is, and its value in each run, in words."""

    name: str
    first: str
    second: str


def compare_settings(run: Run, other: Run) -> list[Setting]:
    """The settings in which two runs differ, data first."""
    ours, theirs = dict(_settings(run)), dict(_settings(other))
    return [
        Setting(name, ours.get(name, "not known"), theirs.get(name, "not known"))
        for name in [*ours, *(name for name in theirs if name not in ours)]
        if ours.get(name) != theirs.get(name)
    ]


def only_seeds_differ(settings: list[Setting], shared: Shared) -> bool:
    """Whether runs on the same training data differ in nothing but seeds, as far as is known."""
    same_data = not len(shared.only_first) and not len(shared.only_second) and bool(shared.train.labels.all())
    return same_data and bool(settings) and {setting.name for setting in settings} <= _SEEDS


def _settings(run: Run) -> Iterator[tuple[str, str]]:
    for split, data in run.splits.items():
        yield f"data: {split} instances", f"{len(data):,}"
    for section, title in _SECTIONS:
        record = run.config.get(section)
        for key, value in record.items() if isinstance(record, dict) else ():
            if key not in WITHOUT_EFFECT:
                yield f"{title}: {key.replace('_', ' ')}", _written(value)
    yield "model: type", type(run.model).__name__
    yield "model: parameters", f"{sum(parameter.numel() for parameter in run.model.parameters()):,}"
    trained = sum(parameter.numel() for parameter in run.model.parameters() if parameter.requires_grad)
    yield "model: parameters trained", f"{trained:,}"
    layers = run.layers
    yield "masks: layers", ", ".join(f"{name} ({layer.units} units)" for name, layer in layers.items())
    yield "masks: keep rate", ", ".join(sorted({f"{layer.keep:g}" for layer in layers.values()}))
    yield "masks: seed", ", ".join(sorted({str(layer.seed) for layer in layers.values()}))
    yield "masks: one for each", "instance" if run.train.groups is None else "group"
    yield "loss", run.loss.name


def _written(value: Any) -> str:
    if value is None or value == "":
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
