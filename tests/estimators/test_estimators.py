"""Every estimator against the plain reference, and against closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import whence
from tests.toys import blobs, network, trained
from whence import WhenceError
from whence.data import Dataset, Regression
from whence.estimators import influence, reference
from whence.estimators.dispatch import choose
from whence.estimators.head import find_head
from whence.estimators.softening import matched_temperature
from whence.quantities import QUANTITIES, Quantity, quantity_named
from whence.subnetworks import probabilities

ARCHITECTURES = {
    "last layer masked": {"where": ["3"], "widths": (6, 16, 24, 3)},
    "first layer masked": {"where": ["1"], "widths": (6, 24, 16, 3)},
    "both masked": {"where": ["1", "3"], "widths": (6, 16, 24, 3)},
}


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=str)
def run(request):
    return trained(**ARCHITECTURES[request.param])


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


def test_first_order_is_exact_where_the_quantity_is_linear_in_the_mask():
    run = trained(where=["3"], widths=(6, 16, 24, 3), keep=0.3)

    def first_logit(outputs, targets):
        return outputs[:, 0]

    targets = run.splits["test"]
    expected = reference(run, targets, Quantity("logit", first_logit, "logits"))
    np.testing.assert_allclose(
        influence(run, targets, method="first_order", quantity=first_logit, softened=False), expected, atol=1e-4
    )


def test_first_order_ranks_as_the_reference(run):
    expected = reference(run, run.splits["test"])
    scores = np.asarray(influence(run, "test", method="first_order", softened=False))
    assert np.mean([spearmanr(scores[:, m], expected[:, m])[0] for m in range(30)]) > 0.9


def test_first_order_is_a_central_difference():
    """At keep ½ its error is of third order in the masked layer's share: halving that share divides it by eight."""

    class Scaled(nn.Module):
        def __init__(self, share):
            super().__init__()
            self.inner, self.drop, self.head, self.share = nn.Linear(6, 32), nn.Dropout(), nn.Linear(32, 3), share

        def forward(self, x):
            hidden = self.inner(x).tanh()
            return self.head(hidden + self.share * (self.drop(hidden) - hidden))

    errors = []
    for share in (0.2, 0.1, 0.05):
        torch.manual_seed(0)
        run = whence.Run(
            whence.attach(Scaled(share).double()), as_double(blobs(40)), test=as_double(blobs(9, seed=2, start=500))
        )
        gap = np.asarray(influence(run, "test", method="first_order", softened=False)) - reference(
            run, run.splits["test"]
        )
        errors.append(np.abs(gap).max())
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.4)


def test_softened_first_order_sees_that_a_corrupted_group_harms():
    """A network that is too sure gains from any unit that makes it less so, and those are the corrupted group's."""
    places = {True: [], False: []}
    for seed in range(4):
        data = blobs(600, groups=10, spread=0.7)
        targets = np.where(data.groups == data.groups[3], (data.targets + 1) % 3, data.targets)
        model = network(6, 128, 3, seed=seed)
        run = whence.fit(model, replace(data, targets=targets), test=blobs(200, seed=1, start=5000, spread=0.7), seed=seed,
                         epochs=40, learning_rate=1e-2, batch_size=16, device="cpu")  # fmt: skip
        for softened, found in places.items():
            effects = influence(run, "test", method="first_order", softened=softened).mean_over_targets()
            found.append(int((effects < effects[3]).sum()))
    assert places[True] == [0, 0, 0, 0]
    assert np.mean(places[False]) > 2


class DoubleInputs:
    def __init__(self, array):
        self.array = array

    def __len__(self):
        return len(self.array)

    def gather(self, rows):
        return torch.from_numpy(self.array[rows])

    def select(self, rows):
        return DoubleInputs(self.array[rows])

    def chunks(self):
        yield self.array.tobytes()


def as_double(data):
    return Dataset(data.ids, DoubleInputs(data.inputs.array.astype(np.float64)), data.targets, data.task)


def ridge(x, y, damping):
    """Least squares with the kernel's ridge: (XᵀX/n + λ mean diag I) w = Xᵀy/n."""
    moment = x.T @ x / len(x)
    return moment, np.linalg.solve(
        moment + damping * np.trace(moment) / len(moment) * np.eye(len(moment)), x.T @ y / len(x)
    )


def test_kernel_is_leave_one_out_for_least_squares():
    """A linear model with squared loss, refitted without each point: the kernel gives its first order."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 5)).astype(np.float32)
    y = (x @ generator.normal(size=5) + generator.normal(size=200)).astype(np.float32)
    test_x, test_y = generator.normal(size=(20, 5)).astype(np.float32), generator.normal(size=20).astype(np.float32)

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.head = nn.Dropout(), nn.Linear(5, 1)

        def forward(self, x):
            return self.head(self.drop(x))

    model, damping = whence.attach(Linear()), 1e-6
    with_one = np.c_[x, np.ones(200)]
    _, weights = ridge(with_one, y, damping)
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weights[None, :5]))
        model.head.bias.fill_(weights[5])
    run = whence.Run(model, (np.arange(200), x, y), test=(np.arange(20), test_x, test_y))
    scores = np.asarray(influence(run, "test", method="kernel", residual="full", damping=damping))
    test_one, exact = np.c_[test_x, np.ones(20)], np.empty((200, 20))
    before = (test_one @ weights - test_y) ** 2
    for i in range(200):
        rest = np.delete(np.arange(200), i)
        _, without = ridge(with_one[rest], y[rest], damping)
        exact[i] = (test_one @ without - test_y) ** 2 - before
    for m in range(20):
        assert np.corrcoef(scores[:, m], exact[:, m])[0, 1] > 0.98
        assert np.polyfit(scores[:, m], exact[:, m], 1)[0] == pytest.approx(1, abs=0.15)


def test_kernel_is_the_last_layer_s_gradient_product():
    """Against autograd: gradients of the head's weights, whitened by the features' second moment."""
    run = trained(epochs=3)
    targets, head = run.splits["test"], run.model[2]
    scores = np.asarray(influence(run, targets, method="kernel", residual="full", damping=0.3))

    def gradients(data):
        rows = []
        for i in range(len(data)):
            batch = data.batch(np.array([i]))
            loss = nn.functional.cross_entropy(run.model(batch.inputs), batch.targets)
            weight, bias = torch.autograd.grad(loss, (head.weight, head.bias))
            rows.append(torch.cat([weight, bias[:, None]], dim=1).double())
        return torch.stack(rows)  # (n, C, H + 1)

    of_train, of_targets = gradients(run.train), gradients(targets)
    with torch.no_grad():
        hidden = torch.cat(
            [run.model[1](run.model[0](run.train.batch(np.arange(120)).inputs)), torch.ones(120, 1)], 1
        ).double()
    moment = hidden.T @ hidden / 120
    moment += 0.3 * moment.diagonal().mean() * torch.eye(33)
    expected = torch.einsum("ich,hk,mck->im", of_train, torch.linalg.inv(moment), of_targets).numpy()
    ratio = (scores * expected).sum() / (expected**2).sum()
    np.testing.assert_allclose(scores, ratio * expected, atol=1e-4 * np.abs(scores).max())
    assert ratio > 0


def test_kernel_signs():
    """A copy of the target helps it; the same input with another label hurts it."""
    data = blobs(200)
    x = data.inputs.array[:1]
    other = (data.targets[:1] + 1) % 3
    targets = (np.array([1]), np.concatenate([x]), data.targets[:1])
    relabeled = data.targets.copy()
    relabeled[1] = other[0]
    array = data.inputs.array.copy()
    array[1] = x[0]
    train = Dataset(data.ids, type(data.inputs)(array), relabeled, data.task)
    run = whence.fit(network(6, 64, 3), train, epochs=10, learning_rate=1e-2, device="cpu")
    scores = np.asarray(influence(run, Dataset.of(targets, task=run.task), method="kernel"))[:, 0]
    assert scores[0] > 0
    assert scores[1] == scores.min() < 0


@pytest.mark.parametrize("residual", ["softened", "random", "flipped", "full"])
@pytest.mark.parametrize("quantity", ["loss", "probability", "margin"])
def test_kernel_variants_agree_in_sign_of_quantity(residual, quantity):
    """Helping the loss is helping the probability and the margin."""
    run = trained(epochs=3)
    loss = np.asarray(influence(run, "test", method="kernel", residual=residual))
    other = np.asarray(influence(run, "test", method="kernel", residual=residual, quantity=quantity))
    assert spearmanr(loss.ravel(), other.ravel())[0] > 0.6


def test_temperature_matches_the_flipped_error():
    run = trained(epochs=30, widths=(6, 64, 3))
    temperature = matched_temperature(run)
    rows, labels = np.arange(120), run.train.targets
    logits = np.log(probabilities(run)) / temperature
    softened = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert temperature > 1
    assert softened[rows, labels].mean() == pytest.approx(
        probabilities(run, mask="flipped")[rows, labels].mean(), abs=1e-4
    )
    untrained = whence.Run(network(6, 8, 3), blobs(50))
    with torch.no_grad():
        for parameter in untrained.model.parameters():
            parameter.zero_()
    assert matched_temperature(untrained) == 1.0


@pytest.mark.parametrize("method", ["turnover", "first_order", "kernel"])
def test_blocks_and_order_change_nothing(method):
    run = trained(epochs=2)
    whole = np.asarray(influence(run, "test", method=method))
    np.testing.assert_allclose(influence(run, "test", method=method, block_rows=7), whole, atol=1e-6)
    order = np.random.default_rng(0).permutation(30)
    shuffled = run.splits["test"].select(order)
    np.testing.assert_allclose(influence(run, shuffled, method=method), whole[:, order], atol=1e-6)


def test_regression():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(80, 6)).astype(np.float32)
    y = x[:, 0] + 0.1 * generator.normal(size=80).astype(np.float32)
    run = whence.fit(
        network(6, 32, 1),
        (np.arange(60), x[:60], y[:60]),
        test=(np.arange(20), x[60:], y[60:]),
        epochs=10,
        device="cpu",
    )
    assert isinstance(run.task, Regression)
    for quantity in ("loss", "absolute_error"):
        expected = reference(run, run.splits["test"], quantity_named(quantity, run.task))
        np.testing.assert_allclose(influence(run, "test", method="turnover", quantity=quantity), expected, atol=1e-5)
    assert np.isfinite(influence(run, "test", method="kernel")).all()
    with pytest.raises(
        WhenceError, match="unknown quantity: got 'accuracy', expected one of loss, absolute_error for regression"
    ):
        influence(run, "test", quantity="accuracy")
    with pytest.raises(WhenceError, match="errors are defined for classification"):
        influence(run, "errors")


def test_auto():
    run = trained(epochs=1)
    assert choose(run, run.loss) == "kronecker"
    assert choose(run, quantity_named("accuracy", run.task)) == "turnover"
    grouped = influence(trained(epochs=1, groups=5), "dev")
    assert (grouped.info["method"], grouped.info["level"], len(grouped.ids)) == ("kronecker", "group", 5)
    assert influence(run, "errors").info["method"] == "kronecker"
    wrong = influence(run, "errors").targets
    with torch.no_grad():
        test = run.splits["test"]
        predicted = run.model(test.batch(np.arange(30)).inputs).argmax(1).numpy()
    assert np.array_equal(wrong, test.ids[predicted != test.targets])


def test_errors():
    run = trained(epochs=1)
    for arguments, message in [
        ({"method": "magic"}, "unknown method: got 'magic', expected auto, turnover, first_order, kernel, kronecker"),
        ({"targets": "val"}, "no split named 'val' in the run: got only train, dev, test"),
        ({"method": "kernel", "quantity": "accuracy"}, "without a gradient in method kernel.*method turnover"),
        ({"method": "first_order", "quantity": "accuracy"}, "without a gradient in method first_order"),
        ({"method": "kernel", "residual": "x"}, "unknown residual"),
        ({"method": "kernel", "damping": 0}, "out of range in method kernel"),
        ({"method": "turnover", "damping": 1}, "an option this method does not have in method turnover: got 'damping', expected one of path"),
        ({"quantity": "f1"}, "unknown quantity"),
    ]:  # fmt: skip
        with pytest.raises(WhenceError, match=message):
            influence(run, **{"targets": "test", **arguments})
    assert set(QUANTITIES) == {"loss", "accuracy", "probability", "margin", "absolute_error"}


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


def test_quantities_are_told_apart_by_what_they_do(tmp_path):
    run = trained(epochs=1, out=tmp_path / "run")
    plain = influence(run, "test", method="turnover", quantity=nn.CrossEntropyLoss(reduction="none"))
    smooth = nn.CrossEntropyLoss(reduction="none", label_smoothing=0.5)
    with pytest.raises(WhenceError, match="scores of another run, data or setting"):
        influence(run, "test", method="turnover", quantity=smooth)
    other = influence(run, "test", method="turnover", quantity=smooth, name="smooth")
    assert not np.allclose(plain, other)
    assert influence(run, "test", method="turnover", quantity=lambda o, t: o[:, 0]).shape == (120, 30)
