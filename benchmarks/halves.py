"""Scores held against retraining on random halves: what encoder_scores.py and conv_scores.py print."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import whence
from whence.evaluation import lds, retrain

__all__ = ["by", "report"]

Method = Callable[[whence.Run, str], Any]  # scores of a run on a split


def by(method: str, **options: Any) -> Method:
    """A method of ``whence.influence`` with options."""
    return lambda run, targets: whence.influence(run, targets, method=method, **options)


def report(
    title: str,
    trained: Callable[[int], whence.Run],
    targets: str,
    methods: Mapping[str, Method],
    *,
    subsets: int,
    retrainings: int,
    seeds: int,
    folder: Path,
) -> None:
    """Print mean and standard deviation of linear datamodeling scores, and seconds of processor time.

    Args:
        title: of what is printed.
        trained: a run by seed; those that are scored have the seeds from 100 on.
        targets: a split.
        methods: by name.
        subsets: random halves, each trained so many times (retrainings), kept in ``folder``.
        seeds: scored runs.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    truth = None
    for seed in range(100, 100 + seeds):
        run = trained(seed)
        truth = truth or retrain(run, targets, subsets=subsets, seeds=retrainings, out=folder)
        for name, method in methods.items():
            began = time.process_time()
            value = lds(method(run, targets), truth)
            found.setdefault(name, []).append((value.value, time.process_time() - began))
    ceiling = "" if np.isnan(value.ceiling) else f"; ceiling {value.ceiling:.3f}"
    print(f"{title}, {subsets} halves{ceiling}")
    for name, values in found.items():
        scores, seconds = np.transpose(values)
        spread = f" ± {np.std(scores, ddof=1):.3f}" if seeds > 1 else ""
        print(f"  {name:<24} {scores.mean():.3f}{spread}   {seconds.mean():.0f} s", flush=True)
