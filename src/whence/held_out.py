"""What a model would say of its training instances if it had not seen them, from one training run.

Two accounts of each instance are mixed. The ridge regressions of ``estimators/unseen.py`` leave it out in closed form. The
network's is the geometric mean of what two of its parts say, which are wrong in opposite directions. The full network has learned
the label. The flipped sub-network has not, but units of both kinds worked side by side on every other instance: what the instance's
own units had learned by heart, its flipped units learned to make up for. In kernel regression with the kernel k_ij of the full
network, α its dual coefficients and keep rate q, turn-over dropout is a ridge of (1/q − 1)·k_ii, and

    full      f(x_i) = y_i − (1/q − 1)·k_ii·α_i
    flipped   f(x_i) = y_i − 1/q·k_ii·α_i
    left out  f(x_i) = y_i − (1/q − v_i)·k_ii·α_i,    0 ≤ v_i ≤ 1,

where v_i is how much of k_ii the other instances explain: the left-out prediction lies between the two.

How much the network is believed beside the regressions is halfway between .3 and the share under which the given labels are most
likely. That share is held against the regression whose features have learned from no label; and the closer the flipped
sub-networks come to fitting all labels, the less it counts, because what they fit may then be memory that leaked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from whence.arguments import instance_of
from whence.data import Classification
from whence.estimators.random_features import are_pictures
from whence.estimators.reading import Reading
from whence.estimators.unseen import Accounts, accounts, accounts_of_pictures, likely_temperature
from whence.quantities import loss_of
from whence.run import Run
from whence.subnetworks import probabilities

__all__ = ["HeldOut", "held_out", "out_of_sample"]

_SHARE = 0.3  # of the network in the mixture, as far as the data do not say


def out_of_sample(run: Run) -> np.ndarray:
    """For each training instance, what the model would say of it had it not been trained on it.

    Usable wherever cross-validated probabilities are asked for. Of a classifier trained with cross-entropy, a mixture of the
    network, between its flipped sub-networks and its softened full self, and of ridge regressions from which each
    instance is left out in closed form (``held_out.py``): of pictures, one on random convolutional features; of other
    inputs, two on what the network's layers read. Of other losses and regressions, and of models without trained linear,
    convolutional or embedding-bag layers, what the flipped sub-network p(· | x_i; m̃_i) says, which is
    ``whence.subnetworks.probabilities(run, mask="flipped")``.

    In groups that share a mask, the instance alone is left out of the regressions, not its group.

    Returns:
        float32 [N, C], rows in the order of ``run.train``: probabilities, or predictions of a regression (standardized).
    """
    return held_out(instance_of(run, Run, "run")).probabilities


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What is said of training instances by models that did not learn them.

    Attributes:
        probabilities: float32 [N, C], as ``out_of_sample`` returns them.
        pooled: float32 [N, C], the same accounts as a geometric mean, on which the model of label noise stands: a network that
            knows a label by heart cannot outvote a regression that is sure.
        witnesses: float32 [N, C] each, in which no label can have hidden itself: by a regression whose features have learned
            nothing from labels, and by flipped sub-networks. None where there is no such regression.
    """

    probabilities: np.ndarray
    pooled: np.ndarray
    witnesses: tuple[np.ndarray, ...]


def held_out(run: Run) -> HeldOut:
    """As ``out_of_sample``, with what tells how many labels are wrong (``label_noise.py``)."""
    usual = run.loss.fingerprint(run.task) == loss_of(run.task).fingerprint(run.task)
    if usual and isinstance(run.task, Classification):
        if are_pictures(run.train):
            return _mixed(run, accounts_of_pictures(run))
        reading = Reading(run, averaged=True)
        if reading.views.layers:
            return _mixed(run, accounts(run, reading.features))
    flipped = probabilities(run, mask="flipped")
    return HeldOut(flipped, flipped, ())


def _mixed(run: Run, said: Accounts) -> HeldOut:
    labels = torch.from_numpy(run.train.targets)
    flipped = torch.from_numpy(probabilities(run, mask="flipped"))
    between = (_log(flipped) + _log(said.network)) / 2
    network, ridge = (between / likely_temperature(between, labels)).softmax(1), said.ridge.mean(0)
    share = _share(network, said.ridge[0], flipped, labels)
    mixed = share * network + (1 - share) * ridge
    pooled = (share * _log(network) + (1 - share) * _log(ridge)).softmax(1)
    return HeldOut(mixed.numpy(), pooled.numpy(), (said.ridge[0].numpy(), flipped.numpy()))


def _share(network: torch.Tensor, regression: torch.Tensor, flipped: torch.Tensor, labels: torch.Tensor) -> float:
    """Of the network in the mixture, between .15 and .65."""
    unfit, missed = (float((one.argmax(1) != labels).float().mean()) for one in (flipped, regression))
    return (_SHARE + _likely_share(network, regression, labels) * min(unfit / max(missed, 1e-9), 1.0)) / 2


def _likely_share(first: torch.Tensor, second: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of the first [N, C] in a mixture of two under which labels are most likely."""
    one, other = (each.gather(1, labels[:, None])[:, 0].double().clamp_min(1e-12) for each in (first, second))
    low, high = 0.0, 1.0
    for _ in range(20):  # the likelihood is concave
        middle = (low + high) / 2
        rising = float(((one - other) / (middle * one + (1 - middle) * other)).sum()) > 0
        low, high = (middle, high) if rising else (low, middle)
    return (low + high) / 2


def _log(probabilities: torch.Tensor) -> torch.Tensor:
    return probabilities.clamp_min(1e-7).log()
