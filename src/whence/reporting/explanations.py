"""Why the model predicted this: the training instances (or groups) that helped and hurt each target most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whence.data import Classification, Regression
from whence.data.tasks import well_formed
from whence.estimators.derived import derived
from whence.estimators.dispatch import MASKED, choose
from whence.reporting.cards import Gallery, number
from whence.reporting.figures import scaled_unit
from whence.reporting.targets import Choice, score_name
from whence.run import Run
from whence.scores import Scores
from whence.shared_words import SharedWords
from whence.subnetworks import losses, probabilities

__all__ = ["SUMMARY", "Explanations", "explain"]

SUMMARY = 100  # extreme rows kept per target without the matrix
_MOST_WORDS = 40  # marked in a text
_TESTED, _READ = (
    2**26,
    2**24,
)  # most scores kept for the comparison with chance, and for what each row moves: 256, 64 MiB


@dataclass(frozen=True)
class Explanations:
    """Attributes:
    choice: which targets, and why these.
    scores: of the chosen targets; None without targets.
    factor, unit: a shown score is factor times the score, in this unit.
    items: per target: i (its record), predicted, probability or error, loss, helps and hurts:
        [[record, score]] of instances ([record, score, words shared] of texts) or [[name, score, members]] of groups, the most
        extreme first; words: of texts, those shared with any of them.
    """

    choice: Choice
    scores: Scores | None = None
    factor: float = 1.0
    unit: str = ""
    items: list[dict[str, Any]] = field(default_factory=list)

    @property
    def method(self) -> str:
        return "" if self.scores is None else str(self.scores.info["method"])

    @property
    def level(self) -> str:
        return "instance" if self.scores is None else str(self.scores.info["level"])


def explain(
    run: Run, choice: Choice, gallery: Gallery, *, method: str = "auto", top: int = 8, progress: bool = False
) -> Explanations:
    """The ``top`` most helpful (positive) and most harmful (negative) training rows of each target."""
    data = choice.data
    if data is None or not len(data):
        return Explanations(choice)
    wanted = choose(run, run.loss) if method == "auto" else method
    matrix = top > SUMMARY or len(run.train) * len(data) <= (_TESTED if wanted in MASKED else _READ)
    by_group = method == "auto" and run.train.groups is not None
    name = score_name(run, data, "-".join([wanted, *["groups"] * by_group, *["top"] * (not matrix)]))
    scores = derived(run, data, method=wanted, level="group" if by_group else "auto", name=name, keep_matrix=matrix,
                       progress=progress)  # fmt: skip
    helpful, harmful = scores.top(top), scores.top(top, harmful=True)
    factor, unit = scaled_unit(
        np.concatenate([helpful.values.ravel(), harmful.values.ravel()]).tolist(), str(scores.info["unit"])
    )
    members = group_sizes(run)
    predicted, loss = probabilities(run, data), losses(run, "full", data)
    texts, asked = run.train.texts, data.texts
    reads = texts is not None and asked is not None and scores.info["level"] != "group"
    shared = SharedWords(texts) if reads and texts is not None else None
    items = []
    for column in range(len(data)):
        item: dict[str, Any] = {"i": gallery.target(data, choice.split, column), "loss": number(loss[column])}
        if isinstance(run.task, Classification):
            item |= {
                "predicted": run.task.show(predicted[column].argmax())[0],
                "probability": number(predicted[column].max()),
                "true_probability": number(predicted[column][int(data.targets[column])]),
            }
        else:
            assert isinstance(run.task, Regression)  # there is no report of texts without labels
            error = (float(predicted[column, 0]) - float(data.targets[column])) * run.task.scale
            item |= {"predicted": run.task.show(predicted[column, 0])[0], "error": number(error, 4)}
        for side, best, sign in (("helps", helpful, 1), ("hurts", harmful, -1)):
            pairs = [
                (int(row), float(value))
                for row, value in zip(best.rows[column], best.values[column], strict=True)
                if value * sign > 0
            ]
            if scores.info["level"] == "group":
                item[side] = [
                    [well_formed(scores.rows.names[row]), number(value * factor), members[int(scores.ids[row])]]
                    for row, value in pairs
                ]
            else:
                item[side] = [[gallery.train(row), number(value * factor)] for row, value in pairs]
                if shared is not None and texts is not None and asked is not None:
                    _mark(item, side, shared, str(asked[column]), [str(texts[row]) for row, _ in pairs])
        items.append(item)
    return Explanations(choice, scores, factor, unit, items)


def _mark(item: dict[str, Any], side: str, shared: SharedWords, target: str, texts: list[str]) -> None:
    """Note which telling words a target shares with each of the texts on a side, and with any of them."""
    for pair, text in zip(item[side], texts, strict=True):
        pair.append(shared(target, text)[:_MOST_WORDS])
        item["words"] = sorted({*item.get("words", []), *pair[2]})


def group_sizes(run: Run) -> dict[int, int]:
    """Group id → members in the training split; empty without groups."""
    if run.train.groups is None:
        return {}
    ids, sizes = np.unique(run.train.groups, return_counts=True)
    return dict(zip(ids.tolist(), sizes.tolist(), strict=True))
