"""What targets ask of each class, and how firmly training instances hold that class's weights in place."""

from __future__ import annotations

import numpy as np
import torch

from whence.estimators.base import cholesky, round_up, rounded

__all__ = ["Classes", "Curvatures", "Demand", "by_classes", "matters"]

_MOST_CURVATURES = 32  # classes with a curvature of their own; the others share one
_MINOR = 0.1  # residuals below this share of the largest of the same instance are left out
_FULL = 256  # instances that are worth a batch
_HEAVY = 0.9  # share of a class's curvature that the instances which are summed make up


def matters(residuals: torch.Tensor) -> torch.Tensor:
    """Which residuals [B, C] are at least a tenth of the largest of the same instance: bool [B, C]."""
    size = residuals.abs()
    return size >= _MINOR * size.amax(1, keepdim=True).clamp_min(1e-30)


class Classes:
    """Which classes matter to each of some instances.

    Args:
        residuals: float32 [B, C].
        per_class: whether each instance is seen under one probe for each of its classes, or all under the same ones.

    Attributes:
        slots: the classes of each, those with the largest residuals first: int64 [B, R], −1 where there are fewer.
    """

    def __init__(self, residuals: torch.Tensor, *, per_class: bool) -> None:
        self.outputs, self.per_class = residuals.shape[1], per_class
        has = matters(residuals)
        most = int(has.sum(1).max())
        order = residuals.abs().argsort(1, descending=True)[:, :most]
        self.slots = torch.where(has.gather(1, order), order, -1)

    def probes(self) -> torch.Tensor:
        """Each instance's classes, one after another: float32 [R, B, C]."""
        probes = torch.zeros(*self.slots.shape, self.outputs)
        probes.scatter_(2, self.slots.clamp_min(0)[..., None], (self.slots >= 0).float()[..., None])
        return probes.transpose(0, 1)

    def of(self, c: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The instances to which class c matters, ascending, and under which probe each is seen for it: int64 [R] each."""
        rows, slots = (self.slots == c).nonzero(as_tuple=True)
        return rows, slots if self.per_class else torch.zeros_like(slots)


def by_classes(residuals: torch.Tensor) -> list[np.ndarray]:
    """Rows of residuals [N, C] in groups that have like numbers of classes that matter, as each costs a probe."""
    counts = matters(residuals).sum(1).numpy()
    order = np.argsort(-counts, kind="stable")
    ends, start = [], 0
    for end in np.flatnonzero(np.diff(counts[order])) + 1:
        if end - start >= _FULL:
            ends.append(start := int(end))
    return np.split(order, ends)


class Demand:
    """What targets ask of each class.

    Args:
        wanted: float32 [M, C], −∂Q/∂outputs over N.
        curvature: float32 [N, C], of the loss in each output.
        most: classes with a curvature of their own, at least 1; fewer where memory is short.

    Attributes:
        amounts: what each target wants of each class, over the class's mean curvature: float32 [M, C].
        shared: for each class, which curvature it uses.
        totals: float32 [K], the sum of each curvature over training instances.
        least: float32 [K], the weight from which on instances make up nine tenths of it.
        heavy: int64 [K], how many these are.
    """

    def __init__(self, wanted: torch.Tensor, curvature: torch.Tensor, most: int = _MOST_CURVATURES) -> None:
        classes = wanted.shape[1]
        most = min(most, _MOST_CURVATURES)
        self.amounts = wanted / curvature.mean(0).clamp_min(1e-6)
        order = wanted.abs().sum(0).argsort(descending=True).tolist()
        own = order if classes <= most else order[: most - 1]
        place = {c: number for number, c in enumerate(own)}
        self.shared = [place.get(c, len(own)) for c in range(classes)]
        self._number = len(own) + (len(own) < classes)
        weights = self.weights(curvature)
        self.totals = weights.sum(0)
        self.least = torch.stack([_threshold(column) for column in weights.T])
        self.heavy = (weights >= self.least).sum(0)

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
        device: where products are made.
    """

    def __init__(self, width: int, demand: Demand, device: torch.device) -> None:
        columns = round_up(width)
        self.moments = torch.zeros(len(demand.totals), columns, columns, device=device)
        self.demand, self._width = demand, width

    def learn(self, reads: torch.Tensor, curvature: torch.Tensor) -> None:
        """Training instances [B, P, d] and the curvature of the loss in their outputs [B, C]."""
        reads = reads.to(self.moments.device)
        for number, weight in enumerate(self.demand.weights(curvature).T):
            chosen = (weight >= self.demand.least[number]).nonzero()[:, 0]
            weights = weight[chosen].sqrt()[:, None, None].to(reads.device)
            rows = rounded(reads.index_select(0, chosen.to(reads.device)).mul_(weights).flatten(0, 1))
            self.moments[number].addmm_(rows.T, rows)

    def inverses(self, ridge: float) -> list[torch.Tensor]:
        """(A_c + ridge·I)⁻¹, float32 [d, d] each."""
        moments = self.moments[:, : self._width, : self._width].cpu()
        scaled = moments / self.demand.totals.clamp_min(1e-12)[:, None, None]
        scaled.diagonal(dim1=1, dim2=2).add_(max(ridge, 1e-12))
        return [torch.cholesky_inverse(cholesky(moment)).to(self.moments.device) for moment in scaled]


def _threshold(weights: torch.Tensor) -> torch.Tensor:
    """The largest weight of [N] such that those at least as large make up nine tenths of the sum."""
    ordered = weights.sort(descending=True).values
    sums = ordered.double().cumsum(0)
    return ordered[min(int((sums < _HEAVY * sums[-1]).sum()), len(ordered) - 1)]
