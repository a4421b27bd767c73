"""Labels that two audits suspect: both, or only one of them; and what became of the training data in between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whence.auditing import Audit
from whence.comparison.shared import Shared
from whence.evaluation.correlations import spearman

__all__ = ["Issues", "compare_issues"]


@dataclass(frozen=True, eq=False)
class Issues:
    """Suspected labels among training instances that both runs have with the same label, by row of this run or the other.

    Attributes:
        both, only_first, only_second: int64, pairs of ``Shared.train``, the most suspected first: by the smaller suspicion of
            the two, or by that of the run that suspects.
        relabeled: int64, pairs whose label differs between the runs.
        compared: how many pairs have the same label.
        suspicion, memorization, influence: Spearman correlation of the two audits over these; NaN where one is constant or unknown.
    """

    both: np.ndarray
    only_first: np.ndarray
    only_second: np.ndarray
    relabeled: np.ndarray
    compared: int
    suspicion: float
    memorization: float
    influence: float

    @property
    def overlap(self) -> float:
        """The share of labels suspected by either run that both suspect; NaN where neither suspects any."""
        either = len(self.both) + len(self.only_first) + len(self.only_second)
        return len(self.both) / either if either else float("nan")

    @property
    def expected(self) -> float:
        """How many both would suspect if they chose as many at random."""
        counts = len(self.both) + len(self.only_first), len(self.both) + len(self.only_second)
        return counts[0] * counts[1] / self.compared if self.compared else 0.0


def compare_issues(first: Audit, second: Audit, shared: Shared) -> Issues:
    """Compare two audits over the training instances that both runs have."""
    pairs = shared.train
    same = np.flatnonzero(pairs.labels)
    suspected = [
        audit.column("kind")[rows] == "label_issue" for audit, rows in ((first, pairs.first), (second, pairs.second))
    ]
    p = first.column("p_wrong")[pairs.first], second.column("p_wrong")[pairs.second]

    def listed(which: np.ndarray, by: np.ndarray) -> np.ndarray:
        rows = same[which[same]]
        return rows[np.argsort(-by[rows], kind="stable")]

    def agreement(name: str) -> float:
        values = [audit.column(name)[rows][same].astype(np.float64) for audit, rows in
                  ((first, pairs.first), (second, pairs.second))]  # fmt: skip
        if len(same) < 3 or not all(np.isfinite(one).all() for one in values):
            return float("nan")
        return float(spearman(values[0][:, None], values[1][:, None])[0])

    return Issues(
        both=listed(suspected[0] & suspected[1], np.minimum(*p)),
        only_first=listed(suspected[0] & ~suspected[1], p[0]),
        only_second=listed(suspected[1] & ~suspected[0], p[1]),
        relabeled=np.flatnonzero(~pairs.labels),
        compared=len(same),
        suspicion=agreement("p_wrong"),
        memorization=agreement("memorization"),
        influence=agreement("influence_on_dev") if first.method == second.method else float("nan"),
    )
