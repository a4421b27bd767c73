"""What is predicted: one of several classes, a number, or the next token of a text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from whence.errors import WhenceError

__all__ = ["Classification", "LanguageModeling", "Regression", "Task", "task_from_json", "well_formed"]


def well_formed(text: Any) -> str:
    """Text that UTF-8 can hold: lone surrogates become question marks."""
    text = str(text)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class Classification:
    """One of C classes. Targets are int64 positions in ``classes``."""

    classes: tuple[str, ...]
    kind: Literal["classification"] = field(default="classification", init=False)

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise WhenceError("a classifier needs at least two classes", got=f"{list(self.classes)}",
                              mend="Check the label column, or use --task regression.")  # fmt: skip

    @property
    def outputs(self) -> int:
        """How many numbers the model gives per instance."""
        return len(self.classes)

    def show(self, targets: Any) -> list[str]:
        """Targets as the user wrote them."""
        return [well_formed(self.classes[int(target)]) for target in np.atleast_1d(targets)]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "classes": list(self.classes)}


@dataclass(frozen=True)
class Regression:
    """A number. Targets are float32, standardized: (value − mean) / scale, both taken from the training split."""

    mean: float = 0.0
    scale: float = 1.0
    kind: Literal["regression"] = field(default="regression", init=False)

    @property
    def outputs(self) -> int:
        """How many numbers the model gives per instance."""
        return 1

    def show(self, targets: Any) -> list[str]:
        """Targets in the user's units."""
        return [f"{value:.4g}" for value in np.atleast_1d(targets) * self.scale + self.mean]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "mean": self.mean, "scale": self.scale}


@dataclass(frozen=True)
class LanguageModeling:
    """Each token of a text, given those before it. The text is its own target: targets are zeros, float32, and unused.

    Models give two numbers per text: the summed loss of its tokens in nats, and how many they are.
    """

    kind: Literal["language_modeling"] = field(default="language_modeling", init=False)

    @property
    def outputs(self) -> int:
        """How many numbers the model gives per text."""
        return 2

    def show(self, targets: Any) -> list[str]:
        """Nothing: texts have no labels."""
        return [""] * len(np.atleast_1d(targets))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind}


Task: TypeAlias = Classification | Regression | LanguageModeling


def task_from_json(record: dict[str, Any]) -> Task:
    """The task that ``to_json`` wrote."""
    if record.get("kind") == "classification":
        return Classification(tuple(str(name) for name in record["classes"]))
    if record.get("kind") == "regression":
        return Regression(float(record["mean"]), float(record["scale"]))
    if record.get("kind") == "language_modeling":
        return LanguageModeling()
    raise WhenceError(
        "unknown task", got=repr(record.get("kind")), expected="classification, regression or language_modeling"
    )
