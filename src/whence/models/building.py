"""From a name and a dataset to a module with its masks in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from whence.arguments import instance_of, seed_of, whole
from whence.attachment import attach
from whence.data import Dataset
from whence.data.inputs import TextInputs
from whence.errors import WhenceError
from whence.masks import Scheme, exact_keep
from whence.models import encoders
from whence.models.conv import ConvNet
from whence.models.mlp import MLP, Standardize
from whence.models.ngrams import NgramClassifier, NgramEncoder
from whence.models.resnet import ResNet18
from whence.models.spec import ModelSpec
from whence.models.vgg import VGG, VGG16_BLOCKS

__all__ = ["build", "encode_more", "prepare"]

_MOST_WEIGHTS = 2**31  # of a ready-made model: 8 GiB


def prepare(
    data: Dataset,
    name: str = "auto",
    *,
    masked: str = "auto",
    keep: float | None = None,
    seed: int = 0,
    scheme: Scheme = "independent",
    max_length: int = 256,
) -> tuple[nn.Module, Dataset]:
    """A ready-made model with turn-over dropout in place, and the dataset encoded for it.

    Args:
        data: with a "train" split, from which scaling and n-grams are taken.
        name: such as "mlp:512,512", "vgg16", or the folder of a transformer encoder; see ``ModelSpec``.
        masked: "last", "all", or a glob over module names; of an encoder "updates", "adapter", "lora",
            "frozen", "head" or "dropouts" (docs/text.md).
        keep: share of units that an instance keeps; None: ½, or what an encoder's placement of masks does best with
            (docs/text.md).
        seed, scheme: of the masks; the seed also initializes the weights.
        max_length: tokens of a text that an encoder reads; longer texts are cut.

    Returns:
        The model, which carries how it is best trained where that differs from the defaults of ``fit``, and the data.

    Raises:
        WhenceError: the model does not fit the data, or cannot be loaded.
    """
    for text, where in ((name, "name"), (masked, "masked")):
        instance_of(text, str, where)
    exact_keep(0.5 if keep is None else keep, scheme)
    seed, max_length = seed_of(seed), whole(max_length, "max_length")
    return build(ModelSpec(name, masked, keep, seed, scheme, max_length), instance_of(data, Dataset, "data"), seed=seed)


def build(spec: ModelSpec, data: Dataset, *, seed: int, most_weights: int = _MOST_WEIGHTS) -> tuple[nn.Module, Dataset]:
    """As ``prepare``, from a ``ModelSpec``. The weights are drawn from ``seed``; torch's global generator is left alone.

    Args:
        most_weights: of a model that is not an encoder; one of more is refused before memory is taken for it.
    """
    kind, widths = spec.parse(data)
    if kind == "encoder":
        return encoders.build(spec, data, seed=seed)
    if kind == "ngrams" and isinstance(data.inputs, TextInputs):
        data = NgramEncoder(data).encode(data)
    if (count := _weights_of(kind, widths, data)) > most_weights:
        raise WhenceError("a model that is too large", where="--model", got=f"{count:,} weights in {spec.name}",
                          expected=f"at most {most_weights:,}", mend="Give narrower layers.")  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _BUILDERS[kind](data, widths)
    where = {"auto": "last", "all": "*relu*"}.get(spec.masked, spec.masked)
    keep = 0.5 if spec.keep is None else spec.keep
    attach(model, where, keep=keep, seed=spec.seed, scheme=spec.scheme)
    model.whence_spec = replace(spec, keep=keep)  # type: ignore[assignment]  # so that fit can write down how to build it again
    return model, data


def encode_more(spec: ModelSpec, data: Dataset, more: Dataset) -> Dataset:
    """Further instances encoded as ``build`` encoded ``data``, which is not encoded yet."""
    kind, _ = spec.parse(data)
    if kind == "encoder":
        return encoders.encode(spec, more)
    return NgramEncoder(data).encode(more) if kind == "ngrams" else more


def _mlp(data: Dataset, widths: tuple[int, ...]) -> nn.Module:
    sample = _train_sample(data).flatten(1).float()
    if data.images is not None:  # one scale for all pixels: edge pixels that hardly vary are not blown up
        standardize = Standardize(sample.mean(), sample.std().clamp_min(1e-3))
    else:
        standardize = Standardize.fit(sample)
    return MLP(sample.shape[1], widths, data.task.outputs, standardize)


def _conv(data: Dataset, widths: tuple[int, ...]) -> nn.Module:
    return ConvNet(_shape(data), widths, data.task.outputs)


def _vgg(data: Dataset, widths: tuple[int, ...]) -> nn.Module:
    return VGG(_shape(data), [(width, width) for width in widths[:-1]], widths[-1:], data.task.outputs, _channels(data))


def _vgg16(data: Dataset, widths: tuple[int, ...]) -> nn.Module:
    return VGG(_shape(data), VGG16_BLOCKS, widths, data.task.outputs, _channels(data))


def _resnet18(data: Dataset, widths: tuple[int, ...]) -> nn.Module:
    return ResNet18(_shape(data), widths[0], data.task.outputs, _channels(data))


def _ngrams(data: Dataset, widths: tuple[int, ...]) -> nn.Module:
    return NgramClassifier(int(data.inputs.matrix.shape[1]), widths, data.task.outputs)  # type: ignore[attr-defined]


_BUILDERS: dict[str, Callable[[Dataset, tuple[int, ...]], nn.Module]] = {
    "mlp": _mlp,
    "ngrams": _ngrams,
    "conv": _conv,
    "vgg": _vgg,
    "vgg16": _vgg16,
    "resnet18": _resnet18,
}


def _weights_of(kind: str, widths: tuple[int, ...], data: Dataset) -> int:
    """How many weights a model has, which is not made; beyond what can be counted, 2^63."""
    few = data.select(
        np.flatnonzero(data.splits == "train")[:2] if data.has_split("train") else np.arange(min(2, len(data)))
    )
    try:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in _BUILDERS[kind](few, widths).parameters())
    except (RuntimeError, OverflowError):
        return 2**63


def _train_sample(data: Dataset, most: int = 2**16) -> torch.Tensor:
    """Inputs of training instances, from which scales are taken."""
    train = np.flatnonzero(data.splits == "train") if data.has_split("train") else np.arange(len(data))
    sample = data.inputs.gather(train[:most])
    assert isinstance(sample, torch.Tensor)
    return sample


def _shape(data: Dataset) -> tuple[int, int, int]:
    """Channels, height and width of a picture."""
    picture = data.inputs.gather(np.array([0]))
    assert isinstance(picture, torch.Tensor)
    channels, height, width = picture.shape[1:]
    return channels, height, width


def _channels(data: Dataset) -> Standardize:
    """Mean 0 and deviation 1 for each channel of the training pictures."""
    sample = _train_sample(data, 2**13)  # (N, channels, H, W)
    scale = sample.std(dim=(0, 2, 3)).clamp_min(1e-3)
    return Standardize(sample.mean(dim=(0, 2, 3))[:, None, None], scale[:, None, None])
