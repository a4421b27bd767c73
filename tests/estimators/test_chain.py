"""Chains behind the first mask: where there is one, scores are the reference's; where there is none, it is not invented."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.toys import blobs, network
from whence.estimators import influence, reference
from whence.estimators.chain import find_chain


def layers(*widths, function=nn.ReLU, bias=True, dropout=()):
    """Linear layers with functions between; a dropout behind those whose numbers are given."""
    found = []
    for number, (before, after) in enumerate(zip(widths[:-1], widths[1:], strict=True), start=1):
        found.append(nn.Linear(before, after, bias=bias))
        if number < len(widths) - 1:
            found.append(function())
            found += [nn.Dropout()] if number in dropout else []
    return found


def run_of(model, train=None, targets=23):
    train = blobs(20) if train is None else train
    return whence.Run(model.eval(), train, test=blobs(targets, seed=2, start=500))


CHAINS = {
    "the authors' demo": lambda: whence.attach(nn.Sequential(*layers(6, 20, 16, 12, 3, bias=False, dropout=(1, 3)))),
    "all hidden layers": lambda: network(6, 20, 16, 12, 3, where=("1", "3", "5")),
    "two in a row": lambda: network(6, 20, 16, 12, 3, where=("3", "5")),
    "the first alone": lambda: network(6, 20, 16, 3, where=("1",)),
    "the input": lambda: whence.attach(nn.Sequential(nn.Dropout(), *layers(6, 20, 16, 3, function=nn.GELU))),
    "zero is not zero": lambda: whence.attach(
        nn.Sequential(*layers(6, 20, 16, 3, function=nn.Sigmoid, dropout=(1, 2)))
    ),
    "written in place": lambda: whence.attach(
        nn.Sequential(*layers(6, 20, 16, 3, function=lambda: nn.ReLU(inplace=True), dropout=(1, 2)))
    ),
    "bounded outputs": lambda: whence.attach(
        nn.Sequential(*layers(6, 20, 16, 3, dropout=(1,)), nn.Identity(), nn.Tanh())
    ),
    "behind convolutions": lambda: whence.attach(
        nn.Sequential(
            nn.Unflatten(1, (1, 2, 3)),
            nn.Conv2d(1, 8, 2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            *layers(16, 12, 9, 3, dropout=(1, 2)),
        )
    ),
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("keep", [0.5, 0.3])
def test_a_chain_gives_the_scores_of_the_reference(name, keep, monkeypatch):
    monkeypatch.setattr("whence.estimators.turnover._TARGETS_AT_ONCE", 10)
    monkeypatch.setattr("whence.estimators.turnover._MASKS_AT_ONCE", 7)
    torch.manual_seed(0)
    model = CHAINS[name]()
    for layer in whence.attached(model).values():
        layer.keep = keep
    run = run_of(model)
    assert find_chain(model, run.train) is not None
    expected = reference(run, run.splits["test"])
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(influence(run, "test", method="turnover"), expected, atol=2e-6)


class Shaped(nn.Module):
    """Two masks with something between or behind them that no chain is made of."""

    def __init__(self, trick):
        super().__init__()
        self.inner, self.middle, self.head = nn.Linear(6, 24), nn.Linear(24, 24), nn.Linear(24, 3)
        self.first, self.second, self.relu, self.trick = nn.Dropout(), nn.Dropout(), nn.ReLU(), trick
        if trick == "hook":
            self.middle.register_forward_hook(lambda module, inputs, output: output.clamp(-1, 1))

    def forward(self, x):
        a = self.first(self.relu(self.inner(x)))
        if self.trick == "mask, function":
            a = self.relu(a - 0.0)
        b = self.middle(a)
        if self.trick == "skip":
            b = b + a
        elif self.trick == "skip in place":
            b += a
        elif self.trick == "norm":
            b = torch.nn.functional.layer_norm(b, (24,))
        elif self.trick == "weights":
            b = b * self.head.weight.sum(0)
        c = self.second(b.relu() if self.trick == "function" else self.relu(b))
        if self.trick == "values":
            c = c if c.mean() > 0.2 else -c
        d = self.head(c)
        return d + self.head(b) if self.trick == "head twice" else d


@pytest.mark.parametrize(
    "trick",
    ["mask, function", "skip", "skip in place", "norm", "weights", "function", "values", "head twice", "hook", "relu"],
)
def test_what_is_no_chain_is_not_taken_for_one(trick):
    torch.manual_seed(0)
    run = run_of(whence.attach(Shaped(trick)))
    assert find_chain(run.model, run.train) is None  # "relu" too, whose module is called twice
    np.testing.assert_allclose(influence(run, "test", method="turnover"), reference(run, run.splits["test"]), atol=1e-5)


def test_only_what_is_kept_is_computed(monkeypatch):
    """A row of scores needs a quarter of the multiplications of two passes through layers between masks."""
    torch.manual_seed(0)
    run = run_of(network(6, 64, 64, 64, 3, where=("1", "3", "5")), targets=8)
    products = []
    original = torch.Tensor.__matmul__

    def counted(a, b):
        products.append(a.shape[0] * a.shape[1] * b.shape[1])
        return original(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", counted)
    influence(run, "test", method="turnover", null_masks=100)
    passes = 2 * (20 + 100) * 8 * (64 * 64 * 2 + 64 * 3)
    assert 0 < sum(products) < 0.3 * passes


def test_rounded_to_bfloat16_scores_are_close():
    torch.manual_seed(0)
    run = run_of(CHAINS["the authors' demo"]())
    exact = np.asarray(influence(run, "test", method="turnover"))
    rounded = np.asarray(influence(run, "test", method="turnover", precision="bfloat16"))
    assert 0 < (rounded - exact).std() < 0.05 * exact.std()
    with pytest.raises(whence.WhenceError, match=r"no such precision.*'half'.*float32 or bfloat16"):
        influence(run, "test", method="turnover", precision="half")


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("threads", [1, 2])
def test_all_units_of_many_masks_at_once(name, threads, monkeypatch):
    """What a processor with units for bfloat16 does, in float32, so that it can be told from rounding."""
    monkeypatch.setattr("whence.estimators.turnover.multiplies_fast", lambda dtype: True)
    monkeypatch.setattr("whence.estimators.turnover._MASKS_TOGETHER", 3)
    monkeypatch.setattr("whence.estimators.turnover._MASKS_AT_ONCE", 6)
    monkeypatch.setattr("whence.estimators.turnover._TARGETS_AT_ONCE", 16)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        run = run_of(CHAINS[name]())
        scores = influence(run, "test", method="turnover")
        np.testing.assert_allclose(scores, reference(run, run.splits["test"]), atol=2e-5)
    finally:
        torch.set_num_threads(before)


def test_layers_of_one_width_do_not_share_memory(monkeypatch):
    monkeypatch.setattr("whence.estimators.turnover.multiplies_fast", lambda dtype: True)
    run = run_of(network(6, 16, 16, 16, 16, 3, where=("1", "5")))
    np.testing.assert_allclose(influence(run, "test", method="turnover"), reference(run, run.splits["test"]), atol=2e-5)
