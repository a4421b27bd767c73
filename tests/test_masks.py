"""Masks are a pure function of (seed, layer, id, unit): the generator, the layout, and the statistics."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whence.dropout import TurnOverDropout
from whence.errors import WhenceError
from whence.masks import as_ids, exact_keep, hash_id, keep_bits, mask_key, philox4x32

ANY_ID = st.integers(-(2**63), 2**64 - 1)
FULL = 0xFFFFFFFF

# Random123's kat_vectors, "philox4x32 10": counter, key, expected.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((FULL, FULL, FULL, FULL), (FULL, FULL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]  # fmt: skip


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers(counter, key, expected):
    for words in (
        philox4x32(tuple(np.array([word], np.uint64) for word in counter), key),
        philox4x32(tuple(torch.tensor([word]) for word in counter), key),
    ):
        assert tuple(int(word[0]) for word in words) == expected


def plain_bits(id, units, *, seed, layer, keep=0.5, scheme="independent"):
    """The documented layout, bit by bit, in Python integers."""
    id &= 2**64 - 1
    content = (seed & (2**64 - 1)).to_bytes(8, "little") + b"own\0" + layer.encode()
    digest = hashlib.blake2b(content, digest_size=8, person=b"whence.mask.v1").digest()
    key = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")

    def number(position, width):
        first = position * width
        counter = (first // 128, 0, id & FULL, id >> 32)
        words = [int(word) for word in plain_philox(counter, key)]
        stream = sum(word << (32 * i) for i, word in enumerate(words))
        return (stream >> (first % 128)) & (2**width - 1)

    if scheme == "balanced":
        order = sorted(range(units), key=lambda unit: (number(unit, 32), unit))
        kept = set(order[: units // 2])
        if units % 2 and number(order[units // 2], 32) & 1:
            kept.add(order[units // 2])
        return [unit in kept for unit in range(units)]
    if keep == 0.5:
        return [number(unit, 1) == 1 for unit in range(units)]
    return [number(unit, 16) < round(keep * 65536) for unit in range(units)]


def plain_philox(counter, key):
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        p0, p1 = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & FULL, (p0 >> 32) ^ c[3] ^ k1, p0 & FULL]
        k0, k1 = (k0 + 0x9E3779B9) & FULL, (k1 + 0xBB67AE85) & FULL
    return c


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(ANY_ID, min_size=1, max_size=3),
    units=st.integers(1, 300),
    seed=ANY_ID,
    layer=st.text(max_size=12),
    kind=st.sampled_from([{}, {"keep": 0.05}, {"keep": 0.3}, {"keep": 0.95}, {"scheme": "balanced"}]),
)
def test_layout_in_numpy_and_torch(ids, units, seed, layer, kind):
    expected = [plain_bits(id, units, seed=seed, layer=layer, **kind) for id in ids]
    numpy_bits = keep_bits(ids, units, seed=seed, layer=layer, **kind)
    assert numpy_bits.dtype == bool
    assert numpy_bits.tolist() == expected
    torch_bits = keep_bits(torch.from_numpy(as_ids(ids)), units, seed=seed, layer=layer, **kind)
    assert torch_bits.dtype == torch.bool
    assert torch_bits.tolist() == expected


def test_bits_are_frozen():
    """The layout is a file format: these bits may never change."""
    bits = keep_bits([0, -1, 2**63, "review-12"], 1000, seed=7, layer="classifier.2")
    balanced = keep_bits([5], 33, seed=7, layer="x", scheme="balanced")
    rated = keep_bits([5], 1000, seed=7, layer="x", keep=0.3)
    assert hashlib.blake2b(np.packbits(bits), digest_size=8).hexdigest() == "008eecc58229d851"
    assert hashlib.blake2b(np.packbits(balanced), digest_size=8).hexdigest() == "eaa2330c1fda6e53"
    assert hashlib.blake2b(np.packbits(rated), digest_size=8).hexdigest() == "4a2e0233a840b96f"


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("kind", [{}, {"keep": 0.3}, {"scheme": "balanced"}])
def test_same_bits_compiled(count, kind):
    """Inductor narrows integer products; masks must not notice."""

    def masked(ids, features):
        return features * keep_bits_of(ids)

    layer = TurnOverDropout("x", **kind)
    layer.eval()(torch.ones(1, 300))
    keep_bits_of = layer.bits
    ids, features = torch.arange(count) + 12345, torch.randn(count, 300)
    assert torch.equal(torch.compile(masked, fullgraph=True)(ids, features), masked(ids, features))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", [{}, {"keep": 0.3}, {"scheme": "balanced"}])
def test_same_bits_on_cuda(kind):
    ids = torch.tensor([0, 1, -1, 2**62, -(2**63)])
    on_cpu = keep_bits(ids, 777, seed=3, layer="x", **kind)
    assert torch.equal(keep_bits(ids.cuda(), 777, seed=3, layer="x", **kind).cpu(), on_cpu)


def test_same_bits_in_another_process():
    code = "from whence.masks import keep_bits; print(keep_bits(['a', 3], 64, seed=1, layer='l').astype(int).tolist())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(keep_bits(["a", 3], 64, seed=1, layer="l").astype(int).tolist())


def test_each_row_depends_on_its_id_alone():
    ids = np.random.default_rng(0).integers(-(2**63), 2**63, 5000)
    whole = keep_bits(ids, 70, seed=0, layer="x")
    order = np.random.default_rng(1).permutation(len(ids))
    assert np.array_equal(keep_bits(ids[order], 70, seed=0, layer="x"), whole[order])
    assert np.array_equal(keep_bits(ids[17:18], 70, seed=0, layer="x"), whole[17:18])


@pytest.mark.parametrize("start", [0, 2**24, 2**32 - 500, 2**53, 2**63 - 500, 2**64 - 1000])
def test_neighbours_have_unrelated_masks(start):
    """Agreement of neighbouring ids is binomial: the authors' hash gave whole runs of ids one mask beyond 2^24."""
    bits = keep_bits(np.arange(1000, dtype=np.uint64) + np.uint64(start), 1024, seed=0, layer="x")
    for lag in (1, 2, 16):
        agreement = (bits[lag:] == bits[:-lag]).mean(axis=1)
        assert abs(agreement.mean() - 0.5) < 4 * 0.5 / np.sqrt(agreement.size * 1024)
        assert agreement.max() < 0.5 + 6 * 0.5 / 32
    assert len(np.unique(np.packbits(bits, axis=1), axis=0)) == 1000


@pytest.mark.parametrize("keep", [0.05, 0.1, 0.25, 0.5, 0.7, 0.95])
def test_keep_rate_is_honoured(keep):
    bits = keep_bits(np.arange(4000), 500, seed=0, layer="x", keep=keep)
    standard_error = np.sqrt(keep * (1 - keep) / bits.size)
    assert abs(bits.mean() - keep) < 4 * standard_error
    per_unit = (bits.mean(axis=0) - keep) / np.sqrt(keep * (1 - keep) / len(bits))
    assert np.abs(per_unit).max() < 5
    assert 0.8 < per_unit.var() < 1.2


def test_units_are_uncorrelated():
    bits = keep_bits(np.arange(8000), 256, seed=0, layer="x").astype(np.float64)
    correlation = np.corrcoef(bits, rowvar=False)[np.triu_indices(256, 1)]
    assert abs(correlation.mean()) < 4 / np.sqrt(8000 * len(correlation))
    assert np.abs(correlation).max() < 5.5 / np.sqrt(8000)


def test_layers_seeds_and_domains_are_unrelated():
    def bits(**changed):
        return keep_bits(np.arange(500), 512, **{"seed": 0, "layer": "a", **changed})

    base = bits()
    for other in (
        bits(layer="b"),
        bits(layer="a.1"),
        bits(seed=1),
        bits(seed=2**32),
        bits(seed=-1),
        bits(domain="random"),
    ):
        assert abs((base == other).mean() - 0.5) < 4 * 0.5 / np.sqrt(base.size)
    assert mask_key(1, "2") != mask_key(12, "")


@pytest.mark.parametrize("units", [2, 64, 65, 513])
def test_balanced_keeps_half(units):
    bits = keep_bits(np.arange(6000), units, seed=0, layer="x", scheme="balanced")
    kept = bits.sum(axis=1)
    assert set(kept) <= {units // 2, (units + 1) // 2}
    assert abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(6000)


def test_strings_are_hashed_as_documented():
    expected = int.from_bytes(hashlib.blake2b("Grüße".encode(), digest_size=8, person=b"whence.id").digest(), "little")
    assert hash_id("Grüße") == expected
    assert as_ids(["Grüße"]).view(np.uint64)[0] == expected
    assert hash_id("7") != 7
    assert as_ids("abc").shape == (1,)
    assert hash_id("\ud800") != hash_id("?")  # a lone surrogate is an id like any other


@given(st.lists(ANY_ID, min_size=1, max_size=5))
def test_ids_keep_their_64_bits(ids):
    assert [int(value) for value in as_ids(ids).view(np.uint64)] == [id % 2**64 for id in ids]


def test_id_types():
    assert as_ids(np.array([2**63 + 5], np.uint64))[0] == -(2**63) + 5
    assert as_ids(np.array([-3], np.int8))[0] == -3
    assert as_ids(torch.tensor([4, 5])).tolist() == [4, 5]
    assert as_ids(np.array([3, "x"], dtype=object))[0] == 3
    bad_arrays = [
        np.array([1.2, 1.9], dtype=object),
        np.array([b"12"]),
        np.array(["2020-01-01"], "M8"),
        np.array([None]),
    ]
    for bad in (
        [1.0],
        np.array([1.5]),
        torch.tensor([1.0]),
        [True],
        np.array([True]),
        [None],
        1.5,
        np.float64(2),
        *bad_arrays,
    ):
        with pytest.raises(WhenceError, match="not an id"):
            as_ids(bad)
    with pytest.raises(WhenceError, match="more than 64 bits.*Use it as a string"):
        as_ids([2**64])
    with pytest.raises(WhenceError, match="not an id: got dtype torch.float32"):
        keep_bits(torch.tensor([1.0]), 3, seed=0, layer="x")


def test_bad_options():
    for keep in (0.0, 0.04, 0.96, 1.0, float("nan")):
        with pytest.raises(WhenceError, match=r"keep rate out of range.*0\.05 to 0\.95"):
            exact_keep(keep)
    with pytest.raises(WhenceError, match="balanced scheme keeps half"):
        keep_bits([1], 4, seed=0, layer="x", keep=0.4, scheme="balanced")
    with pytest.raises(WhenceError, match="unknown scheme"):
        keep_bits([1], 4, seed=0, layer="x", scheme="other")
    with pytest.raises(WhenceError, match="out of range in units: got 0"):
        keep_bits([1], 0, seed=0, layer="x")
    with pytest.raises(
        WhenceError, match="out of range in seed: got 18446744073709551616, expected an integer of 64 bits"
    ):
        keep_bits([1], 4, seed=2**64, layer="x")
    for nothing in ([], torch.empty(0, dtype=torch.int64)):
        for kind in ({}, {"keep": 0.3}, {"scheme": "balanced"}):
            assert keep_bits(nothing, 4, seed=np.int64(0), layer="x", **kind).shape == (0, 4)
