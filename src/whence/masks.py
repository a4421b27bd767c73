"""Which units instance i keeps in layer l: a pure function of (seed, layer, id, unit).

The random numbers are Philox4x32-10 (Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, SC 2011), a
counter-based generator in 32-bit integer arithmetic, so every device, dtype, batch order and world size draws the
same bits and none is ever stored. The layout below is a file format: changing it would void every saved run.

    key      the first 8 bytes of BLAKE2b(person="whence.mask.v1", seed as 8 bytes little-endian, domain, layer in UTF-8)
    counter  (block, 0, low 32 bits of id, high 32 bits of id)
    output   4 words of 32 bits = 128 bits, taken from the lowest bit of the first word upwards

    keep = 1/2   unit u is bit u mod 128 of block u // 128
    other rates  unit u reads 16 bits, number u mod 8 of block u // 8, and is kept when they are below round(keep·2^16)
    balanced     unit u reads 32 bits, number u mod 4 of block u // 4; the smaller half is kept (ties: lower unit first);
                 of an odd number of units the middle one is kept when its own lowest bit is set
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, cast, overload

import numpy as np
import torch

from whence.arguments import instance_of, one_of, seed_of, whole
from whence.errors import WhenceError

__all__ = ["Domain", "Scheme", "as_ids", "draw_bits", "exact_keep", "hash_id", "keep_bits", "mask_key", "philox4x32"]

Scheme: TypeAlias = Literal["independent", "balanced"]
Domain: TypeAlias = Literal["own", "random"]

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF
_COUNTERS_AT_ONCE = 8192  # per NumPy pass: six columns of uint64 stay in the second-level cache


def philox4x32(counter: Any, key: tuple[int, int], rounds: int = 10) -> tuple[Any, Any, Any, Any]:
    """Philox4x32: four words of 32 random bits for each counter.

    Args:
        counter: four arrays of words (values 0 … 2^32−1), NumPy uint64 or torch int64, of shapes that broadcast.
        key: two words.
        rounds: 10 in Philox4x32-10.

    Returns:
        Four arrays of words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    m0, m1 = _MULTIPLIERS
    for _ in range(rounds):
        # int64 wraps where uint64 does not, but the 64 bits of the product are the same; & drops the copied sign.
        p0, p1 = c0 * m0, c2 * m1
        c0, c1, c2, c3 = ((p1 >> 32) & _LOW) ^ c1 ^ k0, p1 & _LOW, ((p0 >> 32) & _LOW) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def hash_id(name: str) -> int:
    """A string id as an unsigned 64-bit integer: BLAKE2b of its UTF-8 bytes, 8 bytes, little-endian, person "whence.id"."""
    content = instance_of(name, str, "name").encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(content, digest_size=8, person=b"whence.id").digest()
    return int.from_bytes(digest, "little")


def as_ids(ids: Any) -> np.ndarray:
    """Ids of any accepted kind as int64 [N], keeping all 64 bits.

    Integers from −2^63 to 2^64−1 stand for themselves (those from 2^63 up share their bits with a negative number);
    strings are hashed with ``hash_id``. A scalar gives N = 1.

    Raises:
        WhenceError: floats (they cannot hold ids above 2^53), booleans, or integers of more than 64 bits.
    """
    if isinstance(ids, torch.Tensor):
        ids = ids.detach().cpu().numpy()
    if isinstance(ids, str | int | float | np.generic):
        ids = [ids]
    array = ids if isinstance(ids, np.ndarray) else None
    if array is not None and array.dtype.kind in "iu":
        return array.reshape(-1).astype(np.int64 if array.dtype.kind == "i" else np.uint64).view(np.int64)
    if array is not None and array.dtype.kind not in "OU":
        raise WhenceError("not an id", got=f"dtype {array.dtype}", expected="integers or strings",
                          mend="Convert ids to integers; floats lose them above 2^53.")  # fmt: skip
    flat = array.reshape(-1).tolist() if array is not None else list(ids) if isinstance(ids, Iterable) else [ids]
    for value in flat:
        if isinstance(value, bool | np.bool_) or not isinstance(value, str | int | np.integer):
            raise WhenceError("not an id", got=repr(value), expected="an integer or a string")
    words = [hash_id(str(value)) if isinstance(value, str) else int(value) for value in flat]
    if any(not -(2**63) <= word < 2**64 for word in words):
        raise WhenceError("an id of more than 64 bits", got=next(w for w in words if not -(2**63) <= w < 2**64),
                          mend="Use it as a string.")  # fmt: skip
    return np.array([word & 0xFFFFFFFFFFFFFFFF for word in words], dtype=np.uint64).view(np.int64)


def exact_keep(keep: float, scheme: Scheme = "independent") -> float:
    """The keep rate that the bits have exactly: a multiple of 2^−16.

    Raises:
        WhenceError: ``keep`` is outside 0.05 … 0.95, or not 0.5 in the balanced scheme.
    """
    number = isinstance(keep, int | float | np.number) and not isinstance(keep, bool)
    if not number or not 0.05 <= keep <= 0.95:
        raise WhenceError(
            "keep rate out of range", where="keep", got=keep if number else repr(keep), expected="0.05 to 0.95"
        )
    one_of(scheme, ("independent", "balanced"), "scheme")
    if scheme == "balanced" and keep != 0.5:
        raise WhenceError("the balanced scheme keeps half of the units", got=f"keep {keep}", expected="keep 0.5")
    return round(keep * 65536) / 65536


def mask_key(seed: int, layer: str, domain: Domain = "own") -> tuple[int, int]:
    """The Philox key of a layer: two words. Masks of training ids and random masks have different domains."""
    content = (
        (seed_of(seed) & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little")
        + one_of(domain, ("own", "random"), "domain").encode()
        + b"\0"
        + instance_of(layer, str, "layer").encode("utf-8", "surrogatepass")
    )
    digest = hashlib.blake2b(content, digest_size=8, person=b"whence.mask.v1").digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


@overload
def keep_bits(
    ids: torch.Tensor,
    units: int,
    *,
    seed: int,
    layer: str,
    keep: float = ...,
    scheme: Scheme = ...,
    domain: Domain = ...,
) -> torch.Tensor: ...
@overload
def keep_bits(
    ids: Any, units: int, *, seed: int, layer: str, keep: float = ..., scheme: Scheme = ..., domain: Domain = ...
) -> np.ndarray: ...
def keep_bits(
    ids: Any,
    units: int,
    *,
    seed: int,
    layer: str,
    keep: float = 0.5,
    scheme: Scheme = "independent",
    domain: Domain = "own",
) -> Any:
    """Which units each instance keeps.

    Args:
        ids: B ids: integers of 64 bits, signed or unsigned, or strings. A torch tensor of integers is answered
            on its own device.
        units: D, how many units the layer has.
        seed: of the run; an integer of 64 bits.
        layer: the name of the masked layer; layers have unrelated masks.
        keep: share of units kept, 0.05 to 0.95, honoured to 2^−16.
        scheme: "independent" draws each unit by itself; "balanced" keeps exactly half (keep 0.5 only).
        domain: "own" for instances; "random" for masks that belong to no instance.

    Returns:
        bool [B, D]: a NumPy array, or a tensor on the device of ``ids`` if those are a tensor.

    Raises:
        WhenceError: ids that are neither integers nor strings, a keep rate out of range, units below 1.

    >>> keep_bits([7, "review-12"], 6, seed=0, layer="classifier.2").shape
    (2, 6)
    """
    keep = exact_keep(keep, scheme)
    units = whole(units, "units", high=2**31 - 1)
    if isinstance(ids, torch.Tensor):
        if ids.dtype.is_floating_point or ids.dtype == torch.bool:
            raise WhenceError("not an id", got=f"dtype {ids.dtype}", expected="a tensor of integers")
        ids = ids.reshape(-1).view(torch.int64) if ids.dtype == torch.uint64 else ids.reshape(-1).long()
    else:
        ids = as_ids(ids)
    return draw_bits(ids, units, mask_key(seed, layer, domain), keep, scheme)


def draw_bits(ids: Any, units: int, key: tuple[int, int], keep: float, scheme: Scheme) -> Any:
    """``keep_bits`` for int64 ids [B] (array or tensor) and a key that is known: nothing is checked, torch.compile follows it."""
    if not isinstance(ids, torch.Tensor):
        return _numpy_bits(ids, units, key, keep, scheme)
    if torch.compiler.is_compiling():
        # Opaque to the compiler: Inductor narrows 64-bit integer products to 32 bits and would draw other bits.
        return _opaque_bits(ids, units, *key, keep, scheme)
    return _torch_bits(ids, units, key, keep, scheme)


@torch.library.custom_op("whence::keep_bits", mutates_args=())
def _opaque_bits(ids: torch.Tensor, units: int, key0: int, key1: int, keep: float, scheme: str) -> torch.Tensor:
    key, known = (key0, key1), cast(Scheme, scheme)
    if ids.device.type == "cpu":
        return torch.from_numpy(_numpy_bits(ids.numpy(), units, key, keep, known))
    return _torch_bits(ids, units, key, keep, known).contiguous()


@_opaque_bits.register_fake
def _(ids: torch.Tensor, units: int, key0: int, key1: int, keep: float, scheme: str) -> torch.Tensor:
    return ids.new_empty((ids.shape[0], units), dtype=torch.bool)


def _bits_per_unit(keep: float, scheme: Scheme) -> int:
    return 32 if scheme == "balanced" else 1 if keep == 0.5 else 16


def _numpy_words(ids: np.ndarray, blocks: int, key: tuple[int, int]) -> np.ndarray:
    """Philox words, uint32 [B, 4·blocks]."""
    words = np.empty((len(ids) * blocks, 4), np.uint32)
    unsigned = ids.view(np.uint64)
    rows = max(1, _COUNTERS_AT_ONCE // blocks)
    for start in range(0, len(ids), rows):
        part = unsigned[start : start + rows]
        block = np.tile(np.arange(blocks, dtype=np.uint64), len(part))
        low, high = np.repeat(part & np.uint64(_LOW), blocks), np.repeat(part >> np.uint64(32), blocks)
        drawn = _philox4x32_in_place(block, np.zeros_like(block), low, high, key)
        for word, values in enumerate(drawn):
            words[start * blocks : start * blocks + len(block), word] = values
    return words.reshape(len(ids), 4 * blocks)


def _philox4x32_in_place(
    c0: np.ndarray, c1: np.ndarray, c2: np.ndarray, c3: np.ndarray, key: tuple[int, int]
) -> tuple[np.ndarray, ...]:
    """``philox4x32`` for uint64 [n] counters that it may overwrite: half the memory traffic."""
    m0, m1 = (np.uint64(multiplier) for multiplier in _MULTIPLIERS)
    low, half = np.uint64(_LOW), np.uint64(32)
    k0, k1 = key
    p0, p1 = np.empty_like(c0), np.empty_like(c0)
    for _ in range(10):
        np.multiply(c0, m0, out=p0)
        np.multiply(c2, m1, out=p1)
        np.right_shift(p1, half, out=c0)
        c0 ^= c1
        c0 ^= np.uint64(k0)
        np.bitwise_and(p1, low, out=c1)
        np.right_shift(p0, half, out=c2)
        c2 ^= c3
        c2 ^= np.uint64(k1)
        np.bitwise_and(p0, low, out=c3)
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def _numpy_bits(ids: np.ndarray, units: int, key: tuple[int, int], keep: float, scheme: Scheme) -> np.ndarray:
    width = _bits_per_unit(keep, scheme)
    words = _numpy_words(ids, -(-units * width // 128), key).astype("<u4", copy=False)
    if width == 1:
        return np.unpackbits(words.view(np.uint8), axis=1, count=units, bitorder="little").view(bool)
    if width == 16:
        return words.view("<u2")[:, :units] < np.uint16(round(keep * 65536))
    drawn = (words[:, :units].astype(np.int64) << 31) | np.arange(units)
    kept = drawn < np.partition(drawn, units // 2, axis=1)[:, units // 2, None]
    if units % 2:
        middle = drawn.argpartition(units // 2, axis=1)[:, units // 2]
        row = np.arange(len(ids))
        kept[row, middle] = (words[row, middle] & 1).astype(bool)
    return kept


def _torch_bits(ids: torch.Tensor, units: int, key: tuple[int, int], keep: float, scheme: Scheme) -> torch.Tensor:
    width = _bits_per_unit(keep, scheme)
    block = torch.arange(-(-units * width // 128), device=ids.device)[None, :]
    low, high = (ids & _LOW)[:, None], ((ids >> 32) & _LOW)[:, None]
    zero = torch.zeros_like(low)
    words = torch.stack(philox4x32((block + zero, zero, low, high), key), dim=-1)
    words = words.reshape(len(ids), 4 * words.shape[1])  # [B, 4·blocks]
    if width == 1:
        bits = (words[..., None] >> torch.arange(32, device=ids.device)) & 1
        return bits.reshape(len(ids), bits.shape[1] * 32)[:, :units].bool()
    if width == 16:
        halves = torch.stack((words & 0xFFFF, words >> 16), dim=-1).reshape(len(ids), 2 * words.shape[1])
        return halves[:, :units] < round(keep * 65536)
    drawn = (words[:, :units] << 31) | torch.arange(units, device=ids.device)
    order = drawn.sort(dim=1)
    middle = order.values[:, units // 2, None]
    kept = drawn < middle
    if units % 2:
        kept = kept | ((drawn == middle) & ((words[:, :units] & 1) == 1))
    return kept
