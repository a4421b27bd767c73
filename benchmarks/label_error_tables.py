"""Tables of what ranks label errors in pictures, and how well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from benchmarks.label_error_cases import SETS, epochs_of

__all__ = ["heading", "line", "number", "overview", "table", "title"]

Cases: TypeAlias = dict[tuple[str, str], list[dict[str, Any]]]  # (set, regime) → what is known of each seed

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
TITLES = {"fashion": "Fashion-MNIST", "cifar": "CIFAR-10", "cifar10k": "10,000 of CIFAR-10", "mnist": "MNIST",
          "human": "N, three people's majority", "human worst": "N, worst of three", "verified": "verified errors",
          "clean": "none"}  # fmt: skip
SHORT = {P_WRONG: "`p_wrong`", FOLD_MARGINS: "normalized margin", FOLD_NOISE: "5 folds, noise model", MARGINS: "AUM",
         MEAN_LOSS: "mean loss", REGRESSION_NOISE: "regression, noise model"}  # fmt: skip
AREAS = (P_WRONG, UNSEEN, REGRESSION, FLIPPED, FULL, EPOCH_MEAN, MEAN_LOSS, MARGINS, FOLDS, ORDINARY)
OTHERS = (P_WRONG, EKFAC, TRAK, TRACIN, REGRESSION_NOISE, FOLDS, FOLD_MARGINS, FOLD_NOISE)
FIRST = (P_WRONG, UNSEEN, REGRESSION, FULL, MARGINS, FOLDS)
APART = ((P_WRONG, FOLDS), (P_WRONG, REGRESSION), (P_WRONG, REGRESSION_NOISE), (UNSEEN, REGRESSION), (FULL, FOLDS),
         (EPOCH_MEAN, FOLDS))  # fmt: skip


def table(name: str, rows: Sequence[dict[str, Any]]) -> None:
    fit = {mask: np.mean([row[f"{mask} fit"] for row in rows]) for mask in ("own", "full")}
    print(f"\n{name}, {rows[0]['regime']}, {len(rows)} seeds: {rows[0]['count']:,} labels; own masks fit {fit['own']:.3f} of them, "
          f"the full network {fit['full']:.3f}")  # fmt: skip
    if known := [row["shared gradient"] for row in rows if "shared gradient" in row]:
        print(f"of flipped gradients {spread(known, 2)} lie in weights that own masks train too")
    if P_WRONG in rows[0]:
        print("| ranked by | AUC | average precision | top 1 % | cost |\n| --- | --- | --- | --- | --- |")
        for ranked in (name for name in RANKED if name in rows[0]):
            cells = [ranked]
            for figure, digits in (("AUC", 4), ("AP", 3), ("top 1 %", 2)):
                cells.append(spread([row[ranked][figure] for row in rows], digits))
            paid = [row[ranked]["cost"] for row in rows if "cost" in row[ranked]]
            print("| " + " | ".join([*cells, number(np.mean(paid), 2) if paid else ""]) + " |")
    said = {key: spread([row["p_wrong"][key] for row in rows], 3) for key in rows[0]["p_wrong"]}
    expected = spread([row["p_wrong"]["expected"] for row in rows], 0)
    print(f"p_wrong: expects {expected} errors, there are {np.mean([row['wrong'] for row in rows]):.0f}; calibration error "
          f"{said['calibration error']} (out of sample: {said['calibration error of out of sample']}); above one half precision "
          f"{said['precision']}, recall {said['recall']}", flush=True)  # fmt: skip


def overview(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The tables of docs/label_errors.md, from what is known of three seeds or more: name → lines."""
    cases = merged(rows)
    return {"pictures": ranking(cases, "AUC", 4, AREAS), "apart": apart(cases),
            "more": ranking(cases, "AUC", 4, OTHERS, fewest=3),
            "first": ranking(cases, "AP", 3, FIRST, beside="top 1 %"), "costs": costs(cases), "noise": noise(cases)}  # fmt: skip


def ranking(
    cases: Cases, figure: str, digits: int, ranked: Sequence[str], *, fewest: int = 2, beside: str = ""
) -> list[str]:
    """What each ranking is worth, the best in bold, of cases for which as many rankings as ``fewest`` are known beside folds."""
    lines = heading("set, epochs", [short(one) for one in ranked])
    for case, found in cases.items():
        values = {one: [row[one] for row in found if one in row] for one in ranked}
        means = {one: np.mean([each[figure] for each in some]) for one, some in values.items() if len(some) > 2}
        if len(set(means) - {FOLDS, REGRESSION_NOISE}) < fewest or P_WRONG not in means:
            continue
        cells, best = [], max(means, key=lambda one: means[one])
        for one in ranked:
            cell = "" if one not in means else spread([each[figure] for each in values[one]], digits)
            cell = f"**{cell}**" if one == best else cell
            more = f" · {short(f'{np.mean([each[beside] for each in values[one]]):.2f}')}" if beside and cell else ""
            cells.append(cell + more)
        lines.append(line(title(*case), cells))
    return lines


def apart(cases: Cases) -> list[str]:
    """By how much areas differ on the same errors."""
    lines = heading("set, epochs", [f"{short(one)} − {short(other)}" for one, other in APART])
    for case, found in cases.items():
        cells = []
        for one, other in APART:
            differences = [row[one]["AUC"] - row[other]["AUC"] for row in found if one in row and other in row]
            cells.append(signed(differences, 3) if len(differences) > 2 else "")
        if any(cells):
            lines.append(line(title(*case), cells))
    return lines


def costs(cases: Cases) -> list[str]:
    """In trainings, and what networks fit of all labels and of wrong ones at last."""
    lines = heading("set, epochs", ("one run", "5 folds", "one run / 5 folds", "one run / 5 folds and the model itself",
                                    "fit of labels: own masks, full network", "of wrong ones"))  # fmt: skip
    for case, found in cases.items():
        if P_WRONG in found[0]:
            one, folds = (float(np.mean([row[ranked]["cost"] for row in found])) for ranked in (P_WRONG, FOLDS))
            cells = [number(value, 2) for value in (one, folds, one / folds, one / (folds + 1))]
            for fit in ("fit", "fit of wrong"):
                own, full = (
                    [row[f"{mask} {fit}"] for row in found if f"{mask} {fit}" in row] for mask in ("own", "full")
                )
                cells.append(f"{number(np.mean(own), 2)}, {number(np.mean(full), 2)}" if own else "")
            lines.append(line(title(*case), cells))
    return lines


def noise(cases: Cases) -> list[str]:
    """How far p_wrong is a probability."""
    lines = heading("set, epochs", ("wrong labels", "expected", "calibration error of `p_wrong`", "of 1 − p̄(label)",
                                    "precision above ½", "recall"))  # fmt: skip
    for case, found in cases.items():
        said = [row["p_wrong"] for row in found]
        cells = [spread([one[key] for one in said], digits) for key, digits in SAID.items()]
        wrong = np.mean([row["wrong"] for row in found])
        lines.append(
            line(title(*case), [f"{wrong:.0f} of {found[0]['count']:,}", *(c.replace("nan ± nan", "") for c in cells)])
        )
    return lines


def merged(rows: Sequence[dict[str, Any]]) -> Cases:
    """(set, regime) → what is known of each seed, of three seeds or more. The regression alone is the same however long a network
    is trained."""
    seeds: dict[tuple[str, str, int], dict[str, Any]] = {}
    for row in rows:
        seeds.setdefault((row["set"], row["regime"], row["seed"]), {}).update(row)
    found: Cases = {}
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


def heading(first: str, others: Sequence[str]) -> list[str]:
    return [line(first, others), "| --- " * (1 + len(others)) + "|"]


def line(first: str, cells: Sequence[str]) -> str:
    return f"| {first} | " + " | ".join(cells) + " |"


def title(name: str, regime: str) -> str:
    """fashion uniform, early → Fashion-MNIST, uniform, 10"""
    source, kind = name.split(" ", 1)
    said = (
        f"{TITLES[source]}{TITLES[kind]}" if kind.startswith("human") else f"{TITLES[source]}, {TITLES.get(kind, kind)}"
    )
    return f"{said}, {epochs_of(name, regime)}"


def short(name: str) -> str:
    return SHORT.get(name, name.removeprefix("one run, ").removesuffix(" self-influence")).removeprefix("0")


def spread(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation."""
    error = f" ± {number(np.std(values, ddof=1), digits)}" if len(values) > 1 else ""
    return f"{number(np.mean(values), digits)}{error}"


def signed(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation of differences."""
    said = spread(values, digits).replace("-0.", "−.").replace("-.", "−.")
    return said if said.startswith("−") else f"+{said}"


def number(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}".removeprefix("0") if digits else f"{value:.0f}"
