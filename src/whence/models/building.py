"""From a name and a dataset to a module with its masks in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from whence.attachment import attach
from whence.data import Dataset
from whence.data.inputs import ArrayInputs, TextInputs
from whence.errors import WhenceError
from whence.masks import Scheme
from whence.models.conv import ConvNet
from whence.models.mlp import MLP, Standardize
from whence.models.ngrams import NgramClassifier, NgramEncoder

__all__ = ["ModelSpec", "build", "encode_more", "prepare"]

_DEFAULT_WIDTHS = {"mlp": (512, 512), "conv": (16, 32, 256), "ngrams": (256,)}


@dataclass(frozen=True)
class ModelSpec:
    """A ready-made model: what run.json holds of it.

    Attributes:
        name: "mlp", "conv" or "ngrams", with widths after a colon: ``mlp:512,512``. "auto": an MLP for features and
            pictures, n-grams for texts. For texts, "mlp" means n-grams.
        masked: which hidden layers have turn-over dropout: "last", "all", or a glob over module names.
        keep, seed, scheme: of the masks.
    """

    name: str = "auto"
    masked: str = "last"
    keep: float = 0.5
    seed: int = 0
    scheme: Scheme = "independent"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Any) -> ModelSpec:
        """The spec that ``to_json`` wrote."""
        known = cls().to_json()
        if not isinstance(record, dict) or {name: type(value) for name, value in record.items()} != {
            n: type(v) for n, v in known.items()
        }:
            raise WhenceError(
                "a damaged description of a model", where="the run", got=repr(record)[:60], expected=", ".join(known)
            )
        return cls(**record)

    def parse(self, data: Dataset) -> tuple[str, tuple[int, ...]]:
        """The kind and its widths for a dataset.

        Raises:
            WhenceError: an unknown kind, widths that are not positive integers, or a kind that does not fit the data.
        """
        kind, _, listed = self.name.partition(":")
        is_text = data.texts is not None
        if kind in ("auto", "mlp"):
            kind = "ngrams" if is_text else "mlp"
        if kind not in _DEFAULT_WIDTHS:
            raise WhenceError("unknown model", where="--model", got=repr(self.name),
                              expected="mlp:512,512, conv:16,32,256 or ngrams:256 (widths are yours)")  # fmt: skip
        fits = {
            "ngrams": is_text,
            "mlp": not is_text,
            "conv": isinstance(data.inputs, ArrayInputs) and data.inputs.is_image,
        }
        if not fits[kind]:
            raise WhenceError("a model that does not fit the data", where="--model", got=repr(self.name),
                              expected="ngrams for texts, mlp for features, mlp or conv for pictures")  # fmt: skip
        try:
            widths = tuple(int(width) for width in listed.split(",")) if listed else _DEFAULT_WIDTHS[kind]
        except ValueError:
            widths = (0,)
        if min(widths) < 1 or (kind == "conv" and len(widths) < 2):
            raise WhenceError("widths that make no model", where="--model", got=repr(self.name),
                              expected="positive integers, such as mlp:512,512 (conv takes at least two)")  # fmt: skip
        return kind, widths


def prepare(
    data: Dataset,
    name: str = "auto",
    *,
    masked: str = "last",
    keep: float = 0.5,
    seed: int = 0,
    scheme: Scheme = "independent",
) -> tuple[nn.Module, Dataset]:
    """A ready-made model with turn-over dropout in place, and the dataset encoded for it.

    Args:
        data: with a "train" split, from which scaling and n-grams are taken.
        name: such as "mlp:512,512"; see ``ModelSpec``.
        masked: "last", "all", or a glob over module names.
        keep, seed, scheme: of the masks; the seed also initializes the weights.
    """
    return build(ModelSpec(name, masked, keep, seed, scheme), data, seed=seed)


def build(spec: ModelSpec, data: Dataset, *, seed: int) -> tuple[nn.Module, Dataset]:
    """As ``prepare``, from a ``ModelSpec``. The weights are drawn from ``seed``; torch's global generator is left alone."""
    kind, widths = spec.parse(data)
    if kind == "ngrams" and isinstance(data.inputs, TextInputs):
        data = NgramEncoder(data).encode(data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _BUILDERS[kind](data, widths)
    where = {"last": [f"body.{_last_activation(model)}"], "all": ["*relu*"]}.get(spec.masked, [spec.masked])
    attach(model, where, keep=spec.keep, seed=spec.seed, scheme=spec.scheme)
    model.whence_spec = spec  # type: ignore[assignment]  # so that fit can write down how to build it again
    return model, data


def encode_more(spec: ModelSpec, data: Dataset, more: Dataset) -> Dataset:
    """Further instances encoded as ``build`` encoded ``data``, which is not encoded yet."""
    return NgramEncoder(data).encode(more) if spec.parse(data)[0] == "ngrams" else more


def _last_activation(model: nn.Module) -> str:
    return [name for name, _ in model.get_submodule("body").named_children() if name.startswith("relu")][-1]


def _mlp(data: Dataset, widths: tuple[int, ...]) -> nn.Module:
    train = np.flatnonzero(data.splits == "train") if data.has_split("train") else np.arange(len(data))
    sample = data.inputs.gather(train[: 2**16])
    assert isinstance(sample, torch.Tensor)
    sample = sample.flatten(1).float()
    if data.images is not None:  # one scale for all pixels: edge pixels that hardly vary are not blown up
        standardize = Standardize(sample.mean(), sample.std().clamp_min(1e-3))
    else:
        standardize = Standardize.fit(sample)
    return MLP(sample.shape[1], widths, data.task.outputs, standardize)


def _conv(data: Dataset, widths: tuple[int, ...]) -> nn.Module:
    picture = data.inputs.gather(np.array([0]))
    assert isinstance(picture, torch.Tensor)
    channels, height, width = picture.shape[1:]
    return ConvNet((channels, height, width), widths, data.task.outputs)


def _ngrams(data: Dataset, widths: tuple[int, ...]) -> nn.Module:
    return NgramClassifier(int(data.inputs.matrix.shape[1]), widths, data.task.outputs)  # type: ignore[attr-defined]


_BUILDERS: dict[str, Callable[[Dataset, tuple[int, ...]], nn.Module]] = {"mlp": _mlp, "conv": _conv, "ngrams": _ngrams}
