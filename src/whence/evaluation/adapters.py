"""Our scores and ground truth in the shapes that the metrics of dattri and quanda take. Neither is imported here.

dattri.metric.lds(*dattri_arguments(scores, truth))             → (correlation [M], p-value [M])
dattri.metric.loo_corr(*dattri_arguments(scores, truth))        of a truth of kind "leave_one_out"
dattri.metric.mislabel_detection_auc(suspicion, wrong)          tensors [N]

given = quanda_arguments(scores, truth)
metric = quanda.metrics.ground_truth.LinearDatamodelingMetric(model, dataset, **given.metric)
metric.update(**given.update)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from whence.arguments import instance_of
from whence.errors import WhenceError
from whence.evaluation.ground_truth import GroundTruth
from whence.evaluation.matching import score_matrix
from whence.scores import Scores

__all__ = ["QuandaArguments", "dattri_arguments", "quanda_arguments"]

Truth = tuple[torch.Tensor, torch.Tensor]


def dattri_arguments(scores: Scores | Any, truth: GroundTruth, *, quantity: str = "loss") -> tuple[torch.Tensor, Truth]:
    """What ``dattri.metric.lds`` (random subsets) or ``loo_corr`` (leave-one-out) takes.

    Returns:
        Scores float64 [N, M] (of leave-one-out, only the L rows left out), and (values float64, rows int64): of random
        subsets the quantity, larger is better, [K, M] and the rows kept [K, S]; of leave-one-out how much worse the
        target is without the row, [L, M], and the rows [L].
    """
    instance_of(truth, GroundTruth, "truth")
    matrix, goodness = score_matrix(scores, truth), truth.goodness(quantity).mean(axis=1)
    if truth.kind == "random":
        kept = np.stack([np.flatnonzero(members) for members in truth.members])
        return _tensor(matrix), (_tensor(goodness), torch.from_numpy(kept))
    if truth.kind == "leave_one_out":
        rows = (~truth.members[1:]).argmax(axis=1)
        return _tensor(matrix[rows]), (_tensor(goodness[0] - goodness[1:]), torch.from_numpy(rows))
    raise WhenceError(
        "a ground truth that dattri has no metric for", got=truth.kind, expected="random or leave_one_out"
    )


@dataclass(frozen=True)
class QuandaArguments:
    """Keyword arguments of quanda's ``LinearDatamodelingMetric`` and of its ``update``."""

    metric: dict[str, Any]
    update: dict[str, Any]


def quanda_arguments(scores: Scores | Any, truth: GroundTruth, *, quantity: str = "loss") -> QuandaArguments:
    """What quanda's linear datamodeling metric takes: explanations float32 [M, N], and the subsets with their values.

    The values stand where it expects one logit per target, which it correlates as they are.
    """
    if instance_of(truth, GroundTruth, "truth").kind != "random":
        raise WhenceError("a ground truth that is not of random subsets", got=truth.kind)
    goodness = _tensor(truth.goodness(quantity).mean(axis=1)).float()
    count = len(goodness)
    return QuandaArguments(
        {"m": count, "subset_ids": [np.flatnonzero(kept).tolist() for kept in truth.members],
         "subset_ckpt_filenames": [""] * count},
        {"explanations": _tensor(score_matrix(scores, truth).T).float(), "test_data": torch.zeros(goodness.shape[1], 1),
         "test_targets": torch.zeros(goodness.shape[1], dtype=torch.int64),
         "subset_logits": {subset: goodness[subset][:, None] for subset in range(count)}},
    )  # fmt: skip


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
