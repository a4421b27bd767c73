"""One layer's part of the tangent kernel: its curvature per class, learned; its targets, met; its similarities."""

from __future__ import annotations

import torch

from whence.estimators.components import leading, principal, project, width_after
from whence.estimators.curvatures import Curvatures, Demand
from whence.estimators.views import LayerView

__all__ = ["Factored", "Part", "Summed", "mean_read", "part_for"]

_READS, _MOVES = 2048, 1024  # principal components that are kept, at most, of a layer with one position
_SUMMED_READS, _SUMMED_MOVES = 128, 16  # and of a layer with many
_POOLED = 128  # components that ridge models are given


class Part:
    """One layer: seen on a sample, it learns from all training instances, is solved, meets the targets, then compares.

    Attributes:
        scale: how far the outputs move with what the layer writes, root mean square over outputs.
        width: d, columns that are kept of what the layer reads.
    """

    scale: float
    width: int
    read_basis: torch.Tensor | None
    square: float  # the mean square of what the layer reads
    dimension: int  # D, columns that it reads

    def kept(self, view: LayerView) -> torch.Tensor:
        """What is kept of what the layer reads: [B, P, d], on the CPU."""
        raise NotImplementedError

    def pooled(self, kept: torch.Tensor) -> torch.Tensor:
        """What ridge models are given of what was kept [B, P, d]: positions averaged, leading components only."""
        pooled = mean_read(kept)
        return pooled if self.read_basis is None else pooled[:, :_POOLED]

    def begin(self, demand: Demand) -> None:
        """What targets will ask is known."""
        self.demand, self.met = demand, 0
        self.curvatures = Curvatures(self.width, demand)
        self.asked = [torch.empty(0)] * len(demand.asking)

    def learn(self, kept: torch.Tensor, curvature: torch.Tensor) -> None:
        """Training instances [B, P, d] and the curvature of the loss in their outputs [B, C]."""
        self.curvatures.learn(kept, curvature)

    def solve(self, damping: float | None, count: int) -> None:
        """All N training instances have been learned from.

        Without damping, 2·D/N, at least 0.4 and at most 5: the second moment of N instances in D dimensions is off by about
        D/N of its mean eigenvalue (Ledoit and Wolf 2004).
        """
        if damping is None:
            damping = min(max(2 * self.dimension / count, 0.4), 5.0)
        self.factors = self.curvatures.factors(damping * self.square)
        del self.curvatures

    def meet(self, view: LayerView) -> None:
        """The next targets, in order."""
        raise NotImplementedError

    def look(self, view: LayerView) -> tuple[torch.Tensor, ...]:
        """What ``similarity`` needs of training instances [B, …]."""
        raise NotImplementedError

    def similarity(self, look: tuple[torch.Tensor, ...], c: int, rows: torch.Tensor) -> torch.Tensor:
        """How alike some of these instances, int64 [R], and the targets that ask of class c are in its curvature: [R, M_c]."""
        raise NotImplementedError

    def _solved(self, rows: torch.Tensor, c: int) -> torch.Tensor:
        """A_c⁻¹ times rows [m, d]: [m, d]."""
        return torch.cholesky_solve(rows.T, self.factors[self.demand.shared[c]]).T


def part_for(reads: list[torch.Tensor], moves: list[torch.Tensor], *, per_class: bool) -> Part:
    """The part of a layer, seen on two samples of training instances.

    Args:
        reads: what the layer reads, float32 [B, P, D] each; moves: how the outputs move with it, [B, R, P, H] each.
        per_class: whether there is one probe per output, as sums over positions need. If not, positions are averaged.
    """
    most = max(read.shape[1] for read in reads + [move[:, 0] for move in moves])  # batches of texts differ in length
    read = torch.cat([_padded(read, most, 1) for read in reads])
    move = torch.cat([_padded(move, most, 2) for move in moves])
    return Summed(read, move) if per_class and most > 1 else Factored(read, move, per_class=per_class)


class Factored(Part):
    """A layer that reads one position (or the mean of many): [aᵀA_c⁻¹a]·[J_c·J_c].

    With random probes in place of one per output, J_c·J_c is their mean, the same for all classes.
    """

    def __init__(self, reads: torch.Tensor, moves: torch.Tensor, *, per_class: bool) -> None:
        reads, moves = mean_read(reads), moves.sum(2)  # (n, D), (m, R, H)
        self.per_class, probes = per_class, moves.shape[1]
        self.read_basis = leading(reads, _READS)
        self.width, self.dimension = width_after(reads.shape[1], self.read_basis), min(reads.shape[1], _READS)
        self.square = float((reads**2).mean())
        self.scale = float((moves**2).sum((1, 2)).mean().sqrt()) / probes**0.5
        self.move_basis = principal(moves.flatten(0, 1) if per_class else moves.flatten(1), _MOVES)

    def begin(self, demand: Demand) -> None:
        super().begin(demand)
        self.moved = [torch.empty(0)] * len(demand.asking)

    def kept(self, view: LayerView) -> torch.Tensor:
        return project(mean_read(view.reads)[:, None], self.read_basis).cpu()

    def meet(self, view: LayerView) -> None:
        reads, moves = self.look(view)
        for c, rows in enumerate(self.demand.among(self.met, len(reads))):
            self.asked[c] = _joined(self.asked[c], self._solved(reads[rows], c))  # (M_c, d)
            self.moved[c] = _joined(self.moved[c], moves[rows, c if self.per_class else 0])  # (M_c, h)
        self.met += len(reads)

    def look(self, view: LayerView) -> tuple[torch.Tensor, ...]:
        return self.kept(view)[:, 0], self._moves(view)

    def similarity(self, look: tuple[torch.Tensor, ...], c: int, rows: torch.Tensor) -> torch.Tensor:
        reads, moves = look
        return (reads[rows] @ self.asked[c].T).mul_(moves[rows, c if self.per_class else 0] @ self.moved[c].T)

    def _moves(self, view: LayerView) -> torch.Tensor:
        """[B, C, h], or [B, 1, h] where all classes share it."""
        moves = view.moves.sum(2)
        shaped = moves if self.per_class else moves.flatten(1)[:, None] / moves.shape[1] ** 0.5
        return project(shaped, self.move_basis).cpu()


class Summed(Part):
    """A layer that reads many positions: ⟨G_c(z), G_c(x) A_c⁻¹⟩ with G_c = Σ_p J_c,p a_pᵀ, in principal components."""

    def __init__(self, reads: torch.Tensor, moves: torch.Tensor) -> None:
        self.read_basis = principal(reads.flatten(0, 1), _SUMMED_READS)
        self.move_basis = principal(moves.flatten(0, 2), _SUMMED_MOVES)
        self.width = self.dimension = width_after(reads.shape[2], self.read_basis)
        self.square = float((reads**2).sum(1).mean())
        self.scale = float((moves.sum(2) ** 2).sum(2).mean().sqrt())

    def kept(self, view: LayerView) -> torch.Tensor:
        return project(view.reads, self.read_basis).cpu()

    def meet(self, view: LayerView) -> None:
        (gradients,) = self.look(view)
        for c, rows in enumerate(self.demand.among(self.met, len(gradients))):
            solved = self._solved(gradients[rows, c].flatten(0, 1), c).reshape(len(rows), gradients[0, 0].numel())
            self.asked[c] = _joined(self.asked[c], solved)  # (M_c, h·d)
        self.met += len(gradients)

    def look(self, view: LayerView) -> tuple[torch.Tensor, ...]:
        moves = project(view.moves, self.move_basis).cpu()  # (B, C, P, h)
        return (torch.einsum("bcph,bpd->bchd", moves, self.kept(view)),)

    def similarity(self, look: tuple[torch.Tensor, ...], c: int, rows: torch.Tensor) -> torch.Tensor:
        return look[0][rows, c].flatten(1) @ self.asked[c].T


def mean_read(reads: torch.Tensor) -> torch.Tensor:
    """Positions [B, P, D] averaged, those of padding (all zero) left out: [B, D]."""
    if reads.shape[1] == 1:
        return reads[:, 0]
    return reads.sum(1) / (reads != 0).any(2).sum(1, keepdim=True).clamp_min(1)


def _padded(values: torch.Tensor, positions: int, axis: int) -> torch.Tensor:
    missing = positions - values.shape[axis]
    if not missing:
        return values
    shape = [*values.shape]
    shape[axis] = missing
    return torch.cat([values, values.new_zeros(shape)], dim=axis)


def _joined(before: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
    return torch.cat([before, more]) if len(before) else more
