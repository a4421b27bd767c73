"""The training loop: the same run whatever feeds it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.toys import assert_same_weights, blobs, network, trained, weights
from whence import WhenceError
from whence.training import _sample


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


def test_the_sample_depends_on_ids_alone():
    ids = np.random.default_rng(0).permutation(1000)
    chosen = set(ids[_sample(ids, 100)])
    order = np.random.default_rng(1).permutation(1000)
    assert set(ids[order][_sample(ids[order], 100)]) == chosen
    assert len(chosen) == 100


def test_results_are_those_of_the_weights_kept(tmp_path):
    run = trained(epochs=40, learning_rate=0.05, patience=2, n=60, widths=(6, 64, 3), schedule="constant")
    losses = [row["dev_loss"] for row in run.history]
    assert run.config["results"]["dev_loss"] == min(losses) < losses[-1]


@pytest.mark.parametrize(("capability", "slow"), [("AVX2", True), ("AVX512", False)])
def test_16_bits_on_a_processor_that_emulates_them_are_warned_of(monkeypatch, caplog, capability, slow):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    trained(epochs=1, autocast="bfloat16")
    assert ("no products of bfloat16" in caplog.text) == slow
    caplog.clear()
    trained(epochs=1)
    assert not caplog.text
