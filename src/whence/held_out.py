"""What a model would say of its training instances if it had not seen them, from one training run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whence.arguments import instance_of
from whence.data import Classification
from whence.estimators.random_features import are_pictures
from whence.estimators.reading import Reading
from whence.estimators.unseen import Accounts, accounts, accounts_of_pictures
from whence.quantities import loss_of
from whence.run import Run
from whence.subnetworks import probabilities

__all__ = ["HeldOut", "held_out", "out_of_sample"]

# Of leave-one-out ridge models in the mixture: they rank label errors better than the network does, and more so
# than they foretell retraining, for which kronecker gives them less (docs/label_errors.md).
_SHARE = 0.7


def out_of_sample(run: Run) -> np.ndarray:
    """For each training instance, what the model would say of it had it not been trained on it.

    Usable wherever cross-validated probabilities are asked for. Of a classifier trained with cross-entropy, a mixture of the full
    network, softened by the temperature that its flipped sub-networks call for, and of ridge regressions from which each
    instance is left out in closed form (``estimators/unseen.py``): of pictures, one on random convolutional features; of other
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
        pooled: float32 [N, C], the same accounts as a geometric mean, on which the model of label noise stands.
        unlearned: float32 [N, C], by a model whose features have learned nothing from labels: the regression on random features,
            or on what the first layer reads. No wrong label can have hidden itself in it. None where there is none.
    """

    probabilities: np.ndarray
    pooled: np.ndarray
    unlearned: np.ndarray | None


def held_out(run: Run) -> HeldOut:
    """As ``out_of_sample``, with what tells how many labels are wrong (``label_noise.py``)."""
    usual = run.loss.fingerprint(run.task) == loss_of(run.task).fingerprint(run.task)
    if usual and isinstance(run.task, Classification):
        if are_pictures(run.train):
            return _mixed(accounts_of_pictures(run))
        reading = Reading(run, averaged=True)
        if reading.views.layers:
            return _mixed(accounts(run, reading.features))
    flipped = probabilities(run, mask="flipped")
    return HeldOut(flipped, flipped, None)


def _mixed(said: Accounts) -> HeldOut:
    return HeldOut(said.mixed(_SHARE).numpy(), said.pooled(_SHARE).numpy(), said.ridge[0].numpy())
