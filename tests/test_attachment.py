"""Attach finds its places, detach leaves no trace."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.vision_trees import VGG, BasicBlock, Bottleneck, ResNet, ViT
from whence import TurnOverDropout, WhenceError
from whence.attachment import placement, reattach
from whence.estimators.reference import reference


def forward_all(model, x):
    with whence.own(torch.arange(len(x))):
        return model(x)


def test_default_replaces_every_dropout():
    model = whence.attach(VGG())
    assert list(whence.attached(model)) == ["classifier.2", "classifier.5"]
    assert not any(type(module) is nn.Dropout for module in model.modules())


@pytest.mark.parametrize(
    ("where", "places"),
    [
        ("classifier.*", ["classifier.2", "classifier.5"]),  # dropouts first
        ("features.*", ["features.2"]),  # else activations
        ("features.0", ["features.0"]),
        (["features.2", "*.5"], ["features.2", "classifier.5"]),
        ("classifier.4", ["classifier.4"]),
        ("last", ["classifier.5"]),
    ],
)
def test_where(where, places):
    model = whence.attach(VGG(), where, seed=3)
    assert list(whence.attached(model)) == places
    forward_all(model, torch.randn(4, 3, 8, 8))
    assert all(layer.seed == 3 and layer.units for layer in whence.attached(model).values())


def test_channels_are_masked_as_wholes():
    model = whence.attach(VGG(), "features.2")
    kept = []
    model.features[2].register_forward_hook(lambda module, inputs, output: kept.append(output))
    forward_all(model, torch.randn(4, 3, 8, 8).abs() + 1)
    bits = whence.attached(model)["features.2"].bits(torch.arange(4))
    assert (kept[0][~torch.as_tensor(bits)] == 0).all()
    assert whence.attached(model)["features.2"].units == 8


@pytest.mark.parametrize("where", [None, "features.*", ["classifier.0", "classifier.2"]])
def test_detach_restores_the_model(where):
    model = VGG()
    model.classifier[2].p = 0.3
    modules, state, text = dict(model.named_modules()), copy.deepcopy(model.state_dict()), repr(model)
    hooks = {name: len(module._forward_hooks) for name, module in modules.items()}
    whence.attach(model, where)
    assert model.state_dict().keys() == state.keys()
    forward_all(model, torch.randn(4, 3, 8, 8))
    model.eval()
    whence.detach(model)
    assert repr(model) == text
    assert dict(model.named_modules()) == modules
    assert {name: len(module._forward_hooks) for name, module in modules.items()} == hooks
    assert not model.classifier[2].training
    assert not any(isinstance(module, TurnOverDropout) for module in model.modules())


def test_a_shared_dropout_masks_everywhere():
    drop = nn.Dropout()
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "drop1": drop, "drop2": drop})
    whence.attach(model)
    assert isinstance(model["drop2"], TurnOverDropout)
    assert model["drop1"] is model["drop2"]
    whence.detach(model)
    assert model["drop1"] is drop
    assert model["drop2"] is drop


@pytest.mark.parametrize("where", [None, "features.*"])
def test_copies_are_independent(where):
    model = whence.attach(VGG(), where).eval()
    twin = copy.deepcopy(model)
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(forward_all(model, x), forward_all(twin, x))
    whence.detach(model)
    assert whence.attached(twin)
    with whence.own(torch.arange(4)), pytest.raises(AssertionError):
        torch.testing.assert_close(twin(x), model(x))


def test_placement_round_trip():
    model = whence.attach(VGG(), ["features.2", "classifier.*"], keep=0.5, seed=9, scheme="balanced").eval()
    x = torch.randn(4, 3, 8, 8)
    expected = forward_all(model, x)
    twin = VGG().eval()
    twin.load_state_dict(model.state_dict())
    reattach(twin, placement(model))
    assert torch.equal(forward_all(twin, x), expected)
    assert placement(twin) == placement(model)
    assert reattach(twin, placement(model)) is twin
    with pytest.raises(WhenceError, match="lacks a module"):
        reattach(nn.Sequential(nn.Linear(2, 2)), placement(model))
    with pytest.raises(WhenceError, match="other turn-over dropout than the run"):
        reattach(whence.attach(VGG()), placement(model))


def test_errors_leave_the_model_as_it_was():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(WhenceError, match=r"no nn\.Dropout to replace in Sequential\. Name modules.*where='last'"):
        whence.attach(model)
    with pytest.raises(
        WhenceError, match=r"no module of that name in where: got 'head\.\*', expected names such as 0, 1, 2"
    ):
        whence.attach(model, ["1", "head.*"])
    with pytest.raises(WhenceError, match="keep rate out of range"):
        whence.attach(model, "1", keep=0.01)
    assert not whence.attached(model)
    whence.attach(model, "1")
    with pytest.raises(WhenceError, match="attached already in module '1'"):
        whence.attach(model, ["0", "1"])
    assert list(whence.attached(model)) == ["1"]


def test_a_module_without_a_tensor_output():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    model = whence.attach(nn.Sequential(Pair()), "0")
    with whence.full(), pytest.raises(WhenceError, match="does not give a tensor in module '0': got tuple"):
        model(torch.ones(2, 3))


class Iterating(nn.ModuleDict):
    """A container that calls its children in turn, as torchvision's dense blocks do."""

    def forward(self, x):
        for child in self.values():
            x = child(x)
        return x


@pytest.mark.parametrize("container", ["sequential", "dict"])
def test_after_a_container_masks_once(container):
    inner = [nn.Linear(4, 8), nn.ReLU()]
    block = nn.Sequential(*inner) if container == "sequential" else Iterating({"a": inner[0], "b": inner[1]})
    model = nn.ModuleDict({"enc": block})
    whence.attach(model, "enc")
    x = torch.randn(3, 4)
    with whence.full():
        plain = model["enc"](x)
    with whence.own([1, 2, 3]):
        masked = model["enc"](x)
    bits = torch.from_numpy(whence.attached(model)["enc"].bits(torch.arange(1, 4).numpy()))
    torch.testing.assert_close(masked, 2 * plain * bits)
    assert list(model["enc"].state_dict()) == list(nn.Sequential(*inner).state_dict()) or container == "dict"
    whence.detach(model)
    assert torch.equal(model["enc"](x), plain)


def test_layers_of_one_name_are_refused():
    model = nn.ModuleDict(
        {"a": nn.Sequential(nn.Linear(2, 2), nn.Dropout()), "b": nn.Sequential(nn.Linear(2, 2), nn.Dropout())}
    )
    whence.attach(model["a"])
    whence.attach(model["b"])
    with pytest.raises(WhenceError, match="two turn-over dropout layers of one name.*Attach once to the whole model"):
        whence.attached(model)


@pytest.mark.parametrize(
    ("model", "where", "places", "units"),
    [
        (VGG(2), None, ["classifier.2", "classifier.5"], 32),
        (VGG(2), "last", ["classifier.5"], 32),
        (ResNet(BasicBlock, 2), "last", ["avgpool"], 32),
        (ResNet(Bottleneck, 2), "last", ["avgpool"], 128),
        (ResNet(Bottleneck, 2), "layer4", ["layer4"], 128),
        (
            ResNet(BasicBlock, 2),
            "layer?.?",
            [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)],
            None,
        ),
        (ViT(2), "last", ["encoder.ln"], 16),
        (ViT(2), "encoder.layers.*.mlp.2", [f"encoder.layers.encoder_layer_{n}.mlp.2" for n in (0, 1)], 32),
        (nn.Sequential(nn.Linear(3072, 8), nn.Linear(8, 2)), "last", ["0"], 8),
    ],
)
def test_trees_of_vision_models(model, where, places, units):
    """Trained with own masks, scored by every method, restored."""
    torch.manual_seed(0)
    whence.attach(model, where)
    layers = whence.attached(model)
    assert list(layers) == places
    inputs = torch.randn(12, 3, 32, 32)
    data = (np.arange(12), inputs.flatten(1) if isinstance(model, nn.Sequential) else inputs, np.arange(12) % 2)
    run = whence.fit(model, data, epochs=2, batch_size=4, device="cpu")
    assert units is None or {layer.units for layer in layers.values()} == {units}
    methods = ("turnover", "first_order", "kernel", "kronecker")
    scores = {method: np.asarray(whence.influence(run, "train", method=method)) for method in methods}
    assert all(np.isfinite(values).all() and values.std() > 0 for values in scores.values())
    np.testing.assert_allclose(scores["turnover"], reference(run, run.train), atol=2e-4, rtol=2e-3)
    whence.detach(model)
    assert not whence.attached(model)


def test_a_bottleneck_s_relu_serves_two_widths():
    model = whence.attach(ResNet(Bottleneck), "layer4.*")
    with pytest.raises(WhenceError, match="one dropout layer serves features of different widths"):
        forward_all(model, torch.randn(2, 3, 32, 32))


def test_without_a_linear_layer_there_is_no_last():
    with pytest.raises(WhenceError, match='no module that "last" could mean in Sequential'):
        whence.attach(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), "last")
    with pytest.raises(WhenceError, match="no module that"):
        whence.attach(nn.Sequential(nn.Linear(3, 4)), "last")
