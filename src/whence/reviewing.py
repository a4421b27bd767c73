"""How many labels are wrong, told by a few that somebody looks at.

From held-out probabilities alone nobody can tell labels that are wrong from instances that are hard, where one is mostly the other
(docs/label_errors.md): ``p_wrong`` then ranks well and is no probability. A person who looks at a hundred labels can tell. Which
hundred is drawn with known chances, so that what is found of them holds of all:

- *Order*: instance i is at place u_i/s_i, u_i uniform, and whoever looks begins at the front: the first n are drawn with chances
  π_i = n·s_i/Σs (sequential Poisson sampling, Ohlsson 1998), whatever n is; so it can be gone on with at any time.
  s_i is the deviation that a label's being wrong has, if it is wrong with a probability halfway between p_wrong and the mean (at
  least .05). Suspected labels are drawn up to three times as often as others, no more, since it is p_wrong that is in doubt.
- *Calibration*: a and b in logit q_i = a + b·logit p_i, b ≥ 0, by maximum likelihood of the answers, weighted by 1/π_i, with the
  prior b ~ N(1, 1), and one answer's worth of what p_wrong said, spread over the answers (Platt 1999). The order of suspicion
  stays. Because a is free, Σ q_i is, but for that one answer, what survey sampling calls the regression estimate of the number of
  wrong labels: right on average, however wrong p_wrong is (Särndal, Swensson and Wretman 1992).
- *Limits*: the variance of that estimate, without the one answer (Hájek's, of residuals over chances), says how many labels drawn
  at random would be worth as much; Clopper and Pearson's limits of so many hold (Korn and Graubard 1998). At most four times those
  looked at count, fewer where nearly all answers are alike, whose variance nobody has seen.

tests/test_reviewing.py holds the limits against simulated reviews, benchmarks/reviews.py against labels that people got wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import beta
from scipy.stats import t as student

from whence.arguments import seed_of, whole
from whence.data import Classification, Dataset
from whence.data.tasks import well_formed
from whence.errors import WhenceError
from whence.fingerprints import digest_tensors

__all__ = ["FEWEST", "NONE", "NO_CLASS", "OPEN", "Review", "Reviewed", "classes_of", "drawn", "of_labels", "reviewed"]

NO_CLASS = "-"
"""What is answered where no class is right."""
FEWEST = 10
"""Answers from which on they count."""

OPEN, NONE = -2, -1  # answers that are no class
_OWN = 0x726576696577  # so that numbers drawn from the same seed elsewhere, such as planted errors, are others
_RARE = 0.05  # of wrong labels: as many are thought possible, whatever p_wrong says
_SUREST = 9.2  # logit of p_wrong, of .0001 and .9999: beyond, it is hardly surer
_MOST_WORTH = 4.0  # labels drawn at random that one of a review can be worth


@dataclass(frozen=True, eq=False)
class Review:
    """Labels that somebody looks at, and what was found.

        review = whence.audit(run).to_review(100)
        review = review.answered({"17": "cat", "204": "dog"})     # the right label of each, by who sees no suggestion
        found = whence.audit(run, review=review)                   # p_wrong calibrated, and limits of the number of errors

    Attributes:
        train: the training instances, N, of a classifier.
        sizes: float64 [N], to which chances of being drawn are proportional.
        order: int64 [N], all rows in the order in which they are drawn.
        answers: int64 [K], of the first K rows of it, which are those to look at: the class that is right; −1 where none is; −2
            where nobody has looked yet.
    """

    train: Dataset
    sizes: np.ndarray
    order: np.ndarray
    answers: np.ndarray

    def __len__(self) -> int:
        return len(self.answers)

    def __repr__(self) -> str:
        return f"Review({len(self):,} of {len(self.train):,} labels to look at, {self.looked_at.sum():,} looked at)"

    @property
    def rows(self) -> np.ndarray:
        """int64 [K]: whose labels are to be looked at."""
        return self.order[: len(self)]

    @property
    def looked_at(self) -> np.ndarray:
        """bool [K]: which have an answer."""
        found: np.ndarray = self.answers != OPEN
        return found

    @property
    def reach(self) -> int:
        """To which place somebody has looked; above it some may have been left out."""
        seen = np.flatnonzero(self.looked_at)
        return int(seen[-1]) + 1 if len(seen) else 0

    def names(self) -> list[str]:
        """The ids of those to look at, as the user writes them."""
        return [self.train.name_of(row) for row in self.rows]

    def table(self) -> pa.Table:
        """What to look at: id, given_label, of texts the text, and right_label: empty where nobody has looked, "-" where no class
        is right. No suggestion, which would lead who looks."""
        train, classes = self.train, classes_of(self.train)
        right = ["" if answer == OPEN else NO_CLASS if answer == NONE else classes[answer] for answer in self.answers]
        columns: dict[str, Any] = {"id": self.names(), "given_label": train.task.show(train.targets[self.rows])}
        if train.texts is not None:
            columns["text"] = [well_formed(text) for text in train.texts[self.rows]]
        return pa.table({**columns, "right_label": right})

    def answered(self, right: Mapping[Any, str]) -> Review:
        """With more answers, or others.

        Args:
            right: id, as the user writes it → the class that is right, "-" where none is, "" for no answer.

        Raises:
            WhenceError: an id that is not among those to look at, or a label that is no class.
        """
        if not isinstance(right, Mapping):
            raise WhenceError("no mapping", where="right", got=f"{right!r:.60}", expected="{id: right label}")
        place = {name: number for number, name in enumerate(self.names())}
        known, answers = self.known(), self.answers.copy()
        for name, label in right.items():
            if str(name) not in place:
                raise WhenceError("an id that is not among those to review", where="right", got=str(name)[:60],
                                  expected=f"one of the {len(self):,} in Review.table()",
                                  mend="Labels that were chosen otherwise say nothing of the others: leave them out.")  # fmt: skip
            if str(label) not in known:
                raise WhenceError("a right label that is no class", where=f"id {str(name)[:60]}", got=repr(str(label)[:60]),
                                  expected=self.expected())  # fmt: skip
            answers[place[str(name)]] = known[str(label)]
        return replace(self, answers=answers)

    def known(self) -> dict[str, int]:
        """What can be answered, as it is written → as ``answers`` has it."""
        return {NO_CLASS: NONE, "": OPEN} | {label: number for number, label in enumerate(classes_of(self.train))}

    def expected(self) -> str:
        """What can be answered, in words."""
        classes = classes_of(self.train)
        return f"{', '.join(classes[:20])}{' …' if len(classes) > 20 else ''}, or {NO_CLASS} where none is right"

    def extended(self, count: int) -> Review:
        """With so many labels to look at, answers kept; all of N if they are fewer, and never fewer than before."""
        more = min(whole(count, "count", low=FEWEST), len(self.train)) - len(self)
        return replace(self, answers=np.append(self.answers, np.full(max(more, 0), OPEN)))


@dataclass(frozen=True, eq=False)
class Reviewed:
    """What a review says of all training labels.

    Attributes:
        looked_at, wrong: how many labels were looked at, and how many of these are wrong.
        low, high: between them is the number of all labels that are wrong, 95 %.
        p_wrong: float64 [N], calibrated; 0 or 1 of what was looked at.
        right: int64 [N], as ``Review.answers``: the class that is right; −1 where none is; −2 where nobody has looked.
    """

    looked_at: int
    wrong: int
    low: float
    high: float
    p_wrong: np.ndarray
    right: np.ndarray


def drawn(train: Dataset, p_wrong: np.ndarray, count: int, seed: int = 0) -> Review:
    """Labels to look at, none of which anybody has looked at yet.

    Args:
        p_wrong: [N], by an audit.
        count: how many, at least ten; all if there are fewer.
        seed: an integer of 64 bits.

    Raises:
        WhenceError: the task is no classification, or fewer than ten.
    """
    classes_of(train)
    believed = np.clip((p_wrong + max(float(p_wrong.mean()), _RARE)) / 2, _RARE / 2, 1 - _RARE / 2)
    sizes = np.sqrt(believed * (1 - believed))
    uniform = np.random.default_rng([_OWN, seed_of(seed) % 2**64]).random(len(train))
    order = np.argsort(uniform / sizes, kind="stable")
    return Review(train, sizes, order, np.array([], np.int64)).extended(count)


def reviewed(p_wrong: np.ndarray, review: Review) -> Reviewed | None:
    """What a review says of all labels; None before ten have been looked at (of fewer than ten: all).

    Args:
        p_wrong: [N], by an audit, before any review.
    """
    seen, count = review.looked_at, len(review.train)
    rows, looked_at = review.rows[seen], int(seen.sum())
    if looked_at < min(FEWEST, count):
        return None
    wrong = (review.answers[seen] != review.train.targets[rows]).astype(np.float64)
    reach = review.reach
    chances = _chances(review.sizes, reach)[rows] * looked_at / reach  # as if it were by chance which were left out
    calibrated = _calibrated(p_wrong, rows, wrong, 1 / chances)
    share = float(np.clip(calibrated.mean() + np.average(wrong - calibrated[rows], weights=1 / chances), 0, 1))
    residuals = (wrong - calibrated[rows]) / chances
    spread = (1 - chances) * (residuals - residuals.mean()) ** 2
    degrees = max(looked_at - 2, 1)  # two numbers were fitted
    wider = (looked_at - 1) / degrees * (float(student.ppf(0.975, degrees)) / 1.96) ** 2
    variance = wider * float(spread.sum()) * looked_at / max(looked_at - 1, 1) / count**2
    errors = int(wrong.sum())
    low, high = _limits(share, variance, looked_at, errors)
    calibrated[rows] = wrong
    expected, right = float(calibrated.sum()), np.full(count, OPEN)
    right[rows] = review.answers[seen]
    low = max(min(low * count, expected), errors)
    high = min(max(high * count, expected), count - looked_at + errors)
    return Reviewed(looked_at, errors, low, high, calibrated, right)


def of_labels(train: Dataset) -> str:
    """A hash of ids and labels: 32 hexadecimal digits."""
    return digest_tensors({"ids": torch.from_numpy(np.ascontiguousarray(train.ids)),
                           "labels": torch.from_numpy(np.ascontiguousarray(train.targets))})  # fmt: skip


def classes_of(train: Dataset) -> tuple[str, ...]:
    """The names of the classes.

    Raises:
        WhenceError: the task is no classification.
    """
    if not isinstance(train.task, Classification):
        raise WhenceError("a review of something else than classes", where="the run", got=train.task.kind,
                          expected="a classification")  # fmt: skip
    if "" in train.task.classes:  # which stands for "not looked at"
        raise WhenceError(
            "a review of a class without a name", where="the run", got="''", expected="classes with names"
        )
    return train.task.classes


def _chances(sizes: np.ndarray, count: int) -> np.ndarray:
    """How likely each label is among the first ``count``: float64 [N], whose sum that is."""
    chances, certain = np.zeros(len(sizes)), np.zeros(len(sizes), bool)
    while True:
        chances[~certain] = sizes[~certain] * ((count - certain.sum()) / max(float(sizes[~certain].sum()), 1e-300))
        if not (chances[~certain] > 1).any():
            return chances
        certain |= chances >= 1  # what would be drawn more than once is drawn surely
        chances[certain] = 1


def _calibrated(p_wrong: np.ndarray, rows: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """q [N] of p [N], by answers [K] of some rows."""
    scores = logit(np.clip(p_wrong, 1e-15, 1 - 1e-15))
    sure = np.clip(scores, -_SUREST, _SUREST)
    scores = sure + 1e-6 * (scores - sure)  # so that the order stays
    count, seen = len(rows), scores[rows]
    said = (count * wrong + p_wrong[rows]) / (count + 1)
    weights = weights * ((count + 1) / weights.sum())

    def loss(found: np.ndarray) -> tuple[float, np.ndarray]:
        given = found[0] + found[1] * seen
        pull = weights * (expit(given) - said)
        return (float(weights @ (np.logaddexp(0, given) - said * given)) + (found[1] - 1) ** 2 / 2,
                np.array([pull.sum(), pull @ seen + found[1] - 1]))  # fmt: skip

    best = minimize(loss, np.array([0.0, 1.0]), jac=True, method="L-BFGS-B", bounds=[(None, None), (0, None)]).x
    calibrated: np.ndarray = expit(best[0] + best[1] * scores)
    return calibrated


def _limits(share: float, variance: float, looked_at: int, errors: int) -> tuple[float, float]:
    """Of the share of wrong labels, 95 %."""
    if errors in (0, looked_at):
        unseen = 1 - 0.025 ** (1 / looked_at)
        return (0.0, unseen) if errors == 0 else (1 - unseen, 1.0)
    rarer = min(errors, looked_at - errors)
    worth = min(share * (1 - share) / max(variance, 1e-300), looked_at * min(_MOST_WORTH, 1 + rarer / 3))
    wrong, right = share * worth, (1 - share) * worth
    return float(beta.ppf(0.025, wrong, right + 1)), float(beta.ppf(0.975, wrong + 1, right))
