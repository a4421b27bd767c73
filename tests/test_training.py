"""The training loop: the same run whatever feeds it, and nothing lost when it is killed."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.toys import blobs, network, trained
from whence import WhenceError
from whence.training import _sample


def weights(run):
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def assert_same_weights(first, second, exact=True):
    for name, value in first.items():
        if exact:
            assert torch.equal(value, second[name]), name
        else:
            torch.testing.assert_close(value, second[name], rtol=1e-4, atol=1e-5)


def test_learns_and_follows_exposure():
    run = trained(epochs=20, n=300, widths=(6, 64, 3))
    last = run.history[-1]
    assert len(run.history) == 20
    assert last["dev_accuracy"] > 0.8
    assert last["own_loss"] < last["flipped_loss"]
    assert last["learning_rate"] == 0
    assert not run.model.training


def test_the_loop_is_the_plain_loop():
    """One epoch of fit equals the loop that a user would write."""
    data = blobs(50)
    run = whence.fit(network(6, 16, 3), data, epochs=1, batch_size=10, optimizer="sgd", learning_rate=0.1, schedule="constant",
                     weight_decay=0.0, device="cpu", seed=5)  # fmt: skip
    model = network(6, 16, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    from whence.schedule import derived

    order = torch.randperm(50, generator=torch.Generator().manual_seed(derived(5, 0, 0))).numpy()
    for start in range(0, 50, 10):
        batch = data.batch(order[start : start + 10])
        optimizer.zero_grad()
        with whence.own(batch.mask_ids):
            nn.functional.cross_entropy(model(batch.inputs), batch.targets).backward()
        optimizer.step()
    assert_same_weights(weights(run), model.state_dict(), exact=False)


def test_same_seed_same_run_other_seed_another():
    first, second, third = trained(seed=1), trained(seed=1), trained(seed=2)
    assert_same_weights(weights(first), weights(second))
    assert not torch.equal(weights(first)["0.weight"], weights(third)["0.weight"])


def test_workers_change_nothing():
    assert_same_weights(weights(trained(epochs=2)), weights(trained(epochs=2, workers=2)))


def test_accumulation_equals_large_batches():
    options = {"epochs": 2, "optimizer": "sgd", "learning_rate": 0.05}
    assert_same_weights(
        weights(trained(batch_size=32, **options)), weights(trained(batch_size=8, accumulate=4, **options)), exact=False
    )


def test_torch_rng_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    trained(epochs=1, widths=(6, 8, 3))  # the toy seeds the generator itself, so compare around fit only
    model = network(6, 8, 3)
    torch.manual_seed(3)
    whence.fit(model, blobs(20), epochs=1, device="cpu")
    assert torch.equal(torch.rand(2), expected)


def test_early_stopping_keeps_the_best_epoch():
    run = trained(epochs=60, learning_rate=0.05, patience=3, n=60, widths=(6, 64, 3), schedule="constant")
    losses = [row["dev_loss"] for row in run.history]
    assert len(losses) < 60
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3
    from whence.subnetworks import losses as loss_of

    assert loss_of(run, "full", run.splits["dev"]).mean() == pytest.approx(losses[best], rel=1e-5)
    with pytest.raises(WhenceError, match="early stopping without dev"):
        whence.fit(network(6, 8, 3), blobs(20), patience=2)


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop_at", [0, 1, 7, 8, 23])
def test_resumed_runs_are_identical(tmp_path, stop_at, monkeypatch):
    """Stopped at any step, with checkpoints at every step, resume gives the undisturbed run bit for bit."""
    options = {"epochs": 4, "patience": 4, "checkpoint_seconds": 0, "n": 120}
    whole = trained(out=tmp_path / "whole", **options)
    from whence.training import _Loop

    step = _Loop._step

    def stopping(self, batches):
        if self.progress.step == stop_at:
            raise Stop
        return step(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(_Loop, "_step", stopping)
        with pytest.raises(Stop):
            trained(out=tmp_path / "stopped", **options)
    resumed = trained(out=tmp_path / "stopped", **options)
    assert_same_weights(weights(whole), weights(resumed))
    assert [row["dev_loss"] for row in whole.history] == [row["dev_loss"] for row in resumed.history]
    assert (tmp_path / "stopped" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()


def test_ordinary_dropout_beside_ours_resumes_too(tmp_path, monkeypatch):
    def run(out):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3)
        )
        return whence.fit(
            whence.attach(model, "4"), blobs(60), epochs=3, batch_size=20, checkpoint_seconds=0, device="cpu", out=out
        )

    whole = run(tmp_path / "whole")
    from whence.training import _Loop

    step = _Loop._step
    with monkeypatch.context() as patch:
        patch.setattr(
            _Loop, "_step", lambda self, b: (_ for _ in ()).throw(Stop()) if self.progress.step == 5 else step(self, b)
        )
        with pytest.raises(Stop):
            run(tmp_path / "stopped")
    torch.manual_seed(77)
    assert_same_weights(weights(whole), weights(run(tmp_path / "stopped")))


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from tests.toys import trained
trained(out=sys.argv[1], epochs=30, n=400, checkpoint_seconds=0.0, batch_size=8)
"""


def test_killed_processes_resume(tmp_path):
    """kill -9 again and again; the run that is left equals one that nobody disturbed."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(root=str(Path(__file__).parents[1])))
    command = [sys.executable, str(script), str(tmp_path / "killed")]
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
    for _ in range(3):
        process = subprocess.Popen(command)
        seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == seen):
            time.sleep(0.01)
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True)
    whole = trained(out=tmp_path / "whole", epochs=30, n=400, checkpoint_seconds=0.0, batch_size=8)
    again = whence.open_run(tmp_path / "killed", model=network(6, 32, 3), train=blobs(400))
    assert_same_weights(weights(whole), weights(again))
    assert not checkpoint.exists()


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "out of range in epochs: got 0, expected at least 1"),
        ({"epochs": 1.5}, "wrong type in epochs"),
        ({"learning_rate": float("nan")}, "wrong type in learning_rate"),
        ({"optimizer": "adamx"}, "does not exist in optimizer: got 'adamx', expected adamw or sgd"),
        ({"lr": 0.1}, "unknown option in fit: got 'lr'"),
        ({"device": "nonsense"}, "no such device"),
        ({"learning_rate": 1e30}, "the loss is not finite in training step"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(WhenceError, match=message):
        trained(**options)


def test_outputs_must_fit():
    with pytest.raises(WhenceError, match=r"outputs do not fit the targets.*got shape \(2, 4\), expected \(2, 3\)"):
        whence.fit(network(6, 8, 4), blobs(20))
    with pytest.raises(WhenceError, match='not one number per instance.*reduction="none"'):
        whence.fit(network(6, 8, 3), blobs(20), loss=nn.functional.cross_entropy, epochs=1)


def test_the_sample_depends_on_ids_alone():
    ids = np.random.default_rng(0).permutation(1000)
    chosen = set(ids[_sample(ids, 100)])
    order = np.random.default_rng(1).permutation(1000)
    assert set(ids[order][_sample(ids[order], 100)]) == chosen
    assert len(chosen) == 100


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


@pytest.mark.parametrize("finished", [False, True])
def test_other_frozen_parameters_are_another_run(tmp_path, monkeypatch, finished):
    """A checkpoint goes on, and a finished run opens, only with the parameters that it trained."""

    def run(*layers):
        model = network(6, 8, 7, 3)
        for layer in layers:
            model[layer].requires_grad_(False)
        return whence.fit(
            model, blobs(60), epochs=2, batch_size=10, checkpoint_seconds=0, device="cpu", out=tmp_path / "run"
        )

    from whence.training import _Loop

    step = _Loop._step
    with monkeypatch.context() as patch:
        if not finished:
            patch.setattr(
                _Loop,
                "_step",
                lambda self, b: (_ for _ in ()).throw(Stop()) if self.progress.step == 8 else step(self, b),
            )
        with contextlib.nullcontext() if finished else pytest.raises(Stop):
            run(0)
    told = (tmp_path / "run" / "run.json").read_bytes()
    for layers, named in (((), "0.bias and 1 more"), ((2,), "0.bias and 3 more"), ((0, 4), "4.bias and 1 more")):
        with pytest.raises(WhenceError) as caught:
            run(*layers)
        assert f"the directory holds another run in {tmp_path / 'run'}: got other frozen parameters ({named})" in str(
            caught.value
        )
    assert (tmp_path / "run" / "run.json").read_bytes() == told
    again = run(0)
    assert [parameter.requires_grad for parameter in again.model.parameters()] == [False, False, True, True, True, True]
    assert len(again.history) == 2


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


class Augmented(torch.utils.data.Dataset):
    """Items that are drawn anew each time they are asked for."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return (
            int(self.data.ids[i]),
            torch.from_numpy(self.data.inputs.array[i]) + 0.1 * torch.randn(6),
            int(self.data.targets[i]),
        )


def test_random_augmentation(tmp_path, monkeypatch):
    """Ids keep their masks, scores keep their fingerprint, and a resumed run draws what it would have drawn."""
    options = {"epochs": 3, "batch_size": 10, "checkpoint_seconds": 0, "device": "cpu"}
    whole = whence.fit(network(6, 16, 3), Augmented(blobs(40)), out=tmp_path / "whole", **options)
    from whence.training import _Loop

    step = _Loop._step
    with monkeypatch.context() as patch:
        patch.setattr(
            _Loop, "_step", lambda self, b: (_ for _ in ()).throw(Stop()) if self.progress.step == 6 else step(self, b)
        )
        with pytest.raises(Stop):
            whence.fit(network(6, 16, 3), Augmented(blobs(40)), out=tmp_path / "stopped", **options)
    torch.manual_seed(5)
    again = whence.fit(network(6, 16, 3), Augmented(blobs(40)), out=tmp_path / "stopped", workers=1, **options)
    assert_same_weights(weights(whole), weights(again))
    for _ in range(2):
        whence.influence(again, blobs(10, seed=3, start=900), method="turnover")


def test_results_are_those_of_the_weights_kept(tmp_path):
    run = trained(epochs=40, learning_rate=0.05, patience=2, n=60, widths=(6, 64, 3), schedule="constant")
    losses = [row["dev_loss"] for row in run.history]
    assert run.config["results"]["dev_loss"] == min(losses) < losses[-1]


def test_targets_are_labels():
    data = blobs(20)
    for bad in (-1, 7):
        targets = data.targets.copy()
        targets[4] = bad
        with pytest.raises(WhenceError, match="a target that is no label in row 4"):
            whence.Dataset.of((data.ids, data.inputs.array, targets), task=data.task)


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
    second = run(1, replace=True)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "instances.parquet", "model.safetensors", "run.json",
    ]  # fmt: skip
    assert second.directory.read_config()["fingerprint"] == second.fingerprint()
    whence.influence(second, "dev")


def test_items_without_their_keys():
    item = {"id": 1, "inputs": torch.zeros(6), "target": 0}
    assert len(whence.Dataset.of([item, {**item, "id": 2, "target": 1}])) == 2
    with pytest.raises(
        WhenceError,
        match="a key that is needed in item 0 of the dataset: got keys id, x, label, expected also inputs, target",
    ):
        whence.Dataset.of([{"id": 1, "x": 2, "label": 3}])
    with pytest.raises(WhenceError, match="in item 1 of the dataset: got keys inputs, target, expected also id"):
        whence.Dataset.of([item, {"inputs": 1, "target": 0}])
