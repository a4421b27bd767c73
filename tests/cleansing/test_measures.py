"""Measures as means over instances."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from whence.cleansing.measures import measures_of, per_instance, ranking_terms
from whence.data import Classification, Regression
from whence.data.tasks import LanguageModeling
from whence.quantities import loss_of


@pytest.mark.parametrize("decimals", [6, 1])  # with one, many scores are tied
def test_the_mean_of_its_terms_is_the_area_under_the_curve(decimals):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 200)
    scores = (generator.random((200, 4)) + np.eye(4)[labels]).round(decimals)
    areas = [roc_auc_score(labels == label, scores[:, label]) for label in range(4)]
    assert ranking_terms(scores, labels).mean() == pytest.approx(np.mean(areas), abs=1e-12)


def test_the_spread_of_its_terms_is_that_of_other_samples():
    generator, areas, foretold = np.random.default_rng(1), [], []
    for _ in range(400):
        labels = (generator.random(150) < 0.3).astype(int)
        scores = generator.normal(size=150) + labels
        terms = ranking_terms(np.stack([-scores, scores], axis=1), labels)
        areas.append(terms.mean())
        foretold.append(terms.std(ddof=1) / np.sqrt(150))
    assert np.mean(foretold) == pytest.approx(np.std(areas), rel=0.1)


def test_classes_of_few_instances_do_not_count():
    generator = np.random.default_rng(4)
    labels = np.array([0] * 60 + [1] * 40 + [2] * 9)
    scores = generator.random((109, 3))
    two = [roc_auc_score(labels == label, scores[:, label]) for label in (0, 1)]
    assert ranking_terms(scores, labels).mean() == pytest.approx(np.mean(two))
    assert np.isnan(ranking_terms(scores, np.arange(109) % 50)).all()


def test_classes_that_test_lacks_are_left_out():
    scores, labels = np.random.default_rng(2).random((50, 3)), np.arange(50) % 2
    two = [roc_auc_score(labels == label, scores[:, label]) for label in (0, 1)]
    assert ranking_terms(scores, labels).mean() == pytest.approx(np.mean(two))
    assert np.isnan(ranking_terms(scores, np.ones(50, int))).all()


@pytest.mark.parametrize("task", [Classification(("a", "b", "c")), Regression(), LanguageModeling()])
def test_every_task_has_its_measures(task):
    generator = torch.Generator().manual_seed(0)
    outputs = torch.rand(60, task.outputs, generator=generator) + 1
    aims = torch.arange(60) % 3 if isinstance(task, Classification) else torch.rand(60, generator=generator)
    loss = loss_of(task)
    found, known = per_instance(task, loss, outputs, aims), measures_of(task, loss)
    assert list(found) == [one.name for one in known]
    assert all(values.shape == (60,) and np.isfinite(values).all() for values in found.values())
    assert found["loss"] == pytest.approx(loss(outputs, aims).numpy())
