"""From the description of an encoder and a dataset of texts to a module with its masks in place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from whence.attachment import attach
from whence.data import Dataset
from whence.data.inputs import TextInputs
from whence.errors import WhenceError
from whence.models.encoders.features import featured
from whence.models.encoders.folder import Encoder
from whence.models.encoders.placements import DEFAULT, HIDDEN, PLACEMENTS
from whence.models.encoders.tokens import tokenized
from whence.models.mlp import MLP, Standardize
from whence.models.spec import ModelSpec

__all__ = ["build", "encode"]

_MOST_STANDARDIZED = 2**16


def build(spec: ModelSpec, data: Dataset, *, seed: int) -> tuple[nn.Module, Dataset]:
    """The module, and the dataset as its tokens or features; see ``whence.models.build``.

    Raises:
        WhenceError: an unknown placement of masks; the encoder cannot be loaded or is not the one that ``spec`` names.
    """
    masked = DEFAULT if spec.masked == "auto" else spec.masked
    if masked not in ("frozen", *PLACEMENTS):
        raise WhenceError("unknown place of masks in an encoder", where="--masked", got=repr(spec.masked),
                          expected=f"{', '.join(PLACEMENTS)} or frozen")  # fmt: skip
    encoder = Encoder.find(spec.name)
    encoder.require(spec.encoder)
    spec = replace(spec, name=encoder.name, masked=masked, encoder=encoder.fingerprint)
    data = _encoded(encoder, spec, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if masked == "frozen":
            model = _on_features(data)
            where, options, keep = ["body.relu1"], {}, 0.5
        else:
            placement = PLACEMENTS[masked]
            model = placement.build(encoder, data.task.outputs)
            where, options, keep = placement.masked(model, data), placement.options, placement.keep
    if spec.keep is not None:
        keep = spec.keep
    elif spec.scheme == "balanced":
        keep = 0.5  # balanced masks are halves
    attach(model, where, keep=keep, seed=spec.seed, scheme=spec.scheme)
    model.whence_spec = replace(spec, keep=keep)  # type: ignore[assignment]  # so that fit can write down how to build it again
    model.whence_options = options  # type: ignore[assignment]  # and how it is best trained
    return model, data


def encode(spec: ModelSpec, more: Dataset) -> Dataset:
    """Further texts as ``build`` encoded those of ``spec``."""
    encoder = Encoder.find(spec.name)
    encoder.require(spec.encoder)
    return _encoded(encoder, spec, more)


def _encoded(encoder: Encoder, spec: ModelSpec, data: Dataset) -> Dataset:
    if isinstance(data.inputs, TextInputs):
        data = tokenized(encoder, data, spec.max_length)
        if spec.masked == "frozen":
            data = featured(encoder, data)
    return data


def _on_features(data: Dataset) -> nn.Module:
    """A wide head on features, standardized by those of the training split."""
    train = np.flatnonzero(data.splits == "train") if data.has_split("train") else np.arange(len(data))
    sample = data.inputs.gather(train[:_MOST_STANDARDIZED])
    assert isinstance(sample, torch.Tensor)
    return MLP(sample.shape[1], [HIDDEN], data.task.outputs, Standardize.fit(sample))
