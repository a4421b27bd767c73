"""How far published scores can be trusted: the law against trained models, and what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import whence
from tests.test_ensembles import noise, scores_of
from tests.toys import blobs, trained
from whence import WhenceError, resolution
from whence.planning import plan
from whence.resolution import ENOUGH, ERROR, resolved


@pytest.mark.parametrize("ids", [20, 200])
@pytest.mark.parametrize("units", [256, 1024])
def test_the_law_foretells_trained_models(ids, units):
    """Digits of another size than in the fit, groups and widths between those of the fit."""
    digits = whence.load("digits", limit=700)
    data = replace(digits, groups=digits.ids % ids)
    scores = []
    for seed in (0, 1):
        model, encoded = whence.prepare(data, f"mlp:256,{units}", seed=seed)
        scores.append(whence.influence(whence.fit(model, encoded, seed=seed, device="cpu"), "test", method="turnover"))
    foretold, found = resolution(data, units), resolved(scores)
    assert foretold.level == "group" and ids - 5 <= foretold.ids <= ids  # the draw leaves few of them without a row
    assert foretold.low - ERROR / 2 < found.agreement < foretold.high + ERROR / 2
    assert len(found.signal) == 2
    if (ids, units) == (20, 1024):
        assert found.agreement > 0.2  # so that the bound below says something
    if (ids, units) == (200, 256):
        assert found.agreement < 0.1


def test_more_ids_blur_and_more_units_and_runs_sharpen():
    assert [resolution(n, 512).agreement for n in (10, 100, 1000)] == sorted(
        (resolution(n, 512).agreement for n in (10, 100, 1000)), reverse=True
    )
    assert resolution(100, 512, runs=4).agreement == pytest.approx(resolution(100, 2048).agreement)
    found = resolution(100, 512)
    signal = found.agreement / (1 - found.agreement)
    doubled = resolution(100, 1024)
    assert doubled.agreement == pytest.approx(2 * signal / (1 + 2 * signal))  # the law itself
    assert found.low < found.agreement < found.high
    assert found.signal == found.agreement


def test_what_is_needed_reaches_it():
    found = resolution(1446, 512)
    for wanted in (0.3, 0.5, 0.7):
        needed = found.needed(wanted)
        for changed in ({"units": needed["units"]}, {"runs": needed["runs"]}, {"groups": needed["ids"]}):
            reached = resolution(**{"ids": 1446, "units": 512, **changed}).agreement
            assert reached >= wanted - 1e-9
        fewer = resolution(1446, 512, runs=needed["runs"] - 1)
        more = resolution(1446, 512, groups=needed["ids"] + 1)
        assert fewer.agreement < wanted and more.agreement < wanted
    with pytest.raises(WhenceError, match="out of range in agreement: got 1.0"):
        found.needed(1.0)


def test_it_speaks_plainly():
    found = resolution(1446, 512)
    assert "1,446 instances on 512 masked units" in found.sentence()
    assert found.sentence().endswith("single scores are noise.")
    assert "groups of at least" in found.advice() and "Or another method: kronecker (0.71)" in found.advice()
    few = resolution(10, 2048, groups=10)
    assert few.is_enough and "can be read" in few.sentence()
    assert few.advice() == "An agreement of 0.50 is reached as it is."
    averaged = resolution(5000, 512, runs=20)
    assert "averaged over 20 runs: as many other runs" in averaged.sentence()
    assert "outside of what was measured" in averaged.sentence()
    assert "another method" not in resolution(5000, 512, groups=200, rows=5000).advice()


def test_where_the_numbers_come_from():
    run = trained(n=120, groups=6)
    assert resolution(run) == resolution(run.train, 32) == resolution(120, 32, groups=6, rows=120)
    assert resolution(blobs(50), 32).ids == 50
    with pytest.raises(WhenceError, match="masked units are not known in units"):
        resolution(blobs(50))
    with pytest.raises(WhenceError, match="in runs: got 0"):
        resolution(50, 32, runs=0)
    planned = plan(run, 3)
    assert (planned.rows, planned.groups, planned.units, planned.method) == (120, 6, {"1": 32}, "kronecker")
    assert planned.resolution.runs == 3


def test_several_runs_are_measured_and_one_is_not():
    truth = np.random.default_rng(5).normal(size=(300, 8))
    runs = [scores_of(truth + draw, k) for k, draw in enumerate(noise(4))]
    found = resolved(runs)
    assert found.agreement == pytest.approx(0.5, abs=0.05)  # as much signal as noise
    assert found.of_mean == pytest.approx(0.8, abs=0.05)
    assert "0.4" in found.sentence() or "0.5" in found.sentence()
    single = resolved(runs[:1], units=512)
    assert single.agreement is None and single.predicted is None and "another seed" in single.sentence()
    masked = resolved([scores_of(truth, 0, null=noise(1, 200)[0].astype(np.float32), method="turnover")], units=512)
    assert masked.predicted == resolution(300, 512) and masked.signal[0] >= 0 and ENOUGH == 0.5
    with pytest.raises(WhenceError, match="no scores"):
        resolved([])
