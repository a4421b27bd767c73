"""Hashes that tell data, weights and settings apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch

__all__ = ["digest", "digest_tensors"]


def digest(*parts: object) -> str:
    """A hash of JSON values: 32 hexadecimal digits."""
    content = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def digest_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """A hash of names, types, shapes and values: 32 hexadecimal digits."""
    state = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        state.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()
