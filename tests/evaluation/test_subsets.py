"""Subsets depend on the seed, their number and ids alone."""

from __future__ import annotations

import numpy as np
import pytest

from whence import WhenceError
from whence.evaluation.subsets import draw_rows, left_out, random_subsets, training_seed

IDS = np.arange(40, dtype=np.int64) * 7919 - 2**40


def test_subsets_are_stable_and_extend():
    ten, more = (random_subsets(IDS, count, 0.3, seed=5) for count in (10, 25))
    np.testing.assert_array_equal(ten, more[:10])
    assert (more.sum(axis=1) == 12).all()
    assert len(np.unique(more, axis=0)) == 25
    assert (random_subsets(IDS, 10, 0.3, seed=6) != ten).any()
    shuffled = np.random.default_rng(0).permutation(40)
    np.testing.assert_array_equal(random_subsets(IDS[shuffled], 10, 0.3, seed=5), ten[:, shuffled])
    # Frozen: a change of the generator would void every directory of retrainings.
    assert np.flatnonzero(random_subsets(np.arange(8), 2, 0.5, seed=0)).tolist() == [0, 2, 3, 4, 8, 9, 11, 14]
    assert training_seed(0, 0) != training_seed(0, 1) != training_seed(1, 0)


def test_every_row_is_kept_equally_often():
    share = random_subsets(IDS, 4000, 0.5, seed=0).mean(axis=0)
    assert np.abs(share - 0.5).max() < 5 * 0.5 / np.sqrt(4000)


def test_drawn_rows():
    drawn = draw_rows(IDS, 7, seed=3)
    assert len(set(drawn.tolist())) == 7 and set(drawn.tolist()) <= set(IDS.tolist())
    assert set(draw_rows(IDS, 9, seed=3).tolist()) > set(drawn.tolist())
    assert len(draw_rows(IDS, 99, seed=3)) == 40


def test_left_out():
    members = left_out(IDS, [[IDS[3]], [IDS[0], IDS[5]]])
    assert members[0].all()
    assert [np.flatnonzero(~one).tolist() for one in members[1:]] == [[3], [0, 5]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_subsets(IDS[:1], 2, 0.5, 0), "too few rows to divide"),
        (lambda: left_out(IDS, [[12345]]), "no training row of that id"),
        (lambda: left_out(IDS, [IDS]), "a removal of nothing or of everything"),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(WhenceError, match=message):
        call()
