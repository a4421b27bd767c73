"""Retrained truth against closed forms, through kills, processes and directories."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.evaluation.truths import centroids, features, ridge, scores_of, slow_centroids
from tests.toys import blobs, network, trained
from whence import WhenceError
from whence.data import Dataset, Regression
from whence.data.inputs import ArrayInputs
from whence.evaluation import brittleness, lds, leave_one_out, load_truth, retrain
from whence.evaluation.recipes import recipe_of
from whence.evaluation.subsets import training_seed
from whence.forward import predict


@pytest.fixture(scope="module")
def run():
    return trained(epochs=2)


def same(first, second):
    assert first.settings == second.settings
    np.testing.assert_array_equal(first.members, second.members)
    assert first.values.keys() == second.values.keys()
    for name in first.values:
        np.testing.assert_array_equal(first.values[name], second.values[name])
    np.testing.assert_array_equal(first.train_correct, second.train_correct)
    for axis in ("rows", "targets", "instances"):
        np.testing.assert_array_equal(getattr(first, axis).ids, getattr(second, axis).ids)
        assert getattr(first, axis).names == getattr(second, axis).names


def test_it_is_the_training_itself(run):
    truth = retrain(run, subsets=3, seeds=2)
    assert truth.members.shape == (3, 120) and (truth.members.sum(1) == 60).all()
    assert {name: values.shape for name, values in truth.values.items()} == dict.fromkeys(
        ("loss", "margin", "correct", "prediction"), (3, 2, 30)
    )
    seed = training_seed(0, 1)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))
    # Children are drawn anew from the last to the first.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model[2].reset_parameters()
        model[0].reset_parameters()
    whence.attach(model, ["1"], seed=seed)
    again = whence.fit(
        model, run.train.select(truth.members[2]), epochs=2, learning_rate=1e-2, batch_size=16, device="cpu", seed=seed
    )
    logits = torch.from_numpy(predict(again.model, run.dataset("test")))
    aims = torch.from_numpy(run.dataset("test").targets)
    np.testing.assert_allclose(
        truth.values["loss"][2, 1], nn.functional.cross_entropy(logits, aims, reduction="none"), rtol=1e-5
    )
    np.testing.assert_array_equal(truth.values["prediction"][2, 1], logits.argmax(1))
    right = predict(again.model, run.train).argmax(1) == run.train.targets
    np.testing.assert_array_equal(truth.train_correct[2, 1], right)
    assert (truth.values["loss"][:, 0] != truth.values["loss"][:, 1]).all(axis=1).any()


def test_a_prepared_model_keeps_its_scaling_and_draws_new_weights():
    data = blobs(80)
    model, data = whence.prepare(data, "mlp:16")
    run = whence.fit(model, data, test=blobs(20, seed=2, start=2000), epochs=1, device="cpu")
    truth = retrain(run, subsets=2, seeds=2, fraction=0.25)
    assert np.isfinite(truth.values["loss"]).all()
    first, other = (recipe_of(run).train(run.train.select(truth.members[0]), seed) for seed in (1, 2))
    for fresh in (first, other):
        torch.testing.assert_close(fresh.standardize.mean, run.model.standardize.mean)
    assert not torch.equal(first.head.weight, other.head.weight)
    assert next(iter(whence.attached(first).values())).seed == 1


def test_processes_do_not_matter(run, tmp_path):
    same(retrain(run, subsets=3, seeds=1, jobs=1), retrain(run, subsets=3, seeds=1, jobs=2, out=tmp_path / "truth"))


def test_threads_of_one_process_take_turns(run):
    """As where a cluster's worker has several threads: masks belong to the process."""
    with joblib.parallel_config(backend="threading", n_jobs=3):
        given = retrain(run, subsets=6, seeds=1)
    same(given, retrain(run, subsets=6, seeds=1))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [2, 4])
def test_a_cluster_of_dask_does_not_matter(run, workers, tmp_path):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        same(retrain(run, subsets=5, seeds=1, out=tmp_path / "truth"), retrain(run, subsets=5, seeds=1))
    same(load_truth(tmp_path / "truth"), retrain(run, subsets=5, seeds=1))


def test_an_error_in_another_process_arrives(run):
    with pytest.raises(WhenceError, match="a fit that gives no model") as caught:
        retrain(run, subsets=2, seeds=1, fit=lambda data, seed: 7, jobs=2)
    assert caught.value.where == "fit" and caught.value.got == "int"


def test_a_directory_keeps_extends_and_refuses(run, tmp_path):
    out = tmp_path / "truth"
    few = retrain(run, subsets=2, seeds=1, out=out)
    stamps = {path.name: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    more = retrain(run, subsets=4, seeds=2, out=out)
    same(more, load_truth(out))
    same(more, retrain(run, subsets=4, seeds=2))
    np.testing.assert_array_equal(few.values["loss"], more.values["loss"][:2, :1])
    assert all((out / name).stat().st_mtime_ns == stamp for name, stamp in stamps.items())
    for changed, what in (({"fraction": 0.4}, "fraction"), ({"seed": 1}, "seed"), ({"targets": "dev"}, "targets"),
                          ({"fit": centroids}, "recipe")):  # fmt: skip
        with pytest.raises(WhenceError, match=f"other data, another recipe or other subsets .*another {what}"):
            retrain(run, **{"subsets": 4, "seeds": 2, "out": out, **changed})
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WhenceError, match="not a directory in .*file"):
        retrain(run, "test", subsets=2, seeds=1, out=tmp_path / "file")
    with pytest.raises(WhenceError, match="a directory that holds no ground truth"):
        retrain(run, subsets=2, out=foreign)
    (out / "00003-1.safetensors").unlink()
    with pytest.raises(WhenceError, match="unfinished retrainings .* got 1 of 8 missing"):
        load_truth(out)
    (out / "00003-1.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WhenceError, match="a damaged file"):
        load_truth(out)
    same(more, load_truth(more.save(tmp_path / "saved")))


SCRIPT = """
import sys
from tests.toys import trained
from tests.evaluation.truths import slow_centroids
from whence.evaluation import retrain
retrain(trained(epochs=1), subsets=12, seeds=2, fit=slow_centroids, out=sys.argv[1])
"""


def test_a_killed_job_resumes_to_the_same_truth(tmp_path):
    out = tmp_path / "truth"
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "src")])
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(out)], env={**os.environ, "PYTHONPATH": paths})
    until = time.monotonic() + 120
    while len(list(out.glob("*.safetensors"))) < 3:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stamps = {path.name: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    assert 3 <= len(stamps) < 24
    with pytest.raises(WhenceError, match="unfinished retrainings"):
        load_truth(out)
    run = trained(epochs=1)
    resumed = retrain(run, subsets=12, seeds=2, fit=slow_centroids, out=out)
    assert all((out / name).stat().st_mtime_ns == stamp for name, stamp in stamps.items())
    whole = retrain(run, subsets=12, seeds=2, fit=slow_centroids)
    same(resumed, whole)


def regression(n, seed, start):
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(n, 4)).astype(np.float32)
    targets = (inputs @ [1.0, -2.0, 0.5, 0.0] + generator.normal(size=n)).astype(np.float32)
    return Dataset(start + np.arange(n), ArrayInputs(inputs), targets, Regression())


def test_leave_one_out_of_a_ridge_regression_is_its_closed_form():
    train, test = regression(25, 0, 0), regression(8, 1, 1000)
    run = whence.Run(network(4, 8, 1), train, test=test)
    truth = retrain(run, kind="leave_one_out", rows=train.ids[::-1], seeds=1, fit=ridge)
    assert truth.train_correct is None and set(truth.values) == {"loss"}
    x, y, z = features(train).numpy(), train.targets.astype(float), features(test).numpy()
    inverse = np.linalg.inv(x.T @ x + np.eye(4))
    w = inverse @ x.T @ y
    # Sherman–Morrison: without row i the weights move by −A⁻¹xᵢ eᵢ / (1 − hᵢ).
    leverage, errors = np.einsum("ij,jk,ik->i", x, inverse, x), y - x @ w
    without = w - (x @ inverse) * (errors / (1 - leverage))[:, None]
    effect = (without @ z.T - test.targets) ** 2 - (z @ w - test.targets) ** 2
    found = leave_one_out(effect, truth)
    np.testing.assert_array_equal(found.rows, np.arange(25)[::-1])
    np.testing.assert_allclose(found.effect, effect[::-1], atol=2e-5)
    np.testing.assert_allclose(found.pearson, 1, atol=1e-6)
    assert found.mean_pearson == pytest.approx(1, abs=1e-6)


def test_groups(tmp_path):
    run = trained(epochs=2, groups=6)
    truth = retrain(run, level="group", subsets=4, seeds=1, out=tmp_path / "truth")
    assert truth.members.shape == (4, 6) and (truth.members.sum(1) == 3).all()
    np.testing.assert_array_equal(truth.rows.ids[truth.owners], run.train.groups)
    np.testing.assert_array_equal(
        truth.instance_members()[1], np.isin(run.train.groups, truth.rows.ids[truth.members[1]])
    )
    np.testing.assert_array_equal(load_truth(tmp_path / "truth").owners, truth.owners)
    scores = whence.influence(run, "test", method="turnover")
    assert -1 <= float(lds(scores, truth)) <= 1
    kept = retrain(run, kind="leave_one_out", level="group", seeds=1)
    assert kept.members.sum(1).tolist() == [6, 5, 5, 5, 5, 5, 5]
    assert (kept.values["loss"][0] != kept.values["loss"][1]).any()


def test_true_effects_score_high_and_random_ones_do_not(run):
    """A model that is almost linear in its data: effects regressed on half of the subsets foretell the other half."""
    truth = retrain(run, subsets=300, seeds=1, fit=centroids, fraction=0.5)
    goodness = truth.goodness("margin")[:, 0]
    x = truth.members - 0.5
    effects = np.linalg.solve(
        x[:150].T @ x[:150] + 5 * np.eye(120), x[:150].T @ (goodness[:150] - goodness[:150].mean(0))
    )
    later = retrain(run, subsets=300, seeds=1, fit=centroids)
    later = type(later)(later.rows, later.targets, later.instances, later.owners, later.members[150:],
                        {n: v[150:] for n, v in later.values.items()}, None, {**later.settings, "subsets": 150})  # fmt: skip
    assert float(lds(effects, later, quantity="margin")) > 0.6
    assert abs(float(lds(np.random.default_rng(0).normal(size=effects.shape), later, quantity="margin"))) < 0.2


def test_a_prediction_that_rests_on_one_row_is_brittle():
    """A nearest-neighbor model: without its neighbor a target between two classes changes sides."""
    ids = np.arange(40)
    inputs = np.stack([np.linspace(-2, 2, 40), np.zeros(40)], 1).astype(np.float32)
    train = Dataset.of((ids, inputs, (np.arange(40) >= 20).astype(np.int64)))
    test = Dataset.of((900 + np.arange(2), inputs[[19, 3]] + np.float32([0.04, 0]), np.array([0, 0])), task=train.task)
    run = whence.Run(network(2, 8, 2), train, test=test)
    matrix = np.zeros((40, 2), np.float32)
    matrix[19, 0] = matrix[3, 1] = 1
    found = brittleness(run, scores_of(matrix, ids, test.ids), ks=(1,), seeds=2, controls=2, fit=nearest)
    assert found.helpful.tolist() == [[1.0, 0.0]]
    assert found.random.shape == (1, 2) and found.random[0, 1] == 0
    assert "without the most helpful 1 rows 50%" in found.summary()


class Nearest(nn.Module):
    def __init__(self, rows, labels):
        super().__init__()
        self.rows, self.labels = rows, labels

    def forward(self, x):
        return nn.functional.one_hot(self.labels[torch.cdist(x, self.rows).argmin(1)], 2).float()


def nearest(instances, seed):
    return Nearest(features(instances).float(), torch.from_numpy(instances.targets))


def test_mistakes(run):
    own = whence.Run(network(6, 8, 3), blobs(30), test=blobs(10, start=900))
    for call, message in (
        (lambda: retrain(own), "a run that was trained in a loop of your own"),
        (lambda: retrain(run, level="group"), "no groups in the training data"),
        (lambda: retrain(run, kind="leave_one_out"), "no rows to leave out"),
        (lambda: retrain(run, kind="jackknife"), "unknown kind"),
        (lambda: retrain(run, level="class"), "unknown level"),
        (lambda: retrain(run, kind="removal", rows=[[12]]), "no training row of that id"),
        (lambda: retrain(run, fraction=1.0), "out of range in fraction: got 1.0, expected a number between 0 and 1"),
        (lambda: retrain(run, subsets=1), "out of range in subsets: got 1, expected an integer from 2 to 1000000"),
        (lambda: retrain(run, seeds=0), "out of range in seeds: got 0"),
        (lambda: retrain(run, jobs=0), "out of range in jobs: got 0"),
        (lambda: retrain(run, subsets=2, seeds=1, fit=lambda data, seed: 7), "a fit that gives no model"),
        (
            lambda: retrain(run, subsets=2, seeds=1, fit=lambda data, seed: nn.Linear(6, 5)),
            "outputs do not fit the targets",
        ),
    ):
        with pytest.raises(WhenceError, match=message):
            call()


def test_weights_that_cannot_be_drawn_anew_are_refused():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.drop, self.head = nn.Parameter(torch.ones(6)), nn.Dropout(), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.drop(x * self.scale))

    run = whence.fit(Scaled(), blobs(30), test=blobs(10, start=900), epochs=1, device="cpu")
    with pytest.raises(WhenceError, match="weights that cannot be drawn anew .* no reset_parameters in module ''"):
        retrain(run)
