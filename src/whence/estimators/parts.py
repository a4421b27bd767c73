"""One layer's part of the tangent kernel: its curvature per class, learned; its targets, met; its similarities."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import nn

from whence.estimators.comparing import Asked, Desk
from whence.estimators.components import leading, principal, project, width_after
from whence.estimators.curvatures import Classes, Curvatures, Demand
from whence.estimators.views import LayerView, mean_read

__all__ = ["Averaged", "Factored", "Kind", "Look", "Part", "Summed", "kind_of", "part_for", "pooled_moves"]

_READS, _MOVES = 2048, 1024  # principal components that are kept, at most, of a layer with one position
_TOKENS = 256  # of one with many that is averaged
_SUMMED_READS, _SUMMED_MOVES = 128, 16  # and of one with many that is not
_POOLED, _POOLED_TOKENS = 128, 48  # components that ridge models are given

Look: TypeAlias = tuple[torch.Tensor, ...]
Kind: TypeAlias = Literal["plain", "tokens", "maps"]


class Part:
    """One layer: seen on a sample, it learns from all training instances, is solved, meets the targets, then compares.

    Attributes:
        moving: whether comparing needs to know how outputs move with what the layer writes, and so a backward pass.
        scale: how far the outputs move with what the layer writes, root mean square over outputs.
        width: d, columns that are kept of what the layer reads.
    """

    moving = True
    device = torch.device("cpu")  # where products are made, as ``begin`` says
    scale: float
    width: int
    read_basis: torch.Tensor | None
    square: float  # the mean square of what the layer reads
    dimension: int  # D, columns that it reads

    def __init__(self, reads: torch.Tensor, moves: torch.Tensor, basis: torch.Tensor | None) -> None:
        """Reads [n, D] and moves [m, R, P, H] of samples; the components [D, d] that are kept of what the layer reads."""
        self.read_basis = basis
        self.width, self.dimension = width_after(reads.shape[1], basis), min(reads.shape[1], _READS)
        self.square = float((reads**2).mean())
        self.scale = _scale(moves)

    def kept(self, view: LayerView) -> torch.Tensor:
        """What is kept of what the layer reads: [B, P, d], on the CPU."""
        raise NotImplementedError

    def pooled(self, kept: torch.Tensor) -> torch.Tensor:
        """What ridge models are given of what was kept [B, P, d]: positions averaged, leading components only."""
        pooled = mean_read(kept)
        return pooled if self.read_basis is None else pooled[:, :_POOLED]

    def begin(self, demand: Demand, device: torch.device) -> None:
        """What targets will ask is known, and where products are to be made."""
        self.demand, self.device = demand, device
        self.curvatures = Curvatures(self.width, demand, device)
        self.asked = Asked(demand.amounts.shape[1])

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

    def look(self, kept: torch.Tensor, view: LayerView | None) -> Look:
        """What comparing needs of instances of which ``kept`` [B, P, d] was kept, seen under R probes if it is ``moving``: where
        products are made."""
        raise NotImplementedError

    def meet(self, look: Look, classes: Classes, amounts: torch.Tensor) -> None:
        """The next targets, each seen under probes of the classes that it asks of, and how much of each class: [B, C]."""
        raise NotImplementedError

    def met(self, orders: list[torch.Tensor]) -> None:
        """All targets have been met; of each class, in which order they are wanted: int64 [M_c]."""
        self.asked.close(orders)

    def pick(self, look: Look, rows: torch.Tensor, slots: torch.Tensor) -> Look:
        """Of what instances are compared by, what one class needs: instances int64 [R], each under one of its probes, int64 [R]."""
        raise NotImplementedError

    def compare(self, picked: Look, c: int, columns: slice, total: torch.Tensor, desk: Desk) -> None:
        """Add to ``total`` [R, m] how alike R instances and some of the targets that ask of class c are in its curvature, times
        what the targets want."""
        total.addmm_(picked[0], self.asked.of(c, columns))

    def _solved(self, rows: torch.Tensor, c: int) -> torch.Tensor:
        """A_c⁻¹ times rows [m, d]: [m, d]."""
        return rows @ self.inverses[self.demand.shared[c]]


def kind_of(layer: nn.Module, positions: int) -> Kind:
    """What the positions of a layer are: one, the tokens of a sequence, or the places of a feature map."""
    if positions == 1:
        return "plain"
    return "maps" if isinstance(layer, nn.Conv1d | nn.Conv2d) else "tokens"


def part_for(kind: Kind, reads: torch.Tensor, moves: torch.Tensor, *, per_class: bool, averaged: bool = False) -> Part:
    """The part of a layer, seen on two samples of training instances.

    Args:
        kind: of its positions.
        reads: what the layer reads, float32 [n, P, D], of ``plain`` layers and tokens the mean over positions, so P is 1.
        moves: how the outputs move with it, [m, R, P, H], of these the sum over positions.
        per_class: whether there is one probe per output, as sums over positions need. If not, positions are averaged.
        averaged: whether ridge models alone will ask, so that no instances are compared.
    """
    if kind == "maps" and per_class and not averaged:
        return Summed(reads, moves)
    reads = mean_read(reads)
    if averaged:
        return Averaged(reads, moves, principal(reads, _READS if kind == "plain" else _POOLED))
    if kind == "tokens":
        return Averaged(reads, moves, principal(reads, _TOKENS), for_ridges=_POOLED_TOKENS)
    basis = leading(reads, _READS)
    if _still(moves):
        return Averaged(reads, moves, basis, for_ridges=None if basis is None else _POOLED)
    return Factored(reads, moves, basis, per_class=per_class)


class Averaged(Part):
    """A layer whose positions are averaged, and which moves the outputs of all instances alike: [āᵀA_c⁻¹ā].

    So does the last layer of a network. Those that read the tokens of a text do not, but comparing how they move them foretold
    retraining little better and costs a backward pass per class (docs/estimators.md). Nor do ridge models want to know.
    """

    moving = False

    def __init__(
        self, reads: torch.Tensor, moves: torch.Tensor, basis: torch.Tensor | None, *, for_ridges: int | None = None
    ) -> None:
        super().__init__(reads, moves, basis)
        self.for_ridges = for_ridges

    def kept(self, view: LayerView) -> torch.Tensor:
        return project(view.mean[:, None], self.read_basis).cpu()

    def pooled(self, kept: torch.Tensor) -> torch.Tensor:
        return kept[:, 0, : self.for_ridges]

    def look(self, kept: torch.Tensor, view: LayerView | None) -> Look:
        return (kept[:, 0].to(self.device),)

    def meet(self, look: Look, classes: Classes, amounts: torch.Tensor) -> None:
        (reads,) = look
        for c in range(self.asked.classes):
            rows, _ = classes.of(c)
            self.asked.add(c, self._solved(reads[rows], c) * (self.scale**2 * amounts[rows, c, None].to(reads)))

    def pick(self, look: Look, rows: torch.Tensor, slots: torch.Tensor) -> Look:
        return (look[0].index_select(0, rows.to(self.device)),)


class Factored(Part):
    """A layer that reads one position (or the mean of many): [aᵀA_c⁻¹a]·[Ĵ_c·Ĵ_c], Ĵ_c between its own length and the layer's.

    With random probes in place of one per output, there is one Ĵ for all classes.
    """

    def __init__(
        self, reads: torch.Tensor, moves: torch.Tensor, basis: torch.Tensor | None, *, per_class: bool
    ) -> None:
        super().__init__(reads, moves, basis)
        moves, self.per_class = moves.sum(2), per_class  # (m, R, H)
        self.move_basis = principal(moves.flatten(0, 1) if per_class else moves.flatten(1), _MOVES)

    def begin(self, demand: Demand, device: torch.device) -> None:
        super().begin(demand, device)
        self.moved = Asked(demand.amounts.shape[1])

    def kept(self, view: LayerView) -> torch.Tensor:
        return project(view.mean[:, None], self.read_basis).cpu()

    def look(self, kept: torch.Tensor, view: LayerView | None) -> Look:
        assert view is not None
        return kept[:, 0].to(self.device), self._moves(view)

    def meet(self, look: Look, classes: Classes, amounts: torch.Tensor) -> None:
        reads, moves = look
        for c in range(self.asked.classes):
            rows, slots = classes.of(c)
            self.asked.add(c, self._solved(reads[rows], c))
            self.moved.add(c, moves[rows, slots] * amounts[rows, c, None].to(moves))

    def met(self, orders: list[torch.Tensor]) -> None:
        super().met(orders)
        self.moved.close(orders)

    def pick(self, look: Look, rows: torch.Tensor, slots: torch.Tensor) -> Look:
        reads, moves = look
        return reads.index_select(0, rows.to(self.device)), _under(moves, rows, slots)

    def compare(self, picked: Look, c: int, columns: slice, total: torch.Tensor, desk: Desk) -> None:
        reads, moves = picked
        alike = torch.mm(reads, self.asked.of(c, columns), out=desk.first.empty(*total.shape))
        total.addcmul_(alike, torch.mm(moves, self.moved.of(c, columns), out=desk.second.empty(*total.shape)))

    def _moves(self, view: LayerView) -> torch.Tensor:
        """[B, R, h], or [B, 1, h] where all classes share it."""
        each = [_summed(moves) for moves in view.each]
        if not self.per_class:
            each = [torch.cat(each, dim=1)]
        moves = torch.stack([project(moves, self.move_basis) for moves in each], dim=1)
        return _tempered(moves, self.scale)


class Summed(Part):
    """A layer that reads many positions: ⟨G_c(z), G_c(x) A_c⁻¹⟩ with G_c = Σ_p J_c,p a_pᵀ, in principal components."""

    def __init__(self, reads: torch.Tensor, moves: torch.Tensor) -> None:
        super().__init__(reads[:, 0], moves, principal(reads.flatten(0, 1), _SUMMED_READS))
        self.move_basis = principal(moves.flatten(0, 2), _SUMMED_MOVES)
        self.dimension, self.square = self.width, float((reads**2).sum(1).mean())

    def kept(self, view: LayerView) -> torch.Tensor:
        return project(view.reads, self.read_basis).cpu()

    def look(self, kept: torch.Tensor, view: LayerView | None) -> Look:
        assert view is not None
        moves = torch.stack([project(moves, self.move_basis) for moves in view.each], dim=1)  # (B, R, P, h)
        return (torch.einsum("brph,bpd->brhd", moves, kept.to(self.device)),)

    def meet(self, look: Look, classes: Classes, amounts: torch.Tensor) -> None:
        (gradients,) = look
        for c in range(self.asked.classes):
            rows, slots = classes.of(c)
            chosen = gradients[rows, slots] * amounts[rows, c, None, None].to(gradients)
            self.asked.add(
                c, self._solved(chosen.flatten(0, 1), c).reshape(len(rows), gradients[0, 0].numel())
            )  # (m, h·d)

    def pick(self, look: Look, rows: torch.Tensor, slots: torch.Tensor) -> Look:
        return (_under(look[0], rows, slots).flatten(1),)


def pooled_moves(view: LayerView) -> torch.Tensor:
    """How outputs move with a layer, over all its positions: [B, R, 1, H]."""
    return torch.stack([_summed(moves) for moves in view.each], dim=1)[:, :, None]


def _under(given: torch.Tensor, rows: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """given[rows, slots], faster."""
    return given.flatten(0, 1).index_select(0, (rows * given.shape[1] + slots).to(given.device))


def _tempered(moves: torch.Tensor, scale: float) -> torch.Tensor:
    """Moves [B, R, h] at the geometric mean of their lengths and the layer's."""
    return moves * (scale / moves.norm(dim=2, keepdim=True).clamp_min(1e-12)).sqrt()


def _still(moves: torch.Tensor) -> bool:
    """Whether a layer moves the outputs of all instances [m, R, P, H] alike, and each output as far."""
    lengths = moves[0].flatten(1).norm(dim=1)
    return torch.allclose(moves, moves[:1].expand_as(moves), rtol=1e-4, atol=1e-6) and torch.allclose(
        lengths, lengths[:1].expand_as(lengths), rtol=1e-4
    )


def _scale(moves: torch.Tensor) -> float:
    """How far each probe moves with what a layer writes, from [m, R, P, H]: root mean square over instances and probes."""
    return float((moves.sum(2) ** 2).sum(2).mean().sqrt())


def _summed(moves: torch.Tensor) -> torch.Tensor:
    """Over positions: [B, P, H] as [B, H]."""
    return moves[:, 0] if moves.shape[1] == 1 else moves.sum(1)
