"""Encoders of Hugging Face transformers: found on disk, given a head and masks, trained whole or in small parts."""

from whence.models.encoders.building import build, encode

__all__ = ["build", "encode"]
