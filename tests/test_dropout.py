"""Turn-over dropout: what is masked, when it refuses, and that nothing that people wrap around a model disturbs it."""

from __future__ import annotations

import copy
import shutil
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

import whence
from whence import WhenceError
from whence.dropout import TurnOverDropout, explicit
from whence.masks import keep_bits

IDS = torch.tensor([5, 2**40, -3])


def mlp(*widths, seed=0, keep=0.5, bias=True):
    torch.manual_seed(seed)
    layers = []
    for before, after in zip(widths[:-2], widths[1:-1], strict=True):
        layers += [nn.Linear(before, after, bias=bias), nn.ReLU(), nn.Dropout()]
    return whence.attach(nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=bias)), keep=keep)


@pytest.mark.parametrize(
    ("shape", "axis", "expected_axis"),
    [
        ((3, 8), None, 1),
        ((3, 5, 8), None, 2),
        ((3, 8, 4, 4), None, 1),
        ((3, 8, 2, 4, 4), None, 1),
        ((3, 8, 5), 1, 1),
        ((3, 4, 4, 8), -1, 3),
    ],
)
@pytest.mark.parametrize("keep", [0.5, 0.3])
def test_mask_has_the_shape_of_units(shape, axis, expected_axis, keep):
    layer = TurnOverDropout("layer", keep=keep, seed=4, axis=axis)
    features = torch.randn(shape)
    bits = torch.from_numpy(keep_bits(IDS, 8, seed=4, layer="layer", keep=keep).numpy())
    view = [3] + [1] * (len(shape) - 1)
    view[expected_axis] = 8
    with whence.own(IDS):
        torch.testing.assert_close(layer(features), features * bits.view(view) / layer.keep)
    with whence.flipped(IDS):
        torch.testing.assert_close(layer(features), features * ~bits.view(view) / (1 - layer.keep))
    with whence.full():
        assert layer(features) is features


def test_own_and_flipped_average_to_full():
    layer, features = TurnOverDropout("x"), torch.randn(3, 64)
    with whence.own(IDS):
        learned = layer(features)
    with whence.flipped(IDS):
        not_learned = layer(features)
    torch.testing.assert_close((learned + not_learned) / 2, features)
    assert not (learned.bool() & not_learned.bool()).any()


def test_random_belongs_to_no_instance():
    layer, features = TurnOverDropout("x"), torch.ones(3, 256)
    with whence.random(5):
        shared = layer(features)
    assert torch.equal(shared[0], shared[1])
    with whence.random([5, 6, 7]):
        rows = layer(features)
    assert torch.equal(rows[0], shared[0])
    assert not torch.equal(rows[1], rows[0])
    with whence.own(5):
        assert abs(((layer(features) > 0) == (shared > 0)).float().mean() - 0.5) < 0.15


def test_without_ids():
    layer, features = TurnOverDropout("body.2"), torch.ones(2, 4)
    with pytest.raises(WhenceError, match=r"training mode without ids in layer 'body\.2'.*whence\.own\(ids\)"):
        layer(features)
    assert layer.eval()(features) is features
    layer.train()
    with whence.full():
        assert layer(features) is features
    with pytest.raises(WhenceError):
        layer(features)


def test_contexts_nest_and_survive_errors():
    layer, features = TurnOverDropout("x"), torch.ones(3, 64)
    with whence.own(IDS):
        outer = layer(features)
        with pytest.raises(KeyError), whence.flipped(IDS):
            raise KeyError
        assert torch.equal(layer(features), outer)
    with pytest.raises(WhenceError):
        layer(features)


def test_wrong_shapes_are_refused():
    layer = TurnOverDropout("x")
    with whence.own([1, 2]), pytest.raises(WhenceError, match="not one id per row.*got 2 ids, expected 3"):
        layer(torch.ones(3, 4))
    with whence.own([1]), pytest.raises(WhenceError, match="not one id per row"):
        layer(torch.ones(3, 4))
    with whence.own([1, 2, 3]), pytest.raises(WhenceError, match="different widths"):
        layer(torch.ones(3, 5))
    with whence.own(1), pytest.raises(WhenceError, match="without a batch axis"):
        TurnOverDropout("y")(torch.ones(4))
    with pytest.raises(WhenceError, match="not an id"):
        whence.own(torch.tensor([0.5]))


def test_string_ids_and_tensors_agree():
    layer, features = TurnOverDropout("x"), torch.ones(2, 64)
    with whence.own(["a", "b"]):
        named = layer(features)
    with whence.own(whence.masks.as_ids(["a", "b"])):
        assert torch.equal(layer(features), named)


@settings(max_examples=40, deadline=None)
@given(
    widths=st.lists(st.integers(2, 24), min_size=3, max_size=5),
    keep=st.sampled_from([0.1, 0.5, 0.8]),
    id=st.integers(-(2**63), 2**63 - 1),
    seed=st.integers(0, 1000),
    bias=st.booleans(),
)
def test_isolation(widths, keep, id, seed, bias):
    """Law 2: no masked weight that only flipped units use ever gets a gradient from the instance; own units do."""
    model = mlp(*widths, seed=seed, keep=keep, bias=bias)
    with whence.own([id]):
        loss = model(torch.randn(1, widths[0])).square().sum()
        loss.backward()
    linears = [layer for layer in model if isinstance(layer, nn.Linear)]
    for before, dropout, after in zip(linears[:-1], whence.attached(model).values(), linears[1:], strict=True):
        flipped = ~torch.from_numpy(dropout.bits(np.array([id]))[0])
        assert (before.weight.grad[flipped] == 0).all()
        assert (after.weight.grad[:, flipped] == 0).all()
        if bias:
            assert (before.bias.grad[flipped] == 0).all()


def test_isolation_holds_through_training():
    """What only the flipped units of z use ends where it ends without z, when z is the one instance trained on."""
    model = mlp(6, 32, 3)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(20):
        optimizer.zero_grad()
        with whence.own([11]):
            model(torch.ones(1, 6)).square().sum().backward()
        optimizer.step()
    flipped = ~torch.from_numpy(whence.attached(model)["2"].bits(np.array([11]))[0])
    assert torch.equal(model[0].weight[flipped], before["0.weight"][flipped])
    assert torch.equal(model[3].weight[:, flipped], before["3.weight"][:, flipped])
    assert not torch.equal(model[3].weight[:, ~flipped], before["3.weight"][:, ~flipped])


def grads(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def reference_grads(model, x, ids):
    model.zero_grad()
    with whence.own(ids):
        model(x).square().mean(dim=1).sum().backward()
    found = grads(model)
    model.zero_grad()
    return found


def test_gradient_accumulation():
    model, x, ids = mlp(6, 32, 3), torch.randn(8, 6), torch.arange(8) + 2**33
    whole = reference_grads(model, x, ids)
    for part in (slice(0, 3), slice(3, 8)):
        with whence.own(ids[part]):
            model(x[part]).square().mean(dim=1).sum().backward()
    for name, gradient in grads(model).items():
        torch.testing.assert_close(gradient, whole[name])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    model, x = mlp(6, 64, 3), torch.randn(3, 6)
    with whence.own(IDS):
        exact = model(x)
        with torch.autocast("cpu", dtype):
            output = model(x)
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), exact, rtol=0.05, atol=0.05)


class Checkpointed(nn.Module):
    def __init__(self, inner, **options):
        super().__init__()
        self.inner, self.options = inner, options

    def forward(self, x):
        return checkpoint(self.inner, x, **self.options)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_recomputes_under_the_same_ids(reentrant):
    model, x = mlp(6, 32, 16, 3), torch.randn(3, 6, requires_grad=True)
    expected = reference_grads(model, x, IDS)
    wrapped = Checkpointed(model, use_reentrant=reentrant)
    with whence.own(IDS):
        wrapped(x).square().mean(dim=1).sum().backward()
    for name, gradient in grads(model).items():
        assert torch.equal(gradient, expected[name])


def test_checkpointing_with_backward_after_the_block():
    model, x = mlp(6, 32, 16, 3), torch.randn(3, 6, requires_grad=True)
    expected = reference_grads(model, x, IDS)
    careless = Checkpointed(model, use_reentrant=False)
    with whence.own(IDS):
        loss = careless(x).square().mean(dim=1).sum()
    with pytest.raises(WhenceError, match="training mode without ids"):
        loss.backward()
    model.zero_grad()
    careful = Checkpointed(model, use_reentrant=False, context_fn=whence.checkpoint_contexts)
    losses = []
    for part in (slice(0, 2), slice(2, 3)):
        with whence.own(IDS[part]):
            losses.append(careful(x[part]).square().mean(dim=1).sum())
    sum(losses).backward()
    for name, gradient in grads(model).items():
        torch.testing.assert_close(gradient, expected[name])


def test_checkpointing_of_another_batch_is_refused():
    model, x = mlp(6, 32, 3), torch.randn(3, 6, requires_grad=True)
    wrapped = Checkpointed(model, use_reentrant=False)
    with whence.own(IDS):
        first = wrapped(x).sum()
    with whence.own(IDS + 1), pytest.raises(WhenceError, match="recomputes a batch under other ids"):
        (first + wrapped(x).sum()).backward()


def test_backward_in_another_thread():
    model, x = mlp(6, 32, 3), torch.randn(3, 6, requires_grad=True)
    expected = reference_grads(model, x, IDS)
    with whence.own(IDS):
        loss = Checkpointed(model, use_reentrant=False)(x).square().mean(dim=1).sum()
        worker = threading.Thread(target=loss.backward)
        worker.start()
        worker.join()
    assert all(torch.equal(gradient, expected[name]) for name, gradient in grads(model).items())


def test_multipliers_can_be_differentiated_and_batched():
    model, x = mlp(6, 32, 3).eval(), torch.randn(3, 6)
    multiplier = torch.ones(3, 32, requires_grad=True)
    with explicit({"2": multiplier}):
        model(x).sum().backward()
    assert multiplier.grad.abs().sum() > 0
    bits = torch.from_numpy(keep_bits(np.arange(4), 32, seed=0, layer="2"))

    def under(bits):
        with explicit({"2": bits / 0.5}):
            return model(x)

    batched = torch.func.vmap(under)(bits)
    for id in range(4):
        with whence.own(id):
            torch.testing.assert_close(batched[id], model(x))


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_compile_without_graph_breaks():
    model = mlp(6, 128, 32, 3)
    compiled = torch.compile(model, fullgraph=True)
    for step in range(3):
        x, ids = torch.randn(4, 6), torch.arange(4) + 1000 * step
        expected = reference_grads(model, x, ids)
        with whence.own(ids):
            compiled(x).square().mean(dim=1).sum().backward()
        for name, gradient in grads(model).items():
            torch.testing.assert_close(gradient, expected[name])
        model.zero_grad()
        for context in (whence.own(ids), whence.flipped(ids), whence.random(step), whence.full()):
            with context, torch.no_grad():
                torch.testing.assert_close(compiled(x), model(x))
    with pytest.raises(WhenceError, match="training mode without ids"):
        torch.compile(model)(x)


@pytest.mark.parametrize("reentrant", [True, False])
def test_backward_of_an_older_batch_is_refused(reentrant):
    """The pending loss of one batch, its backward pass inside the next batch's block."""
    model = mlp(6, 32, 3)
    wrapped = Checkpointed(model, use_reentrant=reentrant)
    with whence.own(IDS):
        first = wrapped(torch.randn(3, 6, requires_grad=True)).sum()
    for later in (whence.own(IDS + 1), whence.full()):
        with later:
            wrapped(torch.randn(3, 6, requires_grad=True)).sum()
            with pytest.raises(WhenceError, match="recomputes a batch under other ids"):
                first.backward(retain_graph=True)


def test_evaluation_mode_does_not_recompute_without_masks():
    model = mlp(6, 32, 3).eval()
    with whence.own(IDS):
        loss = Checkpointed(model, use_reentrant=True)(torch.randn(3, 6, requires_grad=True)).sum()
    with pytest.raises(WhenceError, match="without ids"):
        loss.backward()


def test_fused_transformer_layers_do_not_skip_masks():
    """In evaluation mode torch computes whole encoder layers in one call that leaves dropout out."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = whence.attach(layer).eval()
    x = torch.randn(3, 5, 16)
    with torch.no_grad():
        plain = model(x)
        with whence.own(IDS):
            learned = model(x)
        with whence.flipped(IDS):
            assert not torch.allclose(model(x), learned, atol=1e-3)
        assert not torch.allclose(learned, plain, atol=1e-3)
        assert torch.backends.mha.get_fastpath_enabled()
