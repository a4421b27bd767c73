"""Training instances that a report lists: suspected labels, memorized, ambiguous ones, and the rest, with what the audit says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whence.auditing import Audit
from whence.reporting.cards import Gallery, number
from whence.reporting.cleansings import Marks
from whence.reporting.figures import scaled_unit
from whence.reporting.movements import Moves

__all__ = ["Kind", "Listed", "also_listed", "listed", "listed_rows"]

_MOST = {"label_issue": 3000, "memorized": 1000, "ambiguous": 1000, "all": 10_000}
_NEAREST = 24  # to being memorized, where none is
_BELIEVED = 2  # classes that an ambiguous instance is said to be torn between
_FIGURES = ("p_wrong", "memorization", "influence_on_dev", "p_own", "p_flipped", "p_full")


@dataclass(frozen=True)
class Kind:
    """Instances of one kind.

    Attributes:
        key: "label_issue", "memorized", "nearest" (to being memorized, where none is), "ambiguous" or "all".
        found: how many there are.
        rows: int64, those listed, in the order of the list; of "all", those that no other kind lists.
        listed: how many the list has; of "all", with those of the other kinds.
    """

    key: str
    found: int
    rows: np.ndarray
    listed: int


@dataclass(frozen=True)
class Listed:
    """Attributes:
    kinds: in the order of the report.
    items: for each listed instance i (its record), kind, to (the suggested label), beyond (True where the list of its kind leaves
        it out), figures of the audit, dev (influence on dev in ``unit``), moves ([[target, score]]), cleansed (``Marks``), and
        believed: of ambiguous ones, [[class, probability]] of the likeliest.
    unit: of dev.
    """

    kinds: list[Kind]
    items: list[dict[str, Any]] = field(repr=False)
    unit: str = ""


def listed_rows(audit: Audit) -> list[Kind]:
    """Which training instances to list: labels by suspicion, memorized ones by memorization, ambiguous ones by doubt.

    Of all others, those that move dev most; where that is not known, those with the highest memorization.
    """
    kinds, memorization = audit.column("kind"), audit.column("memorization")
    ranked = (-memorization).argsort(kind="stable")
    memorized, found = ranked[kinds[ranked] == "memorized"], [_kind("label_issue", audit.issues)]
    if len(memorized):
        found.append(_kind("memorized", memorized))
    else:
        nearest = ranked[(kinds[ranked] != "label_issue") & (memorization[ranked] > 0)][:_NEAREST]
        found.append(_kind("nearest", nearest))
    if audit.noise is not None:
        doubt = audit.noise.belief.max(1).argsort(kind="stable")
        ambiguous = doubt[kinds[doubt] == "ambiguous"]
        found.append(_kind("ambiguous", ambiguous))
    on_dev = np.abs(audit.column("influence_on_dev"))
    first = ranked if np.isnan(on_dev).all() else (-on_dev).argsort(kind="stable")
    others = first[~np.isin(first, np.concatenate([kind.rows for kind in found]))]
    return _with_all(found, others[: max(0, _MOST["all"] - sum(kind.listed for kind in found))], len(kinds))


def also_listed(kinds: list[Kind], shown: np.ndarray) -> list[Kind]:
    """The kinds with rows that are shown elsewhere in the report, so that each of these can be looked up."""
    *found, every = kinds
    missing = shown[~np.isin(shown, np.concatenate([kind.rows for kind in kinds]))]
    return _with_all(found, np.concatenate([every.rows, missing]), every.found)


def _kind(key: str, rows: np.ndarray) -> Kind:
    """So many of the rows as are listed of a kind."""
    kept = rows[: _MOST.get(key, len(rows))]
    return Kind(key, len(rows), kept, len(kept))


def _with_all(found: list[Kind], others: np.ndarray, instances: int) -> list[Kind]:
    return [*found, Kind("all", instances, others, sum(kind.listed for kind in found) + len(others))]


def listed(
    audit: Audit,
    kinds: list[Kind],
    gallery: Gallery,
    loss_unit: str,
    moves: dict[int, Moves] | None = None,
    marks: Marks | None = None,
) -> Listed:
    """The instances of ``listed_rows`` as records; moves, marks: training row → the targets it moves, cleansings that change it."""
    on_dev = audit.column("influence_on_dev")
    factor, unit = scaled_unit(on_dev[np.concatenate([kind.rows for kind in kinds])].tolist(), loss_unit)
    figures = {name: audit.column(name) for name in _FIGURES if name in audit.table.column_names}
    suggested, known = audit.table["suggested_label"].to_pylist(), audit.column("kind")
    items = []
    for kind in kinds:
        for row in kind.rows.tolist():
            rest = kind.key == "all"
            item: dict[str, Any] = {
                "i": gallery.train(row, rest=rest),
                "kind": str(known[row]) if rest else kind.key,
                "to": str(suggested[row]),
            }
            if rest and item["kind"] != "ok":
                item["beyond"] = True
            item |= {name: number(values[row]) for name, values in figures.items()}
            item["dev"] = number(on_dev[row] * factor)
            if moves is not None and row in moves:
                item["moves"] = moves[row]
            if marks is not None and row in marks:
                item["cleansed"] = marks[row]
            if kind.key == "ambiguous" and audit.noise is not None:
                belief = audit.noise.belief[row]
                likeliest = (-belief).argsort(kind="stable")[:_BELIEVED]
                names = gallery.run.task.show(likeliest)
                item["believed"] = [[name, number(belief[c], 3)] for name, c in zip(names, likeliest, strict=True)]
            items.append(item)
    return Listed(kinds, items, unit)
