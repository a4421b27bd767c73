"""Which rows a retraining keeps: pure functions of (seed, number of the subset, id), as masks are.

    key      the first 8 bytes of BLAKE2b(person="whence.subset.v1", seed as 8 bytes little-endian)
    counter  (subset, 0, low 32 bits of id, high 32 bits of id)
    output   the first 2 words = 64 bits; a subset keeps the ids that drew the smallest numbers

So the order of the data does not matter, and a hundred subsets begin with the fifty of the same seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from whence.errors import WhenceError
from whence.masks import as_ids, philox4x32

__all__ = ["MOST", "draw_rows", "left_out", "random_subsets", "training_seed"]

MOST = 10**6  # subsets, or trainings of each
_LOW = np.uint64(0xFFFFFFFF)
_DRAWN_ROWS = 2**32 - 1  # the counter of ``draw_rows``, which no subset reaches


def random_subsets(ids: np.ndarray, count: int, fraction: float, seed: int) -> np.ndarray:
    """Subsets of exactly round(fraction · N) rows each: bool [count, N].

    Args:
        ids: int64 [N], unique.
        fraction: share of rows that a subset keeps; at least one row is kept and one left out.

    Raises:
        WhenceError: fewer than two rows.
    """
    if len(ids) < 2:
        raise WhenceError("too few rows to divide", where="the training data", got=len(ids), expected="at least 2")
    size = int(np.clip(round(fraction * len(ids)), 1, len(ids) - 1))
    members = np.zeros((count, len(ids)), bool)
    for subset in range(count):
        members[subset, _order(ids, subset, seed)[:size]] = True
    return members


def draw_rows(ids: np.ndarray, count: int, seed: int) -> np.ndarray:
    """``count`` ids drawn at random without replacement (all, when there are no more): int64 [count], in the data's order."""
    drawn: np.ndarray = ids[np.sort(_order(ids, _DRAWN_ROWS, seed)[:count])]
    return drawn


def left_out(ids: np.ndarray, lists: Sequence[Any]) -> np.ndarray:
    """All rows, then all rows but those of each list of ids: bool [1 + len(lists), N].

    Raises:
        WhenceError: an id that is not there, an empty list, or one that leaves no row.
    """
    position = {int(row_id): row for row, row_id in enumerate(ids)}
    members = np.ones((1 + len(lists), len(ids)), bool)
    for number, wanted in enumerate(lists, start=1):
        for row_id in as_ids(wanted):
            if int(row_id) not in position:
                raise WhenceError("no training row of that id", where="rows", got=int(row_id))
            members[number, position[int(row_id)]] = False
        if members[number].all() or not members[number].any():
            raise WhenceError("a removal of nothing or of everything", where=f"rows, list {number - 1}",
                              got=f"{(~members[number]).sum()} of {len(ids)} rows")  # fmt: skip
    return members


def training_seed(seed: int, number: int) -> int:
    """The seed of the retrainings of one number, the same for all subsets: 31 bits.

    Subsets are compared under one initialization and one set of masks, so that what differs is the data.
    """
    digest = hashlib.blake2b(f"{seed} {number}".encode(), digest_size=4, person=b"whence.retrain").digest()
    return int.from_bytes(digest, "little") & 0x7FFFFFFF


def _order(ids: np.ndarray, subset: int, seed: int) -> np.ndarray:
    """Rows from the smallest number drawn to the largest: int64 [N]."""
    key = hashlib.blake2b((seed % 2**64).to_bytes(8, "little"), digest_size=8, person=b"whence.subset.v1")
    words = (int.from_bytes(key.digest()[:4], "little"), int.from_bytes(key.digest()[4:], "little"))
    unsigned = ids.view(np.uint64)
    constant = np.array([subset], np.uint64), np.zeros(1, np.uint64)
    high, low, _, _ = philox4x32((*constant, unsigned & _LOW, unsigned >> np.uint64(32)), words)
    return np.lexsort((unsigned, low, high))
