"""What a frozen encoder makes of texts, computed once and kept on disk.

    CACHE/KEY.npy    float32 [N, H], the pooled features of N rows of tokens

CACHE is the directory WHENCE_CACHE, else ~/.cache/whence/features. KEY is a hash of the encoder's files, the tokens and how they
are pooled, so features of other texts or of a changed encoder are never taken. A file is written aside and renamed, and read
without pickles, a few rows at a time.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whence.data import Dataset
from whence.data.inputs import to_device
from whence.data.tokens import FeatureInputs, TokenInputs, together, tokens_at_once
from whence.fingerprints import digest
from whence.forward import evaluating
from whence.models.encoders.folder import Encoder
from whence.models.encoders.network import pooled
from whence.whole_files import write_aside

__all__ = ["featured"]

_POOLING = "mean of the last hidden states, version 1"


def featured(encoder: Encoder, data: Dataset) -> Dataset:
    """The dataset of ``TokenInputs`` with ``FeatureInputs`` in their place."""
    tokens = data.inputs
    assert isinstance(tokens, TokenInputs)
    path = _cache() / f"{_key(encoder, tokens)}.npy"
    array = _read(path, (len(tokens), encoder.width))
    if array is None:
        with write_aside(path) as aside:
            _compute(encoder, tokens, aside)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    return replace(data, inputs=FeatureInputs(array, np.arange(len(tokens)), tokens, encoder.fingerprint))


def _cache() -> Path:
    given = os.environ.get("WHENCE_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "whence" / "features"


def _key(encoder: Encoder, tokens: TokenInputs) -> str:
    return digest(_POOLING, encoder.fingerprint, tokens.fingerprint())


def _read(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The features of a file; None where there is none, or a damaged one."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape and array.dtype == np.float32 else None


def _compute(encoder: Encoder, tokens: TokenInputs, path: Path) -> None:
    """Write the features of all rows, those of like length together, so that little is padding."""
    with torch.random.fork_rng(devices=[]):
        base = encoder.load()
    if torch.cuda.is_available():
        base.cuda()
    device = next(base.parameters()).device
    described = {"descr": "<f4", "fortran_order": False, "shape": (len(tokens), encoder.width)}
    # Not by a memory map: where the disk is full, that ends the process without a word.
    with evaluating(base), torch.no_grad(), open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, described)
        first, size = file.tell(), 4 * encoder.width
        for rows in together(tokens.lengths, np.arange(len(tokens)), 256, tokens_at_once(device)):
            given: Any = to_device(tokens.gather(rows), device)
            states = base(**given).last_hidden_state  # (B, L, H)
            features = pooled(states, given["attention_mask"]).cpu().numpy().astype("<f4", copy=False)
            for row, feature in zip(rows.tolist(), features, strict=True):
                file.seek(first + size * row)
                file.write(feature.tobytes())
