"""How far the scores of a run can be trusted: what leaked around the masks, and what mere chance scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import nn

from whence.data import Dataset
from whence.errors import WhenceError
from whence.estimators.derived import derived
from whence.estimators.dispatch import MASKED, choose
from whence.estimators.head import find_head
from whence.groups import GroupEffects
from whence.reporting.targets import score_name
from whence.run import Run
from whence.scores import NoiseFloor, Scores
from whence.subnetworks import exposure

__all__ = ["Trust", "assess"]

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_NUMBERS = 2**24  # most scores computed for the noise floor: 64 MiB


@dataclass(frozen=True)
class Trust:
    """What is known about the reliability of a run's scores.

    Attributes:
        own_loss, flipped_loss, full_loss: mean losses of training instances under these masks.
        dev_loss: mean loss of dev instances in the full network; None without a dev split.
        isolation: the share of the gap from own to dev loss that the flipped loss covers, or None.
        unit: of the losses.
        method: of the scores that are shown to the reader.
        floor_method: of the scores compared with masks never trained on: "turnover" or "first_order".
        floor: that comparison; None when it could not be made.
        targets: how many instances the comparison was made on, and ``target_set`` which.
        level: whether rows of the compared scores are an "instance" or a "group".
        rows: how many there are.
        groups: which groups help and harm on dev; None without groups or a dev split.
        untested: why the comparison could not be made.
        batch_norms: trained layers of batch normalization, whose statistics hold every instance, whatever its mask.
    """

    own_loss: float
    flipped_loss: float
    full_loss: float
    dev_loss: float | None
    isolation: float | None
    unit: str
    method: str
    floor_method: str
    floor: NoiseFloor | None
    targets: int
    target_set: str
    level: str
    rows: int
    groups: GroupEffects | None = None
    untested: str | None = None
    batch_norms: int = 0

    @property
    def has_null(self) -> bool:
        """Whether the method shown to the reader is itself one that can be compared with chance."""
        return self.method in MASKED


def assess(
    run: Run,
    scores: Scores | None = None,
    *,
    targets: Dataset | None = None,
    target_set: str = "given",
    method: str = "auto",
    groups: GroupEffects | None = None,
    progress: bool = False,
) -> Trust:
    """How far scores of a run can be trusted.

    Args:
        run: the trained run.
        scores: those shown to the reader; where they are turn-over scores, they are the ones tested.
        targets: instances on which published scores are compared with chance; by default those of the test
            split, else of dev, else of training. A modest number of them, evenly spaced, is used.
        target_set: how to call targets, or those of ``scores``, in words.
        method: of the shown scores, where ``scores`` is None.
        groups: what the audit says of them.
        progress: show a bar.
    """
    measured, untested = exposure(run), None
    if scores is not None:
        method = str(scores.info["method"])
    elif method == "auto":
        method = choose(run, run.loss)
    if scores is not None and scores.null is not None and scores.info.get("matrix", True):
        tested: Scores | None = scores
    else:
        if targets is None:
            target_set = next(name for name in ("test", "dev", "train") if name in run.splits)
            targets = run.splits[target_set]
        try:
            tested = _published(run, targets, method, progress)
        except WhenceError as error:  # a loss without a gradient, or masks that give scores that are not finite
            tested, untested = None, str(error)
    isolation = measured.get("isolation", math.nan)
    owners = run.train.groups
    return Trust(
        own_loss=measured["own_loss"],
        flipped_loss=measured["flipped_loss"],
        full_loss=measured["full_loss"],
        dev_loss=measured.get("dev_loss"),
        isolation=isolation if math.isfinite(isolation) else None,
        unit=run.loss.unit,
        method=method,
        floor_method="turnover" if tested is None else str(tested.info["method"]),
        floor=None if tested is None or tested.null is None else tested.noise_floor(),
        targets=0 if tested is None else tested.shape[1],
        target_set=target_set,
        level="instance" if owners is None else "group",
        rows=len(run.train) if owners is None else len(np.unique(owners)),
        groups=groups,
        untested=untested,
        batch_norms=sum(isinstance(m, _BATCH_NORMS) and m.track_running_stats for m in run.model.modules()),
    )


def _exact(run: Run) -> bool:
    """Whether exact turn-over scores are one product, or the only ones there are."""
    head = find_head(run.model, run.train)
    return (head is not None and head.only) or not run.loss.differentiable


def _published(run: Run, targets: Dataset, method: str, progress: bool) -> Scores:
    """Turn-over scores on a modest number of targets: exact where that is one product, else first-order."""
    most = int(np.clip(_NUMBERS // len(run.train), 8, 64))
    if len(targets) > most:
        targets = targets.select(np.linspace(0, len(targets) - 1, most).round().astype(np.int64))
    wanted = method if method in MASKED else "turnover" if _exact(run) else "first_order"
    name = score_name(run, targets, f"trust-{wanted}")
    return derived(run, targets, method=wanted, name=name, progress=progress)
