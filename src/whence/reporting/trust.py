"""How far the scores of a run can be trusted: what leaked around the masks, and what masks never trained on score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from whence.data import Dataset
from whence.errors import WhenceError
from whence.estimators import influence
from whence.estimators.dispatch import choose
from whence.estimators.head import find_head
from whence.reporting.figures import count, significant
from whence.reporting.targets import score_name
from whence.run import Run
from whence.scores import NoiseFloor, Scores
from whence.subnetworks import exposure

__all__ = ["Finding", "Trust", "assess"]

Level: TypeAlias = Literal["good", "caution", "poor", "unknown"]
_MASKED = ("turnover", "first_order")
_PERCENT = "\u00a0%"
_NUMBERS = 2**24  # most scores computed for the noise floor: 64 MiB


@dataclass(frozen=True)
class Finding:
    """One thing to know before believing a score.

    Attributes:
        level: how it bears on trust.
        title: the question it answers.
        value: the number or word of the answer.
        text: the answer in plain words.
    """

    level: Level
    title: str
    value: str
    text: str


@dataclass(frozen=True)
class Trust:
    """What is known about the reliability of a run's scores.

    Attributes:
        own_loss, flipped_loss, full_loss: mean losses of training instances under these masks, after training.
        dev_loss: mean loss of dev instances in the full network; None without a dev split.
        isolation: (flipped − own) / (dev − own); None where it has no meaning.
        unit: of the losses.
        method: of the scores that are shown to the reader.
        floor_method: of the scores that were compared with masks never trained on: "turnover" or "first_order".
        floor: that comparison; None when it could not be made.
        targets: how many instances the comparison was made on, and ``target_set`` which.
        level: whether rows of the scores are an "instance" or a "group".
        rows: how many there are.
    """

    own_loss: float
    flipped_loss: float
    full_loss: float
    dev_loss: float | None
    isolation: float | None
    unit: str
    method: str
    floor_method: str
    floor: NoiseFloor | None
    targets: int
    target_set: str
    level: str
    rows: int

    @property
    def has_null(self) -> bool:
        """Whether the method shown to the reader is itself the one that was compared with chance."""
        return self.method in _MASKED

    def findings(self) -> list[Finding]:
        """Everything above in plain words, the most important first."""
        return [self._shown_finding(), self._floor_finding(), self._isolation_finding()]

    def _shown_finding(self) -> Finding:
        title = "Can the influence scores on this page be trusted?"
        if self.has_null and self.floor is not None:
            if self.floor.is_noise:
                return Finding(
                    "poor",
                    title,
                    "no",
                    f"They are {_name(self.method)} scores of {_rows(self.level)}, and as a whole "
                    "they cannot be told from chance (see next box). Do not act on the order of these lists.",
                )
            return Finding(
                "good" if self.level == "group" else "caution",
                title,
                "as leads",
                f"They are {_name(self.method)} scores of {self.level}s, and more of them are large than chance would "
                "explain (see next box). Those far beyond the noise mean something; small ones do not.",
            )
        if self.has_null:
            return Finding("unknown", title, "unknown", "They could not be compared with chance.")
        return Finding(
            "caution",
            title,
            "as leads",
            f"They are {_name(self.method)} scores. This method compares gradients instead of masks, so there is no "
            "built-in test against chance. To check it: fit again with another seed and see whether the same "
            "training instances come out on top. Those that return can be believed; the rest are leads. Their order "
            "means more than their size.",
        )

    def _floor_finding(self) -> Finding:
        title = f"Are published turn-over scores of {_rows(self.level)} more than noise here?"
        if self.floor is None:
            return Finding(
                "unknown",
                title,
                "not measured",
                "The comparison with masks never trained on could not be made.",
            )
        value = "no" if self.floor.is_noise else "yes"
        exact = "" if self.floor_method == "turnover" else " (in their first-order form)"
        return Finding(
            "poor" if self.floor.is_noise else "good",
            title,
            value,
            f"{self.floor.verdict().replace(' %', _PERCENT)} Measured{exact} for {count(self.rows)} {self.level}s on {self._targets()}, against "
            f"{count(self.floor.masks)} masks no {self.level} ever had. Their spread is {significant(self.floor.excess)} times "
            "that of pure noise, as a variance (chance: 1)."
            + ("" if self.has_null else " The lists on this page are made by another method, named above."),
        )

    def _targets(self) -> str:
        return f"{count(self.targets)} {self.target_set} instance{'' if self.targets == 1 else 's'}"

    def _isolation_finding(self) -> Finding:
        title = "Did the flipped sub-networks really not learn the instance?"
        losses = f"Mean loss in {self.unit}: own mask {significant(self.own_loss)}, flipped mask {significant(self.flipped_loss)}"
        if self.dev_loss is None:
            return Finding(
                "unknown",
                title,
                "isolation unknown",
                f"{losses}. Isolation compares them with unseen data, and this run has no dev split.",
            )
        losses += f", unseen dev instances {significant(self.dev_loss)}."
        if self.isolation is None:
            return Finding(
                "unknown",
                title,
                "isolation undefined",
                f"{losses} There is no gap between training and dev loss, so nothing was memorized that could leak.",
            )
        value = f"isolation {significant(self.isolation)}"
        scale = "Isolation is the share of the gap between own and dev loss that the flipped mask restores"
        if self.isolation < 0.2:
            return Finding(
                "poor",
                title,
                value,
                f"{losses} {scale}: near 0, the sub-network knows the instance anyway, because it "
                "leaked through layers without masks. Read out-of-sample numbers as in-sample ones.",
            )
        if self.isolation < 0.75:
            return Finding(
                "caution",
                title,
                value,
                f"{losses} {scale}: here only part of it. Some knowledge leaks around the masks, "
                "so label errors that the model knows by heart can be missed.",
            )
        if self.isolation <= 1.25:
            return Finding(
                "good",
                title,
                value,
                f"{losses} {scale}: near 1, the flipped sub-network treats the instance like "
                "unseen data. Its predictions can stand in for cross-validation.",
            )
        return Finding(
            "caution",
            title,
            value,
            f"{losses} {scale}: above 1, it does worse than on unseen data, because other "
            "instances trained its units against this one, or because training labels hold more errors than dev labels. "
            "Rankings stay useful; its probabilities are too pessimistic.",
        )


def assess(
    run: Run,
    scores: Scores | None = None,
    *,
    targets: Dataset | None = None,
    target_set: str = "target",
    method: str = "auto",
    progress: bool = False,
) -> Trust:
    """How far scores of a run can be trusted.

    Args:
        run: the trained run.
        scores: those that are shown to the reader; where they are turn-over scores, they are the ones tested.
        targets: instances on which published scores are compared with chance; by default those of the test split, else of
            dev, else of training. A modest number of them, evenly spaced, is used.
        target_set: how to call the targets in words.
        method: of the shown scores, where ``scores`` is None.
        progress: show a bar.
    """
    measured = exposure(run)
    shown = (
        str(scores.info["method"])
        if scores is not None
        else choose(run, run.loss)
        if method == "auto"
        else method
    )
    if targets is None:
        target_set = next(name for name in ("test", "dev", "train") if name in run.splits)
        targets = run.splits[target_set]
    if scores is not None and scores.null is not None and scores.info.get("matrix", True):
        tested: Scores | None = scores
    else:
        tested = _published(run, targets, shown, progress)
    isolation = measured.get("isolation", math.nan)
    groups = run.train.groups
    return Trust(
        own_loss=measured["own_loss"],
        flipped_loss=measured["flipped_loss"],
        full_loss=measured["full_loss"],
        dev_loss=measured.get("dev_loss"),
        isolation=isolation if math.isfinite(isolation) else None,
        unit=run.loss.unit,
        method=shown,
        floor_method="turnover" if tested is None else str(tested.info["method"]),
        floor=None if tested is None or tested.null is None else tested.noise_floor(),
        targets=0 if tested is None else tested.shape[1],
        target_set=target_set,
        level="instance" if groups is None else "group",
        rows=len(run.train) if groups is None else len(np.unique(groups)),
    )


def _published(run: Run, targets: Dataset, shown: str, progress: bool) -> Scores | None:
    """Turn-over scores on a modest number of targets: exact where they are one product, else to first order."""
    most = int(np.clip(_NUMBERS // len(run.train), 8, 64))
    if len(targets) > most:
        targets = targets.select(np.linspace(0, len(targets) - 1, most).round().astype(np.int64))
    head = find_head(run.model, run.train)
    cheap = (head is not None and head.only) or not run.loss.differentiable
    wanted = shown if shown in _MASKED else "turnover" if cheap else "first_order"
    try:
        return influence(
            run, targets, method=wanted, name=score_name(run, targets, f"trust-{wanted}"), progress=progress
        )
    except WhenceError:
        if wanted == "turnover":
            return None
        return influence(
            run,
            targets.select(np.arange(min(8, len(targets)))),
            method="turnover",
            name=score_name(run, targets, "trust-turnover"),
            progress=progress,
        )


def _rows(level: str) -> str:
    return "groups" if level == "group" else "single instances"


def _name(method: str) -> str:
    return {
        "turnover": "turn-over",
        "first_order": "first-order turn-over",
        "kernel": "last-layer kernel",
    }.get(method, method)


def summary(trust: Trust) -> str:
    """One sentence for the head of a report."""
    if trust.floor is None:
        return "Turn-over scores were not compared with chance."
    verdict = "cannot be told from chance" if trust.floor.is_noise else "are more than chance"
    return f"Published turn-over scores of {_rows(trust.level)} {verdict}."
