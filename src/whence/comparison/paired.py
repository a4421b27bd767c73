"""Two models on the same held-out instances: paired differences with intervals and exact tests, and what changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm

from whence.comparison.shared import Shared
from whence.data import Classification, Regression
from whence.run import Run
from whence.subnetworks import losses, probabilities

__all__ = [
    "ClassDifference",
    "Difference",
    "Paired",
    "accuracy_difference",
    "bootstrap_interval",
    "compare_predictions",
]

_ROUNDS, _DRAWN = 4000, 2**22  # bootstrap rounds; counts drawn together
_LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """One quantity in both runs.

    Attributes:
        name, unit: of the quantity; unit "" of a share.
        first, second: in this run and in the other.
        value: first − second. low, high: its 95 % interval over held-out instances.
        p: two-sided, of no difference; None where only the interval says so.
        higher_is_better: of the quantity.
    """

    name: str
    unit: str
    first: float
    second: float
    low: float
    high: float
    p: float | None
    higher_is_better: bool

    @property
    def value(self) -> float:
        return self.first - self.second

    @property
    def verdict(self) -> int:
        """1 where this run is better beyond chance, −1 where the other is, 0 where that cannot be told."""
        beyond = self.low > 0 or self.high < 0 if self.p is None else self.p < _LEVEL
        return int(np.sign(self.value)) * (1 if self.higher_is_better else -1) if beyond else 0


@dataclass(frozen=True)
class ClassDifference:
    """One class: held-out instances, share of them found by each run, instances that only one run gets right, and the interval
    of the difference of the shares."""

    name: str
    instances: int
    first: float
    second: float
    gained: int
    lost: int
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Paired:
    """Attributes:
    differences: accuracy (or RMSE), then mean loss where both runs have the same.
    predicted: float32 [M, C] twice: probabilities, classes in the order of this run; of a regression, in the user's units.
    losses: float32 [M] twice.
    right: bool [M] twice; of a regression empty.
    classes: by class; empty for a regression.
    """

    differences: list[Difference]
    predicted: tuple[np.ndarray, np.ndarray]
    losses: tuple[np.ndarray, np.ndarray]
    right: tuple[np.ndarray, np.ndarray]
    classes: list[ClassDifference]

    @property
    def gained(self) -> np.ndarray:
        """int64: held-out instances that only this run gets right, the largest change in the label's loss first."""
        return self._changed(self.right[0] & ~self.right[1])

    @property
    def lost(self) -> np.ndarray:
        """int64: those that only the other run gets right, the largest change first."""
        return self._changed(self.right[1] & ~self.right[0])

    @property
    def both_wrong(self) -> np.ndarray:
        """int64: those that neither gets right, the most confident of this run first."""
        wrong = np.flatnonzero(~self.right[0] & ~self.right[1])
        return wrong[np.argsort(-self.predicted[0][wrong].max(1, initial=0), kind="stable")]

    @property
    def main(self) -> Difference:
        """The difference in accuracy, or in RMSE."""
        return self.differences[0]

    def most_telling(self, limit: int) -> np.ndarray:
        """int64: changed predictions, by turns better and worse ones, then those wrong in both, then the least confident.

        Of a regression, those whose loss differs most.
        """
        if not len(self.right[0]):
            return np.argsort(-np.abs(self.losses[0] - self.losses[1]), kind="stable")[:limit]
        gained, lost = self.gained, self.lost
        both = min(len(gained), len(lost))
        turns = np.stack([gained[:both], lost[:both]], axis=1).ravel()
        calm = np.flatnonzero(self.right[0] & self.right[1])
        calm = calm[np.argsort(self.predicted[0][calm].max(1, initial=0), kind="stable")]
        return np.concatenate([turns, gained[both:], lost[both:], self.both_wrong, calm])[:limit]

    def sentence(self, split: str) -> str:
        """Which run predicts better, in plain words."""
        main, count = self.main, len(self.losses[0])
        on = f"on {count:,} shared {split} instances"
        if main.verdict == 0:
            return f"Which run predicts better cannot be told {on}."
        return f"{'This run' if main.verdict > 0 else 'The other run'} predicts better {on}, beyond chance."

    def _changed(self, which: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(which)
        change = np.abs(self.losses[0][rows] - self.losses[1][rows])
        ordered: np.ndarray = rows[np.argsort(-change, kind="stable")]
        return ordered


def compare_predictions(run: Run, other: Run, shared: Shared) -> Paired:
    """Predictions and losses of both runs on their shared held-out instances."""
    pairs = shared.held_out
    ours = run.splits[shared.split].select(pairs.first)
    theirs = other.splits[shared.split].select(pairs.second)
    predicted = probabilities(run, ours), probabilities(other, theirs)
    loss = losses(run, "full", ours), losses(other, "full", theirs)
    if isinstance(run.task, Classification):
        predicted = predicted[0], predicted[1][:, shared.classes]
        right = tuple(values.argmax(1) == ours.targets for values in predicted)
        differences = [accuracy_difference(*right), *_loss_difference(run, other, loss)]
        return Paired(differences, predicted, loss, (right[0], right[1]), _by_class(run.task, ours.targets, *right))
    assert isinstance(run.task, Regression) and isinstance(other.task, Regression)
    predicted = tuple(values[:, :1] * one.task.scale + one.task.mean  # type: ignore[union-attr,assignment]
                      for values, one in zip(predicted, (run, other), strict=True))  # fmt: skip
    given = ours.targets.astype(np.float64) * run.task.scale + run.task.mean
    squares = tuple(np.square(values[:, 0].astype(np.float64) - given) for values in predicted)
    roots = [float(np.sqrt(values.mean())) for values in squares]
    low, high = bootstrap_interval(squares[0], squares[1], np.sqrt)
    differences = [Difference("RMSE", "", roots[0], roots[1], low, high, None, False)]
    nothing = np.zeros(0, bool)
    return Paired(differences, predicted, (squares[0], squares[1]), (nothing, nothing), [])


def accuracy_difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """The difference of two accuracies on the same instances, with McNemar's exact test.

    The interval is that of Agresti and Min (2005): Wald's, after half an instance is added to each of the four cells.

    Args:
        first, second: bool [M], which predictions are right.
    """
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    p = float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
    low, high = _paired_interval(gained, lost, len(first))
    return Difference("accuracy", "", float(first.mean()), float(second.mean()), low, high, p, True)


def bootstrap_interval(first: np.ndarray, second: np.ndarray, of_mean: np.ufunc = np.positive) -> tuple[float, float]:
    """The 95 % interval of of_mean(mean of first) − of_mean(mean of second), instances drawn anew for both at once.

    Args:
        first, second: float [M], of the same instances.
    """
    values, generator = np.stack([first, second], axis=1).astype(np.float64), np.random.default_rng(0)
    found: list[np.ndarray] = []
    at_once = max(1, _DRAWN // len(values))
    for start in range(0, _ROUNDS, at_once):
        rounds = min(at_once, _ROUNDS - start)
        counts = generator.multinomial(len(values), np.full(len(values), 1 / len(values)), size=rounds)
        means = of_mean(counts @ values / len(values))
        found.append(means[:, 0] - means[:, 1])
    low, high = np.quantile(np.concatenate(found), [0.025, 0.975])
    return float(low), float(high)


def _loss_difference(run: Run, other: Run, loss: tuple[np.ndarray, np.ndarray]) -> list[Difference]:
    """Of the mean loss, where both runs have the same."""
    if run.loss.fingerprint(run.task) != other.loss.fingerprint(other.task):
        return []
    low, high = bootstrap_interval(*loss)
    means = [float(values.mean(dtype=np.float64)) for values in loss]
    return [Difference("mean loss", run.loss.unit, means[0], means[1], low, high, None, False)]


def _by_class(
    task: Classification, targets: np.ndarray, first: np.ndarray, second: np.ndarray
) -> list[ClassDifference]:
    rows = []
    for label, name in enumerate(task.classes):
        mine = targets == label
        if not mine.any():
            continue
        gained, lost = int((first & ~second)[mine].sum()), int((second & ~first)[mine].sum())
        shares = float(first[mine].mean()), float(second[mine].mean())
        rows.append(
            ClassDifference(
                name, int(mine.sum()), *shares, gained, lost, *_paired_interval(gained, lost, int(mine.sum()))
            )
        )
    return rows


def _paired_interval(gained: int, lost: int, count: int) -> tuple[float, float]:
    n, b, c = count + 2, gained + 0.5, lost + 0.5
    center, error = (b - c) / n, np.sqrt(max(b + c - (b - c) ** 2 / n, 0.0)) / n
    reach = norm.ppf(0.975) * error
    return float(max(-1.0, center - reach)), float(min(1.0, center + reach))
