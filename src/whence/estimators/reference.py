"""The oracle: influence as the paper writes it, one training instance and two forward passes at a time.

Kobayashi et al. 2020 (arXiv 2012.04207), equation 5: Î(z → x) = L(x; flipped mask of z) − L(x; mask of z).
Slow on purpose. Every fast estimator is tested against this page.
"""

from __future__ import annotations

import numpy as np
import torch

from whence.data import Dataset
from whence.dropout import flipped, own
from whence.forward import evaluating, outputs
from whence.quantities import Quantity
from whence.run import Run

__all__ = ["reference"]


def reference(run: Run, targets: Dataset, quantity: Quantity | None = None) -> np.ndarray:
    """Influence of every training instance (or group) on every target.

    Estimates Q(x; trained without z) − Q(x; trained with z) for a loss, and its negative for a metric of which more is
    better: positive means that z helps on x.

    Returns:
        float32 [N, M]: N distinct mask ids of the training instances in order of first appearance, M targets;
        in units of the quantity.
    """
    quantity = quantity or run.loss
    mask_ids = list(dict.fromkeys(run.train.mask_ids.tolist()))
    batch = targets.batch(np.arange(len(targets))).to(run.device)
    scores = np.empty((len(mask_ids), len(targets)), np.float32)
    with evaluating(run.model) as model, torch.no_grad():
        for row, z in enumerate(mask_ids):
            with own(z):
                learned = quantity(outputs(model, batch.inputs), batch.targets)  # (M,)
            with flipped(z):
                not_learned = quantity(outputs(model, batch.inputs), batch.targets)  # (M,)
            scores[row] = quantity.helps * (not_learned - learned).cpu().numpy()
    return scores
