"""What targets ask of each class, and how firmly training instances hold that class's weights in place."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from whence.estimators.base import cholesky

__all__ = ["Curvatures", "Demand", "matters"]

_MOST_CURVATURES = 32  # classes with a curvature of their own; the others share one
_MINOR = 0.1  # residuals below this share of the largest of the same instance are left out
_HEAVY = 0.9  # share of a class's curvature that the instances which are summed make up


def matters(residuals: torch.Tensor) -> torch.Tensor:
    """Which residuals [B, C] are at least a tenth of the largest of the same instance: bool [B, C]."""
    size = residuals.abs()
    return size >= _MINOR * size.amax(1, keepdim=True).clamp_min(1e-30)


class Demand:
    """What targets ask of each class.

    Args:
        wanted: float32 [M, C], −∂Q/∂outputs over N.
        curvature: float32 [N, C], of the loss in each output.
        most: classes with a curvature of their own, at least 1; fewer where memory is short.

    Attributes:
        targets: M.
        asking: for each class, which targets ask: int64 [M_c].
        amounts: for each class, their residual over the class's mean curvature: float32 [M_c].
        shared: for each class, which curvature it uses.
        totals: float32 [K], the sum of each curvature over training instances.
        least: float32 [K], the weight from which on instances make up nine tenths of it.
    """

    def __init__(self, wanted: torch.Tensor, curvature: torch.Tensor, most: int = _MOST_CURVATURES) -> None:
        self.targets, classes = wanted.shape
        most = min(most, _MOST_CURVATURES)
        mean = curvature.mean(0).clamp_min(1e-6)
        asks = matters(wanted)
        self.asking = [asks[:, c].nonzero()[:, 0] for c in range(classes)]
        self.amounts = [wanted[self.asking[c], c] / mean[c] for c in range(classes)]
        order = wanted.abs().sum(0).argsort(descending=True).tolist()
        own = order if classes <= most else order[: most - 1]
        place = {c: number for number, c in enumerate(own)}
        self.shared = [place.get(c, len(own)) for c in range(classes)]
        self._number = len(own) + (len(own) < classes)
        weights = self.weights(curvature)
        self.totals = weights.sum(0)
        self.least = torch.stack([_threshold(column) for column in weights.T])

    def among(self, start: int, count: int) -> Iterator[torch.Tensor]:
        """For each class, which of the targets start … start + count − 1 ask, from 0 on: int64."""
        for asking in self.asking:
            yield asking[(asking >= start) & (asking < start + count)] - start

    def weights(self, curvature: torch.Tensor) -> torch.Tensor:
        """Curvature of each class [B, C] as that of each shared one: [B, K]."""
        total = torch.zeros(len(curvature), self._number)
        return total.index_add_(1, torch.tensor(self.shared), curvature)


class Curvatures:
    """A_c, the weighted second moment of what a layer reads, of each class.

    Instances that are sure about a class weigh next to nothing in it, and there are many of them: only the heaviest, which
    make up nine tenths of the class's curvature, are summed. That is less work, and foretold retraining a little better.

    Args:
        width: d, of what is kept of the layer's input.
        demand: whose shared curvatures these are.
    """

    def __init__(self, width: int, demand: Demand) -> None:
        self.moments = torch.zeros(len(demand.totals), width, width)
        self.demand = demand

    def learn(self, reads: torch.Tensor, curvature: torch.Tensor) -> None:
        """Training instances [B, P, d] and the curvature of the loss in their outputs [B, C]."""
        for number, weight in enumerate(self.demand.weights(curvature).T):
            chosen = (weight >= self.demand.least[number]).nonzero()[:, 0]
            rows = (reads[chosen] * weight[chosen].sqrt()[:, None, None]).flatten(0, 1)
            self.moments[number].addmm_(rows.T, rows)

    def factors(self, ridge: float) -> list[torch.Tensor]:
        """Cholesky factors of A_c + ridge·I, float32 [d, d] each."""
        scaled = self.moments / self.demand.totals.clamp_min(1e-12)[:, None, None]
        scaled.diagonal(dim1=1, dim2=2).add_(max(ridge, 1e-12))
        return [cholesky(moment) for moment in scaled]


def _threshold(weights: torch.Tensor) -> torch.Tensor:
    """The largest weight of [N] such that those at least as large make up nine tenths of the sum."""
    ordered = weights.sort(descending=True).values
    sums = ordered.double().cumsum(0)
    return ordered[min(int((sums < _HEAVY * sums[-1]).sum()), len(ordered) - 1)]
