"""Trains the networks of ``peers.py``, and measures a method on them: linear datamodeling score, seconds, memory."""

from __future__ import annotations

import importlib
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import peer_settings as settings
from peak_memory import peak_bytes
from peer_cases import Case, load_network, network_path
from peer_methods import Method, methods


def networks_for(setting: str, chosen: list[str], seeds: int, folder: Path) -> None:
    """Train the networks that methods are going to score, where they are not there."""
    given, known = settings.setting(setting), methods()
    for method in (known[name] for name in chosen):
        for repeat in range(min(seeds, method.most)):
            for seed in _seeds(method, repeat):
                path = network_path(setting, method.kind, seed, folder)
                if not path.exists():
                    settings.make_network(given, method.kind, seed, path)


def score(setting: str, name: str, seeds: int, folder: Path) -> list[dict[str, Any]]:
    """Rows of the table: one for the default, one for the option that does best on the truth."""
    given, method = settings.setting(setting), methods()[name]
    some = slice(method.targets)
    given = replace(given, test_x=given.test_x[some], test_y=given.test_y[some], loss=given.loss[..., some])
    for module in method.needs:
        importlib.import_module(module)
    repeats = [_seeds(method, repeat) for repeat in range(min(seeds, method.most))]
    cases = [Case(given, [load_network(setting, method.kind, seed, folder) for seed in chosen]) for chosen in repeats]
    baseline, exact = _fresh_peak()
    wanted, grid, first = [method.options[0]], {}, None
    if len(method.options) > 1:
        first = cases[0] if method.models == 1 else Case(given, cases[0].networks[:1])
        grid = {option: _attempt(method, first, option) for option in method.options}
        wanted.append(max(grid, key=lambda option: grid[option][0]))
    rows = []
    for number, option in enumerate(wanted):
        known = {id(first): grid[option]} if grid else {}
        measured = [known.get(id(case)) or _attempt(method, case, option) for case in cases]
        if failure := next((why for value, _, why in measured if why), ""):
            rows.append({"name": name, "failed": failure})
            continue
        row = {"name": name, "models": method.models, "lds": [value for value, _, _ in measured],
               "seconds": [spent for _, spent, _ in measured], "seeds": repeats, "networks": method.kind}  # fmt: skip
        if len(method.options) > 1:
            row["option"] = option
            row["name"] += f", {option}, best on truth" if number else f", {option} (default)"
            row["grid_on_first_network"] = {str(tried): round(found[0], 4) for tried, found in grid.items()}
        rows.append(row)
    peak = (peak_bytes() - baseline) / 2**20
    versions = _versions(method.needs)
    return [
        {
            **row,
            "peak_mib": peak,
            "peak_exact": exact,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            **versions,
        }
        for row in rows
    ]


def _fresh_peak() -> tuple[int, bool]:
    """The peak so far in bytes, and whether it is that of now: Linux can forget the peak of loading data and libraries.

    Elsewhere the difference to a later peak is only a lower bound of what was taken.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return peak_bytes(), True
    return peak_bytes(), False


def _attempt(method: Method, case: Case, option: Any) -> tuple[float, float, str]:
    """LDS (−1 when it fails), seconds of one thread, and why it failed."""
    torch.manual_seed(0)
    before = case.shared.get("seconds", 0.0)
    began = time.process_time()
    try:
        scores = method.call(case, option)
        spent = time.process_time() - began + before
        return settings.lds(np.asarray(scores), case.given), spent, ""
    except Exception as error:  # a peer may fail in any way; the others go on
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return -1.0, time.process_time() - began, f"{type(error).__name__}: {error}"[:300]


def _versions(modules: tuple[str, ...]) -> dict[str, Any]:
    from importlib.metadata import version

    package = {"trak": "traker"}
    roots = {module.split(".")[0] for module in modules}
    return (
        {"library": {package.get(root, root): version(package.get(root, root)) for root in sorted(roots)}}
        if roots
        else {}
    )


def _seeds(method: Method, repeat: int) -> list[int]:
    count = max(method.models, 1)
    return list(range(repeat * count, (repeat + 1) * count))
