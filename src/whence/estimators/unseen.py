"""What a model would say of an instance that it had not seen.

In-sample residuals vanish with memorization, and every score that is proportional to them. Three accounts of the
instance that did not memorize it are put together:

- the full network, softened by the temperature that its flipped sub-networks call for (``softening.py``);
- a ridge regression on what the first layer reads, with the instance left out;
- a ridge regression on what all layers read, with the instance left out.

Leaving one instance out of a ridge regression has a closed form, ŷ₋ᵢ = y − (y − ŷ)/(1 − hᵢ), so the two cost one matrix
decomposition each. Their temperatures are those at which the left-out labels are most likely. They know less than the
network, but their errors are their own.

Targets were never in, and are spoken of by the same mixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy, one_hot

from whence.data import Classification, Dataset
from whence.data.tasks import Task
from whence.estimators.base import cholesky, evenly, round_up, rounded
from whence.estimators.random_features import Looks, RidgeOnLooks
from whence.estimators.reading import Features
from whence.estimators.reused import Reused
from whence.estimators.softening import matched_temperature
from whence.forward import predict
from whence.run import Run

__all__ = ["Accounts", "LeftOut", "accounts", "accounts_of_pictures", "as_unseen", "likely_temperature"]

_MOST_COLUMNS = 2048
_RIDGE = 1e-3  # in units of the features' total variance
_SAMPLE = 2048  # instances that a temperature is taken from

Passes = Callable[[Dataset], Iterable[Features]]


def as_unseen(
    run: Run, targets: Dataset, features: Passes, share: float, looks: Looks | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs for training instances [N, C] and targets [M, C] as if none had been trained on.

    Args:
        features: a pass over a data set (``reading.py``).
        share: of the ridge models in the mixture, 0 to 1.
        looks: of a convolutional network's training pictures, on which a third ridge model stands.

    Returns:
        Log-probabilities (softened logits where share is 0), or predictions of a regression, which has nothing to soften, as to
        scale all residuals changes no order.
    """
    if share == 0:
        return _softened(run, *(_in_order(features(data))[0] for data in (run.train, targets)))
    wanted = _wanted(run)
    model = _learned(run, features, wanted)
    ours, theirs = _in_order(
        features(run.train), lambda some: model.without(some.first, some.others, wanted[some.rows])
    )
    of_targets, theirs_of_targets = _in_order(features(targets), lambda some: model.predict(some.first, some.others))
    if looks is not None:
        third = RidgeOnLooks(looks, wanted)
        theirs = torch.cat([theirs, third.left_out[None]])
        theirs_of_targets = torch.cat([theirs_of_targets, third.predict(targets)[None]])
    network = _softened(run, ours, of_targets)
    return _mixed(run.task, network, (theirs, theirs_of_targets), wanted, share)


@dataclass(frozen=True, eq=False)
class Accounts:
    """What a classifier and two regressions say of its training instances, each as if it had not learned it.

    Attributes:
        network: float32 [N, C], probabilities of the softened network.
        ridge: float32 [2, N, C], probabilities by the regression on what the first layer reads, and by that on what all read; or
            [1, N, C], by the regression on random features of pictures.
    """

    network: torch.Tensor
    ridge: torch.Tensor

    def mixed(self, share: float) -> torch.Tensor:
        """Probabilities [N, C] in which the ridge models together have a share from 0 to 1."""
        return (1 - share) * self.network + share * self.ridge.mean(0)


def accounts(run: Run, features: Passes) -> Accounts:
    """What is said of the training instances of a classifier, each left out.

    Args:
        features: a pass over a data set (``reading.py``).
    """
    wanted = _wanted(run)
    model = _learned(run, features, wanted)
    ours, ridge = _in_order(features(run.train), lambda some: model.without(some.first, some.others, wanted[some.rows]))
    return Accounts((ours / matched_temperature(run, ours)).softmax(1), _ridge_probabilities(ridge, ridge, wanted))


def accounts_of_pictures(run: Run) -> Accounts:
    """What is said of training pictures: the regression is on random features, which have not learned from labels."""
    outputs, wanted = torch.from_numpy(predict(run.model, run.train)), _wanted(run)
    ridge = RidgeOnLooks(Looks(run.train), wanted).left_out[None]
    network = (outputs / matched_temperature(run, outputs)).softmax(1)
    return Accounts(network, _ridge_probabilities(ridge, ridge, wanted))


def _wanted(run: Run) -> torch.Tensor:
    """What a regression is to say of the training instances: float32 [N, C]."""
    targets = torch.from_numpy(run.train.targets)
    return one_hot(targets, run.task.outputs).float() if run.task.kind == "classification" else targets[:, None].float()


def _learned(run: Run, features: Passes, wanted: torch.Tensor) -> LeftOut:
    model = LeftOut(run.task.outputs, run.device)
    for some in features(run.train):
        model.learn(some.first, some.others, wanted[some.rows])
    model.solve()
    return model


def _in_order(
    passed: Iterable[Features], ask: Callable[[Features], torch.Tensor] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all instances of a pass, in their own order: outputs [N, C], and what is answered [2, B, C] as [2, N, C]."""
    found = [(some.rows, some.outputs, some.outputs[None] if ask is None else ask(some)) for some in passed]
    rows, outputs, answers = zip(*found, strict=True)
    order = np.argsort(np.concatenate(rows))
    return torch.cat(outputs)[order], torch.cat(answers, dim=1)[:, order]


def _softened(run: Run, ours: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of training instances and others, softened by what the first call for; those of a regression as they are."""
    temperature = matched_temperature(run, ours) if isinstance(run.task, Classification) else 1.0
    return ours / temperature, others / temperature


class LeftOut:
    """Two ridge regressions, on the first columns and on all, that can be asked about any of their instances without it.

    They learn and answer batch by batch. More than 2,048 columns in all are projected at random, the first ones apart.

    Args:
        outputs: C.
        device: where products are made, by default on the CPU, where what is asked and answered always is.
    """

    def __init__(self, outputs: int, device: torch.device | None = None) -> None:
        self.outputs, self.count, self.device = outputs, 0, device or torch.device("cpu")
        self._rows, self._product = Reused(self.device), Reused(self.device)

    def learn(self, first: torch.Tensor, others: torch.Tensor, targets: torch.Tensor) -> None:
        """Features [B, D] and [B, E] of some training instances, and what is wanted of them [B, C]."""
        if not self.count:
            self._begin(first, others)
        size, width = len(self.moment), self.widths[-1]
        rows = self._rows.empty(len(first), round_up(size))
        self._read(first, others, rows)
        rows[:, width : size - 1], rows[:, size - 1], rows[:, size:] = targets.to(self.device), 1, 0
        product = torch.mm(rows.T, rows, out=self._product.empty(rows.shape[1], rows.shape[1]))
        self.moment += product[:size, :size].cpu()
        self.count += len(rows)

    def solve(self) -> None:
        """All instances have been learned: fit with an unpenalized intercept."""
        moment = self.moment / self.count
        width = self.widths[-1]
        self.mean, self.intercept = (
            part.float().to(self.device) for part in (moment[-1, :width], moment[-1, width:-1])
        )
        centered = moment - torch.outer(moment[-1], moment[-1])
        self.models = []
        for columns in self.widths:
            variance = centered[:columns, :columns].clone()
            variance.diagonal().add_(_RIDGE * float(variance.diagonal().sum().clamp_min(1e-12)))
            inverse = torch.cholesky_inverse(cholesky(variance))
            weights = (inverse @ centered[:columns, width:-1]).float()
            self.models.append((rounded(inverse.float()).to(self.device), weights.to(self.device)))

    def without(self, first: torch.Tensor, others: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """What each regression without each instance says of it, ŷ₋ᵢ = y − (y − ŷ)/(1 − hᵢ): float32 [2, B, C]."""
        return self.left_out(first, others, targets)[0]

    def left_out(
        self, first: torch.Tensor, others: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What ``without`` gives, and the leverages h of the instances in each regression, 0 to 1: float32 [2, B]."""
        rows, targets = self._centered(first, others), targets.to(self.device)
        said, leverages = [], []
        for columns, (inverse, weights) in zip(self.widths, self.models, strict=True):
            mine = rows[:, :columns]
            leverage = self._leverage(mine, inverse)
            error = targets - mine @ weights - self.intercept
            said.append(targets - error / (1 - leverage)[:, None])
            leverages.append(leverage)
        return torch.stack(said).cpu(), torch.stack(leverages).cpu()

    def predict(self, first: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """What each regression says of instances that it was not fitted to: float32 [2, B, C]."""
        rows = self._centered(first, others)
        return torch.stack([rows[:, : len(weights)] @ weights + self.intercept for _, weights in self.models]).cpu()

    def _begin(self, first: torch.Tensor, others: torch.Tensor) -> None:
        limits = _MOST_COLUMNS, max(_MOST_COLUMNS - first.shape[1], _MOST_COLUMNS // 2)
        generator = torch.Generator().manual_seed(0)
        self.projections = [
            (torch.randn(part.shape[1], most, generator=generator) / most**0.5).to(self.device)
            if part.shape[1] > most
            else None
            for part, most in zip((first, others), limits, strict=True)
        ]
        # Near the mean, so that sums of squares keep their digits.
        self.references = first.mean(0).to(self.device), others.mean(0).to(self.device)
        widths = [
            part.shape[1] if projection is None else projection.shape[1]
            for part, projection in zip((first, others), self.projections, strict=True)
        ]
        self.widths = widths[0], sum(widths)
        size = self.widths[1] + self.outputs + 1
        self.moment = torch.zeros(size, size, dtype=torch.float64)

    def _leverage(self, rows: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
        product = torch.mm(rows, inverse, out=self._product.empty(len(rows), inverse.shape[1]))
        return ((product[:, : rows.shape[1]].mul_(rows).sum(1) + 1) / self.count).clamp_max(1 - 1e-6)

    def _centered(self, first: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """What instances are asked about, less the mean of those that were learned: float32 [B, D]."""
        rows = self._rows.empty(len(first), self.widths[-1])
        self._read(first, others, rows)
        return rows.sub_(self.mean)

    def _read(self, first: torch.Tensor, others: torch.Tensor, rows: torch.Tensor) -> None:
        """Fill in the first columns of ``rows``."""
        parts = zip((first, others), self.references, self.projections, (0, self.widths[0]), strict=True)
        for part, reference, projection, left in parts:
            width, part = part.shape[1] if projection is None else projection.shape[1], part.to(self.device)
            into = rows[:, left : left + width]
            if projection is None:
                torch.sub(part, reference, out=into)
            else:
                torch.mm(part - reference, projection, out=into)


def _mixed(
    task: Task,
    network: tuple[torch.Tensor, torch.Tensor],
    ridge: tuple[torch.Tensor, torch.Tensor],
    wanted: torch.Tensor,
    share: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The network's and the ridge models' accounts put together, for training instances and for targets."""
    if not isinstance(task, Classification):
        mixed = [(1 - share) * mine + share * theirs.mean(0) for mine, theirs in zip(network, ridge, strict=True)]
        return mixed[0], mixed[1]
    mixed = [
        Accounts(mine.softmax(1), _ridge_probabilities(theirs, ridge[0], wanted)).mixed(share).clamp_min(1e-12).log()
        for mine, theirs in zip(network, ridge, strict=True)
    ]
    return mixed[0], mixed[1]


def _ridge_probabilities(said: torch.Tensor, left_out: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Scores [K, …, C] as probabilities, at the temperatures at which left-out labels are most likely."""
    temperatures = torch.stack([likely_temperature(one, wanted.argmax(1)) for one in left_out])[:, None, None]
    return (said / temperatures).softmax(2)


def likely_temperature(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The T at which labels are most likely under softmax(scores / T)."""
    some = torch.from_numpy(evenly(len(scores), _SAMPLE))
    scores, labels = scores[some], labels[some]
    temperatures = torch.from_numpy(np.exp(np.linspace(-4, 2, 25))).float()
    low, high = 0, len(temperatures) - 1
    while low < high:  # the loss is convex in 1/T, so it falls, then rises
        middle = (low + high) // 2
        before, after = (cross_entropy(scores / t, labels) for t in temperatures[middle : middle + 2])
        low, high = (low, middle) if before <= after else (middle + 1, high)
    return temperatures[low]
