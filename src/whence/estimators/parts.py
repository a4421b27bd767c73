"""One layer's part of the tangent kernel: its curvature per class, learned; its targets, met; its scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch.nn.functional import pad

from whence.estimators.base import cholesky
from whence.estimators.views import LayerView

__all__ = ["Demand", "Part", "joined", "part_for", "principal_components", "project"]

_MOST_CURVATURES = 32  # classes with a curvature of their own; the others share one
_MINOR = 0.1  # residuals below this share of a target's largest are left out
_READS, _MOVES = 2048, 128  # principal components that are kept of a layer with one position
_SUMMED_READS, _SUMMED_MOVES = 128, 16  # and of a layer with many


class Demand:
    """What targets ask of each class.

    Args:
        wanted: float32 [M, C], −∂Q/∂outputs over N.
        curvature: float32 [N, C], of the loss in each output.

    Attributes:
        targets: M.
        asking: for each class, which targets ask: int64 [M_c].
        amounts: for each class, their residual over the class's mean curvature: float32 [M_c].
        shared: for each class, which curvature it uses.
        curvatures: how many there are.
    """

    def __init__(self, wanted: torch.Tensor, curvature: torch.Tensor) -> None:
        self.targets, classes = wanted.shape
        mean = curvature.mean(0).clamp_min(1e-6)
        size = wanted.abs()
        asks = size >= _MINOR * size.amax(1, keepdim=True).clamp_min(1e-30)
        self.asking = [asks[:, c].nonzero()[:, 0] for c in range(classes)]
        self.amounts = [wanted[self.asking[c], c] / mean[c] for c in range(classes)]
        order = size.sum(0).argsort(descending=True).tolist()
        own = order if classes <= _MOST_CURVATURES else order[: _MOST_CURVATURES - 1]
        self.shared = [own.index(c) if c in own else len(own) for c in range(classes)]
        self.curvatures = len(own) + (len(own) < classes)

    def among(self, start: int, count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """For each class, which of the targets start … start + count − 1 ask (from 0 on), and their amounts."""
        for asking, amounts in zip(self.asking, self.amounts, strict=True):
            here = (asking >= start) & (asking < start + count)
            yield asking[here] - start, amounts[here]

    def weights(self, curvature: torch.Tensor) -> torch.Tensor:
        """Curvature of each class [B, C] as that of each shared one: [B, curvatures]."""
        total = torch.zeros(len(curvature), self.curvatures)
        return total.index_add_(1, torch.tensor(self.shared), curvature)


class Part(Protocol):
    """One layer: learns from all training instances, is solved, meets the targets, then scores.

    Attributes:
        scale: how far the outputs move with what the layer writes, root mean square over outputs.
    """

    scale: float

    def kept(self, view: LayerView) -> torch.Tensor:
        """What is kept of what the layer reads: [B, P, d], on the CPU."""
        ...

    def learn(self, kept: torch.Tensor, curvature: torch.Tensor) -> None:
        """Training instances [B, P, d] and the curvature of the loss in their outputs [B, C]."""
        ...

    def solve(self, damping: float | None) -> None:
        """All training instances have been learned from."""
        ...

    def meet(self, view: LayerView) -> None:
        """The next targets, in order."""
        ...

    def scores(self, view: LayerView, residuals: torch.Tensor) -> torch.Tensor:
        """Training instances with their residuals [B, C] on all targets: float32 [B, M]."""
        ...


def part_for(sample: Sequence[LayerView], demand: Demand, *, per_class: bool) -> Part:
    """The part of a layer, seen on a sample of training instances.

    Args:
        per_class: whether there is one probe per output, as sums over positions need. If not, positions are averaged.
    """
    reads, moves = joined(sample)
    summed = per_class and reads.shape[1] > 1
    return Summed(reads, moves, demand) if summed else Factored(reads, moves, demand)


def joined(sample: Sequence[LayerView]) -> tuple[torch.Tensor, torch.Tensor]:
    """Reads [n, P, D] and moves [n, R, P, H] of all batches of a sample, padded by zeros to the most positions."""
    most = max(view.reads.shape[1] for view in sample)  # batches of texts differ in length
    reads = torch.cat([pad(view.reads, (0, 0, 0, most - view.reads.shape[1])) for view in sample])
    moves = torch.cat([pad(view.moves, (0, 0, 0, most - view.moves.shape[2])) for view in sample])
    return reads, moves


class _Learner:
    """What parts of either kind do alike: learn curvatures, and solve them."""

    curvatures: _Curvatures
    square: float  # the mean square of what the layer reads

    def learn(self, kept: torch.Tensor, curvature: torch.Tensor) -> None:
        self.curvatures.learn(kept, curvature)

    def solve(self, damping: float | None) -> None:
        self.factors = self.curvatures.factors(damping, self.square)
        del self.curvatures


class Factored(_Learner):
    """A layer that reads one position (or the mean of many): [aᵀA_c⁻¹a]·[tr JᵀJ / C]."""

    def __init__(self, reads: torch.Tensor, moves: torch.Tensor, demand: Demand) -> None:
        reads, moves = reads.mean(1), moves.sum(2).flatten(1) / moves.shape[1] ** 0.5
        self.demand = demand
        self.read_basis = principal_components(reads, _READS)
        self.move_basis = principal_components(moves, _MOVES)
        self.square = float((reads**2).mean())
        self.scale = float((moves**2).sum(1).mean().sqrt())
        self.curvatures = _Curvatures(_width(reads, self.read_basis), demand)
        self.met = 0
        self.asked = [torch.empty(0)] * len(demand.asking)  # A_c⁻¹a(x)·e_c(x)/s_c of the targets that ask, [d, M_c]
        self.moved = torch.empty(_width(moves, self.move_basis), demand.targets)  # J(x), [k, M]

    def kept(self, view: LayerView) -> torch.Tensor:
        return project(view.reads.mean(1, keepdim=True), self.read_basis).cpu()

    def meet(self, view: LayerView) -> None:
        reads = self.kept(view)[:, 0]
        self.moved[:, self.met : self.met + len(reads)] = self._moves(view).T
        for c, (rows, amounts) in enumerate(self.demand.among(self.met, len(reads))):
            solved = torch.cholesky_solve((reads[rows] * amounts[:, None]).T, self.factors[self.demand.shared[c]])
            self.asked[c] = torch.cat([self.asked[c], solved], dim=1) if len(self.asked[c]) else solved
        self.met += len(reads)

    def scores(self, view: LayerView, residuals: torch.Tensor) -> torch.Tensor:
        reads = self.kept(view)[:, 0]
        similarity = torch.zeros(len(reads), self.demand.targets)
        for c, asked in enumerate(self.asked):
            similarity.index_add_(1, self.demand.asking[c], (reads * residuals[:, c : c + 1]) @ asked)
        return similarity.mul_(self._moves(view) @ self.moved)

    def _moves(self, view: LayerView) -> torch.Tensor:
        return project(view.moves.sum(2).flatten(1) / view.moves.shape[1] ** 0.5, self.move_basis).cpu()


class Summed(_Learner):
    """A layer that reads many positions: ⟨G_c(z), G_c(x) A_c⁻¹⟩ with G_c = Σ_p J_c,p a_pᵀ, in principal components."""

    def __init__(self, reads: torch.Tensor, moves: torch.Tensor, demand: Demand) -> None:
        self.demand = demand
        self.read_basis = principal_components(reads.flatten(0, 1), _SUMMED_READS)
        self.move_basis = principal_components(moves.flatten(0, 2), _SUMMED_MOVES)
        self.square = float((reads**2).sum(1).mean())
        self.scale = float((moves.sum(2) ** 2).sum(2).mean().sqrt())
        self.curvatures = _Curvatures(_width(reads, self.read_basis), demand)
        self.met = 0
        self.asked = [torch.empty(0)] * len(demand.asking)  # G_c(x)A_c⁻¹·e_c(x)/s_c, [h·d, M_c]

    def kept(self, view: LayerView) -> torch.Tensor:
        return project(view.reads, self.read_basis).cpu()

    def meet(self, view: LayerView) -> None:
        gradients = self._gradients(view)  # (B, C, h, d)
        for c, (rows, amounts) in enumerate(self.demand.among(self.met, len(gradients))):
            given = gradients[rows, c] * amounts[:, None, None]
            solved = torch.cholesky_solve(given.flatten(0, 1).T, self.factors[self.demand.shared[c]]).T
            asked = solved.reshape(len(rows), gradients[0, 0].numel()).T
            self.asked[c] = torch.cat([self.asked[c], asked], dim=1) if len(self.asked[c]) else asked
        self.met += len(gradients)

    def scores(self, view: LayerView, residuals: torch.Tensor) -> torch.Tensor:
        gradients = self._gradients(view)
        total = torch.zeros(len(gradients), self.demand.targets)
        for c, asked in enumerate(self.asked):
            given = (gradients[:, c] * residuals[:, c, None, None]).flatten(1)
            total.index_add_(1, self.demand.asking[c], given @ asked)
        return total

    def _gradients(self, view: LayerView) -> torch.Tensor:
        moves = project(view.moves, self.move_basis).cpu()  # (B, C, P, h)
        return torch.einsum("bcph,bpd->bchd", moves, self.kept(view))


class _Curvatures:
    """A_c, the weighted second moment of what a layer reads, of each class."""

    def __init__(self, width: int, demand: Demand) -> None:
        self.moments = torch.zeros(demand.curvatures, width, width)
        self.totals = torch.zeros(demand.curvatures)
        self.demand = demand
        self.count = 0

    def learn(self, reads: torch.Tensor, curvature: torch.Tensor) -> None:
        """[B, P, d], [B, C]; instances that weigh less than a tenth of the mean are left out."""
        self.count += len(reads)
        for number, weight in enumerate(self.demand.weights(curvature).T):
            chosen = weight >= _MINOR * weight.mean()
            rows = (reads[chosen] * weight[chosen].sqrt()[:, None, None]).flatten(0, 1)
            self.moments[number].addmm_(rows.T, rows)
            self.totals[number] += weight[chosen].sum()

    def factors(self, damping: float | None, square: float) -> list[torch.Tensor]:
        """Cholesky factors of A_c + damping·square·I; by default, damping = 2·d/N, at least 0.3 and at most 5.

        The second moment of N instances in d dimensions is off by about d/N of its mean eigenvalue (Ledoit and Wolf 2004).
        """
        width = self.moments.shape[1]
        if damping is None:
            damping = min(max(2 * width / self.count, 0.3), 5.0)
        ridge = max(damping * square, 1e-12) * torch.eye(width)
        moments = self.moments / self.totals.clamp_min(1e-12)[:, None, None]
        return [cholesky(moment + ridge) for moment in moments]


def principal_components(rows: torch.Tensor, most: int) -> torch.Tensor | None:
    """The leading right singular vectors of [n, d] as columns [d, most]; None where d is not above ``most``."""
    if rows.shape[1] <= most:
        return None
    generator = torch.Generator().manual_seed(0)  # not in strides, which could meet the same position of every picture
    rows = rows.cpu()[torch.randperm(len(rows), generator=generator)[: 4 * most]].double()
    if len(rows) < rows.shape[1]:
        values, vectors = torch.linalg.eigh(rows @ rows.T)  # in ascending order
        leading = vectors[:, values > 1e-6 * values[-1]][:, -most:]
        return torch.linalg.qr(rows.T @ leading)[0].float()
    return torch.linalg.eigh(rows.T @ rows)[1][:, -most:].float()


def _width(rows: torch.Tensor, basis: torch.Tensor | None) -> int:
    return rows.shape[-1] if basis is None else basis.shape[1]


def project(rows: torch.Tensor, basis: torch.Tensor | None) -> torch.Tensor:
    return rows if basis is None else rows @ basis.to(rows)
