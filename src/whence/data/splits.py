"""Splits and limits as pure functions of (seed, id): adding or reordering rows moves no instance.

Every draw is one Philox4x32-10 number, whose layout is a file format like that of ``whence.masks``:

    key      the first 8 bytes of BLAKE2b(person="whence.split.v1", seed as 8 bytes little-endian, purpose)
    counter  (0, 0, low 32 bits of id, high 32 bits of id)
    output   the first two words, the second above the first: 64 bits

With purpose "split" and the instance's id, or its group's where groups are kept together, the tenth of the
range in which the draw falls gives the split: 0 to 7 train, 8 dev, 9 test. When a training split is given
without a dev split, tenth 8 of the training instances becomes dev. With purpose
"limit" and the instance's id, a limit of n keeps the n smallest draws of a split: a smaller limit keeps a
part of what a larger one keeps.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from whence.errors import WhenceError
from whence.masks import philox4x32

__all__ = [
    "DROPPED",
    "LARGE",
    "LEFT_OUT",
    "UNUSED",
    "divide",
    "draw",
    "limited",
    "split_name",
    "together",
    "with_all_classes",
]

LARGE = 0.02
"""The share of rows above which a group is a source of many documents rather than one of many authors."""

DROPPED, UNUSED = LEFT_OUT = ("dropped", "unused")
"""Splits of rows that a marked table keeps and nobody reads."""

_NAMES = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("dev", "development", "validation", "valid", "val"), "dev"
)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_BY_TENTH = np.array(["train"] * 8 + ["dev", "test"], dtype=object)


def draw(ids: np.ndarray, *, seed: int, purpose: str) -> np.ndarray:
    """One random number of 64 bits per id: uint64 [N] for int64 [N]."""
    content = (seed & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little") + purpose.encode()
    digest = hashlib.blake2b(content, digest_size=8, person=b"whence.split.v1").digest()
    key = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")
    unsigned = ids.astype(np.int64, copy=False).view(np.uint64)
    zero = np.zeros(len(ids), np.uint64)
    low, high, _, _ = philox4x32((zero, zero, unsigned & _LOW, unsigned >> _HALF), key)
    drawn: np.ndarray = low | (high << _HALF)
    return drawn


def split_name(name: str) -> str:
    """A split's usual name: "train", "dev" or "test" for their synonyms in any case, others as they are."""
    return _NAMES.get(name.strip().lower(), name)


def together(groups: np.ndarray) -> bool:
    """Whether groups (int64 [N]) are small enough to be kept together: none holds more than ``LARGE`` of the rows.

    A draw of few large groups gives splits of any size, and leaves whole sources out of training.
    """
    return bool(np.unique(groups, return_counts=True)[1].max() <= LARGE * len(groups))


def with_all_classes(
    splits: np.ndarray, drawn: np.ndarray, codes: np.ndarray, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Splits in which no class is missing from train for want of luck: its instances are moved there.

    Args:
        splits: str [N].
        drawn: bool [N], whose split was drawn: only they are moved.
        codes: int64 [N], classes.
        ids: int64 [N], as divided: instances of equal ids are moved together.

    Returns:
        Splits [N], and int64: the classes that were missing and can be moved, in order.
    """
    absent = np.setdiff1d(codes[drawn], codes[splits == "train"])
    if not absent.size:
        return splits, absent
    moved = splits.copy()
    moved[drawn & np.isin(ids, ids[drawn & np.isin(codes, absent)])] = "train"
    return moved, absent


def divide(splits: np.ndarray | None, mask_ids: np.ndarray, *, seed: int, where: Any) -> np.ndarray:
    """The split of each instance, str [N].

    Args:
        splits: names [N] as the user wrote them; None draws train, dev and test in the ratio 80 : 10 : 10.
            Splits with "train" but without "dev" have a tenth of the training instances drawn as dev.
        mask_ids: int64 [N], the instance's own id, or its group; equal ones are never divided by a draw.
        seed: of the draw.
        where: the file, or its split column.

    Raises:
        WhenceError: no split is called train, or the draw leaves no training instance.
    """
    drawn = draw(mask_ids, seed=seed, purpose="split") >> _HALF
    tenth = ((drawn * np.uint64(10)) >> _HALF).astype(np.int64)
    if splits is None:
        result: np.ndarray = _BY_TENTH[tenth]
        if not (result == "train").any():
            raise WhenceError("no training instance after drawing the splits", where=where,
                              got=f"{len(np.unique(mask_ids))} ids or groups",
                              expected="enough to divide 80 : 10 : 10",
                              mend="Give a split column, or another --split-seed.")  # fmt: skip
        return result
    given = sorted(set(splits.tolist()))
    named = {name: split_name(name) for name in given}
    if "train" not in named.values():
        shown = ", ".join(map(repr, given[:10])) + (f" and {len(given) - 10} more" if len(given) > 10 else "")
        raise WhenceError("no split is called train", where=where, got=shown,
                          expected="train, and perhaps dev and test",
                          mend="Leave the column out with --split none to have splits drawn.")  # fmt: skip
    result = np.array([named[name] for name in splits], dtype=object)
    if "dev" not in named.values():
        train = result == "train"
        result[train & (tenth == 8)] = "dev"
        if not (result == "train").any():
            raise WhenceError("no training instance after drawing a dev split", where=where,
                              got=f"{len(np.unique(mask_ids[train]))} ids or groups",
                              expected="enough to take a tenth away",
                              mend="Name dev instances in the split column.")  # fmt: skip
    return result


def limited(splits: np.ndarray, ids: np.ndarray, limit: int, *, seed: int) -> np.ndarray:
    """The rows, in order, of at most ``limit`` instances of each split.

    Args:
        splits: str [N].
        ids: int64 [N]; their draws choose.
        limit: instances of each split.
        seed: of the draws.
    """
    drawn = draw(ids, seed=seed, purpose="limit")
    rows = np.lexsort((ids.view(np.uint64), drawn))
    kept = [rows[splits[rows] == name][:limit] for name in set(splits.tolist())]
    return np.sort(np.concatenate(kept))
