"""Ready-made models: what they are made of, that they learn, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import whence
from tests.toys import blobs
from whence import WhenceError
from whence.data import Classification, Dataset
from whence.data.inputs import ArrayInputs, NgramInputs, TextInputs
from whence.models import ModelSpec, build, prepare
from whence.models.mlp import Standardize


def texts(n=200, seed=0):
    generator = np.random.default_rng(seed)
    words = [["good", "great", "lovely", "fine"], ["bad", "poor", "awful", "dull"]]
    filler = ["the", "film", "was", "and", "plot", "actor", "scene"]
    targets = generator.integers(0, 2, n)
    lines = [" ".join([*generator.choice(filler, 5), *generator.choice(words[t], 2)]) for t in targets]
    splits = np.array(["train"] * (n * 3 // 4) + ["dev"] * (n - n * 3 // 4), dtype=object)
    array = np.array(lines, dtype=object)
    return Dataset(np.arange(n), TextInputs(array), targets, Classification(("neg", "pos")), splits=splits, texts=array)


def pictures(n=300, side=8, seed=0):
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 2, n)
    images = generator.integers(0, 60, (n, side, side)).astype(np.uint8)
    images[targets == 1, : side // 2] += 120
    return Dataset(np.arange(n), ArrayInputs(images), targets, Classification(("low", "high")), images=images)


@pytest.mark.parametrize(
    ("data", "name", "layers"),
    [
        (blobs(100, spread=3), "auto", ["body.relu2"]),
        (blobs(100, spread=3), "mlp:16", ["body.relu1"]),
        (pictures(), "mlp:32,16", ["body.relu2"]),
        (pictures(), "conv:4,8,16", ["body.relu1"]),
        (pictures(), "vgg:4,8,16", ["body.relu1"]),
        (pictures(), "resnet18:4", ["body.flatten"]),
        (pictures(), "vgg16:16,8", ["body.relu2"]),
        (texts(), "auto", ["body.relu0"]),
        (texts(), "mlp:16,8", ["body.relu1"]),
    ],
)
def test_models_learn(data, name, layers):
    model, encoded = prepare(data, name)
    assert list(whence.attached(model)) == layers
    run = whence.fit(model, encoded, epochs=15, learning_rate=5e-3, device="cpu")
    assert run.history[-1]["full_accuracy"] > 0.9


@pytest.mark.parametrize("side", [9, 32, 80])
@pytest.mark.parametrize("name", ["vgg:4,4,4,16", "vgg16:16,8", "resnet18:4"])
def test_pictures_of_any_size(name, side):
    model, data = prepare(pictures(4, side), name, masked="all")
    with whence.own(data.ids):
        assert model(data.inputs.gather(np.arange(4))).shape == (4, 2)
    layers = whence.attached(model)
    assert all(layer.units is not None for layer in layers.values())
    assert len(layers) == {"vgg:4,4,4,16": 7, "vgg16:16,8": 15, "resnet18:4": 17}[name]  # every ReLU


def test_vgg16_is_vgg16():
    """Configuration D of Simonyan & Zisserman (2015): 13 convolutions of 14,710,464 weights, with normalization 4,224 pairs more."""
    model, _ = prepare(pictures(4, 32), "vgg16")
    convolutions = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(convolutions) == 13
    color = 14_710_464 - 2 * 64 * 9  # one channel here, three there
    assert sum(one.weight.numel() for one in convolutions) == color
    assert sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)) == 4224


def test_masked_layers():
    model, _ = prepare(blobs(50), "mlp:16,16,16", masked="all", keep=0.4, seed=3, scheme="independent")
    assert list(whence.attached(model)) == ["body.relu1", "body.relu2", "body.relu3"]
    assert {layer.seed for layer in whence.attached(model).values()} == {3}
    model, _ = prepare(pictures(), "conv:4,8,16", masked="features.relu*")
    assert list(whence.attached(model)) == ["features.relu1", "features.relu2"]
    with pytest.raises(WhenceError, match="no module of that name"):
        prepare(blobs(50), masked="nothing.*")


def test_seeds_decide_weights_and_leave_torch_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first, second, other = (prepare(blobs(50), "mlp:8", seed=s)[0].state_dict() for s in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first["head.weight"], second["head.weight"])
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_spec_round_trip():
    data = blobs(50)
    spec = ModelSpec("mlp:8,4", "all", 0.3, 5)
    again = ModelSpec.from_json(spec.to_json())
    assert again == spec
    first, _ = build(spec, data, seed=2)
    second, _ = build(again, data, seed=2)
    assert torch.equal(first.state_dict()["body.linear1.weight"], second.state_dict()["body.linear1.weight"])


def test_standardize():
    features = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    assert torch.equal(Standardize.fit(features)(features), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))


def test_ngrams_use_training_texts_alone():
    data = texts()
    _, encoded = prepare(data, "ngrams:8")
    assert isinstance(encoded.inputs, NgramInputs)
    changed = data.texts.copy()
    changed[data.splits == "dev"] = "words that no training text has has has"
    other_data = Dataset(data.ids, TextInputs(changed), data.targets, data.task, splits=data.splits, texts=changed)
    _, other = prepare(other_data, "ngrams:8")
    train = np.flatnonzero(data.splits == "train")
    for first, second in zip(encoded.inputs.gather(train), other.inputs.gather(train), strict=True):
        assert torch.equal(first, second)
    lengths = torch.linalg.vector_norm(encoded.inputs.gather(train)[1], dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_ngram_batches_do_not_depend_on_padding():
    model, encoded = prepare(texts(), "ngrams:8")
    model.eval()
    with torch.no_grad():
        whole = model(*encoded.inputs.gather(np.arange(20)))
        for row in range(20):
            torch.testing.assert_close(
                model(*encoded.inputs.gather(np.array([row])))[0], whole[row], atol=1e-5, rtol=1e-5
            )


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (blobs(20), "resnet", "unknown model in --model: got 'resnet'"),
        (blobs(20), "resnet18", "mlp, conv, vgg, vgg16, resnet18 for pictures"),
        (pictures(), "resnet18:8,8", "resnet18 one"),
        (blobs(20), "conv", "does not fit the data"),
        (blobs(20), "ngrams:4", "does not fit the data"),
        (texts(), "conv", "does not fit the data"),
        (blobs(20), "mlp:0", "widths that make no model"),
        (blobs(20), "mlp:a,b", "widths that make no model"),
        (blobs(20), "mlp:-3", "widths that make no model"),
        (pictures(), "conv:8", "conv and vgg take at least two"),
    ],
)
def test_bad_models(data, name, message):
    with pytest.raises(WhenceError, match=message):
        prepare(data, name)


def test_texts_without_words():
    lonely = np.array([f"word{i}" for i in range(20)], dtype=object)
    data = Dataset(np.arange(20), TextInputs(lonely), np.arange(20) % 2, Classification(("a", "b")), texts=lonely)
    with pytest.raises(WhenceError, match="no words to learn from"):
        prepare(data)
    with pytest.raises(WhenceError, match="texts that no encoder"):
        data.batch(np.array([0]))
