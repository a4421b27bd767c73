"""What a person sees of an instance: a picture, a text, or feature values, with its id and label."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whence.data import Classification, Dataset
from whence.data.inputs import ArrayInputs
from whence.data.tasks import well_formed
from whence.reporting.figures import clean
from whence.reporting.pictures import Album
from whence.run import Run

__all__ = ["Gallery", "longest_of_rest", "longest_text", "number"]

_LONGEST_TEXT, _SHORTEST_TEXT, _ALL_TEXTS = 4000, 600, 6_000_000  # characters of one text, and of all together
_SHORTEST_OF_REST, _ALL_OF_REST = 200, 3_000_000  # the same of instances that are listed for completeness
_MOST_FEATURES = 8
_SAMPLE = 20_000  # rows from which features are chosen


@dataclass
class Gallery:
    """Every instance that a report shows, once, as a record for the page's data.

    Attributes:
        run: whose instances they are.
        suspected: training rows whose label is suspected.
        by_masks: what own and flipped masks give each training instance's label, float32 [N] each; None where it is not known.
        longest: characters shown of a text.
        longest_of_rest: the same of instances that are listed for completeness.
        records: id, split, label; where there are such text, picture (its number) or small (its number among those of the rest),
            values, group, p_own and p_flipped (of texts), suspected.
        album, small: their pictures, and those of the rest.
        columns: which features are shown, [at most 8]; empty without features.
    """

    run: Run
    suspected: frozenset[int] = frozenset()
    by_masks: tuple[np.ndarray, np.ndarray] | None = None
    longest: int = _LONGEST_TEXT
    longest_of_rest: int = _LONGEST_TEXT
    records: list[dict[str, Any]] = field(default_factory=list)
    album: Album = field(default_factory=Album)
    small: Album = field(default_factory=lambda: Album(largest_side=48, most_pixels=8_000_000))
    columns: np.ndarray = field(init=False)
    _numbers: dict[tuple[str, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns = telling_features(self.run.train)

    def train(self, row: int, *, rest: bool = False) -> int:
        """The number of a training instance's record; rest: listed for completeness, so its picture and text may be small."""
        return self._once("train", self.run.train, row, rest=rest)

    def shown(self) -> np.ndarray:
        """int64, in order: the training rows that have a record."""
        return np.array([row for key, row in self._numbers if key == "train"], np.int64)

    def target(self, data: Dataset, split: str, row: int) -> int:
        """The number of a target's record. One report has one set of targets."""
        return self._once(f"target {split}", data, row, split)

    def all_features(self) -> int:
        """How many features instances have; 0 where they are not shown by features."""
        inputs = self.run.train.inputs
        return int(inputs.array.shape[1]) if len(self.columns) and isinstance(inputs, ArrayInputs) else 0

    def feature_names(self) -> list[str]:
        """Names of the features shown; numbered where the data have no names."""
        names = self.run.train.feature_names
        return [f"feature {c}" if names is None else clean(names[c]) for c in self.columns.tolist()]

    def kind(self) -> str:
        """What instances look like: "picture", "text", "values" or "id"."""
        train = self.run.train
        return (
            "picture"
            if train.images is not None
            else "text"
            if train.texts is not None
            else "values"
            if len(self.columns)
            else "id"
        )

    def _once(self, key: str, data: Dataset, row: int, split: str = "train", *, rest: bool = False) -> int:
        if (key, row) not in self._numbers:
            self._numbers[key, row] = len(self.records)
            self.records.append(self._record(data, row, split, rest))
        return self._numbers[key, row]

    def _record(self, data: Dataset, row: int, split: str, rest: bool) -> dict[str, Any]:
        record: dict[str, Any] = {
            "id": data.name_of(row),
            "split": split,
            "label": data.task.show(data.targets[row])[0],
        }
        if data.images is not None:
            name, album = ("small", self.small) if rest else ("picture", self.album)
            record[name] = album.add(data.images[row])
        if data.texts is not None:
            text, longest = str(data.texts[row]), self.longest_of_rest if rest else self.longest
            record["text"] = text[:longest]
            if len(text) > longest:
                record["cut"] = len(text) - longest
        elif data.images is None and len(self.columns) and isinstance(data.inputs, ArrayInputs):
            record["values"] = [number(value, 4) for value in data.inputs.array[row][self.columns].tolist()]
        if data.groups is not None:
            record["group"] = well_formed((data.groups if data.group_names is None else data.group_names)[row])
        if split == "train" and self.by_masks is not None and data.texts is not None:
            record |= {name: number(p[row], 3) for name, p in zip(("p_own", "p_flipped"), self.by_masks, strict=True)}
        if split == "train" and row in self.suspected:
            record["suspected"] = True
        return record


def longest_text(count: int) -> int:
    """How many characters of each of so many texts are shown, so that the page stays a few megabytes."""
    return max(_SHORTEST_TEXT, min(_LONGEST_TEXT, _ALL_TEXTS // max(count, 1)))


def longest_of_rest(count: int) -> int:
    """The same of so many texts that are listed for completeness."""
    return max(_SHORTEST_OF_REST, min(_LONGEST_TEXT, _ALL_OF_REST // max(count, 1)))


def telling_features(train: Dataset) -> np.ndarray:
    """Positions of at most eight features, in their order: those that vary most with the target.

    By the share of a feature's variance between classes, or its squared correlation with the number.
    """
    if (
        train.images is not None
        or train.texts is not None
        or not isinstance(train.inputs, ArrayInputs)
        or train.inputs.array.ndim != 2
    ):
        return np.zeros(0, np.int64)
    width = train.inputs.array.shape[1]
    if width <= _MOST_FEATURES:
        return np.arange(width)
    features = train.inputs.array[:_SAMPLE].astype(np.float64)
    features -= features.mean(0)
    targets = train.targets[:_SAMPLE]
    total = np.square(features).sum(0)
    if isinstance(train.task, Classification):
        between = np.zeros(width)
        for label in np.unique(targets):
            of_class = features[targets == label]
            between += len(of_class) * np.square(of_class.mean(0))
    else:
        centered = targets - targets.mean(dtype=np.float64)
        between = np.square(centered @ features) / max(float(np.square(centered).sum()), 1e-30)
    shares = np.divide(between, total, out=np.zeros(width), where=total > 0)
    return np.sort(np.argsort(-shares, kind="stable")[:_MOST_FEATURES])


def number(value: Any, digits: int = 6) -> float | None:
    """A number for JSON, of so many significant digits; None for what is not finite."""
    value = float(value)
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
