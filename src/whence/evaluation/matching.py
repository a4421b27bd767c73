"""Scores and ground truth by id: whatever order each has, the same row and target meet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from whence.arguments import numbers
from whence.errors import WhenceError
from whence.evaluation.ground_truth import GroundTruth
from whence.scores import Scores

__all__ = ["columns_of", "predicted", "score_matrix"]


def predicted(scores: Scores | Any, truth: GroundTruth) -> np.ndarray:
    """The sum of the scores of the rows that each retraining was given: float64 [K, M], targets as in the truth.

    Args:
        scores: ``Scores``, matched by ids; or an array [N, M] in the truth's order of rows (or of training instances, when
            the truth is of groups).

    Raises:
        WhenceError: rows or targets differ from the truth's.
    """
    total = np.zeros((len(truth.members), len(truth.targets)))
    for owners, block in _blocks(scores, truth):
        total += truth.members[:, owners].astype(np.float64) @ block
    return total


def score_matrix(scores: Scores | Any, truth: GroundTruth) -> np.ndarray:
    """Scores [N, M] in the truth's order of rows and targets, instances summed up to groups where it is of groups: float64."""
    whole = np.zeros((len(truth.rows), len(truth.targets)))
    for owners, block in _blocks(scores, truth):
        np.add.at(whole, owners, block)
    return whole


def columns_of(ids: np.ndarray, wanted: np.ndarray, what: str, *, all_of: bool = True) -> np.ndarray:
    """Where in ``ids`` each of ``wanted`` is: int64 [len(wanted)].

    Args:
        what: the ids are of, for the error.
        all_of: refuse ids beyond those wanted.
    """
    position = {int(one): number for number, one in enumerate(ids)}
    missing = [int(one) for one in wanted if int(one) not in position]
    if missing or (all_of and len(ids) != len(wanted)):
        got = f"{len(missing)} ids missing, such as {missing[0]}" if missing else f"{len(ids)} for {len(wanted)}"
        raise WhenceError(f"{what} that do not match by id", where="the scores", got=got,
                          mend="Score the run and the targets that the other side is of.")  # fmt: skip
    return np.array([position[int(one)] for one in wanted], np.int64)


def _blocks(scores: Scores | Any, truth: GroundTruth) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(the truth's row of each score row, float64 [rows, M]), block by block."""
    if not isinstance(scores, Scores):
        array = numbers(scores, "scores")
        owners = {len(truth.instances): truth.owners, len(truth.rows): np.arange(len(truth.rows))}.get(
            array.shape[0] if array.ndim else -1
        )
        if array.ndim != 2 or owners is None or array.shape[1] != len(truth.targets):
            raise WhenceError("scores of another shape than the ground truth", got=f"shape {array.shape}",
                              expected=f"{(len(truth.rows), len(truth.targets))}")  # fmt: skip
        yield owners, array
        return
    level = scores.info.get("level", "instance")
    if level == "group" and truth.level == "instance":
        raise WhenceError("scores of groups, but a ground truth of instances", where="the scores",
                          mend='Retrain with level="group", or score a run without groups.')  # fmt: skip
    columns = columns_of(scores.targets, truth.targets.ids, "targets")
    theirs, owners = (truth.rows, np.arange(len(truth.rows))) if level == "group" else (truth.instances, truth.owners)
    order = columns_of(theirs.ids, scores.ids, "training rows")
    for start, block in scores.blocks():
        yield owners[order[start : start + len(block)]], np.asarray(block, np.float64)[:, columns]
