"""Influence through all layers: a preconditioned tangent kernel, whose curvature is that of each class.

With a what a layer reads, J_c how output c moves with what it writes, and e = −∂L/∂outputs,

    Î(z → x) = (1/N) · Σ_layers Σ_c  e_c(z) · e_c(x) / s_c · [a(z)ᵀ (A_c + λ·mean a²·I)⁻¹ a(x)] · [J_c(z)·J_c(x)]

    A_c = Σ_z w_c(z) a(z) a(z)ᵀ / Σ_z w_c(z),   w_c = p_c (1 − p_c),   s_c = mean w_c

This is ∇Q(x)ᵀ H⁻¹ ∇L(z) / N, the effect of a removal (Koh and Liang 2017), with three approximations of the Gauss–Newton
matrix H: layers and classes do not interact; a layer's part factors into what it reads and what it moves (Martens and Grosse
2015); what it moves is left as it is. Unlike K-FAC and EK-FAC, A is not averaged over classes: only instances that are
undecided about class c hold the weights of class c in place, and that is where most of the gain over them comes from
(docs/estimators.md).

The probabilities p behind w, e(z) and e(x) are what the model would say of an instance unseen (``unseen.py``), since in-sample
residuals vanish with memorization. Terms in which e_c(z) or e_c(x) is below a tenth of the instance's largest are left out.

Layers that read many positions (tokens, patches of a picture) have gradients G_c = Σ_p J_c,p a_pᵀ, a sum that does not
factor. They are kept in the leading principal components of what the layer reads and of what it moves, and

    Î(z → x) += (1/N) · Σ_c e_c(z) · e_c(x) / s_c · ⟨G_c(z), G_c(x) (A_c + λ…)⁻¹⟩,   A_c summed over positions.

With more than 16 classes, J_c(z)·J_c(x) is the mean over 16 random combinations of outputs, and positions are averaged.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from whence.data import Classification, Dataset
from whence.data.tasks import LanguageModeling
from whence.errors import WhenceError
from whence.estimators.base import instance_rows
from whence.estimators.curvatures import Demand, matters
from whence.estimators.kernel import mean_curvature, residuals_at
from whence.estimators.parts import Part, part_for
from whence.estimators.unseen import as_unseen
from whence.estimators.views import LayerView, Views, probes_of
from whence.quantities import Quantity, loss_of
from whence.run import Run

__all__ = ["Kronecker"]

_BATCH_NUMBERS = 2**24  # that layers read and move, in one batch of instances
_SAMPLE, _MOVING_SAMPLE = 2048, 128  # instances that principal components are taken from, fewer where that is more than
_SAMPLE_NUMBERS = 2**26  # numbers that layers read and move
_CACHED_BYTES = 2**29  # of what layers read, kept between passes; above it, passes are repeated
_CURVATURE_NUMBERS = 2**28  # in the curvatures of all classes and layers together


class Kronecker:
    """Influence through all linear, convolutional and embedding-bag layers. Positive: z helps on x.

    Sizes are of first order in the removal of z and comparable within one set of scores; the order is what is meant.
    Costs three to five forward passes over the training instances, one more with a backward pass per class (at most 16),
    and the products of what is in the formula; holds nothing that is as large as N×M.

    Args:
        run: the trained run.
        targets: M instances.
        quantity: differentiable in the outputs.
        damping: λ, in units of the mean square of what a layer reads, above 0; by default 2·D/N of each layer, from 0.4 to 5.
        share: of leave-one-out ridge models in what is said of instances unseen (``unseen.py``), 0 to 1; none for losses
            other than cross-entropy and squared error.

    Raises:
        WhenceError: no trained layer of a known kind; the quantity has no gradient; a bad option.
    """

    version = 1
    rows_of = staticmethod(instance_rows)

    def __init__(
        self, run: Run, targets: Dataset, quantity: Quantity, *, damping: float | None = None, share: float = 0.3
    ) -> None:
        if (damping is not None and not damping > 0) or not 0 <= share <= 1:
            raise WhenceError("an option out of range", where="method kronecker", got=f"damping {damping}, share {share}",
                              expected="damping above 0, share from 0 to 1")  # fmt: skip
        self.run, self.targets = run, len(targets)
        self.views = Views(run.model, run.train)
        if not self.views.layers:
            raise WhenceError("no trained linear, convolutional or embedding-bag layer that is called once",
                              where="method kronecker", mend="Use method turnover or first_order.")  # fmt: skip
        self.probes = probes_of(run.task.outputs)
        self.parts = self._parts()
        self._cache: list[list[torch.Tensor]] = []
        usual = run.loss.fingerprint(run.task) == loss_of(run.task).fingerprint(run.task)
        if not usual or isinstance(run.task, LanguageModeling):
            share = 0.0  # ridge models speak of probabilities and means, which are outputs of the usual losses only
        unseen, of_targets = as_unseen(run, targets, self._features, share)
        self.residuals = residuals_at(unseen, run.train, run.loss)  # (N, C)
        wanted = residuals_at(of_targets, targets, quantity) * quantity.helps / len(run.train)  # (M, C)
        self._learn(wanted, _curvature(run, unseen), damping)
        for _, views in self.views.all(targets, self.probes, self.batch):
            for part, view in zip(self.parts, views, strict=True):
                part.meet(view)
        self._cache = []

    def block(self, start: int, stop: int) -> np.ndarray:
        return self.of_rows(np.arange(start, stop))

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        scores = torch.zeros(len(rows), self.targets)
        for start in range(0, len(rows), self.batch):
            some = rows[start : start + self.batch]
            _, views = self.views(self.run.train.batch(some), self.probes)
            self._add(scores[start : start + self.batch], views, self.residuals[some])
        return scores.numpy()

    def _add(self, scores: torch.Tensor, views: list[LayerView], residuals: torch.Tensor) -> None:
        """Put the scores of some instances into zeros [B, M]."""
        looks = [part.look(view) for part, view in zip(self.parts, views, strict=True)]
        has, demand = matters(residuals), self.demand
        for c, (asking, amounts) in enumerate(zip(demand.asking, demand.amounts, strict=True)):
            rows = has[:, c].nonzero()[:, 0]
            if not len(rows) or not len(asking):
                continue
            similar = self.parts[0].similarity(looks[0], c, rows)
            for part, look in zip(self.parts[1:], looks[1:], strict=True):
                similar += part.similarity(look, c, rows)
            scores[rows[:, None], asking] += similar.mul_(residuals[rows, c, None]).mul_(amounts)

    def _parts(self) -> list[Part]:
        """One part per layer, its principal components taken from a sample of training instances."""
        train = self.run.train
        lengths = getattr(train.inputs, "lengths", None)
        longest = 0 if lengths is None else int(np.argmax(lengths))  # of texts, which differ
        _, first = self.views(train.batch(np.array([longest])), self.probes)
        reads, moves = sum(view.reads.numel() for view in first), sum(view.moves.numel() for view in first)
        self.batch = max(1, min(1024, _BATCH_NUMBERS // (reads + moves)))
        read = self._sample(_SAMPLE, reads, None)
        moved = self._sample(_MOVING_SAMPLE, reads + moves, self.probes)
        per_class = len(self.probes) == self.run.task.outputs
        return [
            part_for([views[n].reads for views in read], [views[n].moves for views in moved], per_class=per_class)
            for n in range(len(self.views.layers))
        ]

    def _sample(self, most: int, numbers: int, probes: torch.Tensor | None) -> list[list[LayerView]]:
        """Views of training instances spread over the data, so many of them that memory allows."""
        size = max(8, min(most, _SAMPLE_NUMBERS // numbers))
        chosen = np.unique(np.linspace(0, len(self.run.train) - 1, size).astype(np.int64))
        some = self.run.train.select(chosen)
        return [views for _, views in self.views.all(some, probes, min(64 if probes is not None else 512, self.batch))]

    def _learn(self, wanted: torch.Tensor, curvature: torch.Tensor, damping: float | None) -> None:
        """Pass over training instances: the curvature of each part, for what targets [M, C] want."""
        self.demand = Demand(wanted, curvature, max(1, _CURVATURE_NUMBERS // sum(part.width**2 for part in self.parts)))
        for part in self.parts:
            part.begin(self.demand)
        for rows, reads in self._reads():
            for part, read in zip(self.parts, reads, strict=True):
                part.learn(read, curvature[rows])
        for part in self.parts:
            part.solve(damping, len(self.run.train))

    def _features(self, data: Dataset) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """What the first layer reads, and the other layers, scaled by what they move; positions averaged."""
        if data is self.run.train:
            batches = (reads for _, reads in self._reads())
        else:
            batches = (self._kept(views) for _, views in self.views.all(data, None, self.batch))
        for reads in batches:
            means = [part.pooled(read) * part.scale for part, read in zip(self.parts, reads, strict=True)]
            yield means[0], torch.cat([means[0][:, :0], *means[1:]], dim=1)

    def _kept(self, views: list[LayerView]) -> list[torch.Tensor]:
        return [part.kept(view) for part, view in zip(self.parts, views, strict=True)]

    def _reads(self) -> Iterator[tuple[np.ndarray, list[torch.Tensor]]]:
        """Rows, and what each part keeps of what its layer reads there: [B, P, d]. Cached when there is room."""
        size = 0
        starts = range(0, len(self.run.train), self.batch)
        rows = [np.arange(start, min(start + self.batch, len(self.run.train))) for start in starts]
        if self._cache:
            yield from zip(rows, self._cache, strict=True)
            return
        kept: list[list[torch.Tensor]] = []
        for chosen in rows:
            _, views = self.views(self.run.train.batch(chosen), None)
            reads = self._kept(views)
            size += sum(read.numel() * 4 for read in reads)
            if size <= _CACHED_BYTES:
                kept.append(reads)
            yield chosen, reads
        self._cache = kept if size <= _CACHED_BYTES else []


def _curvature(run: Run, unseen: torch.Tensor) -> torch.Tensor:
    """The second derivative of the loss in each output, [N, C]: p(1 − p), or for other tasks the mean one."""
    if not isinstance(run.task, Classification):
        return torch.full_like(unseen, mean_curvature(run))
    p = unseen.softmax(1)
    return p * (1 - p)
