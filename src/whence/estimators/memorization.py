"""Memorization: does the model get an instance right because it trained on it?

Feldman and Zhang (2020) ask P(correct; trained with z) − P(correct; trained without z), over models trained on random
parts of the data. One run answers through a ridge regression on what all layers of its network read, in which leaving z
out and putting it into a smaller part have closed forms.

Let ŷ be the scores for z of the regression without z, h the leverage of z, and m = ŷ_y − max over c ≠ y of ŷ_c its margin.
An instance trained on is fitted by ŷ + l·(onehot − ŷ), where l is its leverage there. In a part that keeps a share f of the
data, l/(1 − l) = q/f with q = h/(1 − h): fewer others hold it down. So the model with z gets it right if and only if the
model without z has a margin above −q/f. Margins vary from model to model; with that noise logistic of scale T,

    memorization = σ((m + κ·q/f) / T) − σ(m / T)

T is the temperature at which the labels are most likely under softmax(ŷ / T). κ is 1 where the network fits its training
instances no better than the regression would, and otherwise what makes m + κ·q positive for as many of them as the network
gets right: a network that has learned wrong labels by heart lifts its instances further. An instance scores high if its
margin without it is a little below zero. Far below, where a wrong label stands among confident neighbors, it is not learned
even when it is trained on; above, it is right without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import one_hot

from whence.data import Classification
from whence.errors import WhenceError
from whence.estimators.components import principal, project
from whence.estimators.parts import mean_read
from whence.estimators.unseen import LeftOut, likely_temperature
from whence.estimators.views import LayerView, Views, probes_of
from whence.forward import predict
from whence.run import Run
from whence.subnetworks import turnover_memorization

__all__ = ["Memories", "memories", "memorization"]

_READS, _POOLED_READS = 2048, 128  # principal components that are kept of a layer with one position, and with many
_SAMPLE = 512  # instances that components and scales are taken from, fewer where that is more than
_SAMPLE_NUMBERS = 2**26  # numbers that layers read and move
_BATCH_NUMBERS = 2**24  # and in one batch of instances


@dataclass(frozen=True, eq=False)
class Memories:
    """What a model owes to having trained on each instance.

    Attributes:
        memorization: float32 [N], as ``memorization`` returns it.
        by_heart: bool [N], margin below zero without the instance and above zero with it. The memorization of such an instance
            need not be above one half: it is an expectation, and flat where margins are uncertain. Without known layers, a
            difference above one half; of a regression, none.
    """

    memorization: np.ndarray
    by_heart: np.ndarray


def memorization(run: Run, *, fraction: float = 0.5) -> np.ndarray:
    """How much more often a model gets instance i right when it was trained on it.

    Estimates P(correct; trained with i) − P(correct; trained without i), over models trained on random parts of the data
    (Feldman and Zhang 2020, *What Neural Networks Memorize and Why*, arXiv 2008.03703, equation 1). The formula is in
    ``whence.estimators.memorization``, what it was held against in docs/estimators.md. Costs three forward passes over the
    training instances and one matrix decomposition.

    A regression has no correctness, and a model without trained linear, convolutional or embedding-bag layers has no such
    closed form: for these it is ``whence.subnetworks.turnover_memorization``, the difference of flipped and own mask.

    Args:
        run: the trained run. Instances are left out one by one, also where groups share a mask.
        fraction: share of the data that the models in question are trained on, above 0 and at most 1; as in
            ``whence.evaluation.retrain``. The less there is, the more is memorized. No effect on a regression or without
            such layers.

    Returns:
        float32 [N], from 0 (right or wrong either way) to 1 (right only when trained on). Of a regression: flipped minus own
        loss, in its units, of either sign; without such layers, a difference of probabilities in [−1, 1]. Positive: the
        instance is fitted by memory.

    Raises:
        WhenceError: a fraction out of range.
    """
    return memories(run, fraction=fraction).memorization


def memories(run: Run, *, fraction: float = 0.5) -> Memories:
    """What ``memorization`` gives, and which instances are known by heart. Arguments and errors are the same."""
    if not 0 < fraction <= 1:
        raise WhenceError("a fraction out of range", where="memorization", got=fraction, expected="above 0, at most 1")
    if not isinstance(run.task, Classification):
        return Memories(turnover_memorization(run), np.zeros(len(run.train), bool))
    features = _Features(run)
    if not features.layers:
        difference = turnover_memorization(run)
        return Memories(difference, difference > 0.5)
    labels = torch.from_numpy(run.train.targets)
    without, leverage = _left_out(features, one_hot(labels, run.task.outputs).float())
    temperature = float(likely_temperature(without, labels))
    margin = _margin(without, labels)
    lift = leverage / (1 - leverage)
    lifted = margin + _strength(run, margin, lift) * lift / fraction
    gained = torch.sigmoid(lifted / temperature) - torch.sigmoid(margin / temperature)
    return Memories(gained.numpy(), ((margin < 0) & (lifted > 0)).numpy())


def _left_out(features: _Features, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [N, C] of a ridge regression on all features without each instance, and leverages [N]."""
    model = LeftOut(targets.shape[1])
    for rows, first, others in features:
        model.learn(first, others, targets[rows])
    model.solve()
    answers = [model.left_out(first, others, targets[rows]) for rows, first, others in features]
    scores, leverages = (torch.cat([answer[n][1] for answer in answers]) for n in (0, 1))
    return scores, leverages


def _strength(run: Run, margin: torch.Tensor, lift: torch.Tensor) -> float:
    """κ: the multiple of lifts, at least 1, with which as many instances are right as the network gets right."""
    right = float((predict(run.model, run.train).argmax(1) == run.train.targets).mean())
    return max(1.0, float(np.quantile((-margin / lift).numpy(), right)))


def _margin(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The label's score over the best other: float32 [N]."""
    own = scores.gather(1, labels[:, None])[:, 0]
    return own - scores.scatter(1, labels[:, None], -torch.inf).amax(1)


class _Features:
    """What all layers read of training instances, each scaled by how far it moves the outputs.

    Positions are averaged. Wide layers are kept in principal components.

    Attributes:
        layers: how many are looked at.
    """

    def __init__(self, run: Run) -> None:
        self.train, self.views = run.train, Views(run.model, run.train)
        self.layers = len(self.views.layers)
        if not self.layers:
            return
        probes = probes_of(run.task.outputs)
        lengths = getattr(self.train.inputs, "lengths", None)
        longest = 0 if lengths is None else int(np.argmax(lengths))  # of texts, which differ
        _, first = self.views(self.train.batch(np.array([longest])), probes)
        each = sum(view.reads.numel() + view.moves.numel() for view in first)
        self.batch = max(1, min(1024, _BATCH_NUMBERS // each))
        count = max(8, min(_SAMPLE, _SAMPLE_NUMBERS // each))
        sample = self.train.select(np.unique(np.linspace(0, len(self.train) - 1, count).astype(np.int64)))
        seen = [views for _, views in self.views.all(sample, probes, min(64, self.batch))]
        self.bases, self.scales = [], []
        for number in range(self.layers):
            views = [batch[number] for batch in seen]
            most = _READS if all(view.reads.shape[1] == 1 for view in views) else _POOLED_READS
            self.bases.append(principal(torch.cat([view.reads.flatten(0, 1) for view in views]), most))
            self.scales.append(float(torch.cat([(view.moves.sum(2) ** 2).sum(2) for view in views]).mean().sqrt()))

    def __iter__(self) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Rows of a batch; what the first layer reads and what the others read, float32 [B, D] and [B, E] on the CPU."""
        start = 0
        for _, views in self.views.all(self.train, None, self.batch):
            read = [self._of(number, view) for number, view in enumerate(views)]
            yield slice(start, start + len(read[0])), read[0], torch.cat([read[0][:, :0], *read[1:]], dim=1)
            start += len(read[0])

    def _of(self, number: int, view: LayerView) -> torch.Tensor:
        return project(mean_read(view.reads), self.bases[number]).cpu() * self.scales[number]
