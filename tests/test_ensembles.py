"""Several runs as one: rows and targets by id, noise averaged, and its rest told from their spread."""

from __future__ import annotations

import numpy as np
import pytest

import whence
from tests.toys import trained
from whence import WhenceError, ensemble
from whence.score_making import compute
from whence.scores import Labels


def scores_of(matrix, run, *, order=None, columns=None, path=None, null=None, method="kernel", block_rows=16):
    """Scores of rows 0, 10, 20, … and targets 1000, 1001, …, kept in another order."""
    order = np.arange(len(matrix)) if order is None else order
    columns = np.arange(matrix.shape[1]) if columns is None else columns
    shuffled = np.asarray(matrix, np.float32)[np.ix_(order, columns)]
    return compute(
        lambda a, b: shuffled[a:b], Labels(order * 10, [f"r{i}" for i in order]), Labels(columns + 1000, [f"t{i}" for i in columns]),
        {"method": method, "quantity": "loss", "unit": "nats", "level": "instance", "run": f"f{run}"},
        path=path, block_rows=block_rows, null=lambda: null if null is None else null[:, columns],
    )  # fmt: skip


def noise(k, n=300, m=8, seed=0):
    return np.random.default_rng(seed).normal(size=(k, n, m))


def test_means_and_errors_by_id(tmp_path):
    draws, generator = noise(3, 53, 5), np.random.default_rng(1)
    draws[1] *= np.array([1, 10, 100, 1, 1000])  # a target with larger losses in one run does not outvote the others
    runs = [scores_of(d, k, order=generator.permutation(53), columns=generator.permutation(5),
                      path=tmp_path / str(k) if k else None, block_rows=7 + k) for k, d in enumerate(draws)]  # fmt: skip
    runs = [whence.load_scores(tmp_path / str(k)) if k else one for k, one in enumerate(runs)]
    together = ensemble(runs)
    scaled = draws / np.sqrt(np.square(draws).mean(axis=1, keepdims=True))
    rows, columns = together.ids // 10, together.targets - 1000
    scaled = scaled[:, rows][:, :, columns]
    np.testing.assert_allclose(np.asarray(together), scaled.mean(0), atol=1e-5)
    errors = np.concatenate([block for _, block in together.standard_errors()])
    np.testing.assert_allclose(errors, scaled.std(0, ddof=1) / np.sqrt(3), atol=1e-5)
    np.testing.assert_allclose(together.mean_over_targets(), scaled.mean((0, 2)), atol=1e-5)
    np.testing.assert_allclose(together.mean_of_runs(), scaled.mean(2).T, atol=1e-5)
    top = together.top(4)
    assert np.array_equal(top.values, -np.sort(-np.asarray(together), axis=0)[:4].T)
    assert together.info["runs"] == 3 and together.rows.names == runs[0].rows.names
    assert np.asarray(together.for_groups(np.arange(53) % 4)).shape == (4, 5)


@pytest.mark.parametrize("k", [2, 5])
def test_runs_that_share_nothing_are_called_as_often_as_chance_says(k):
    together = ensemble([scores_of(draw, run) for run, draw in enumerate(noise(k, 2000, 6))])
    pairs, rows = together.significance("pairs"), together.significance("rows")
    groups = together.significance("groups", groups=np.arange(2000) % 500)
    assert pairs.counts().sum() / 12_000 == pytest.approx(0.05, abs=0.01)
    assert (rows.p < 0.05).mean() == pytest.approx(0.05, abs=0.015)
    assert (groups.p < 0.05).mean() == pytest.approx(0.05, abs=0.025)
    assert f"{k} runs" in rows.basis and f"{k - 1} degrees" in pairs.basis
    assert pairs.discoveries().sum() <= 2


def test_what_all_runs_repeat_is_found():
    truth = np.zeros((300, 8))
    truth[5, 2], truth[9] = 30, 3  # thirty times and three times the noise
    together = ensemble([scores_of(truth + draw, run) for run, draw in enumerate(noise(5))])
    assert 9 in together.significance("rows").called()
    surest = together.significance("pairs").top(1)
    assert (surest["row"][0], surest["column"][0]) == (5, 2) and surest["q"][0] < 0.05


def test_nulls_are_averaged_where_all_runs_have_one():
    nulls = np.random.default_rng(3).normal(size=(4, 600, 8)).astype(np.float32)
    draws = noise(4, 2000)
    runs = [scores_of(draw, run, null=nulls[run], method="turnover") for run, draw in enumerate(draws)]
    together = ensemble(runs)
    assert together.null.shape == (600, 8)
    assert together.null.std() == pytest.approx(0.5, abs=0.02)  # the mean of four
    assert "600 masks" in together.significance("rows").basis
    assert together.significance("pairs").counts().sum() / 16_000 == pytest.approx(0.05, abs=0.01)
    runs[0].null = None
    assert ensemble(runs).null is None


def test_kernel_scores_of_two_runs():
    runs = [trained(n=60, seed=seed) for seed in (0, 1)]
    scores = [whence.influence(run, "test", method="kernel") for run in runs]
    found = ensemble(scores).significance("rows")
    assert found.p.shape == (60,) and np.all((found.p > 0) & (found.p <= 1))
    with pytest.raises(WhenceError, match="the same run twice.*another seed"):
        ensemble([scores[0], scores[0]])
    with pytest.raises(WhenceError, match="at least 2 runs"):
        ensemble(scores[:1])
    other = whence.influence(runs[1], "test", method="first_order")
    with pytest.raises(WhenceError, match="more than one method.*first_order, kernel"):
        ensemble([scores[0], other])
    with pytest.raises(WhenceError, match="targets that differ"):
        ensemble([scores[0], whence.influence(runs[1], "dev", method="kernel")])
