"""What a model would say of its training instances if it had not seen them, from one training run.

Two accounts of each instance are mixed. The ridge regressions of ``estimators/unseen.py`` leave it out in closed form. The
network's is the geometric mean of what two of its parts say, which are wrong in opposite directions: the full network, softened,
has learned the label; the flipped sub-network has not, but units of both kinds worked side by side on every other instance, and
what the instance's own units had learned by heart, its flipped units learned to make up for. The mean is brought to the
temperature at which labels are most likely. A sub-network that never learned an instance changes its mind about it while training
lasts, so where a run has training dynamics (``dynamics.py``), what flipped sub-networks say is the mean over these moments and the
end.

In kernel regression whose own sub-networks fit their labels this is exact. Let k_ij be the kernel of the full network and α the
dual coefficients. Masks of many units, drawn apart for each instance, at keep rate q, make turn-over dropout a ridge of
(1/q − 1)·k_ii, and

    full      f(x_i) = y_i − (1/q − 1)·k_ii·α_i
    flipped   f(x_i) = y_i − 1/q·k_ii·α_i
    left out  f(x_i) = y_i − (1/q − v_i)·k_ii·α_i,    0 ≤ v_i ≤ 1,

where v_i is the share of k_ii that the other instances explain: the left-out prediction is v_i·full + (1 − v_i)·flipped. A mean of
log-probabilities with weights of one half stands in for that; members of a group, who share a mask, are left out together.

How much the network counts beside the regressions is halfway between .3 and the share under which the given labels are most
likely, held against the regression that has learned from no label. Where flipped sub-networks misfit fewer labels than that
regression, the likely share is cut in that proportion: what they fit may be memory that leaked, or a network that is good, and
from training labels alone the two look the same.

All of that holds where masks do: where they are behind most of what is trained. Weights that all masks share learn labels by
heart too, and then the likeliest account is the one that remembers most. So with o, the share of a flipped gradient that lies in
such weights (``subnetworks.shared_gradient``), the network's account goes from the geometric mean (o = 0) to the softened full
network (o = 1), its temperature from the likely one to what it is, and in place of its own likely share counts that of flipped
sub-networks alone.
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
from whence.quantities import is_usual
from whence.run import Run
from whence.subnetworks import probabilities, shared_gradient

__all__ = ["HeldOut", "held_out", "out_of_sample"]

_SHARE = 0.3  # of the network in the mixture, before labels have been asked


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
        flipped: float32 [N, C], by flipped sub-networks when training ended.
        over_training: float32 [N, C], by flipped sub-networks, the mean over training where that is known and used.
        unlearned: float32 [N, C], by the regression on random features, or on what the first layer reads, which has learned nothing
            from labels unless layers before it are trained. None where there is none.
    """

    probabilities: np.ndarray
    pooled: np.ndarray
    flipped: np.ndarray
    over_training: np.ndarray
    unlearned: np.ndarray | None

    @property
    def witnesses(self) -> tuple[np.ndarray, ...]:
        """Of how many labels are wrong, and in which pattern (``label_noise.py``): both, or nobody."""
        return () if self.unlearned is None else (self.unlearned, self.over_training)


def held_out(run: Run) -> HeldOut:
    """As ``out_of_sample``, with what tells how many labels are wrong (``label_noise.py``)."""
    flipped = probabilities(run, mask="flipped")
    if is_usual(run.loss, run.task) and isinstance(run.task, Classification):
        if are_pictures(run.train):
            return _mixed(run, flipped, accounts_of_pictures(run))
        reading = Reading(run, averaged=True)
        if reading.views.layers:
            return _mixed(run, flipped, accounts(run, reading.features))
    return HeldOut(flipped, flipped, flipped, flipped, None)


def _mixed(run: Run, of_flipped: np.ndarray, said: Accounts) -> HeldOut:
    labels, shared = torch.from_numpy(run.train.targets), shared_gradient(run)
    flipped = run.dynamics.and_end(torch.from_numpy(of_flipped))
    between = ((1 - shared) * _log(flipped) + (1 + shared) * _log(said.network)) / 2
    network = (between / likely_temperature(between, labels) ** (1 - shared)).softmax(1)
    ridge = said.ridge.mean(0)
    share = _share(network, said.ridge[0], flipped, labels, shared)
    mixed = share * network + (1 - share) * ridge
    pooled = (share * _log(network) + (1 - share) * _log(ridge)).softmax(1)
    return HeldOut(mixed.numpy(), pooled.numpy(), of_flipped, flipped.numpy(), said.ridge[0].numpy())


def _share(
    network: torch.Tensor, regression: torch.Tensor, flipped: torch.Tensor, labels: torch.Tensor, shared: float
) -> float:
    """Of the network in the mixture, between .15 and .65.

    Args:
        shared: of a flipped gradient, in weights that own masks train too.
    """
    unfit, missed = (float((one.argmax(1) != labels).float().mean()) for one in (flipped, regression))
    likely, cautious = (_likely_share(one, regression, labels) for one in (network, flipped))
    return (_SHARE + ((1 - shared) * likely + shared * cautious) * min(unfit / max(missed, 1e-9), 1.0)) / 2


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
