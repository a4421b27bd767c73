"""Which training rows to change, in which order, and how far each choice may be false."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.auditing import suspicions
from whence.cleansing.amounts import Amount
from whence.cleansing.harm import harm
from whence.cleansing.intervals import surely_true
from whence.errors import WhenceError
from whence.groups import HARMS, group_effects
from whence.masks import as_ids
from whence.run import Run
from whence.significance import false_discovery_rates

__all__ = ["Ranking", "groups_by_effect", "labels_to_mend", "rows_by_harm", "rows_by_suspicion", "rows_given"]

LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class Ranking:
    """U units (training instances, or groups) of which the first are to be changed first.

    Attributes:
        action: "drop" or "relabel".
        level: "instance" or "group".
        by: what the order rests on, in words; basis: what q rests on.
        order: int64 [K], the units that there is a reason to change, best reason first.
        score: float64 [U], of ``score_name`` in ``unit``.
        q: float64 [U], the false-discovery rate at which a unit is called; of suspected labels the share of right ones to be
            expected down to it. NaN if unknown.
        p: float64 [U], of harm by chance; None where q does not come from p.
        owner: int64 [N], the unit of each training instance.
        names: of units.
        targets: [N], what instances are relabeled to; None where they are dropped.
    """

    action: str
    level: str
    by: str
    basis: str
    score_name: str
    unit: str
    order: np.ndarray
    score: np.ndarray
    q: np.ndarray
    owner: np.ndarray
    names: list[str]
    targets: np.ndarray | None = None
    p: np.ndarray | None = None

    def first(self, amount: Amount) -> np.ndarray:
        """int64: the units that an amount asks for, at most as many as there is a reason to change."""
        if amount.share is None and amount.count is None:
            # The rate holds of all that have it, not of the first in another order.
            return self.order[self.q[self.order] <= LEVEL]
        return self.order[: amount.of(len(self.names))]

    def rows(self, units: np.ndarray) -> np.ndarray:
        """bool [N]: the training instances of some units."""
        taken = np.zeros(len(self.names), bool)
        taken[units] = True
        return taken[self.owner]

    def sure(self, units: np.ndarray) -> int | None:
        """How many of some units do harm at least, with 95 % confidence (``intervals.surely_true``); None if unknown."""
        return None if self.p is None else surely_true(self.p, units)

    def false_share(self, units: np.ndarray) -> float:
        """The share of the first units of the order that is expected to be chosen falsely, of suspected labels; else NaN."""
        return float("nan") if self.p is not None or not len(units) else float(self.q[units[-1]])

    def reason(self, unit: int, place: int) -> str:
        """Why a unit is changed, in words; place: in the order, from 0."""
        known = "" if np.isnan(self.q[unit]) else f", q {self.q[unit]:.2g}"
        number = "" if np.isnan(self.score[unit]) else f" {self.score[unit]:.4g} {self.unit}".rstrip()
        group = f"group {self.names[unit]}: " if self.level == "group" else ""
        return f"{group}{self.score_name}{number}, number {place + 1:,} of {len(self.names):,}{known}"


def rows_by_harm(
    run: Run, method: str, more: Sequence[tuple[np.ndarray, np.ndarray]] = (), *, progress: bool = False
) -> Ranking:
    """Instances to drop: those with the lowest mean influence on dev, as far as it is below zero."""
    found = harm(run, method, more, progress=progress)
    order = np.argsort(found.mean, kind="stable")
    order = order[found.mean[order] < 0]
    info = found.scores.info
    runs = f", mean of {len(more) + 1} runs" if more else ""
    return _of_instances(
        run, "drop", by=f"{info['method']} influence on dev ({found.scores.shape[1]:,} instances{runs})", basis=found.basis,
        score_name="mean influence on dev", unit=str(info["unit"]), order=order, score=found.mean,
        q=false_discovery_rates(found.p), p=found.p,
    )  # fmt: skip


def rows_by_suspicion(run: Run) -> Ranking:
    """Instances to drop: those whose label is most likely wrong, as far as it is more likely wrong than right."""
    return _suspected(run, "drop")


def labels_to_mend(run: Run) -> Ranking:
    """Instances to relabel: those whose label is more likely wrong than right."""
    return _suspected(run, "relabel")


def _suspected(run: Run, action: str) -> Ranking:
    p_wrong, suggestions = suspicions(run)
    order = np.argsort(-p_wrong, kind="stable")
    order = order[p_wrong[order] > 0.5]
    if action == "relabel":  # not those of which somebody said that no class is right
        order = order[suggestions[order] != run.train.targets[order]]
    q = np.full(len(p_wrong), np.nan)
    q[order] = np.cumsum(1 - p_wrong[order]) / np.arange(1, len(order) + 1)
    return _of_instances(run, action, by="p_wrong of the audit", basis="the audit's model of label noise", score_name="p_wrong",
                         unit="", order=order, score=p_wrong, q=q,
                         targets=suggestions if action == "relabel" else None)  # fmt: skip


def rows_given(run: Run, ids: Any) -> Ranking:
    """Instances to drop that the user names."""
    wanted, train = as_ids(ids), run.train.ids
    position = {int(row_id): row for row, row_id in enumerate(train)}
    if lost := [given for given in wanted.tolist() if given not in position]:
        raise WhenceError("no training instance of that id", where="rows", got=lost[0])
    order = np.array(list(dict.fromkeys(position[given] for given in wanted.tolist())), np.int64)
    unknown = np.full(len(train), np.nan)
    return _of_instances(run, "drop", by="the given list", basis="", score_name="given", unit="", order=order, score=unknown,
                         q=unknown)  # fmt: skip


def groups_by_effect(run: Run, method: str, *, progress: bool = False) -> Ranking:
    """Groups to drop: first those whose harm on dev is beyond chance by both estimates, then those that both say harm."""
    kernel: Any = method if method in ("kronecker", "kernel") else None if method == "turnover" else "auto"
    found = group_effects(run, "dev", kernel=kernel, progress=progress)
    ranked, side = found.ranking(), np.sign(found.effect) + (0 if found.kernel is None else np.sign(found.kernel))
    harms = np.array([verdict == HARMS for verdict in found.verdicts])
    order = ranked[harms[ranked] | (side[ranked] <= (-1 if found.kernel is None else -2))]
    place = {group: unit for unit, group in enumerate(found.ids.tolist())}
    assert run.train.groups is not None
    owner = np.array([place[group] for group in run.train.groups.tolist()], np.int64)
    # A verdict takes more than q, so those without one count as not significant.
    q, p = (np.where(harms, values, 1.0) for values in (found.q, found.p))
    return Ranking("drop", "group", by="the effects of groups on dev", basis=found.basis(),
                   score_name="mean effect on dev", unit=found.unit, order=order, score=found.effect,
                   q=q, p=p, owner=owner, names=found.names)  # fmt: skip


def _of_instances(run: Run, action: str, **columns: Any) -> Ranking:
    owner, names = np.arange(len(run.train)), run.train.all_names()
    return Ranking(action, "instance", owner=owner, names=names, **columns)
