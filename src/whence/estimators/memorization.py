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

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import one_hot

from whence.arguments import instance_of, is_number
from whence.data import Classification
from whence.errors import WhenceError
from whence.estimators.reading import Reading
from whence.estimators.unseen import LeftOut, likely_temperature
from whence.run import Run
from whence.subnetworks import turnover_memorization

__all__ = ["Memories", "memories", "memorization"]


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
    instance_of(run, Run, "run")
    if not is_number(fraction) or not 0 < fraction <= 1:
        raise WhenceError("an option out of range", where="fraction", got=repr(fraction), expected="above 0, at most 1")
    if not isinstance(run.task, Classification):
        return Memories(turnover_memorization(run), np.zeros(len(run.train), bool))
    reading = Reading(run, averaged=True)
    if not reading.views.layers:
        difference = turnover_memorization(run)
        return Memories(difference, difference > 0.5)
    labels = torch.from_numpy(run.train.targets)
    outputs, without, leverage = _left_out(reading, run, one_hot(labels, run.task.outputs).float())
    temperature = float(likely_temperature(without, labels))
    margin = _margin(without, labels)
    lift = leverage / (1 - leverage)
    right = float((outputs.argmax(1) == labels).float().mean())
    lifted = margin + _strength(margin, lift, right) * lift / fraction
    gained = torch.sigmoid(lifted / temperature) - torch.sigmoid(margin / temperature)
    return Memories(gained.numpy(), ((margin < 0) & (lifted > 0)).numpy())


def _left_out(reading: Reading, run: Run, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Outputs [N, C]; scores [N, C] of a ridge regression on all features without each instance; leverages [N]."""
    model = LeftOut(targets.shape[1], run.device)
    for some in reading.features(run.train):
        model.learn(some.first, some.others, targets[some.rows])
    model.solve()
    found = [
        (some.rows, some.outputs, *(part[1] for part in model.left_out(some.first, some.others, targets[some.rows])))
        for some in reading.features(run.train)
    ]
    rows, *columns = zip(*found, strict=True)
    order = np.argsort(np.concatenate(rows))
    outputs, scores, leverages = (torch.cat(column)[order] for column in columns)
    return outputs, scores, leverages


def _strength(margin: torch.Tensor, lift: torch.Tensor, right: float) -> float:
    """κ: the multiple of lifts, at least 1, with which as many instances are right as the network gets right."""
    return max(1.0, float(np.quantile((-margin / lift).numpy(), right)))


def _margin(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The label's score over the best other: float32 [N]."""
    own = scores.gather(1, labels[:, None])[:, 0]
    return own - scores.scatter(1, labels[:, None], -torch.inf).amax(1)
