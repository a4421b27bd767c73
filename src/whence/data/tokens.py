"""Texts as token numbers, and as features of an encoder that is not trained: inputs of transformer models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch

from whence.data.inputs import ModelInputs

__all__ = ["FeatureInputs", "TokenInputs", "together", "tokens_at_once"]


def tokens_at_once(device: torch.device) -> int:
    """How many tokens a pass is given at once, padding counted: as many as a processor's caches like, or a card's cores."""
    return 2**11 if device.type == "cpu" else 2**14


def together(lengths: np.ndarray, rows: np.ndarray, size: int, tokens: int) -> list[np.ndarray]:
    """Texts in batches of like length, so that little is padding.

    Args:
        lengths: int64 [N], of all texts.
        rows: int64 [B], of those in question.
        size: rows of a batch, at most.
        tokens: of a batch with its padding, at most (of one row alone, as many as it has).

    Returns:
        int64 arrays that hold each of ``rows`` once, the shortest first.
    """
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    ends, start = [], 0
    for place, length in enumerate(lengths[rows].tolist()):
        if place - start >= max(1, min(size, tokens // max(1, length))):
            ends.append(start := place)
    return np.split(rows, ends)


class TokenInputs:
    """Rows of token numbers of different lengths, gathered as the keyword arguments of a transformer.

    A batch is padded to its own longest row, not to that of the data: input_ids, attention_mask and, of models that tell two
    sentences apart, token_type_ids, each int64 [B, L].

    Args:
        tokens: int32 [T], all rows one after the other.
        starts: int64 [N + 1], where each row begins, and T.
        kinds: int8 [T], which sentence a token belongs to; None for models that are not told.
        padding: the token number of padding.
    """

    def __init__(self, tokens: np.ndarray, starts: np.ndarray, kinds: np.ndarray | None, padding: int) -> None:
        self.tokens, self.starts, self.kinds, self.padding = tokens, starts, kinds, padding

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N], tokens of each row."""
        return np.diff(self.starts)

    def gather(self, rows: np.ndarray) -> dict[str, ModelInputs]:
        filled, source = self._places(rows)
        ids = np.full(filled.shape, self.padding, np.int64)
        ids[filled] = self.tokens[source]
        given: dict[str, ModelInputs] = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(filled.astype(np.int64)),
        }
        if self.kinds is not None:
            kinds = np.zeros(filled.shape, np.int64)
            kinds[filled] = self.kinds[source]
            given["token_type_ids"] = torch.from_numpy(kinds)
        return given

    def select(self, rows: np.ndarray) -> TokenInputs:
        _, source = self._places(rows)
        starts = np.concatenate([[0], np.cumsum(self.lengths[rows])]).astype(np.int64)
        kinds = None if self.kinds is None else self.kinds[source]
        return TokenInputs(self.tokens[source], starts, kinds, self.padding)

    def chunks(self) -> Iterator[bytes | memoryview]:
        yield f"tokens {self.padding}".encode()
        yield self.lengths.tobytes()
        yield np.ascontiguousarray(self.tokens).data
        if self.kinds is not None:
            yield np.ascontiguousarray(self.kinds).data

    def fingerprint(self) -> str:
        """A hash of the rows: 32 hexadecimal digits."""
        state = hashlib.blake2b(digest_size=16)
        for chunk in self.chunks():
            state.update(chunk)
        return state.hexdigest()

    def _places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """bool [B, L], where a batch has tokens, and where these are among all: int64 [tokens of the batch]."""
        rows = np.asarray(rows, np.int64)
        lengths = self.lengths[rows]
        within = np.arange(max(1, int(lengths.max(initial=0))))
        filled = within < lengths[:, None]
        return filled, (self.starts[:-1][rows][:, None] + within)[filled]


class FeatureInputs:
    """What a frozen encoder makes of texts: rows of an array that may lie on disk.

    The data fingerprint is that of the tokens and the encoder: the last bits of features differ between machines.

    Args:
        array: float32 [K, H].
        rows: int64 [N], rows of the array.
        tokens: N rows, which the features were made from.
        encoder: the fingerprint of the encoder.
    """

    def __init__(self, array: np.ndarray, rows: np.ndarray, tokens: TokenInputs, encoder: str) -> None:
        self.array, self.rows, self.tokens, self.encoder = array, rows, tokens, encoder

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self.array[self.rows[rows]], np.float32))

    def select(self, rows: np.ndarray) -> FeatureInputs:
        return FeatureInputs(self.array, self.rows[rows], self.tokens.select(rows), self.encoder)

    def chunks(self) -> Iterator[bytes | memoryview]:
        yield f"features of {self.encoder}".encode()
        yield from self.tokens.chunks()
