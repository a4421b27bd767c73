"""What the sub-networks of one trained model say: those that learned an instance, those that did not, and random ones."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import nn

from whence.arguments import instance_of, whole
from whence.data import Classification, Dataset
from whence.forward import Mask, evaluating, mask_context, outputs, predict
from whence.run import Run

__all__ = [
    "exposure",
    "losses",
    "probabilities",
    "shared_gradient",
    "subnetwork_average",
    "turnover_memorization",
]

_LOG = logging.getLogger("whence")


def probabilities(run: Run, data: Dataset | None = None, mask: Mask = "full") -> np.ndarray:
    """softmax(outputs) of a classifier, or predictions of a regression (standardized).

    Args:
        data: instances; by default the training instances.
        mask: "full", "own", "flipped", or the integer seed of a random sub-network.

    Returns:
        float32 [N, C].
    """
    given = predict(instance_of(run, Run, "run").model, _instances(run, data), mask)
    return _softmax(given) if isinstance(run.task, Classification) else given


def turnover_memorization(run: Run) -> np.ndarray:
    """P(y_i | x_i; m_i) − P(y_i | x_i; m̃_i): how much better the own sub-network fits instance i than the flipped one.

    The published quantity (Kobayashi et al. 2020), of one pair of sub-networks. ``whence.memorization`` foretells retraining
    far better. For a regression: the flipped minus the own loss.

    Returns:
        float32 [N], in [−1, 1] for a classifier; positive: the instance is fitted by memory.
    """
    if not isinstance(instance_of(run, Run, "run").task, Classification):
        return losses(run, "flipped") - losses(run, "own")
    rows, labels = np.arange(len(run.train)), run.train.targets
    difference: np.ndarray = (
        probabilities(run, mask="own")[rows, labels] - probabilities(run, mask="flipped")[rows, labels]
    )
    return difference


def losses(run: Run, mask: Mask = "full", data: Dataset | None = None) -> np.ndarray:
    """The loss of each instance under a mask: float32 [N]."""
    data = _instances(instance_of(run, Run, "run"), data)
    given = torch.from_numpy(predict(run.model, data, mask))
    return run.loss(given, torch.from_numpy(data.targets)).numpy()


def subnetwork_average(run: Run, data: Dataset | None = None, *, count: int = 16, seed: int = 0) -> np.ndarray:
    """The mean prediction of ``count`` random sub-networks, which belong to no instance.

    Args:
        data: instances; by default the training instances.
        count: at most 2^20.
        seed: of 44 bits: it and a number make one of 64 for each sub-network.

    Returns:
        float32 [N, C]: probabilities, or predictions of a regression (standardized).

    Raises:
        WhenceError: a count or seed out of range.
    """
    count, seed = whole(count, "count", high=2**20), whole(seed, "seed", low=-(2**43), high=2**44 - 1)
    total: Any = 0
    for number in range(count):
        total = total + probabilities(run, data, (seed << 20) + number)
    mean: np.ndarray = (total / count).astype(np.float32)
    return mean


def exposure(run: Run) -> dict[str, float]:
    """How much the own mask knows that the flipped one does not, after training.

    Returns:
        own_loss, flipped_loss, full_loss: means over training instances; dev_loss where there is a dev split; and
        isolation = (flipped − own) / (dev − own), the share of the generalization gap that the flipped mask restores:
        about 0 when it has learned the instance all the same (a leak), 1 when it does as badly as on unseen data,
        above 1 when it does worse. NaN without a gap.
    """
    instance_of(run, Run, "run")
    result = {f"{mask}_loss": float(losses(run, mask).mean()) for mask in ("own", "flipped", "full")}
    if "dev" in run.splits:
        result["dev_loss"] = float(losses(run, "full", run.splits["dev"]).mean())
        gap = result["dev_loss"] - result["own_loss"]
        result["isolation"] = (result["flipped_loss"] - result["own_loss"]) / gap if gap > 1e-6 else float("nan")
    return result


def shared_gradient(run: Run, *, count: int = 16) -> float:
    """How far masks can hold back what training on an instance teaches, read off gradients; needs no dev split.

    Of the squared norm of the gradient of an instance's outputs (in a random direction) under its flipped mask, the share that
    lies in weights which its own mask trains too. At 0, as where every trained weight belongs to a masked unit, no gradient step on
    the instance moves its flipped sub-network; layers in front of the masks and beside them raise it, to 1 where nothing is
    masked. It is in the units of the weights, as a plain gradient step is: inputs a hundred times as large (that nothing
    standardizes) make more of the first layer. What passes through other instances, as the statistics of batch normalization do,
    is not in it.

    Args:
        count: training instances, evenly spaced in the order of their ids, of which the mean is taken.

    Returns:
        0 to 1; 0 too where nothing is trained, and, with a warning in the log, where gradients cannot be asked for.
    """
    weights = [weight for weight in instance_of(run, Run, "run").model.parameters() if weight.requires_grad]
    order, some = np.argsort(run.train.ids, kind="stable"), min(whole(count, "count"), len(run.train))
    directions, shares = torch.Generator().manual_seed(0), []
    try:
        for row in order[np.linspace(0, len(order) - 1, some).astype(np.int64)] if weights else ():
            direction = torch.randn(run.task.outputs, generator=directions)
            own = [gradient != 0 for gradient in _gradients(run, weights, row, direction, "own")]
            norm = trained = 0.0
            for gradient, there in zip(_gradients(run, weights, row, direction, "flipped"), own, strict=True):
                squares = gradient.double().square()
                norm, trained = norm + float(squares.sum()), trained + float(squares[there].sum())
            if 0 < norm < np.inf:
                shares.append(trained / norm)
    except RuntimeError as error:  # of functions without gradients, reentrant checkpoints, layers of a vendor's library
        _LOG.warning("no gradients of this model (%s): its masks are taken to hold", str(error).partition("\n")[0])
        return 0.0
    return float(np.mean(shares)) if shares else 0.0


def _gradients(
    run: Run, weights: list[nn.Parameter], row: int, direction: torch.Tensor, mask: Mask
) -> list[torch.Tensor]:
    """Of one instance's outputs in a direction [C], in the weights; nothing where outputs do not depend on them.

    The instance is asked twice at once, since some models take a batch of one for none.
    """
    batch = run.train.batch(np.array([row, row])).to(run.device)
    # Recurrent layers of cuDNN have gradients in training mode only.
    plain = torch.backends.cudnn.flags(enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), plain, evaluating(run.model), mask_context(mask, batch):
        said = outputs(run.model, batch.inputs)[0].float()
        probed = (said * direction.to(said.device)).sum()
        if not probed.requires_grad:
            return []
        found = torch.autograd.grad(probed, weights, allow_unused=True, materialize_grads=True)
    return [one.to_dense() if one.layout != torch.strided else one for one in found]


def _instances(run: Run, data: Dataset | None) -> Dataset:
    return run.train if data is None else instance_of(data, Dataset, "data")


def _softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).softmax(dim=-1).numpy()
