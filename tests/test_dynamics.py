"""What flipped sub-networks said while training lasted: kept by fit, by loops of one's own, through kills and in files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import whence
from tests.toys import blobs, network, trained
from whence import WhenceError
from whence.dynamics import FILE, Dynamics, epochs_to_look
from whence.quantities import loss_of
from whence.subnetworks import probabilities

CROSS_ENTROPY = loss_of(blobs(2).task)


@pytest.mark.parametrize(("epochs", "moments", "expected"), [
    (1, 3, []), (2, 3, [1]), (3, 3, [1, 2]), (3, 1, [2]), (4, 3, [1, 2, 3]), (20, 3, [5, 10, 15]), (20, 0, []), (60, 3, [15, 30, 45]),
    (15, 3, [4, 8, 11]), (5, 100, [1, 2, 3, 4]),
])  # fmt: skip
def test_moments_are_spread_over_training_and_the_end_is_none_of_them(epochs, moments, expected):
    assert sorted(epoch + 1 for epoch in epochs_to_look(blobs(9), CROSS_ENTROPY, epochs, moments)) == expected


def test_of_numbers_and_of_too_many_classes_nothing_is_kept(monkeypatch):
    inputs = blobs(40).inputs.gather(np.arange(40)).numpy()
    numbers = whence.fit(network(6, 16, 1), (np.arange(40), inputs, inputs[:, 0]), epochs=4, device="cpu")
    assert numbers.dynamics.moments == 0
    monkeypatch.setattr("whence.dynamics._MOST", 3 * 40 - 1)
    assert not epochs_to_look(blobs(40), CROSS_ENTROPY, 20, 3)
    monkeypatch.setattr("whence.dynamics._MOST", 3 * 40)
    assert epochs_to_look(blobs(40), CROSS_ENTROPY, 20, 3)


def test_fit_keeps_the_mean_of_what_flipped_sub_networks_said():
    options = {"learning_rate": 1e-2, "schedule": "constant", "device": "cpu", "batch_size": 16}
    # Epochs are alike whatever their number, so shorter trainings end where a longer one passes.
    run = whence.fit(network(6, 32, 3), blobs(60), epochs=8, **options)
    seen = [
        probabilities(whence.fit(network(6, 32, 3), blobs(60), epochs=epochs, dynamics=0, **options), mask="flipped")
        for epochs in (2, 4, 6, 8)
    ]
    assert run.dynamics.moments == 3
    np.testing.assert_allclose(run.dynamics.flipped, np.mean(seen[:3], axis=0), atol=1e-6)
    np.testing.assert_allclose(run.dynamics.and_end(torch.from_numpy(seen[3])), np.mean(seen, axis=0), atol=1e-6)
    never = whence.fit(network(6, 32, 3), blobs(60), epochs=8, dynamics=0, **options)
    for name, weight in run.model.state_dict().items():
        assert torch.equal(weight, never.model.state_dict()[name])  # to look changes nothing
    assert never.dynamics.moments == 0
    assert never.dynamics.and_end(torch.ones(2, 3)).sum() == 6


def test_a_loop_of_ones_own_looks_by_itself():
    data = blobs(60)
    options = {"learning_rate": 1e-2, "schedule": "constant", "device": "cpu", "batch_size": 16, "dynamics": 0}
    dynamics, last = Dynamics(), None
    for epochs in (2, 4, 6, 8):
        last = whence.fit(network(6, 32, 3), data, epochs=epochs, **options)
        if epochs < 8:
            dynamics.look(last.model, data)
    run = whence.Run(last.model, data, dynamics=dynamics)
    options["dynamics"] = 3
    fitted = whence.fit(network(6, 32, 3), data, epochs=8, **options)
    np.testing.assert_array_equal(whence.out_of_sample(run), whence.out_of_sample(fitted))
    assert np.abs(whence.out_of_sample(run) - whence.out_of_sample(whence.Run(last.model, data))).max() > 1e-3
    for others in (data.select(np.arange(50)), data.select(np.arange(60)[::-1]), blobs(60, start=60)):
        with pytest.raises(WhenceError, match="other data than before in Dynamics.look: got .* instances of other ids"):
            dynamics.look(last.model, others)
        with pytest.raises(WhenceError, match="dynamics of other data"):
            whence.Run(last.model, others, dynamics=dynamics)
    with pytest.raises(WhenceError, match="no turn-over dropout in the model in Dynamics.look"):
        Dynamics().look(torch.nn.Linear(6, 3), data)
    with pytest.raises(WhenceError, match="outputs do not fit the targets in Dynamics.look: got 5 outputs, expected 3"):
        Dynamics().look(network(6, 32, 5), data)
    assert dynamics.moments == run.dynamics.moments == 3
    dynamics.look(last.model, data)
    assert (dynamics.moments, run.dynamics.moments) == (4, 3)  # the run keeps what it was given
    inputs = data.inputs.gather(np.arange(60)).numpy()
    numbers = whence.Dataset.of((np.arange(60), inputs, inputs[:, 0]))
    with pytest.raises(WhenceError, match="something else than classes"):
        Dynamics().look(last.model, numbers)


def test_they_lie_in_the_run_and_go_with_it(tmp_path):
    run = trained(epochs=4, out=tmp_path / "run")
    kept = load_file(tmp_path / "run" / FILE)["flipped"]
    assert torch.equal(kept, run.dynamics.flipped)
    again = whence.open_run(tmp_path / "run", model=network(6, 32, 3, seed=5), train=run.train)
    assert again.dynamics.moments == 3
    np.testing.assert_array_equal(whence.out_of_sample(again), whence.out_of_sample(run))
    check = {check.what: check for check in whence.verify(tmp_path / "run", model=network(6, 32, 3), train=run.train)}[
        "dynamics"
    ]
    assert (check.state, check.detail) == ("ok", "predictions under flipped masks at 3 moments of training")
    # The same run again keeps them, another in its place does not inherit them.
    whence.Run(run.model, run.train, out=tmp_path / "run")
    assert (tmp_path / "run" / FILE).exists()
    other = whence.Run(network(6, 32, 3, seed=9), run.train, out=tmp_path / "run", replace=True)
    assert not (tmp_path / "run" / FILE).exists()
    assert other.dynamics.moments == 0


def test_a_training_that_goes_on_ends_with_the_same(tmp_path, monkeypatch):
    whole = trained(epochs=8, out=tmp_path / "whole")
    for stop in (3, 5, 7):
        look, seen = whence.training._Loop._judge, []

        def judge(self, epoch, look=look, seen=seen, stop=stop):
            look(self, epoch)
            seen.append(epoch)
            if len(seen) == stop:
                self._checkpoint()
                raise KeyboardInterrupt

        with monkeypatch.context() as context:
            context.setattr(whence.training._Loop, "_judge", judge)
            with pytest.raises(KeyboardInterrupt):
                trained(epochs=8, out=tmp_path / f"cut{stop}")
        resumed = trained(epochs=8, out=tmp_path / f"cut{stop}")
        assert torch.equal(resumed.dynamics.flipped, whole.dynamics.flipped)
        assert resumed.dynamics.moments == 3


@pytest.mark.parametrize(("change", "got"), [
    (lambda t, m: t.update(flipped=t["flipped"][:-1]), "float32 (119, 3)"),
    (lambda t, m: t.update(flipped=t["flipped"].double()), "float64"),
    (lambda t, m: t.pop("flipped") is None or t.update(other=torch.ones(1)), "moments 3 without predictions"),
    (lambda t, m: t["flipped"][3].fill_(torch.nan), "that are no probabilities"),
    (lambda t, m: t["flipped"].mul_(2), "that are no probabilities"),
    (lambda t, m: t["flipped"].sub_(0.5), "that are no probabilities"),
    (lambda t, m: m.update(moments="-1"), "moments -1"),
    (lambda t, m: m.update(moments="0"), "moments 0"),
    (lambda t, m: m.update(moments="²"), "moments -1"),
    (lambda t, m: m.update(moments="9" * 99), "moments -1"),
    (lambda t, m: m.update(fingerprint="0" * 32), "of another run, '000"),
])  # fmt: skip
def test_a_damaged_file_is_refused(tmp_path, change, got):
    run = trained(epochs=4, out=tmp_path / "run")
    tensors = load_file(tmp_path / "run" / FILE)
    about = {"moments": "3", "fingerprint": run.fingerprint()}
    change(tensors, about)
    save_file(tensors, tmp_path / "run" / FILE, metadata=about)
    opened = whence.open_run(tmp_path / "run", model=network(6, 32, 3), train=run.train)
    with pytest.raises(WhenceError) as refused:
        whence.audit(opened)
    assert "damaged file" in str(refused.value)
    assert got in str(refused.value)
    checks = {check.what: check for check in whence.verify(tmp_path / "run", model=network(6, 32, 3), train=run.train)}
    assert checks["dynamics"].state == "differs"


def test_early_stopping_keeps_what_was_seen_before_the_best_epoch(tmp_path, monkeypatch):
    options = {"epochs": 12, "patience": 4, "learning_rate": 0.02, "dynamics": 11}
    seen = []
    look = Dynamics.look
    monkeypatch.setattr(
        Dynamics, "look", lambda self, *given: (look(self, *given), seen.append(self.flipped.clone()))[0]
    )
    run = trained(**options, out=tmp_path / "run")
    best = int(run.config["results"]["epoch"])
    assert 1 < best < 12 and len(seen) >= best
    assert run.dynamics.moments == best - 1
    torch.testing.assert_close(run.dynamics.flipped, seen[best - 2])
    # Killed behind the best epoch, and gone on with.
    judge, done = whence.training._Loop._checkpoint, []

    def killed(self):
        judge(self)
        done.append(1)
        if len(done) == best + 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(whence.training._Loop, "_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(**options, out=tmp_path / "cut")
    resumed = trained(**options, out=tmp_path / "cut")
    assert resumed.dynamics.moments == best - 1
    assert torch.equal(resumed.dynamics.flipped, run.dynamics.flipped)


def test_files_of_other_runs_do_not_stay(tmp_path):
    run = trained(epochs=4, out=tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    other = whence.Run(network(6, 32, 3, seed=9), run.train, out=tmp_path / "run")
    assert not (tmp_path / "run" / FILE).exists()
    assert other.dynamics.moments == 0
    whence.audit(other)
    run = trained(epochs=4, out=tmp_path / "emptied")
    whence.Run(run.model, run.train, out=tmp_path / "emptied", dynamics=Dynamics())
    assert not (tmp_path / "emptied" / FILE).exists()
    # What an audit said without them is not what it says with them.
    run = trained(epochs=4, out=tmp_path / "audited")
    audit = tmp_path / "audited" / "audit.parquet"
    whence.audit(run)
    whence.Run(run.model, run.train, out=tmp_path / "audited")
    whence.Run(run.model, run.train, out=tmp_path / "audited", dynamics=run.dynamics)
    assert audit.exists()
    whence.Run(run.model, run.train, out=tmp_path / "audited", dynamics=Dynamics(1, run.dynamics.flipped))
    assert not audit.exists()
    # One that is opened does not take what was put in its place for its own.
    trained(epochs=4, out=tmp_path / "replaced")
    opened = whence.open_run(tmp_path / "replaced", model=network(6, 32, 3), train=run.train)
    whence.Run(network(6, 32, 3, seed=9), run.train, out=tmp_path / "replaced", replace=True)
    with pytest.raises(WhenceError, match="another run was put in the place of this one"):
        whence.out_of_sample(opened)


def test_how_often_it_looks_makes_no_other_run(tmp_path):
    first = trained(epochs=4, out=tmp_path / "run")
    again = trained(epochs=4, out=tmp_path / "run", dynamics=1)
    assert again.dynamics.moments == first.dynamics.moments == 3


@pytest.mark.parametrize(("change", "got"), [
    ({"dynamics": -1}, "moments -1"), ({"dynamics": 0}, "moments 0"), ({"dynamics": 10**40}, "moments 1000"), ({"dynamics": "2"}, "moments '2'"),
    ({"looks": None}, "moments 2 without predictions"), ({"looks": torch.ones(120, 3)}, "no probabilities"),
    ({"looks": torch.ones(7, 3) / 3}, "float32 (7, 3)"), ({"looks": torch.full((120, 3), torch.nan)}, "no probabilities"),
])  # fmt: skip
def test_tampered_checkpoints_are_refused(tmp_path, monkeypatch, change, got):
    saved = whence.training._Loop._checkpoint

    def killed(self):
        saved(self)
        if self.progress.dynamics.moments == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(whence.training._Loop, "_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(epochs=4, out=tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.safetensors"
    with safe_open(path, "pt") as file:
        tensors, about = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    state = json.loads(about["state"])
    for name, value in change.items():
        if name == "looks":
            tensors.pop("looks.dynamics")
            tensors |= {} if value is None else {"looks.dynamics": value}
        else:
            state[name] = value
    save_file(tensors, path, metadata=about | {"state": json.dumps(state)})
    with pytest.raises(WhenceError, match="damaged file") as refused:
        trained(epochs=4, out=tmp_path / "run")
    assert got in str(refused.value)


def test_predictions_that_are_not_finite_are_not_kept(caplog):
    model, data = network(6, 32, 3), blobs(30)
    with torch.no_grad():
        model[0].weight[:] = torch.inf
    dynamics = Dynamics()
    dynamics.look(model, data)
    assert dynamics.moments == 0 and dynamics.flipped is None
    assert "not finite" in caplog.text


@pytest.mark.parametrize("given", [
    Dynamics(1, torch.ones(120, 3)), Dynamics(0, torch.ones(120, 3) / 3), Dynamics(2), Dynamics("2", torch.ones(120, 3) / 3),
    Dynamics(1, np.ones((120, 3)) / 3), Dynamics(1, torch.ones(3, 120) / 3), Dynamics(1, torch.ones(120, 3).double() / 3),
])  # fmt: skip
def test_dynamics_made_by_hand_are_looked_through(given):
    with pytest.raises(WhenceError, match="dynamics of other data in dynamics"):
        whence.Run(network(6, 32, 3), blobs(120), dynamics=given)
