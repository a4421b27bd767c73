"""Summaries of blocks: the same whatever the tiles, and as a full sort of the whole block says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence.summaries import Summary


def summary_of(block, k, weights, cuts, start=0):
    summary = Summary(start, len(block), k, weights)
    assert all(summary.fold(tile) for tile in np.split(block, cuts))
    return {name: value.numpy() for name, value in summary.entries().items()}


@settings(max_examples=150, deadline=None)
@given(rows=st.integers(1, 400), columns=st.integers(1, 40), k=st.integers(1, 30), ties=st.booleans(), data=st.data())
def test_tiles_make_the_summary_of_the_whole(rows, columns, k, ties, data):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    block = random.normal(size=(rows, columns)).astype(np.float32)
    block = block.round(1) if ties else block
    weights = random.random(columns)
    cuts = sorted(data.draw(st.lists(st.integers(1, rows), max_size=6, unique=True)))
    cuts = [cut for cut in cuts if cut < rows]
    found = summary_of(block, k, weights, cuts, start=1000)
    for name, signed in (("helpful", -block), ("harmful", block)):
        order = np.argsort(signed, axis=0, kind="stable")[: min(k, rows)]  # of equal ones the first
        np.testing.assert_array_equal(found[f"{name}_rows"], order + 1000)
        np.testing.assert_array_equal(found[f"{name}_values"], np.take_along_axis(block, order, 0))
    np.testing.assert_allclose(found["row_sum"], block.sum(1, dtype=np.float64), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["even_sum"], block.astype(np.float64) @ weights, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("columns", [3, 70_000])  # more than 2¹⁶ are told apart otherwise
def test_few_extremes_late_in_a_block(columns):
    random = np.random.default_rng(0)
    block = random.normal(size=(300, columns)).astype(np.float32)
    block[250, 1], block[299, 2], block[280, 1] = 50, -60, 70
    found = summary_of(block, 2, np.ones(columns), [100, 200, 280])
    assert found["helpful_rows"][:, 1].tolist() == [280, 250]
    assert found["harmful_rows"][0, 2] == 299
    expected = np.sort(block, axis=0)[::-1][:2]
    np.testing.assert_array_equal(found["helpful_values"], expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_taken(bad):
    summary = Summary(0, 10, 3, np.ones(4))
    tile = np.ones((5, 4), np.float32)
    assert summary.fold(tile)
    tile = tile.copy()
    tile[3, 2] = bad
    assert not summary.fold(tile)
    huge = np.full((5, 4), 3e38, np.float32)  # finite, though its sum is not in single precision
    assert summary.fold(huge)
    assert summary.entries()["helpful_rows"][:, 0].tolist() == [5, 6, 7]


def test_extremes_that_keep_coming_in_one_column():
    """In the first column every row is above those before it, in the second below: what waits is of very different lengths."""
    block = np.random.default_rng(0).normal(size=(2000, 300)).astype(np.float32).round(2)
    block[:, 0], block[:, 1] = np.arange(2000), -np.arange(2000)
    found = summary_of(block, 3, np.ones(300), list(range(100, 2000, 50)))
    for name, signed in (("helpful", -block), ("harmful", block)):
        order = np.argsort(signed, axis=0, kind="stable")[:3]
        np.testing.assert_array_equal(found[f"{name}_rows"], order)
        np.testing.assert_array_equal(found[f"{name}_values"], np.take_along_axis(block, order, 0))
