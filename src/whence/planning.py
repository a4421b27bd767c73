"""What a training run will be able to tell, before it is trained."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whence.arguments import instance_of, whole
from whence.costs import Costs, costs
from whence.estimators.dispatch import MASKED, choose
from whence.resolution import Resolution, resolution
from whence.run import Run

__all__ = ["Plan", "plan"]

_MOST_LAYERS = 8  # that are named one by one


@dataclass(frozen=True)
class Plan:
    """What can be said of a run before training.

    Attributes:
        rows: training instances; groups: groups of them, None without.
        units: masked units by layer.
        method: what "auto" will take.
        resolution: of published scores.
        costs: seconds, memory and bytes, where they were tried.
    """

    rows: int
    groups: int | None
    units: dict[str, int]
    method: str
    resolution: Resolution
    costs: Costs | None = None

    def lines(self) -> list[str]:
        """The same in plain words."""
        grouped = "" if self.groups is None else f" in {self.groups:,} groups with a mask each"
        layers = ", ".join(f"{name} {count:,}" for name, count in list(self.units.items())[:_MOST_LAYERS])
        if len(self.units) > _MOST_LAYERS:
            layers += f", … in {len(self.units)} layers"
        found = self.resolution
        lines = [
            f"{self.rows:,} training instances{grouped}; {sum(self.units.values()):,} masked units ({layers})",
            f"method auto: {self.method}"
            + (
                ""
                if self.method in MASKED
                else f"; what follows is about {' and '.join(MASKED)}, whose noise can be foretold"
            ),
            found.sentence(),
        ]
        lines += [] if found.is_enough else [found.advice()]
        return lines if self.costs is None else [*lines, *self.costs.lines()]

    def to_json(self) -> dict[str, Any]:
        costs = None if self.costs is None else self.costs.to_json()
        return {**vars(self), "resolution": self.resolution.to_json(), "costs": costs}


def plan(
    run: Run,
    runs: int = 1,
    *,
    trial: bool = False,
    options: Mapping[str, Any] | None = None,
    targets: int | None = None,
    out: str | os.PathLike[str] = ".",
    progress: bool = False,
) -> Plan:
    """Look at data and model, trained or not.

    Args:
        run: the data, and a model with its masks in place.
        runs: how many runs of other seeds will be averaged.
        trial: try on a sample what it will cost: some seconds. The others say of what (``costs.py``).
        options: of training; targets: how many will be scored; out: where the run will lie; progress: show a bar.

    Raises:
        WhenceError: fewer than one run.
    """
    targets = None if targets is None else whole(targets, "targets")
    found = resolution(instance_of(run, Run, "run"), runs=runs)
    units = {name: layer.units for name, layer in run.layers.items()}
    groups = found.ids if found.level == "group" else None
    tried = costs(run, options, targets=targets, out=out, progress=progress) if trial else None
    return Plan(len(run.train), groups, units, choose(run, run.loss), found, tried)
