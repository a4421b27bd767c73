"""cleanlab is given what it expects: probabilities in its order of classes, instances in ours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import whence
from tests.toys import blobs, network
from whence import WhenceError
from whence.data import Classification

cleanlab = pytest.importorskip("cleanlab", reason="cleanlab is not installed (pip install 'whence[cleanlab]')")
handover = pytest.importorskip("whence.integrations.cleanlab")


@pytest.fixture(scope="module")
def noisy():
    """300 instances of three classes, whose names are not in the order of the classes, every fifteenth label wrong."""
    data = blobs(300, spread=3)
    wrong = np.arange(300) % 15 == 0
    targets = np.where(wrong, (data.targets + 1) % 3, data.targets)
    data = replace(data, targets=targets, task=Classification(("zebra", "ant", "mule")))
    return whence.fit(network(6, 64, 3), data, epochs=10, learning_rate=1e-2, device="cpu"), wrong


def test_label_issues(noisy):
    run, wrong = noisy
    found = handover.find_label_issues(run)
    assert found.dtype == bool and found.shape == (300,)
    assert wrong[found].mean() > 0.7 and found[wrong].mean() > 0.7
    ranked = handover.find_label_issues(run, return_indices_ranked_by="self_confidence")
    np.testing.assert_array_equal(np.sort(ranked), np.flatnonzero(found))


@pytest.mark.filterwarnings("ignore")  # its own, of pandas
def test_datalab(noisy):
    if not hasattr(cleanlab.Datalab, "get_issues"):
        pytest.skip("cleanlab was installed without datalab (pip install 'cleanlab[datalab]')")
    run, wrong = noisy
    lab = handover.datalab(run)
    issues = lab.get_issues("label")
    assert len(issues) == 300
    flagged = issues["is_label_issue"].to_numpy()
    assert wrong[flagged].mean() > 0.7 and flagged[wrong].mean() > 0.7
    suggested = issues["predicted_label"].to_numpy()[wrong & flagged]
    true = np.array(run.task.classes)[(run.train.targets[wrong & flagged] - 1) % 3]
    assert (suggested == true).mean() > 0.9


def test_numbers_have_no_classes():
    run = whence.fit(
        network(6, 8, 1), (np.arange(20), np.random.rand(20, 6), np.random.rand(20)), epochs=1, device="cpu"
    )
    for call in (handover.find_label_issues, handover.datalab):
        with pytest.raises(WhenceError, match="label issues of a run without classes"):
            call(run)
