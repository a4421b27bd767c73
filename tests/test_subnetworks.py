"""Out-of-sample predictions, memorization and sub-network averages against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.utils.checkpoint

import whence
from tests.toys import blobs, network, trained
from whence import WhenceError
from whence.subnetworks import (
    exposure,
    losses,
    probabilities,
    shared_gradient,
    subnetwork_average,
    turnover_memorization,
)


@pytest.fixture(scope="module")
def run():
    return trained(epochs=30, n=150, widths=(6, 64, 3))


def plain(run, context, data=None):
    data = data or run.train
    rows = []
    with torch.no_grad():
        for i in range(len(data)):
            batch = data.batch(np.array([i]))
            with context(int(data.mask_ids[i])):
                rows.append(run.model.eval()(batch.inputs).softmax(1)[0])
    return torch.stack(rows).numpy()


def test_out_of_sample_is_the_flipped_prediction(run):
    expected = plain(run, whence.flipped)
    np.testing.assert_allclose(probabilities(run, mask="flipped"), expected, atol=1e-6)
    own = plain(run, whence.own)
    rows = np.arange(len(run.train))
    labels = run.train.targets
    np.testing.assert_allclose(turnover_memorization(run), own[rows, labels] - expected[rows, labels], atol=1e-6)
    np.testing.assert_allclose(losses(run, "flipped"), -np.log(expected[rows, labels]), rtol=1e-4, atol=1e-5)


def test_subnetwork_average(run):
    expected = np.mean([plain(run, lambda _, s=s: whence.random((3 << 20) + s)) for s in range(4)], axis=0)
    np.testing.assert_allclose(subnetwork_average(run, count=4, seed=3), expected, atol=1e-6)
    assert not np.allclose(subnetwork_average(run, count=4, seed=4), expected, atol=1e-4)
    with pytest.raises(WhenceError, match="out of range in count: got 0"):
        subnetwork_average(run, count=0)


def test_full_and_bad_masks(run):
    np.testing.assert_allclose(probabilities(run), plain(run, lambda _: whence.full()), atol=1e-6)
    with pytest.raises(WhenceError, match="unknown mask: got 'half'"):
        probabilities(run, mask="half")


def test_own_units_know_by_heart_what_flipped_units_do_not():
    """Ten random relabelings, trained to be known by heart: own units know them, flipped units do not."""
    data = blobs(150)
    wrong = np.arange(0, 150, 15)
    targets = data.targets.copy()
    targets[wrong] = (targets[wrong] + 1) % 3
    from dataclasses import replace

    noisy = replace(data, targets=targets)
    run = whence.fit(network(6, 512, 3), noisy, epochs=80, learning_rate=1e-2, device="cpu")
    memory = turnover_memorization(run)
    assert memory[wrong].mean() > 0.5
    assert memory[wrong].mean() > np.delete(memory, wrong).mean() + 0.3
    assert (memory >= -1).all()
    assert (memory <= 1).all()


def test_exposure_tells_leaks_from_isolation(run):
    isolated = exposure(run)
    assert isolated["own_loss"] < isolated["dev_loss"]
    assert isolated["isolation"] > 0.5
    # Masks on a layer that the trained part bypasses: the flipped network has learned everything too.
    torch.manual_seed(0)

    class Leaky(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.main = torch.nn.Sequential(torch.nn.Linear(6, 256), torch.nn.ReLU(), torch.nn.Linear(256, 3))
            self.drop = torch.nn.Dropout()

        def forward(self, x):
            return self.main(x) + 1e-4 * self.drop(x[:, :3])

    leaky = whence.fit(
        whence.attach(Leaky()),
        blobs(60),
        dev=blobs(60, seed=1, start=1000),
        epochs=100,
        learning_rate=1e-2,
        device="cpu",
    )
    assert abs(exposure(leaky)["isolation"]) < 0.1


def test_where_no_gradient_is_shared_no_step_on_an_instance_moves_its_flipped_sub_network():
    for keep in (0.5, 0.75):
        run = whence.Run(network(6, 64, 64, 3, where=("1", "3"), keep=keep, head_bias=False), blobs(20))
        batch = run.train.batch(np.array([7]))
        before = probabilities(run, mask="flipped")[7], probabilities(run, mask="own")[7]
        assert shared_gradient(run) == 0
        with whence.own(batch.mask_ids):
            run.loss(run.model(batch.inputs), batch.targets).sum().backward()
        torch.optim.SGD(run.model.parameters(), lr=0.5).step()
        np.testing.assert_array_equal(probabilities(run, mask="flipped")[7], before[0])
        assert np.abs(probabilities(run, mask="own")[7] - before[1]).max() > 0.1


@pytest.mark.parametrize("deep", [False, True])
def test_the_shared_gradient_is_that_of_layers_without_masks(deep):
    widths, where = ((6, 16, 64, 3), ("3",)) if deep else ((6, 64, 3), ("1",))
    model = network(*widths, where=where)
    shared = {"0.weight", "0.bias", "4.bias"} if deep else {"2.bias"}
    run = whence.Run(model, blobs(5))
    found = []
    for row in range(5):
        batch, parts = run.train.batch(np.array([row])), {}
        with whence.flipped(batch.mask_ids):
            for name, weight in model.named_parameters():
                jacobian = torch.stack(
                    [torch.autograd.grad(output, weight, retain_graph=True)[0] for output in model(batch.inputs)[0]]
                )
                parts[name] = float(jacobian.square().sum())
        found.append(sum(parts[name] for name in shared) / sum(parts.values()))
    # In one direction in place of all; a first layer has units that are silent under one mask and not under the other.
    assert shared_gradient(run) == pytest.approx(np.mean(found), rel=0.3)


def test_shared_gradients_at_the_ends(run):
    everything = network(6, 32, 3)
    for weight in everything.parameters():
        weight.requires_grad_(False)
    assert shared_gradient(whence.Run(everything, blobs(10))) == 0
    kept = {name: weight.clone() for name, weight in run.model.state_dict().items()}
    modes = [module.training for module in run.model.train().modules()]
    run.model.zero_grad()
    found = shared_gradient(run, count=3)
    assert 0 < found < 0.2
    assert found == shared_gradient(run, count=3)
    assert all(weight.grad is None for weight in run.model.parameters())
    assert all(torch.equal(kept[name], weight) for name, weight in run.model.state_dict().items())
    assert [module.training for module in run.model.modules()] == modes
    with pytest.raises(WhenceError, match="out of range in count: got 0"):
        shared_gradient(run, count=0)

    class Beside(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.drop = torch.nn.Linear(6, 3), torch.nn.Dropout()

        def forward(self, x):
            return self.main(x) + self.drop(x[:, :3])

    assert shared_gradient(whence.Run(whence.attach(Beside()), blobs(10))) == pytest.approx(1)


class Odd(torch.nn.Module):
    """Models whose gradients are no matter of course."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.drop = kind, torch.nn.Dropout()
        self.table = torch.nn.Embedding(50, 8, sparse=kind == "sparse")
        self.hidden, self.head = torch.nn.Linear(8, 16), torch.nn.Linear(16, 3)

    def forward(self, x):
        with torch.set_grad_enabled(torch.is_grad_enabled() and (self.training or self.kind != "training only")):
            read = self.table(x.long().abs() % 50).mean(1)
            if self.kind == "reentrant":
                return torch.utils.checkpoint.checkpoint(self.answer, read, use_reentrant=True)
            return self.answer(read)

    def answer(self, read):
        hidden = self.drop(torch.relu(self.hidden(read)))
        if self.kind == "not finite":
            hidden = hidden * (hidden.sum(1, keepdim=True) * 1e30).exp()
        if self.kind == "squeezed":
            hidden = hidden[:, :, None].squeeze()
        return self.head(hidden)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("kind", ["plain", "sparse", "reentrant", "training only", "not finite", "squeezed"])
def test_models_whose_gradients_cannot_be_asked_for_are_taken_at_their_word(kind, caplog):
    run = whence.Run(whence.attach(Odd(kind)), blobs(40))
    found = shared_gradient(run)
    if kind in ("plain", "sparse", "squeezed"):
        assert found == pytest.approx(shared_gradient(whence.Run(whence.attach(Odd("plain")), blobs(40))))
        assert 0.1 < found < 1
    elif kind in ("reentrant", "training only"):
        assert found == 0
        assert ("masks are taken to hold" in caplog.text) == (kind == "reentrant")
    assert 0 <= found <= 1
    if kind in ("plain", "sparse"):
        assert np.isfinite(whence.out_of_sample(run)).all()


def test_groups_share_predictions_of_their_mask():
    run = trained(groups=4, epochs=3)
    np.testing.assert_allclose(probabilities(run, mask="flipped"), plain(run, whence.flipped), atol=1e-6)
    assert len({tuple(run.layers["1"].bits(np.array([g]))[0]) for g in run.train.mask_ids}) == 4
