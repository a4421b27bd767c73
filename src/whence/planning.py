"""What a training run will be able to tell, before it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from whence.estimators.dispatch import choose
from whence.resolution import Resolution, resolution
from whence.run import Run

__all__ = ["Plan", "plan"]

_MOST_LAYERS = 8  # that are named one by one


@dataclass(frozen=True)
class Plan:
    """What can be said of a run before training. Time, memory and bytes on disk will join here.

    Attributes:
        rows: training instances; groups: groups of them, None without.
        units: masked units by layer.
        method: what "auto" will take.
        resolution: of published scores.
    """

    rows: int
    groups: int | None
    units: dict[str, int]
    method: str
    resolution: Resolution

    def lines(self) -> list[str]:
        """The same in plain words."""
        grouped = "" if self.groups is None else f" in {self.groups:,} groups with a mask each"
        layers = ", ".join(f"{name} {count:,}" for name, count in list(self.units.items())[:_MOST_LAYERS])
        if len(self.units) > _MOST_LAYERS:
            layers += f", … in {len(self.units)} layers"
        found = self.resolution
        lines = [
            f"{self.rows:,} training instances{grouped}; {sum(self.units.values()):,} masked units ({layers})",
            f"method auto: {self.method}",
            found.sentence(),
        ]
        return lines if found.is_enough else [*lines, found.advice()]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "resolution": self.resolution.to_json()}


def plan(run: Run, runs: int = 1) -> Plan:
    """Look at data and model, trained or not.

    Args:
        run: the data, and a model with its masks in place.
        runs: how many runs of other seeds will be averaged.

    Raises:
        WhenceError: fewer than one run.
    """
    found = resolution(run, runs=runs)
    units = {name: layer.units for name, layer in run.layers.items()}
    groups = found.ids if found.level == "group" else None
    return Plan(len(run.train), groups, units, choose(run, run.loss), found)
