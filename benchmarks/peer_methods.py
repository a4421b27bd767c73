"""The methods of ``peers.py`` by name, and what is to be known of each."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import peer_formulas as formulas
import peer_libraries as libraries
from peer_cases import Case
from whence.estimators import METHODS


@dataclass(frozen=True)
class Method:
    """What ``score`` needs to know of a method.

    Attributes:
        call: (case, option) → scores [N, M].
        kind: of the networks: "ordinary" or "turnover".
        models: that one set of scores takes.
        most: repetitions at most.
        options: the default, then others of which the best on the truth is reported too.
        needs: modules that are imported before memory is measured.
        targets: how many are scored; None for all.
    """

    call: Callable[[Case, Any], np.ndarray]
    kind: str = "ordinary"
    models: int = 1
    most: int = 1000
    options: tuple[Any, ...] = (None,)
    needs: tuple[str, ...] = ()
    targets: int | None = None


def methods() -> dict[str, Method]:
    """All methods by name."""
    found = {}
    for name in ("auto", *METHODS):
        for models in (1, 5):
            label = f"whence {name}" + (f" ×{models}" if models > 1 else "")
            found[label] = Method(
                functools.partial(formulas.of_whence, name), "turnover", models, 1000 if models == 1 else 5
            )
    found["input similarity"] = Method(formulas.similarity, models=0, most=1)
    found["grad-dot"] = Method(formulas.grad_dot)
    found["last-layer influence"] = Method(formulas.last_layer)
    tracin = {"needs": ("captum.influence",)}
    found["TracInCPFast (captum)"] = Method(libraries.tracin_fast, **tracin)
    ridges = (0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0)
    for kind, suffix in (("ordinary", ""), ("turnover", ", turn-over net")):
        found[f"TRAK unprojected{suffix}"] = Method(formulas.trak_unprojected, kind, options=ridges)
        found[f"EK-FAC (kronfluence){suffix}"] = Method(
            libraries.ekfac, kind, options=("1e-08", "heuristic", "1e-04", "1e-03"), needs=("kronfluence",)
        )
        found[f"TRAK unprojected ×10{suffix}"] = Method(formulas.trak_unprojected, kind, 10, options=ridges)
    found["TracInCP (captum)"] = Method(libraries.tracin, **tracin)
    dattri = {"needs": ("dattri.algorithm.influence_function", "dattri.task")}
    for solver in ("DataInf", "Arnoldi", "CG"):
        found[f"IF-{solver} (dattri), 30 targets"] = Method(
            functools.partial(libraries.dattri, solver), options=(0.0, 0.1), targets=30, **dattri
        )
    traker = {"needs": ("trak",)}
    found["TRAK (traker, 1,024 dimensions)"] = Method(libraries.traker, options=(0.0, 1.0), **traker)
    # Ten models take minutes: only with the ridge that was best for one.
    found["TRAK (traker, 1,024 dimensions, ridge 1) ×10"] = Method(
        functools.partial(libraries.traker, ridge=1.0), models=10, **traker
    )
    return found
