"""Influence through all layers: a preconditioned tangent kernel, whose curvature is that of each class.

With a what a layer reads, J how the outputs move with what it writes, and e = −∂L/∂outputs,

    Î(z → x) = (1/N) · Σ_layers Σ_c  e_c(z) · e_c(x) / s_c · [a(z)ᵀ (A_c + λ·mean a²·I)⁻¹ a(x)] · [tr J(z)ᵀJ(x) / C]

    A_c = Σ_z w_c(z) a(z) a(z)ᵀ / Σ_z w_c(z),   w_c = p_c (1 − p_c),   s_c = mean w_c

This is ∇Q(x)ᵀ H⁻¹ ∇L(z) / N, the effect of a removal (Koh and Liang 2017), with three approximations of the Gauss–Newton
matrix H: layers and classes do not interact; a layer's part factors into what it reads and what it moves (Martens and Grosse
2015); what it moves is left as it is. Unlike K-FAC and EK-FAC, A is not averaged over classes: only instances that are
undecided about class c hold the weights of class c in place, and that is where most of the gain over them comes from
(docs/estimators.md).

Terms in which e_c(x) is below a tenth of the target's largest are left out. e(z) is taken from what the model would say of z
unseen (``unseen.py``), since in-sample residuals vanish with memorization.

Layers that read many positions (tokens, patches of a picture) have gradients G_c = Σ_p J_c,p a_pᵀ, a sum that does not
factor. They are kept in the leading principal components of what the layer reads and of what it moves, and

    Î(z → x) += (1/N) · Σ_c e_c(z) · e_c(x) / s_c · ⟨G_c(z), G_c(x) (A_c + λ…)⁻¹⟩,   A_c summed over positions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.functional import one_hot

from whence.data import Classification, Dataset
from whence.errors import WhenceError
from whence.estimators.base import instance_rows
from whence.estimators.kernel import mean_curvature, residuals, residuals_at
from whence.estimators.parts import Demand, Part, part_for
from whence.estimators.softening import matched_temperature
from whence.estimators.unseen import LeftOut, mixture
from whence.estimators.views import Views, probes_of
from whence.forward import predict
from whence.quantities import Quantity, loss_of
from whence.run import Run

__all__ = ["Kronecker"]

_CACHED_BYTES = 2**29  # of what layers read, kept between passes; above it, passes are repeated


class Kronecker:
    """Influence through all linear, convolutional and embedding-bag layers. Positive: z helps on x.

    Sizes are of first order in the removal of z and comparable within one set of scores; the order is what is meant.
    Costs three or four forward passes over the training instances, one more with a backward pass per class (at most 16),
    and the products of what is in the formula; holds nothing that is as large as N×M.

    Args:
        run: the trained run.
        targets: M instances.
        quantity: differentiable in the outputs.
        damping: λ, in units of the mean square of what a layer reads, above 0; by default 2·D/N of each layer, from 0.3 to 5.
        share: of leave-one-out ridge models in the residuals of training instances (``unseen.py``), 0 to 1; none for losses
            other than cross-entropy and squared error.

    Raises:
        WhenceError: no trained layer of a known kind; the quantity has no gradient; a bad option.
    """

    def __init__(
        self, run: Run, targets: Dataset, quantity: Quantity, *, damping: float | None = None, share: float = 0.3
    ) -> None:
        if (damping is not None and not damping > 0) or not 0 <= share <= 1:
            raise WhenceError("an option out of range", where="method kronecker", got=f"damping {damping}, share {share}",
                              expected="damping above 0, share from 0 to 1")  # fmt: skip
        self.run = run
        self.views = Views(run.model, run.train)
        if not self.views.layers:
            raise WhenceError("no trained linear, convolutional or embedding-bag layer that is called once",
                              where="method kronecker", mend="Use method turnover or first_order.")  # fmt: skip
        self.rows, self.level, self.unit = instance_rows(run.train), "instance", quantity.unit
        self.probes = probes_of(run.task.outputs)
        logits = torch.from_numpy(predict(run.model, run.train))
        if isinstance(run.task, Classification):
            temperature = matched_temperature(run)
            softened = logits / temperature
            curvature = softened.softmax(1) * (1 - softened.softmax(1))
        else:
            temperature, softened, curvature = 1.0, logits, torch.full_like(logits, mean_curvature(run))
        wanted = residuals(run, targets, quantity, "full", temperature)  # (M, C)
        self.targets = len(targets)
        demand = Demand(wanted * quantity.helps / len(run.train), curvature)
        self.parts = self._parts(demand)
        self._cache: list[list[torch.Tensor]] = []
        if run.loss.fingerprint(run.task) != loss_of(run.task).fingerprint(run.task):
            share = 0.0  # ridge models speak of probabilities and means, which are outputs of the usual losses only
        unseen = self._survey(curvature, share)
        for part in self.parts:
            part.solve(damping)
        for _, views in self.views.all(targets, self.probes, self.batch):
            for part, view in zip(self.parts, views, strict=True):
                part.meet(view)
        self._cache = []
        self.residuals = residuals_at(mixture(run.task, softened, unseen, share), run.train, run.loss)  # (N, C)

    def block(self, start: int, stop: int) -> np.ndarray:
        return self.of_rows(np.arange(start, stop))

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        scores = torch.zeros(len(rows), self.targets)
        for start in range(0, len(rows), self.batch):
            some = rows[start : start + self.batch]
            _, views = self.views(self.run.train.batch(some), self.probes)
            for part, view in zip(self.parts, views, strict=True):
                scores[start : start + self.batch] += part.scores(view, self.residuals[some])
        return scores.numpy()

    def null(self, count: int, seed: int) -> None:
        return None

    def _parts(self, demand: Demand) -> list[Part]:
        """One part per layer, its principal components taken from a sample of training instances."""
        self.batch, batches = self.views.sample(self.run.train, self.probes)
        return [
            part_for([views[number] for views in batches], demand, per_class=len(self.probes) == self.run.task.outputs)
            for number in range(len(self.views.layers))
        ]

    def _survey(self, curvature: torch.Tensor, share: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Pass over training instances: curvature of each part, and what ridge models say of instances left out."""
        task = self.run.task
        targets = torch.from_numpy(self.run.train.targets)
        targets = (
            one_hot(targets, task.outputs).float() if isinstance(task, Classification) else targets[:, None].float()
        )
        models: list[LeftOut] = []
        for rows, reads in self._reads():
            for part, read in zip(self.parts, reads, strict=True):
                part.learn(read, curvature[rows])
            pooled = self._pooled(reads)
            models = models or [LeftOut(features.shape[1], task.outputs) for features in pooled]
            for model, features in zip(models, pooled, strict=True):
                model.learn(features, targets[rows])
        if share == 0:
            return []
        for model in models:
            model.solve()
        said: list[list[torch.Tensor]] = [[] for _ in models]
        for rows, reads in self._reads():
            for model, features, before in zip(models, self._pooled(reads), said, strict=True):
                before.append(model.predict(features, targets[rows]))
        return [(torch.cat(parts), targets) for parts in said]

    def _pooled(self, reads: list[torch.Tensor]) -> list[torch.Tensor]:
        """What the first layer reads, and what all layers read, scaled by what they move; positions averaged."""
        means = [read.mean(1) * part.scale for part, read in zip(self.parts, reads, strict=True)]
        return [means[0], torch.cat(means, dim=1)]

    def _reads(self) -> Iterator[tuple[np.ndarray, list[torch.Tensor]]]:
        """Rows, and what each part keeps of what its layer reads there: [B, P, d]. Cached when there is room."""
        size = 0
        starts = range(0, len(self.run.train), self.batch)
        rows = [np.arange(start, min(start + self.batch, len(self.run.train))) for start in starts]
        if self._cache:
            yield from zip(rows, self._cache, strict=True)
            return
        kept: list[list[torch.Tensor]] = []
        for chosen, (_, views) in zip(rows, self.views.all(self.run.train, None, self.batch), strict=True):
            reads = [part.kept(view) for part, view in zip(self.parts, views, strict=True)]
            size += sum(read.numel() * 4 for read in reads)
            if size <= _CACHED_BYTES:
                kept.append(reads)
            yield chosen, reads
        self._cache = kept if size <= _CACHED_BYTES else []
