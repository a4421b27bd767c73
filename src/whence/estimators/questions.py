"""What tells one set of scores from another, known before the model is asked anything: scores.json, and a directory's name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from whence.arguments import is_number
from whence.data import Dataset
from whence.errors import WhenceError
from whence.estimators.base import Method, Rows, at_level
from whence.fingerprints import digest
from whence.quantities import Quantity
from whence.run import Run
from whence.rundir import folder_name

__all__ = ["Question"]

_UNKNOWN = object()


@dataclass(frozen=True, eq=False)
class Question:
    """The influence of which rows on which targets, by which method.

    Attributes:
        run: the trained run.
        method: its name; ``estimator``: its class.
        quantity: what is measured on targets.
        among: the instances that targets are chosen from.
        target_set: what targets are called; ``given``: whether they came from outside the run.
        level: "instance", "group" or "auto".
        options: of the method, as they were given.
        null_masks: how many masks that were never trained on are scored.
    """

    run: Run
    method: str
    estimator: Method
    quantity: Quantity
    among: Dataset
    target_set: str
    given: bool
    level: str
    options: Mapping[str, Any]
    null_masks: int

    @cached_property
    def members(self) -> Rows:
        """What the estimator itself scores."""
        return self.estimator.rows_of(self.run.train)

    @cached_property
    def rows(self) -> Rows:
        """What is asked for: the estimator's rows, or groups of them.

        Raises:
            WhenceError: a level that the run or the method has not.
        """
        return at_level(self.members, self.level)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The method's options, as they are when none is given."""
        parameters = inspect.signature(self.estimator).parameters
        return {name: parameters[name].default for name in parameters if name not in ("run", "targets", "quantity")}

    @cached_property
    def changed(self) -> dict[str, Any]:
        """The options that were given and are not the defaults."""
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in self.options.items()}
        for name, value in plain.items():
            if isinstance(self.defaults.get(name, _UNKNOWN), float | None) and is_number(value):
                plain[name] = float(value)  # 1 and 1.0 are one option
        return {name: value for name, value in plain.items() if not _alike(value, self.defaults.get(name, _UNKNOWN))}

    def check_options(self) -> None:
        """Raises:
        WhenceError: an option that the method does not have, or of another type than its default.
        """
        for name in self.options:
            if name not in self.defaults:
                raise WhenceError("an option this method does not have", where=f"method {self.method}", got=repr(name),
                                  expected=f"one of {', '.join(self.defaults) or 'none'}")  # fmt: skip
        for name, value in self.changed.items():
            if (kind := _unlike(value, self.defaults[name])) is not None:
                raise WhenceError("an option of the wrong type", where=f"method {self.method}, {name}", got=repr(value),
                                  expected=kind)  # fmt: skip

    @cached_property
    def info(self) -> dict[str, Any]:
        """What scores.json says. Options are all that have an effect, so that scores by other defaults are known as such."""
        return {
            "method": self.method,
            "version": self.estimator.version,
            "options": {**self.defaults, **self.changed},
            "level": self.rows.level,
            "quantity": self.quantity.name,
            "quantity_fingerprint": self.quantity.fingerprint(self.run.task),
            "unit": self.quantity.unit,
            "target_set": self.target_set,
            "targets": self.among.fingerprint(),
            "run": self.run.fingerprint(),
            "null_masks": self.null_masks if self.rows.masks else None,
        }

    def path(self, name: str | None) -> Path | None:
        """The directory of the scores, by default called by method, targets and quantity; None for a run without one.

        Raises:
            WhenceError: not a name, or that of a link out of the run.
        """
        if self.run.directory is None:
            return None
        return self.run.directory.place(
            f"scores/{folder_name(self.default_name() if name is None else name, 'scores')}"
        )

    def default_name(self) -> str:
        """Method, targets and quantity; what else sets scores apart is told by a few digits of its hash."""
        summed = ["groups"] if self.rows.level == "group" and not self.rows.masks else []
        parts = [self.method, *summed, re.sub(r"[^\w.-]+", "-", self.target_set)]
        if self.quantity.name != "loss":
            parts.append(self.quantity.name)
        if self.changed or self.given:
            parts.append(digest(self.changed, self.info["targets"])[:8])
        return "-".join(parts)


def _alike(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)


def _unlike(value: Any, default: Any) -> str | None:
    """What a value had to be to be of its default's kind; None where it is."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "True or False"
    if isinstance(default, str):
        return None if isinstance(value, str) else "a name"
    if isinstance(default, int):
        return None if type(value) is int and abs(value) < 2**63 else "an integer"
    return None if is_number(value) else "a finite number"
