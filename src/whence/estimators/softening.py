"""How far to soften a network's confidence, chosen from the run itself.

In-sample residuals vanish with memorization, and with them every score. The flipped sub-networks show what the error
would be without memorization, so the temperature T is the one at which the full network's mean 1 − p(y_i | x_i) over
training instances, with p = softmax(logits / T), equals that of their flipped sub-networks.
"""

from __future__ import annotations

import numpy as np
import torch

from whence.data import Classification
from whence.errors import WhenceError
from whence.estimators.base import evenly
from whence.forward import predict
from whence.run import Run

__all__ = ["matched_temperature"]

_HIGHEST = 64.0
_SAMPLE = 512  # training instances that speak for all


def matched_temperature(run: Run, logits: torch.Tensor | None = None) -> float:
    """T of a classifier, between 1 (nothing to soften) and 64.

    Args:
        logits: of the full network for training instances, where they are known already.

    Raises:
        WhenceError: the run is a regression.
    """
    if not isinstance(run.task, Classification):
        raise WhenceError("softening is defined for classification", where="the run", got=run.task.kind)
    rows = evenly(len(run.train), _SAMPLE)
    some = run.train.select(rows)
    labels = torch.from_numpy(some.targets)
    wanted = _error(_behind(torch.from_numpy(predict(run.model, some, "flipped")), labels), 1.0)
    behind = _behind(torch.from_numpy(predict(run.model, some)) if logits is None else logits[rows], labels)
    low, high = 1.0, _HIGHEST
    if _error(behind, low) >= wanted:
        return low
    for _ in range(20):
        middle = float(np.sqrt(low * high))
        if _error(behind, middle) < wanted:
            low = middle
        else:
            high = middle
    return high


def _behind(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How far each class's logit is above the label's: [C, N], in which sums over classes are fast."""
    return (logits - logits.gather(1, labels[:, None])).T.contiguous()


def _error(behind: torch.Tensor, temperature: float) -> float:
    """Mean 1 − p(label) at a temperature."""
    return float(1 - (behind / temperature).exp_().sum(0).reciprocal_().double().mean())
