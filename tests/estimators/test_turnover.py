"""Turn-over influence on any architecture, against the plain reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import whence
from tests.toys import blobs, network, trained
from whence.estimators import influence, reference
from whence.estimators.head import find_head
from whence.quantities import Quantity, quantity_named


@pytest.mark.parametrize("path", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("quantity", ["loss", "accuracy", "probability", "margin"])
def test_turnover_equals_the_reference(run, path, quantity):
    targets = run.splits["test"]
    expected = reference(run, targets, quantity_named(quantity, run.task))
    scores = influence(run, targets, method="turnover", quantity=quantity, path=path)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert scores.shape == (120, 30)
    assert np.array_equal(scores.ids, run.train.ids)
    assert np.array_equal(scores.targets, targets.ids)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("groups", [None, 7])
@pytest.mark.parametrize("where", [["1"], ["1", "3"]])
def test_turnover_with_keep_rates_and_groups(keep, groups, where):
    run = trained(where=where, widths=(6, 16, 24, 3), keep=keep, groups=groups, epochs=2)
    scores = influence(run, "test", method="turnover")
    np.testing.assert_allclose(scores, reference(run, run.splits["test"]), atol=2e-5)
    assert scores.info["level"] == ("instance" if groups is None else "group")
    assert len(scores.ids) == (120 if groups is None else 7)


def test_turnover_when_the_head_alone_is_affine():
    """The affine path is taken exactly when one masked layer feeds the head directly."""
    cases = {
        ("3",): (True, "3"),
        ("1",): (False, None),
        ("1", "3"): (False, "3"),
    }
    for where, (only, masked) in cases.items():
        head = find_head(network(6, 8, 10, 3, where=where), blobs(4))
        assert (head.only, head.masked) == (only, masked)
    squashed = whence.attach(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3), nn.Tanh()), "1")
    assert find_head(squashed, blobs(4)) is None


def test_turnover_takes_any_function():
    run = trained(epochs=2)

    def brier(outputs, targets):
        return (outputs.softmax(1) - nn.functional.one_hot(targets, 3)).square().sum(1)

    expected = reference(run, run.splits["dev"], Quantity("brier", brier, "squared probability"))
    np.testing.assert_allclose(influence(run, "dev", method="turnover", quantity=brier), expected, atol=1e-5)


class Awkward(nn.Module):
    """Residual around the mask, in-place writes and control flow on values: nothing that vmap or splitting can assume away."""

    def __init__(self):
        super().__init__()
        self.embed, self.drop, self.mix, self.head = nn.Linear(6, 12), nn.Dropout(), nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x):
        hidden = self.embed(x).relu()
        hidden = hidden + self.drop(hidden)
        if hidden.sum().item() > -1:
            hidden = self.mix(hidden).relu_()
        return {"logits": self.head(hidden)}


class Attention(nn.Module):
    """A small transformer with keyword inputs and masks inside, its prefix free of masks."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(20, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm, self.drop, self.feed, self.head = nn.LayerNorm(16), nn.Dropout(), nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, ids, padding):
        x = self.tokens(ids)
        mixed, _ = self.attention(x, x, x, key_padding_mask=padding)
        x = self.norm(x + self.drop(mixed))
        x = x + self.drop(self.feed(x).relu())
        return self.head(x.mean(1))


def sentences(n, seed, start):
    generator = np.random.default_rng(seed)
    ids = generator.integers(0, 20, (n, 7))
    return [
        (start + i, {"ids": torch.from_numpy(ids[i]), "padding": torch.arange(7) > 4}, int(ids[i, 0] > 9))
        for i in range(n)
    ]


@pytest.mark.parametrize("kind", ["awkward", "attention", "conv"])
def test_any_architecture(kind):
    torch.manual_seed(0)
    if kind == "awkward":
        model, train, test = whence.attach(Awkward()), blobs(30), blobs(9, seed=2, start=500)
    elif kind == "attention":
        model, train, test = whence.attach(Attention()), sentences(30, 0, 0), sentences(9, 1, 100)
    else:
        model = whence.attach(
            nn.Sequential(
                nn.Unflatten(1, (1, 2, 3)),
                nn.Conv2d(1, 8, 2),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(16, 3),
            ),
            "3",
        )
        train, test = blobs(30), blobs(9, seed=2, start=500)
    run = whence.fit(model, train, test=test, epochs=2, device="cpu")
    expected = reference(run, run.splits["test"])
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(influence(run, "test", method="turnover"), expected, atol=1e-5)
    first = np.asarray(influence(run, "test", method="first_order", softened=False))
    assert np.mean([spearmanr(first[:, m], expected[:, m])[0] for m in range(9)]) > 0.8


def test_what_lies_before_the_mask_is_computed_once_per_block():
    run = trained(where=["3"], widths=(6, 16, 24, 3))
    calls = []
    hook = run.model[0].register_forward_hook(lambda module, inputs, output: calls.append(inputs[0].shape[0]))
    influence(run, "test", method="turnover", path="vmap", null_masks=100, block_rows=60)
    hook.remove()
    # 30 targets under two blocks of 60 masks and 100 null masks in two parts, own and flipped together; and some rows to
    # look at the network. The reference would make 440 passes.
    assert sum(calls) <= 3 * 3 + 4 * 30


class Tricky(nn.Module):
    """Looks like "masked features → head → output" by memory, and is not."""

    def __init__(self, trick):
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.drop, self.head, self.trick = nn.Linear(6, 24), nn.Dropout(), nn.Linear(24, 3), trick
        self.other = nn.Linear(24, 3)
        self.rectify = nn.ReLU(inplace=True)
        if trick == "hook":
            self.head.register_forward_hook(lambda module, inputs, output: output * 3)

    def forward(self, x):
        a = self.inner(x).relu()
        h = self.drop(a)
        if self.trick == "skip in place":
            h = h + 0.0
            h += a
        if self.trick == "tanh in place":
            h = (h * 1).tanh_()
        o = self.head(h)
        if self.trick == "temperature in place":
            o /= 3
        if self.trick == "added in place":
            o += self.other(a.square())
        if self.trick == "rectified in place":
            o = self.rectify(o)
        if self.trick == "features overwritten":
            h.mul_(0.5) if not torch.is_grad_enabled() else None
        if self.trick == "head twice":
            o = self.head(h.square())
        return o


@pytest.mark.parametrize(
    "trick",
    ["none", "skip in place", "tanh in place", "temperature in place", "added in place", "rectified in place", "hook", "head twice",
     "features overwritten"],
)  # fmt: skip
@pytest.mark.parametrize("keep", [0.5, 0.3])
def test_the_affine_path_is_not_fooled(trick, keep):
    run = whence.Run(whence.attach(Tricky(trick), keep=keep).eval(), blobs(20), test=blobs(9, seed=2, start=500))
    np.testing.assert_allclose(influence(run, "test", method="turnover"), reference(run, run.splits["test"]), atol=1e-5)
    if trick == "none":
        assert find_head(run.model, run.train).only
