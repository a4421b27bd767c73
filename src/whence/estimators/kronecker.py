"""Influence through all layers: a preconditioned tangent kernel, whose curvature is that of each class.

With a what a layer reads, J_c how output c moves with what it writes, and e = −∂L/∂outputs,

    Î(z → x) = (1/N) · Σ_layers Σ_c  e_c(z) · e_c(x) / s_c · [a(z)ᵀ (A_c + λ·mean a²·I)⁻¹ a(x)] · [Ĵ_c(z)·Ĵ_c(x)]

    A_c = Σ_z w_c(z) a(z) a(z)ᵀ / Σ_z w_c(z),   w_c = p_c (1 − p_c),   s_c = mean w_c

This is ∇Q(x)ᵀ H⁻¹ ∇L(z) / N, the effect of a removal (Koh and Liang 2017), with three approximations of the Gauss–Newton
matrix H: layers and classes do not interact; a layer's part factors into what it reads and what it moves (Martens and Grosse
2015); what it moves is left as it is, but for its length. Ĵ_c is J_c brought to the geometric mean of its length and the root
mean square length of the layer: an instance with a large gradient is held in place by itself, and does less than that
promises. Unlike K-FAC and EK-FAC, A
is not averaged over classes: only instances that are undecided about class c hold the weights of class c in place, and that
is where most of the gain over them comes from (docs/estimators.md).

The probabilities p behind w, e(z) and e(x) are what the model would say of an instance unseen (``unseen.py``), since in-sample
residuals vanish with memorization. Terms in which e_c(z) or e_c(x) is below a tenth of the instance's largest are left out.

Two classes have one direction in which outputs matter, o₁ − o₀, which takes the place of both classes.

Layers that read the patches of a picture have gradients G_c = Σ_p J_c,p a_pᵀ, a sum that does not factor. They are kept in the
leading principal components of what the layer reads and of what it moves, and

    Î(z → x) += (1/N) · Σ_c e_c(z) · e_c(x) / s_c · ⟨G_c(z), G_c(x) (A_c + λ…)⁻¹⟩,   A_c summed over positions.

Of convolutional networks of pictures, likeness on random convolutional features (``likeness.py``) joins the sum over layers, with
as much weight as all of these.

Layers that read the tokens of a text are taken at the mean ā of what they read, and as moving all instances' outputs alike:
ā(z)ᵀ(A_c + λ…)⁻¹ā(x) times the mean |J_c|². That needs no backward pass, and foretold retraining better than the sum over tokens.

With more than 16 classes, Ĵ_c(z)·Ĵ_c(x) is the mean over 16 random combinations of outputs, and positions are averaged.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from whence.data import Classification, Dataset
from whence.data.tasks import LanguageModeling
from whence.errors import WhenceError
from whence.estimators.base import evenly, instance_rows, many_at_stake
from whence.estimators.comparing import Compared, Comparison, Desk
from whence.estimators.curvatures import Classes, Demand, by_classes, matters
from whence.estimators.kernel import mean_curvature, residuals_at
from whence.estimators.likeness import Likeness
from whence.estimators.parts import Look, Part
from whence.estimators.random_features import Looks, are_pictures
from whence.estimators.reading import Reading
from whence.estimators.reused import Reused
from whence.estimators.unseen import as_unseen
from whence.quantities import Quantity, loss_of
from whence.run import Run

__all__ = ["Kronecker"]

_CURVATURE_NUMBERS = 2**28  # in the curvatures of all classes and layers together
_WEIGHED = 128  # training instances whose scores tell how much weight likeness has


class _Picked:
    """The instances to which a class matters, as they are looked at batch by batch.

    Attributes:
        rows, places: which they are, and where they are among those asked for: int64 [R].
        residuals: for the class, float32 [R].
        each: what each part compares of them, [R, …]; none before the first batch.
    """

    def __init__(self, count: int) -> None:
        self.rows, self.places = torch.empty(2, count, dtype=torch.int64)
        self.residuals = torch.empty(count)
        self.each: list[Look] = []
        self._filled = 0

    def take(self, rows: torch.Tensor, places: torch.Tensor, residuals: torch.Tensor, looks: list[Look]) -> None:
        """The next of them. They lie together from the first: small pieces that wait would leave gaps in memory."""
        if not self.each:
            self.each = [tuple(part.new_empty(len(self.rows), *part.shape[1:]) for part in look) for look in looks]
        some = slice(self._filled, self._filled + len(rows))
        self.rows[some], self.places[some], self.residuals[some] = rows, places, residuals
        for whole, look in zip(self.each, looks, strict=True):
            for kept, part in zip(whole, look, strict=True):
                kept[some] = part
        self._filled = some.stop


class Kronecker:
    """Influence through all linear, convolutional and embedding-bag layers. Positive: z helps on x.

    Sizes are of first order in the removal of z and comparable within one set of scores; the order is what is meant.
    Costs one forward pass over the training instances where what layers read of them fits in memory (512 MB), three where it
    does not; unless all that counts is texts, one more with a backward pass per class that matters to an instance (at most 16); and
    the products of what is in the formula. Holds nothing that is as large as N×M.

    Args:
        run: the trained run.
        targets: M instances.
        quantity: differentiable in the outputs.
        damping: λ, in units of the mean square of what a layer reads, above 0; by default 2·D/N of each layer, from 0.4 to 5.
        share: of leave-one-out ridge models in what is said of instances unseen (``unseen.py``), 0 to 1; none for losses
            other than cross-entropy and squared error.
        looks: of convolutional networks of pictures, how much weight likeness on random features (``likeness.py``) has next to all
            layers together, 0 for none; none for such losses either.

    Raises:
        WhenceError: no trained layer of a known kind; the quantity has no gradient; a bad option.
    """

    version = 3
    at_once = 2**24  # many instances of a class make large products
    rows_of = staticmethod(instance_rows)
    at_stake = staticmethod(many_at_stake)

    def __init__(
        self,
        run: Run,
        targets: Dataset,
        quantity: Quantity,
        *,
        damping: float | None = None,
        share: float = 0.3,
        looks: float = 1.0,
    ) -> None:
        if (damping is not None and not damping > 0) or not 0 <= share <= 1 or not 0 <= looks < np.inf:
            raise WhenceError("an option out of range", where="method kronecker",
                              got=f"damping {damping}, share {share}, looks {looks}",
                              expected="damping above 0, share from 0 to 1, looks of at least 0")  # fmt: skip
        self.run, self.targets, self._reused = run, len(targets), Reused(run.device)
        self.reading = Reading(run)
        if not self.reading.views.layers:
            raise WhenceError("no trained linear, convolutional or embedding-bag layer that is called once",
                              where="method kronecker", mend="Use method turnover or first_order.")  # fmt: skip
        usual = run.loss.fingerprint(run.task) == loss_of(run.task).fingerprint(run.task)
        if not usual or isinstance(run.task, LanguageModeling):
            share = 0.0  # ridge models speak of probabilities and means, which are outputs of the usual losses only
        convolves = any(isinstance(layer, nn.Conv2d) for layer in self.reading.views.layers) and are_pictures(run.train)
        random = Looks(run.train) if convolves and usual and looks else None
        unseen, of_targets = as_unseen(run, targets, self.reading.features, share, random)
        self.residuals = residuals_at(unseen, run.train, run.loss)  # (N, C)
        wanted = residuals_at(of_targets, targets, quantity) * quantity.helps / len(run.train)  # (M, C)
        curvature = _curvature(run, unseen)
        self.directions = torch.eye(wanted.shape[1])
        if _opposite(self.residuals) and _opposite(wanted):
            self.directions = torch.tensor([[-1.0, 1.0]]) / 2**0.5
            self.residuals, wanted = self.residuals @ self.directions.T, wanted @ self.directions.T
            curvature = curvature.sum(1, keepdim=True)
        self._learn(wanted, curvature, damping)
        self.likeness = None if random is None else Likeness(random, self.demand, curvature, run.device)
        self._meet(targets, wanted)
        self.reading.forget(targets)
        if self.likeness is not None:
            self._weigh(self.likeness, looks)

    def block(self, start: int, stop: int) -> np.ndarray:
        return self.of_rows(np.arange(start, stop))

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        distinct, inverse = np.unique(rows, return_inverse=True)
        if len(distinct) < len(rows):
            return self.of_rows(distinct)[inverse]
        place = np.empty(len(self.residuals), np.int64)
        place[rows] = np.arange(len(rows))
        counts = matters(self.residuals[rows]).sum(0).tolist()
        picked = [
            _Picked(count) if count and len(theirs) else None
            for count, theirs in zip(counts, self.comparison.asking, strict=True)
        ]
        for alike in by_classes(self.residuals[rows]):
            for some in self.reading.divided(self.run.train, rows[alike]):
                self._pick(some, torch.from_numpy(place[some]), picked)
        # Instances are looked at in batches that fit in memory, and compared class by class, all at once: products are large.
        scores = self._reused.empty(len(rows), self.targets).zero_()
        self.comparison.add_to(scores, [self._compared(c, some) for c, some in enumerate(picked) if some is not None])
        return scores.cpu().numpy()

    def _learn(self, wanted: torch.Tensor, curvature: torch.Tensor, damping: float | None) -> None:
        """Pass over training instances: the curvature of each part, for what targets [M, C] want."""
        parts, train = self.reading.parts, self.run.train
        most = max(1, _CURVATURE_NUMBERS // sum(part.width**2 for part in parts))
        self.demand = Demand(wanted, curvature, most)
        for part in parts:
            part.begin(self.demand, self.run.device)
        for seen in self.reading.all(train):
            for part, read in zip(parts, seen.reads, strict=True):
                part.learn(read, curvature[seen.rows])
        for part in parts:
            part.solve(damping, len(train))

    def _meet(self, targets: Dataset, wanted: torch.Tensor) -> None:
        """Show all targets to all parts, and note for each class which of them ask."""
        asking: list[list[torch.Tensor]] = [[] for _ in range(wanted.shape[1])]
        looks = None if self.likeness is None else self.likeness.of(targets)
        for rows in [some for alike in by_classes(wanted) for some in self.reading.divided(targets, alike)]:
            classes = self._classes(wanted[rows])
            for c, met in enumerate(asking):
                met.append(torch.from_numpy(rows)[classes.of(c)[0]])
            for part, look in zip(self.reading.parts, self._look(targets, rows, classes), strict=True):
                part.meet(look, classes, self.demand.amounts[rows])
            if self.likeness is not None and looks is not None:
                self.likeness.meet(looks[rows], classes, self.demand.amounts[rows])
        found = [torch.cat(met) for met in asking]
        orders = [theirs.argsort() for theirs in found]
        for compared_by in self._compared_by():
            compared_by.met(orders)
        found = [theirs[order] for theirs, order in zip(found, orders, strict=True)]
        self.comparison = Comparison(found, matters(self.residuals).sum(0).tolist(), len(targets), self.run.device)

    def _weigh(self, likeness: Likeness, looks: float) -> None:
        """Give likeness so many times the weight of all layers together, by the root mean square of scores of some instances."""
        some = evenly(len(self.residuals), _WEIGHED)
        self.likeness = None
        layers = self.of_rows(some)
        self.likeness = likeness
        alone = self.of_rows(some) - layers
        likeness.weight = looks * float(np.sqrt(np.square(layers).mean() / max(np.square(alone).mean(), 1e-30)))

    def _pick(self, rows: np.ndarray, places: torch.Tensor, picked: list[_Picked | None]) -> None:
        """Look at a batch of training instances, and note for each class what is compared of those to which it matters."""
        residuals, parts = self.residuals[rows], self.reading.parts
        classes = self._classes(residuals)
        looks = self._look(self.run.train, rows, classes)
        for c, found in enumerate(picked):
            if found is not None:
                some, slots = classes.of(c)
                each = [part.pick(look, some, slots) for part, look in zip(parts, looks, strict=True)]
                found.take(torch.from_numpy(rows)[some], places[some], residuals[some, c], each)

    def _compared(self, c: int, picked: _Picked) -> Compared:
        """What was picked of a class, ready to be compared."""
        each = [*picked.each, *([] if self.likeness is None else [self.likeness.pick(picked.rows)])]
        parts = self._compared_by()

        def add(instances: slice, columns: slice, total: torch.Tensor, desk: Desk) -> None:
            for part, look in zip(parts, each, strict=True):
                part.compare(tuple(given[instances] for given in look), c, columns, total, desk)

        return Compared(c, picked.places, picked.residuals, add)

    def _compared_by(self) -> list[Part | Likeness]:
        return [*self.reading.parts, *([] if self.likeness is None else [self.likeness])]

    def _classes(self, residuals: torch.Tensor) -> Classes:
        return Classes(residuals, per_class=self.reading.per_class)

    def _look(self, data: Dataset, rows: np.ndarray, classes: Classes) -> list[Look]:
        """What each part needs of some instances, under probes of their classes."""
        probes = classes.probes() @ self.directions if self.reading.per_class else self.reading.probes
        return self.reading.looks(data, rows, probes)


def _opposite(residuals: torch.Tensor) -> bool:
    """Whether they are of two classes and one is the other's negative, as of a loss that probabilities alone determine."""
    return residuals.shape[1] == 2 and float(residuals.sum(1).abs().max()) <= 1e-5 * float(residuals.abs().max())


def _curvature(run: Run, unseen: torch.Tensor) -> torch.Tensor:
    """The second derivative of the loss in each output, [N, C]: p(1 − p), or for other tasks the mean one."""
    if not isinstance(run.task, Classification):
        return torch.full_like(unseen, mean_curvature(unseen, run.train, run.loss))
    p = unseen.softmax(1)
    return p * (1 - p)
