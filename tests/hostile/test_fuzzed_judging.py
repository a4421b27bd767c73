"""Random arguments of functions that judge a run, by training again or by comparing: an answer, or one WhenceError and no results."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import whence
from tests.hostile.test_fuzzed_python import EXTRAS, MANY, QUICK, TARGETS, mostly, tried

SMALL = st.sampled_from([1, 2, 3, np.int64(2)])
NO_NUMBER = st.sampled_from(
    [None, "x", b"1", -1, 0, 1.5, True, 2**64, float("nan"), float("inf"), [], [2], {}, object(), np.zeros(2)]
)
SEEDS = mostly(st.integers(-(2**63), 2**64 - 1), NO_NUMBER, 2)
SHARES = mostly(st.floats(0.01, 0.99), NO_NUMBER, 2)
ODD = st.sampled_from([None, "x", "", 3, 1.5, [], {}, object(), b"x", (None, None), np.zeros(2), nn.ReLU()])
A_METHOD = mostly(st.sampled_from(["auto", "kernel", "kronecker", "turnover"]), ODD, 3)
AMOUNTS = st.sampled_from(
    [1, 2, 0, -1, 0.2, "10%", "significant", "0%", "x", "1,2", [1, "5%"], [], True, float("nan"), 2**64, b"x"]
)
TRAINED = {
    "seeds": mostly(st.just(2), NO_NUMBER),
    "seed": SEEDS,
    "jobs": mostly(st.just(1), NO_NUMBER),
    "fit": mostly(st.none(), ODD),
}
JUDGED: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "cleanse": {**TRAINED, "drop": AMOUNTS, "relabel": AMOUNTS, "groups": AMOUNTS, "by": mostly(st.sampled_from(["influence", "p_wrong"]), ODD),
                "rows": mostly(st.sampled_from([[5], [5, 6], np.array([7])]), ODD), "runs": mostly(SMALL, NO_NUMBER), "method": A_METHOD,
                "level": SHARES, "targets": TARGETS, "name": EXTRAS["name"]},
    "retrain": {**TRAINED, "kind": mostly(st.sampled_from(["random", "leave_one_out", "removal"]), ODD), "fraction": SHARES,
                "level": mostly(st.sampled_from(["instance", "group"]), ODD), "subsets": mostly(st.sampled_from([2, 3]), NO_NUMBER),
                "rows": st.sampled_from([None, [5], [[5, 6], [7]], [99], [], "x", 5, np.array([5]), [None]]), "targets": TARGETS},
    "compare": {"other": ODD, "audits": ODD, "method": A_METHOD, "top": mostly(SMALL, NO_NUMBER, 2), "limit": mostly(SMALL, NO_NUMBER, 2)},
    "report": {"against": ODD, "audit": ODD, "targets": TARGETS, "method": A_METHOD, "top": mostly(SMALL, NO_NUMBER, 2),
               "limit": mostly(SMALL, NO_NUMBER, 2)},
    "group_effects": {"level": SHARES, "null_masks": mostly(st.just(100), NO_NUMBER, 2), "kernel": A_METHOD, "targets": TARGETS,
                      "quantity": EXTRAS["quantity"]},
    "resolution": {"ids": st.one_of(st.integers(1, 99), NO_NUMBER), "units": mostly(SMALL, NO_NUMBER, 2), "runs": mostly(SMALL, NO_NUMBER, 2),
                   "groups": mostly(st.sampled_from([None, 3]), NO_NUMBER, 2), "rows": mostly(st.none(), NO_NUMBER, 2)},
    "memorization": {"fraction": SHARES},
    "subnetwork_average": {"count": mostly(SMALL, NO_NUMBER, 2), "seed": SEEDS, "data": mostly(st.none(), ODD)},
}  # fmt: skip
RIGHT: dict[str, dict[str, Any]] = {
    "cleanse": {"seeds": 2, "method": "kernel"}, "retrain": {"subsets": 2, "seeds": 1}, "compare": {"method": "kernel"},
    "report": {"method": "kernel"}, "group_effects": {"null_masks": 100, "kernel": "kernel"}, "resolution": {"ids": 12, "units": 4},
}  # fmt: skip


@st.composite
def judgements(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A function, and one to three of its arguments."""
    name = draw(st.sampled_from(sorted(JUDGED)))
    asked = draw(st.lists(st.sampled_from(sorted(JUDGED[name])), min_size=1, max_size=3, unique=True))
    return name, {one: draw(JUDGED[name][one]) for one in asked}


def judged(runs: list[whence.Run], number: int, name: str, asked: dict[str, Any]) -> None:
    """Ask it of a run; what is refused has trained and written nothing but scores that were asked for."""
    run, given = runs[number], {**RIGHT.get(name, {}), **asked}
    assert run.directory is not None
    if name == "cleanse" and any(asked.get(one) is not None for one in ("relabel", "groups", "rows")):
        given.pop("method") if "method" not in asked else None
    if name in ("retrain", "compare"):
        given = {"out": run.directory.path / "truth", **given} if name == "retrain" else {"other": runs[3], **given}
    function = getattr(whence.evaluation if name == "retrain" else whence, name)
    before = {path for path in run.directory.path.rglob("*") if path.suffix != ".lock"}
    found = tried(lambda: function(**given) if name == "resolution" else function(run, **given))
    made = {path for path in run.directory.path.rglob("*") if path.suffix != ".lock"} - before
    if found is None:
        left = {path.relative_to(run.directory.path).parts[0] for path in made}
        assert left <= {"scores"} or _trains(asked), (name, asked, left)
    for folder in ("truth", "cleanse"):
        shutil.rmtree(run.directory.path / folder, ignore_errors=True)


def _trains(asked: dict[str, Any]) -> bool:
    """Whether models of the user's are trained, which may fail when something was trained before."""
    return callable(asked.get("fit"))


@given(number=st.integers(0, 2), asked=judgements())
@QUICK
def test_judging(small: list[whence.Run], number: int, asked: tuple[str, dict[str, Any]]) -> None:
    """150 cases."""
    judged(small, number, *asked)


@pytest.mark.long
@pytest.mark.timeout(3000)
@given(number=st.integers(0, 2), asked=judgements())
@settings(MANY, max_examples=1000)
def test_much_judging(small: list[whence.Run], number: int, asked: tuple[str, dict[str, Any]]) -> None:
    """1,000 cases."""
    judged(small, number, *asked)
