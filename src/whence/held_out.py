"""What a model would say of its training instances if it had not seen them, from one training run."""

from __future__ import annotations

import numpy as np

from whence.data import Classification
from whence.estimators.reading import Reading
from whence.estimators.unseen import as_unseen
from whence.quantities import loss_of
from whence.run import Run
from whence.subnetworks import probabilities

__all__ = ["out_of_sample"]

# Of leave-one-out ridge models in the mixture: they rank label errors better than the network does, and more so
# than they foretell retraining, for which kronecker gives them less (docs/label_errors.md).
_SHARE = 0.7


def out_of_sample(run: Run) -> np.ndarray:
    """For each training instance, what the model would say of it had it not been trained on it.

    Usable wherever cross-validated probabilities are asked for. Of a classifier trained with cross-entropy, a mixture of the full
    network, softened by the temperature that its flipped sub-networks call for, and of two ridge regressions on what its
    layers read, from which each instance is left out in closed form (``estimators/unseen.py``). Of other losses and regressions,
    and of models without trained linear, convolutional or embedding-bag layers, what the flipped sub-network
    p(· | x_i; m̃_i) says, which is ``whence.subnetworks.probabilities(run, mask="flipped")``.

    In groups that share a mask, the instance alone is left out of the regressions, not its group.

    Returns:
        float32 [N, C], rows in the order of ``run.train``: probabilities, or predictions of a regression (standardized).
    """
    usual = run.loss.fingerprint(run.task) == loss_of(run.task).fingerprint(run.task)
    reading = Reading(run, averaged=True) if usual and isinstance(run.task, Classification) else None
    if reading is None or not reading.views.layers:
        return probabilities(run, mask="flipped")
    unseen, _ = as_unseen(run, run.train.select(np.arange(1)), reading.features, _SHARE)
    found: np.ndarray = unseen.softmax(1).numpy()
    return found
