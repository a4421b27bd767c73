"""Runs and their directories: what opens, what is another run, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.toys import Stop, assert_same_weights, blobs, network, trained, weights
from whence import WhenceError


def test_directories(tmp_path):
    first = trained(out=tmp_path / "run", epochs=2)
    stamp = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    again = trained(out=tmp_path / "run", epochs=2)
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == stamp  # opened, not trained again
    assert_same_weights(weights(first), weights(again))
    assert again.history == first.history
    with pytest.raises(WhenceError, match="holds another run in .*got other epochs.*Give another directory"):
        trained(out=tmp_path / "run", epochs=3)
    with pytest.raises(WhenceError, match="other data or masks"):
        trained(out=tmp_path / "run", epochs=2, n=90)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(WhenceError, match="not a run"):
        trained(out=tmp_path / "mine", epochs=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(WhenceError, match="not a directory"):
        trained(out=tmp_path / "file", epochs=1)


def test_a_user_s_own_loop(tmp_path):
    """The README's loop: any module, any torch dataset that carries ids."""
    data = blobs(60)
    items = [(f"doc-{i}", torch.from_numpy(data.inputs.array[i]), int(data.targets[i])) for i in range(60)]
    model = network(6, 32, 3)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(5):
        for start in range(0, 60, 20):
            ids, x, y = zip(*items[start : start + 20], strict=True)
            with whence.own(ids):
                loss = nn.functional.cross_entropy(model(torch.stack(x)), torch.tensor(y))
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
    run = whence.Run(model.eval(), items, dev=blobs(40, seed=1, start=1000), out=tmp_path / "run")
    scores = whence.influence(run, "dev", method="turnover")
    assert scores.shape == (60, 40)
    assert scores.rows.names[3] == "doc-3"
    opened = whence.open_run(
        tmp_path / "run", model=network(6, 32, 3, seed=8), train=items, dev=blobs(40, seed=1, start=1000)
    )
    assert np.array_equal(whence.influence(opened, "dev", method="turnover"), scores)
    with pytest.raises(WhenceError, match="a model of your own"):
        whence.open_run(tmp_path / "run", train=items)
    with pytest.raises(WhenceError, match="data given from Python"):
        whence.open_run(tmp_path / "run", model=network(6, 32, 3))
    with pytest.raises(WhenceError, match="not those of the run"):
        whence.open_run(tmp_path / "run", model=network(6, 32, 3), train=items[:-1])
    with pytest.raises(WhenceError, match="no turn-over dropout"):
        whence.Run(nn.Linear(6, 3), items)


def test_outputs_must_fit():
    with pytest.raises(WhenceError, match=r"outputs do not fit the targets.*got shape \(2, 4\), expected \(2, 3\)"):
        whence.fit(network(6, 8, 4), blobs(20))
    with pytest.raises(WhenceError, match='not one number per instance.*reduction="none"'):
        whence.fit(network(6, 8, 3), blobs(20), loss=nn.functional.cross_entropy, epochs=1)


def test_another_loss_is_another_run(tmp_path):
    def smooth(outputs, targets):
        return nn.functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=0.3)

    whence.fit(network(6, 16, 3), blobs(60), epochs=1, out=tmp_path / "run", device="cpu", loss=smooth)
    with pytest.raises(WhenceError, match="holds another run"):
        whence.fit(network(6, 16, 3), blobs(60), epochs=1, out=tmp_path / "run", device="cpu")
    with pytest.raises(WhenceError, match="another loss than the run's.*got loss, expected smooth"):
        whence.open_run(tmp_path / "run", model=network(6, 16, 3), train=blobs(60))
    assert (
        whence.open_run(tmp_path / "run", model=network(6, 16, 3), train=blobs(60), loss=smooth).loss.name == "smooth"
    )


def test_another_architecture_is_another_run(tmp_path):
    def model(activation):
        torch.manual_seed(0)
        return whence.attach(nn.Sequential(nn.Linear(6, 16), activation, nn.Linear(16, 3)), "1")

    whence.fit(model(nn.ReLU()), blobs(60), epochs=1, out=tmp_path / "run", device="cpu")
    with pytest.raises(WhenceError, match="holds another run"):
        whence.fit(model(nn.Tanh()), blobs(60), epochs=1, out=tmp_path / "run", device="cpu")
    with pytest.raises(WhenceError, match="another model than the run's"):
        whence.open_run(tmp_path / "run", model=model(nn.Tanh()), train=blobs(60))


def test_masks_that_evaluation_skips_are_refused():
    class Skipping(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.drop, self.head = nn.Linear(6, 8), nn.Dropout(), nn.Linear(8, 3)

        def forward(self, x):
            h = self.inner(x)
            return self.head(self.drop(h) if self.training else h)

    with pytest.raises(WhenceError, match="not called in evaluation mode in the model: got drop"):
        whence.fit(whence.attach(Skipping()), blobs(20), epochs=1)


def test_a_killed_save_can_be_repeated(tmp_path, monkeypatch):
    model = network(6, 16, 3)
    with monkeypatch.context() as patch:
        patch.setattr(whence.rundir.RunDirectory, "write_config", lambda *a: (_ for _ in ()).throw(Stop()))
        with pytest.raises(Stop):
            whence.Run(model, blobs(20), out=tmp_path / "run")
    run = whence.Run(model, blobs(20), out=tmp_path / "run")
    assert run.directory.exists()


def test_wrapping_a_fitted_directory_keeps_its_description(tmp_path):
    run = trained(out=tmp_path / "run", epochs=1)
    before = run.directory.read_config()
    whence.Run(run.model, run.train, dev=run.splits["dev"], out=tmp_path / "run")
    after = run.directory.read_config()
    assert {name: after[name] for name in ("identity", "options", "results")} == {
        n: before[n] for n in ("identity", "options", "results")
    }


def test_a_run_in_place_of_another(tmp_path):
    """One's own model, trained again: its directory is refused, or replaced with all that was made from it."""

    def run(seed, **options):
        model = network(6, 32, 3, seed=seed)
        return whence.Run(model.eval(), blobs(60), dev=blobs(30, seed=1, start=1000), out=tmp_path / "run", **options)

    whence.audit(run(0))
    whence.report(run(0, replace=True))  # the same run: nothing is deleted
    assert (tmp_path / "run" / "audit.parquet").exists()
    with pytest.raises(WhenceError, match="holds another run in .*pass replace=True"):
        run(1)
    assert (tmp_path / "run" / "audit.parquet").exists()
    truth = (
        tmp_path / "run" / "truth" / "halves"
    )  # of data and recipe, so it stays; how a run's scores did by it does not
    truth.mkdir(parents=True)
    for name in ("truth.json", "evaluation.json"):
        (truth / name).write_text("{}")
    second = run(1, replace=True)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "instances.parquet", "model.safetensors", "run.json", "truth",
    ]  # fmt: skip
    assert [path.name for path in truth.iterdir()] == ["truth.json"]
    assert second.directory.read_config()["fingerprint"] == second.fingerprint()
    whence.influence(second, "dev")
