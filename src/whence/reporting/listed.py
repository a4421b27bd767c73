"""Training instances that a report lists: suspected labels, memorized and ambiguous instances, with what the audit says of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whence.auditing import Audit
from whence.reporting.cards import Gallery, number
from whence.reporting.figures import scaled_unit

__all__ = ["Kind", "Listed", "listed", "listed_rows"]

_MOST = {"label_issue": 3000, "memorized": 1000, "ambiguous": 1000}
_NEAREST = 24  # to being memorized, where none is
_BELIEVED = 2  # classes that an ambiguous instance is said to be torn between
_FIGURES = ("p_wrong", "memorization", "influence_on_dev", "p_own", "p_flipped", "p_full")


@dataclass(frozen=True)
class Kind:
    """Instances of one kind.

    Attributes:
        key: "label_issue", "memorized", "nearest" (to being memorized, where none is) or "ambiguous".
        found: how many there are.
        rows: int64, those listed, in the order of the list.
    """

    key: str
    found: int
    rows: np.ndarray


@dataclass(frozen=True)
class Listed:
    """Attributes:
    kinds: in the order of the report.
    items: for each listed instance i (its record), kind, to (the suggested label), figures of the audit, dev (influence on dev in
        ``unit``), and believed: of ambiguous ones, [[class, probability]] of the likeliest.
    unit: of dev.
    """

    kinds: list[Kind]
    items: list[dict[str, Any]] = field(repr=False)
    unit: str = ""


def listed_rows(audit: Audit) -> list[Kind]:
    """Which training instances to list: labels by suspicion, memorized ones by memorization, ambiguous ones by doubt."""
    kinds, memorization = audit.column("kind"), audit.column("memorization")
    ranked = (-memorization).argsort(kind="stable")
    memorized, found = ranked[kinds[ranked] == "memorized"], [Kind("label_issue", len(audit.issues), audit.issues)]
    if len(memorized):
        found.append(Kind("memorized", len(memorized), memorized))
    else:
        nearest = ranked[(kinds[ranked] != "label_issue") & (memorization[ranked] > 0)][:_NEAREST]
        found.append(Kind("nearest", len(nearest), nearest))
    if audit.noise is not None:
        doubt = audit.noise.belief.max(1).argsort(kind="stable")
        ambiguous = doubt[kinds[doubt] == "ambiguous"]
        found.append(Kind("ambiguous", len(ambiguous), ambiguous))
    return [Kind(kind.key, kind.found, kind.rows[: _MOST.get(kind.key, kind.found)]) for kind in found]


def listed(audit: Audit, kinds: list[Kind], gallery: Gallery, loss_unit: str) -> Listed:
    """The instances of ``listed_rows`` as records."""
    on_dev = audit.column("influence_on_dev")
    factor, unit = scaled_unit(on_dev[np.concatenate([kind.rows for kind in kinds])].tolist(), loss_unit)
    figures = {name: audit.column(name) for name in _FIGURES if name in audit.table.column_names}
    suggested = audit.table["suggested_label"].to_pylist()
    items = []
    for kind in kinds:
        for row in kind.rows.tolist():
            item: dict[str, Any] = {"i": gallery.train(row), "kind": kind.key, "to": str(suggested[row])}
            item |= {name: number(values[row]) for name, values in figures.items()}
            item["dev"] = number(on_dev[row] * factor)
            if kind.key == "ambiguous" and audit.noise is not None:
                belief = audit.noise.belief[row]
                likeliest = (-belief).argsort(kind="stable")[:_BELIEVED]
                names = gallery.run.task.show(likeliest)
                item["believed"] = [[name, number(belief[c], 3)] for name, c in zip(names, likeliest, strict=True)]
            items.append(item)
    return Listed(kinds, items, unit)
