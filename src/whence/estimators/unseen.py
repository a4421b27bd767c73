"""What a model would say of a training instance that it had not seen.

In-sample residuals vanish with memorization, and every score that is proportional to them. Three accounts of the
instance that did not memorize it are put together:

- the full network, softened by the temperature that its flipped sub-networks call for (``softening.py``);
- a ridge regression on what the first layer reads, with the instance left out;
- a ridge regression on what all layers read, with the instance left out.

Leaving one instance out of a ridge regression has a closed form, ŷ₋ᵢ = y − (y − ŷ)/(1 − hᵢ), so the two cost one matrix
decomposition each. Their temperatures are those at which the left-out labels are most likely. They know less than the
network, but their errors are their own: on seven of the eight sets of docs/estimators.md the mixture ranked
retraining effects better than the softened network alone.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from whence.data import Classification
from whence.data.tasks import Task
from whence.estimators.base import cholesky

__all__ = ["LeftOut", "likely_temperature", "mixture"]

_MOST_COLUMNS = 2048
_RIDGE = 1e-3  # in units of the features' total variance


def mixture(
    task: Task, network: torch.Tensor, ridge: list[tuple[torch.Tensor, torch.Tensor]], share: float
) -> torch.Tensor:
    """Outputs for training instances as if each had not been trained on.

    Args:
        network: float32 [N, C], the full network's outputs, softened for a classification. A regression has nothing to
            soften: to scale all residuals changes no order.
        ridge: what ridge models say of instances left out, and the targets: float32 [N, C] each.
        share: of the ridge models, 0 to 1.

    Returns:
        float32 [N, C]: log-probabilities, or predictions of a regression.
    """
    if share == 0 or not ridge:
        return network
    if not isinstance(task, Classification):
        return (1 - share) * network + share * torch.stack([said for said, _ in ridge]).mean(0)
    said = torch.stack(
        [(scores / likely_temperature(scores, wanted.argmax(1))).softmax(1) for scores, wanted in ridge]
    ).mean(0)
    return ((1 - share) * network.softmax(1) + share * said).clamp_min(1e-12).log()


class LeftOut:
    """A ridge regression that is asked about each of its instances without it. Learns and answers batch by batch.

    Args:
        width: D; more than 2,048 columns are projected to as many at random.
        outputs: C.
    """

    def __init__(self, width: int, outputs: int) -> None:
        self.projection = None
        if width > _MOST_COLUMNS:
            generator = torch.Generator().manual_seed(0)
            self.projection = torch.randn(width, _MOST_COLUMNS, generator=generator) / _MOST_COLUMNS**0.5
            width = _MOST_COLUMNS
        self.count = 0
        self.reference: torch.Tensor | None = None  # near the mean, so that sums of squares keep their digits
        self.moment = torch.zeros(width + 1 + outputs, width + 1 + outputs, dtype=torch.float64)
        self.width = width

    def learn(self, features: torch.Tensor, targets: torch.Tensor) -> None:
        """[B, D], [B, C]"""
        rows = torch.cat([self._read(features), targets], dim=1)
        self.moment += rows.T @ rows
        self.count += len(rows)

    def solve(self) -> None:
        """All instances have been learned: fit with an unpenalized intercept."""
        width = self.width
        moment = self.moment / self.count
        self.mean = moment[width, :width]
        self.intercept = moment[width, width + 1 :]
        variance = moment[:width, :width] - torch.outer(self.mean, self.mean)
        variance.diagonal().add_(_RIDGE * float(variance.diagonal().sum().clamp_min(1e-12)))
        self.factor = cholesky(variance).float()
        covariance = moment[:width, width + 1 :] - torch.outer(self.mean, self.intercept)
        self.weights = torch.cholesky_solve(covariance.float(), self.factor)
        self.mean, self.intercept = self.mean.float(), self.intercept.float()

    def predict(self, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """What the regression without each instance says of it: ŷ₋ᵢ = y − (y − ŷ)/(1 − hᵢ), float32 [B, C]."""
        return self.without(features, targets)[0]

    def without(self, features: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What ``predict`` gives, and each instance's leverage h, 0 to 1: float32 [B, C] and [B]."""
        centered = self._read(features)[:, :-1] - self.mean
        said = centered @ self.weights + self.intercept
        whitened = torch.linalg.solve_triangular(self.factor, centered.T, upper=False)
        leverage = (((whitened**2).sum(0) + 1) / self.count).clamp_max(1 - 1e-6)
        return targets - (targets - said) / (1 - leverage)[:, None], leverage

    def _read(self, features: torch.Tensor) -> torch.Tensor:
        if self.reference is None:
            self.reference = features.mean(0)
        features = features - self.reference
        features = features if self.projection is None else features @ self.projection
        return torch.nn.functional.pad(features, (0, 1), value=1.0)


def likely_temperature(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """The T at which the labels are most likely by softmax(scores / T)."""
    temperatures = np.exp(np.linspace(-4, 2, 25))
    losses = [float(cross_entropy(scores / t, labels)) for t in temperatures]
    return float(temperatures[int(np.argmin(losses))])
