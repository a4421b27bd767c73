"""How far published scores can be trusted: foretold before training from a measured law, and measured after several runs.

N masks share D units, so what one mask's units learned from its own id lies under what they learned from all others. Of the
mean of K runs' scores, the signal is s times the noise, and two such means agree at s / (1 + s):

    s = c · K · D / N^γ

γ and c were fitted to trained models (``benchmarks/resolution.py``: 10 to 3,000 groups dealt at random, 128 to 2,048 units in
the last hidden layer, keep ½), on digits and on Fashion-MNIST. γ is common to both. c is not: it was .0025 and .0117 there, and
nothing that is known before training tells which (half the rows changed s by a factor of 1.1 in one place and 1.6 in another). A
prediction is therefore a range, with the geometric mean between. Of 33 settings left out of the fit in turn, the agreement was
foretold within .16, .054 root mean square, where c was that of the data; the middle of the range errs by .11 root mean square
and up to .29. Groups that differ from one another, as sources and authors do, should be told apart more easily than those dealt
at random; that was not measured. Averages over K runs gain what K says only if each target is scaled (``whence.ensemble``).

The noise floor of one run cannot replace a second run: training balances masks against each other, so that scores of few
groups vary no more than those of masks never trained on while two runs agree at .4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from whence.arguments import share_of, whole
from whence.data import Dataset
from whence.errors import WhenceError
from whence.run import Run
from whence.scores import Scores

__all__ = ["ENOUGH", "ERROR", "Resolution", "Resolved", "resolution", "resolved"]

ENOUGH = 0.5  # agreement of two runs from which single scores are worth reading
ERROR = 0.16  # the largest, of agreements that the fit had not seen, beyond the range
_EXPONENT = 0.694
_LOW, _HIGH = 0.0025, 0.0117  # c on digits, on Fashion-MNIST
_MEASURED_IDS, _MEASURED_UNITS = (10, 3000), (128, 2048)
_OTHERS = {
    "kronecker": 0.71,
    "kernel": 0.35,
}  # agreement of two runs on single digits, where published scores agree at .006
_MOST = 2**53  # of anything: what a float holds
_MOST_RUNS = 1000  # beyond which more runs are no advice


@dataclass(frozen=True)
class Resolution:
    """What published scores of N ids on D masked units, averaged over K runs, can tell apart. All numbers are predictions.

    Attributes:
        ids: N, instances or groups that have a mask each; units: D, over all masked layers; runs: K.
        rows: training rows, where known.
        level: "instance" or "group".
        agreement: Spearman correlation, per target, of such scores with those of K other runs.
        low, high: its range over the data sets measured.
    """

    ids: int
    units: int
    runs: int
    rows: int | None
    level: str
    agreement: float
    low: float
    high: float

    @property
    def signal(self) -> float:
        """The share of the scores' variance that is signal. By the law it equals the agreement of two runs."""
        return self.agreement

    @property
    def is_enough(self) -> bool:
        """Whether single scores are worth reading: an agreement of at least one half."""
        return self.agreement >= ENOUGH

    @property
    def is_extrapolated(self) -> bool:
        """Whether ids or units lie outside of what was measured."""
        return not (
            _MEASURED_IDS[0] <= self.ids <= _MEASURED_IDS[1] and _MEASURED_UNITS[0] <= self.units <= _MEASURED_UNITS[1]
        )

    def needed(self, agreement: float = ENOUGH) -> dict[str, int]:
        """The most ids, the fewest units and the fewest runs that reach an agreement, each with the others as they are.

        Raises:
            WhenceError: the agreement does not lie between 0 and 1.
        """
        agreement = share_of(agreement, "agreement")
        wanted, c = agreement / (1 - agreement), math.sqrt(_LOW * _HIGH)
        crowd = self.ids**_EXPONENT
        return {
            "ids": int((c * self.runs * self.units / wanted) ** (1 / _EXPONENT)),
            "units": math.ceil(wanted * crowd / (c * self.runs)),
            "runs": math.ceil(wanted * crowd / (c * self.units)),
        }

    def sentence(self) -> str:
        """The prediction in plain words."""
        mean, other = "", "a second run"
        if self.runs > 1:
            mean, other = f", averaged over {self.runs:,} runs", "as many other runs"
        if self.is_enough:
            verdict = "single scores can be read"
        elif self.high < 0.1:
            verdict = "single scores are noise"
        else:
            verdict = "single scores are mostly noise"
        beyond = " (outside of what was measured)" if self.is_extrapolated else ""
        return (f"Published scores of {self.ids:,} {self.level}s on {self.units:,} masked units{mean}: {other} would agree on who "
                f"helps a target at about {_rounded(self.agreement)}, {_rounded(self.low)} to {_rounded(self.high)} by "
                f"data{beyond}; {verdict}.")  # fmt: skip

    def advice(self, agreement: float = ENOUGH) -> str:
        """What would reach an agreement, in plain words."""
        if self.agreement >= share_of(agreement, "agreement"):
            return f"An agreement of {_rounded(agreement)} is reached as it is."
        needed, ways = self.needed(agreement), []
        if needed["ids"] >= 2:
            size = "" if self.rows is None else f" of at least {math.ceil(self.rows / needed['ids']):,} rows"
            ways.append(f"at most {needed['ids']:,} groups{size}")
        guess = " (extrapolated)" if needed["units"] > _MEASURED_UNITS[1] else ""
        ways.append(f"{_about(needed['units']):,} masked units{guess}")
        if needed["runs"] <= _MOST_RUNS:
            ways.append(f"{_about(needed['runs']):,} runs")
        text = f"To reach {_rounded(agreement)} by published scores: {', or '.join(ways)}."
        if self.level == "instance":
            others = " or ".join(f"{method} ({_rounded(reached)})" for method, reached in _OTHERS.items())
            text += f" Or another method: {others} between two runs on 1,446 digits."
        return text

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "needed": {"agreement": ENOUGH, **self.needed()}}


@dataclass(frozen=True)
class Resolved:
    """What runs did resolve.

    Attributes:
        agreement: mean Spearman correlation per target of two single runs, over all pairs; None with one run.
        of_mean: the agreement to expect of the mean of all K runs with that of as many others (Spearman–Brown), or None.
        signal: of each run, the share of variance beyond that of masks never trained on; empty without masks. It does
            not foretell agreement.
        predicted: what the law says of one run; None for scores without masks or of unknown units.
    """

    agreement: float | None
    of_mean: float | None
    signal: tuple[float, ...]
    predicted: Resolution | None

    def sentence(self) -> str:
        """The same in plain words."""
        if self.agreement is not None:
            return (f"Two runs agree at {_rounded(self.agreement)} on who helps a target; the mean of all, with that of as many "
                    f"others, at about {_rounded(self.of_mean or 0.0)}.")  # fmt: skip
        if self.predicted is None:
            return "One run does not tell what another would say: train with another seed and compare."
        return f"{self.predicted.sentence()} To measure it, train with another seed."


def resolution(
    ids: int | Run | Dataset,
    units: int | None = None,
    runs: int = 1,
    groups: int | None = None,
    rows: int | None = None,
) -> Resolution:
    """Predict, before training, how far published turn-over scores can be trusted.

    Args:
        ids: N instances; or a dataset (its training split) or a run, from which N, groups and, of a run, units are taken.
        units: D, masked units over all layers; needed unless a run is given.
        runs: K, how many independently trained runs are averaged, each scaled per target (``whence.ensemble``).
        groups: G groups with a mask each, in place of N.
        rows: training rows, where ids is a number of groups.

    Raises:
        WhenceError: units are unknown, or any number is below 1.
    """
    level = "instance" if groups is None else "group"
    units, groups, rows = (
        None if number is None else whole(number, where, high=_MOST)
        for number, where in ((units, "units"), (groups, "groups"), (rows, "rows"))
    )
    if isinstance(ids, Run):
        units = sum(layer.units for layer in ids.layers.values()) if units is None else units
        ids = ids.train
    if isinstance(ids, Dataset):
        train = ids.split("train") if ids.has_split("train") else ids
        count = rows = len(train)
        if groups is None and train.groups is not None:
            count, level = len(np.unique(train.groups)), "group"
    else:
        count = ids = whole(ids, "ids", high=_MOST)
        rows = ids if rows is None and (level == "instance" or groups is not None) else rows
    count = count if groups is None else groups
    if units is None:
        raise WhenceError(
            "masked units are not known", where="units", mend="Give their number, over all masked layers."
        )
    runs = whole(runs, "runs", high=_MOST)
    low, middle, high = (_agreement(c, count, units, runs) for c in (_LOW, math.sqrt(_LOW * _HIGH), _HIGH))
    return Resolution(count, units, runs, rows, level, middle, low, high)


def resolved(scores: Sequence[Scores], units: int | None = None) -> Resolved:
    """What the scores of trained runs did resolve: measured where there are two, predicted for one.

    Args:
        scores: of each run, for the same rows and targets.
        units: masked units of a run, for the prediction.

    Raises:
        WhenceError: no scores, or rows or targets that differ.
    """
    from whence.evaluation.consistency import agreement  # few programs have several runs
    from whence.evaluation.correlations import spearman_brown

    if not scores:
        raise WhenceError("no scores", where="resolved", expected="those of one run or more")
    found = [agreement(a, b).value for a, b in combinations(scores, 2)]
    value = float(np.mean(found)) if found else None
    masked = [one for one in scores if one.null is not None]
    signal = tuple(one.noise_floor().signal for one in masked if one.info.get("matrix", True))
    first = scores[0]
    predicted = None
    if masked and units is not None:
        level = first.info.get("level", "instance")
        predicted = resolution(len(first.rows), units, groups=len(first.rows) if level == "group" else None)
    return Resolved(value, None if value is None else spearman_brown(value, len(scores)), signal, predicted)


def _agreement(c: float, ids: int, units: int, runs: int) -> float:
    signal = c * runs * units / ids**_EXPONENT
    return signal / (1 + signal)


def _rounded(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 0.0995 else f"{value:.3f}"


def _about(number: int) -> int:
    """Two digits are all that a prediction has."""
    return int(float(f"{number:.2g}"))
