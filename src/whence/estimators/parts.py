"""One layer's part of the tangent kernel: its curvature per class, learned; its targets, met; its similarities."""

from __future__ import annotations

from typing import TypeAlias

import torch

from whence.estimators.components import leading, principal, project, width_after
from whence.estimators.curvatures import Classes, Curvatures, Demand
from whence.estimators.views import LayerView

__all__ = ["Averaged", "Factored", "Part", "Summed", "mean_read", "part_for"]

_READS, _MOVES = 2048, 1024  # principal components that are kept, at most, of a layer with one position
_SUMMED_READS, _SUMMED_MOVES = 128, 16  # and of a layer with many
_POOLED = 128  # components that ridge models are given

Look: TypeAlias = tuple[torch.Tensor, ...]


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
        self.demand = demand
        self.curvatures = Curvatures(self.width, demand)
        self.asked = [torch.empty(0)] * demand.amounts.shape[1]

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
        self.inverses = self.curvatures.inverses(damping * self.square)
        del self.curvatures

    def look(self, kept: torch.Tensor, view: LayerView) -> Look:
        """What comparing needs of instances of which ``kept`` [B, P, d] was kept, seen under R probes."""
        raise NotImplementedError

    def meet(self, look: Look, classes: Classes, amounts: torch.Tensor) -> None:
        """The next targets, each seen under probes of the classes that it asks of, and how much of each class: [B, C]."""
        raise NotImplementedError

    def similarity(self, look: Look, c: int, rows: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        """How alike some instances and the targets that ask of class c are in its curvature, times what the targets want.

        Args:
            rows, slots: int64 [R], instances, and under which of their probes.

        Returns:
            float32 [R, M_c].
        """
        raise NotImplementedError

    def _solved(self, rows: torch.Tensor, c: int) -> torch.Tensor:
        """A_c⁻¹ times rows [m, d]: [m, d]."""
        return rows @ self.inverses[self.demand.shared[c]]


def part_for(reads: list[torch.Tensor], moves: list[torch.Tensor], *, per_class: bool, averaged: bool = False) -> Part:
    """The part of a layer, seen on two samples of training instances.

    Args:
        reads: what the layer reads, float32 [B, P, D] each; moves: how the outputs move with it, [B, R, P, H] each.
        per_class: whether there is one probe per output, as sums over positions need. If not, positions are averaged.
        averaged: whether ridge models alone will ask, so that positions are averaged and no instances compared.
    """
    most = max(read.shape[1] for read in reads + [move[:, 0] for move in moves])  # batches of texts differ in length
    read = torch.cat([_padded(read, most, 1) for read in reads])
    move = torch.cat([_padded(move, most, 2) for move in moves])
    if averaged:
        return Averaged(read, move)
    return Summed(read, move) if per_class and most > 1 else Factored(read, move, per_class=per_class)


class Averaged(Part):
    """A layer that ridge models are told of, and nobody else: positions averaged, few columns lost.

    Leverages live in directions in which instances hardly differ, which comparing can do without.
    """

    def __init__(self, reads: torch.Tensor, moves: torch.Tensor) -> None:
        self.read_basis = principal(reads.flatten(0, 1), _READS if reads.shape[1] == 1 else _SUMMED_READS)
        self.width = width_after(reads.shape[2], self.read_basis)
        self.scale = _scale(moves)

    def kept(self, view: LayerView) -> torch.Tensor:
        return project(mean_read(view.reads)[:, None], self.read_basis).cpu()

    def pooled(self, kept: torch.Tensor) -> torch.Tensor:
        return kept[:, 0]


class Factored(Part):
    """A layer that reads one position (or the mean of many): [aᵀA_c⁻¹a]·[J_c·J_c].

    With random probes in place of one per output, J_c·J_c is their mean, the same for all classes.
    """

    def __init__(self, reads: torch.Tensor, moves: torch.Tensor, *, per_class: bool) -> None:
        self.scale = _scale(moves)
        reads, moves = mean_read(reads), moves.sum(2)  # (n, D), (m, R, H)
        self.per_class = per_class
        self.read_basis = leading(reads, _READS)
        self.width, self.dimension = width_after(reads.shape[1], self.read_basis), min(reads.shape[1], _READS)
        self.square = float((reads**2).mean())
        self.move_basis = principal(moves.flatten(0, 1) if per_class else moves.flatten(1), _MOVES)

    def begin(self, demand: Demand) -> None:
        super().begin(demand)
        self.moved = [torch.empty(0)] * demand.amounts.shape[1]

    def kept(self, view: LayerView) -> torch.Tensor:
        return project(mean_read(view.reads)[:, None], self.read_basis).cpu()

    def look(self, kept: torch.Tensor, view: LayerView) -> Look:
        return kept[:, 0], self._moves(view)

    def meet(self, look: Look, classes: Classes, amounts: torch.Tensor) -> None:
        reads, moves = look
        for c in range(len(self.asked)):
            rows, slots = classes.of(c)
            self.asked[c] = _joined(self.asked[c], self._solved(reads[rows], c))  # (M_c, d)
            self.moved[c] = _joined(self.moved[c], moves[rows, slots] * amounts[rows, c, None])  # (M_c, h)

    def similarity(self, look: Look, c: int, rows: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        reads, moves = look
        moves = moves.flatten(0, 1).index_select(0, rows * moves.shape[1] + slots)  # faster than moves[rows, slots]
        return (reads.index_select(0, rows) @ self.asked[c].T).mul_(moves @ self.moved[c].T)

    def _moves(self, view: LayerView) -> torch.Tensor:
        """[B, R, h], or [B, 1, h] where all classes share it."""
        each = [_summed(moves) for moves in view.each]
        if not self.per_class:
            each = [torch.cat(each, dim=1) / len(each) ** 0.5]
        return torch.stack([project(moves, self.move_basis) for moves in each], dim=1).cpu()


class Summed(Part):
    """A layer that reads many positions: ⟨G_c(z), G_c(x) A_c⁻¹⟩ with G_c = Σ_p J_c,p a_pᵀ, in principal components."""

    def __init__(self, reads: torch.Tensor, moves: torch.Tensor) -> None:
        self.read_basis = principal(reads.flatten(0, 1), _SUMMED_READS)
        self.move_basis = principal(moves.flatten(0, 2), _SUMMED_MOVES)
        self.width = self.dimension = width_after(reads.shape[2], self.read_basis)
        self.square = float((reads**2).sum(1).mean())
        self.scale = _scale(moves)

    def kept(self, view: LayerView) -> torch.Tensor:
        return project(view.reads, self.read_basis).cpu()

    def look(self, kept: torch.Tensor, view: LayerView) -> Look:
        moves = torch.stack([project(moves, self.move_basis) for moves in view.each], dim=1).cpu()  # (B, R, P, h)
        return (torch.einsum("brph,bpd->brhd", moves, kept),)

    def meet(self, look: Look, classes: Classes, amounts: torch.Tensor) -> None:
        (gradients,) = look
        for c in range(len(self.asked)):
            rows, slots = classes.of(c)
            chosen = gradients[rows, slots] * amounts[rows, c, None, None]
            solved = self._solved(chosen.flatten(0, 1), c).reshape(len(rows), gradients[0, 0].numel())
            self.asked[c] = _joined(self.asked[c], solved)  # (M_c, h·d)

    def similarity(self, look: Look, c: int, rows: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        (gradients,) = look
        chosen = gradients.flatten(0, 1).index_select(0, rows * gradients.shape[1] + slots)
        return chosen.flatten(1) @ self.asked[c].T


def mean_read(reads: torch.Tensor) -> torch.Tensor:
    """Positions [B, P, D] averaged, those of padding (all zero) left out: [B, D]."""
    if reads.shape[1] == 1:
        return reads[:, 0]
    return reads.sum(1) / (reads != 0).any(2).sum(1, keepdim=True).clamp_min(1)


def _scale(moves: torch.Tensor) -> float:
    """How far each probe moves with what a layer writes, from [m, R, P, H]: root mean square over instances and probes."""
    return float((moves.sum(2) ** 2).sum(2).mean().sqrt())


def _summed(moves: torch.Tensor) -> torch.Tensor:
    """Over positions: [B, P, H] as [B, H]."""
    return moves[:, 0] if moves.shape[1] == 1 else moves.sum(1)


def _padded(values: torch.Tensor, positions: int, axis: int) -> torch.Tensor:
    missing = positions - values.shape[axis]
    if not missing:
        return values
    shape = [*values.shape]
    shape[axis] = missing
    return torch.cat([values, values.new_zeros(shape)], dim=axis)


def _joined(before: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
    return torch.cat([before, more]) if len(before) else more
