"""Tables of what ranks label errors in pictures, and how well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from benchmarks.label_error_cases import SETS, epochs_of

__all__ = ["overview", "table"]

P_WRONG, UNSEEN, FLIPPED, FULL = (
    f"one run, {name}" for name in ("p_wrong", "out of sample", "flipped mask", "full network")
)
EPOCH_MEAN, MARGINS, FOLDS = "one run, all epochs", "one run, margins", "5 folds"
EKFAC, TRAK, TRACIN = (f"one run, {name} self-influence" for name in ("EK-FAC", "TRAK", "TracIn"))
FOLD_MARGINS, FOLD_NOISE, ORDINARY = "5 folds, normalized margin", "5 folds, noise model", "5 folds, no masks"
REGRESSION, REGRESSION_NOISE = "regression alone", "regression alone, noise model"
MEAN_LOSS = "one run, mean loss of epochs"
RANKED = (P_WRONG, UNSEEN, FLIPPED, FULL, EPOCH_MEAN, MEAN_LOSS, MARGINS, EKFAC, TRAK, TRACIN, REGRESSION, REGRESSION_NOISE,
          FOLDS, FOLD_MARGINS, FOLD_NOISE, ORDINARY)  # fmt: skip
SAID = {"expected": 0, "calibration error": 3, "calibration error of out of sample": 2, "precision": 2, "recall": 2}
REGIMES = ("stopped", "early", "long")
TABLES = (
    ("AUC", 4, (P_WRONG, UNSEEN, REGRESSION, FLIPPED, FULL, EPOCH_MEAN, MEAN_LOSS, MARGINS, FOLDS, ORDINARY)),
    ("AUC", 4, (P_WRONG, EKFAC, TRAK, TRACIN, REGRESSION_NOISE, FOLDS, FOLD_MARGINS, FOLD_NOISE)),
    ("AP", 3, (P_WRONG, UNSEEN, REGRESSION, FULL, MEAN_LOSS, MARGINS, FOLDS)),
    ("top 1 %", 2, (P_WRONG, UNSEEN, REGRESSION, FULL, MEAN_LOSS, MARGINS, FOLDS)),
)


def table(name: str, rows: Sequence[dict[str, Any]]) -> None:
    fit = {mask: np.mean([row[f"{mask} fit"] for row in rows]) for mask in ("own", "full")}
    print(f"\n{name}, {rows[0]['regime']}, {len(rows)} seeds: {rows[0]['count']:,} labels; own masks fit {fit['own']:.3f} of them, "
          f"the full network {fit['full']:.3f}")  # fmt: skip
    if P_WRONG in rows[0]:
        print("| ranked by | AUC | average precision | top 1 % | cost |\n| --- | --- | --- | --- | --- |")
        for ranked in (name for name in RANKED if name in rows[0]):
            cells = [ranked]
            for figure, digits in (("AUC", 4), ("AP", 3), ("top 1 %", 2)):
                cells.append(spread([row[ranked][figure] for row in rows], digits))
            costs = [row[ranked].get("cost", row[FOLDS]["cost"]) for row in rows]
            print("| " + " | ".join([*cells, f"{np.mean(costs):.2f}"]) + " |")
    said = {key: spread([row["p_wrong"][key] for row in rows], 3) for key in rows[0]["p_wrong"]}
    expected = spread([row["p_wrong"]["expected"] for row in rows], 0)
    print(f"p_wrong: expects {expected} errors, there are {np.mean([row['wrong'] for row in rows]):.0f}; calibration error "
          f"{said['calibration error']} (out of sample: {said['calibration error of out of sample']}); above one half precision "
          f"{said['precision']}, recall {said['recall']}", flush=True)  # fmt: skip


def overview(rows: list[dict[str, Any]]) -> None:
    """What is known of all sets and regimes, of three seeds or more: rankings, costs, what is fitted, p_wrong as a probability."""
    cases = merged(rows)
    for figure, digits, ranked in TABLES:
        heading(f"{figure}: set, epochs", ranked)
        for (name, regime), found in cases.items():
            values = {one: [row[one][figure] for row in found if one in row] for one in ranked}
            means = {one: np.mean(some) for one, some in values.items() if len(some) > 2}
            if means and max(means.values()) > 0 and len(means) > 1:
                best = max(means, key=lambda one: means[one])
                cells = [spread(values[one], digits) if one in means else "" for one in ranked]
                cells = [f"**{cell}**" if one == best else cell for one, cell in zip(ranked, cells, strict=True)]
                print(f"| {name}, {epochs_of(name, regime)} | " + " | ".join(cells) + " |")
    heading(
        "set, epochs",
        ("one run", "5 folds", "one run / 5 folds", "one run / 5 folds and the model", "fit", "of wrong labels"),
    )
    for (name, regime), found in cases.items():
        if P_WRONG in found[0]:
            one, folds = (np.mean([row[ranked]["cost"] for row in found]) for ranked in (P_WRONG, FOLDS))
            cells = [f"{value:.2f}" for value in (one, folds, one / folds, one / (folds + 1))]
            for fit in ("fit", "fit of wrong"):
                own, full = (
                    [row[f"{mask} {fit}"] for row in found if f"{mask} {fit}" in row] for mask in ("own", "full")
                )
                cells.append(f"own {np.mean(own):.2f}, full {np.mean(full):.2f}" if own else "")
            print(f"| {name}, {epochs_of(name, regime)} | " + " | ".join(cells) + " |")
    heading("set, epochs", ("wrong", *SAID))
    for (name, regime), found in cases.items():
        said = [row["p_wrong"] for row in found]
        cells = [spread([one[key] for one in said], digits) for key, digits in SAID.items()]
        wrong = np.mean([row["wrong"] for row in found])
        print(
            f"| {name}, {epochs_of(name, regime)} | {wrong:.0f} of {found[0]['count']:,} | " + " | ".join(cells) + " |"
        )


def merged(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(set, regime) → what is known of each seed, of three seeds or more. The regression alone is the same however long a network
    is trained."""
    seeds: dict[tuple[str, str, int], dict[str, Any]] = {}
    for row in rows:
        seeds.setdefault((row["set"], row["regime"], row["seed"]), {}).update(row)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name in SETS:
        for regime in REGIMES:
            some = [
                row for (of, when, _), row in sorted(seeds.items()) if (of, when) == (name, regime) and "count" in row
            ]
            for row in some:
                early = seeds.get((name, "early", row["seed"]), {})
                row |= {one: early[one] for one in (REGRESSION, REGRESSION_NOISE) if one in early}
            if len(some) > 2:
                found[name, regime] = some
    return found


def heading(first: str, others: Sequence[str]) -> None:
    print(f"\n| {first} | " + " | ".join(others) + " |\n" + "| --- " * (1 + len(others)) + "|")


def spread(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation."""
    error = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{error}"
