"""What dattri and quanda make of our scores is what we make of them. Skipped where they are not installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.evaluation.test_metrics import removals
from tests.evaluation.truths import planted
from whence import WhenceError
from whence.evaluation import dattri_arguments, lds, leave_one_out, mislabel_auc, quanda_arguments


@pytest.fixture
def noisy():
    effects, truth = planted(noise=1.0)
    return effects + np.random.default_rng(1).normal(size=effects.shape), truth


def test_the_shapes(noisy):
    matrix, truth = noisy
    scores, (values, rows) = dattri_arguments(matrix, truth)
    assert scores.shape == (30, 7) and values.shape == (40, 7) and rows.shape == (40, 15)
    np.testing.assert_allclose(scores.numpy()[rows[3].numpy()].sum(0), truth.members[3] @ matrix)
    given = quanda_arguments(matrix, truth)
    assert given.update["explanations"].shape == (7, 30)
    assert given.metric["subset_ids"][3] == rows[3].tolist()
    assert given.update["subset_logits"][3].shape == (7, 1)
    with pytest.raises(WhenceError, match="dattri has no metric for"):
        truth.settings["kind"] = "removal"
        dattri_arguments(matrix, truth)


@pytest.mark.filterwarnings("default")
def test_dattri_agrees(noisy):
    metric = pytest.importorskip("dattri.metric", reason="dattri is not installed", exc_type=ImportError)
    matrix, truth = noisy
    np.testing.assert_allclose(
        metric.lds(*dattri_arguments(matrix, truth))[0], lds(matrix, truth).per_target, rtol=1e-10
    )
    effects, removed = removals(noise=1.0)
    found = metric.loo_corr(*dattri_arguments(effects, removed))[0]
    np.testing.assert_allclose(found, leave_one_out(effects, removed).pearson, rtol=1e-10)
    suspicion, wrong = torch.rand(200, generator=torch.Generator().manual_seed(0)), torch.arange(200) % 7 == 0
    theirs, _ = metric.mislabel_detection_auc(suspicion + 0.3 * wrong, wrong)
    ours = mislabel_auc((suspicion + 0.3 * wrong).numpy(), wrong.numpy())
    assert float(theirs) == pytest.approx(ours.auc, abs=1e-5)


@pytest.mark.filterwarnings("default")
def test_quanda_agrees(noisy):
    truths = pytest.importorskip(
        "quanda.metrics.ground_truth",
        reason="quanda (with torchvision, which it imports) is not installed",
        exc_type=ImportError,
    )
    matrix, truth = noisy
    given = quanda_arguments(matrix, truth)
    data = torch.utils.data.TensorDataset(torch.zeros(30, 1))
    metric = truths.LinearDatamodelingMetric(nn.Linear(1, 1), data, **given.metric)
    metric.update(**given.update)
    assert metric.compute()["score"] == pytest.approx(lds(matrix, truth).value, abs=1e-5)
