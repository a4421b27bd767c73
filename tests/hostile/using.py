"""What can be done with a run's directory, and what comes of it: an answer or one clear error, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import whence
from whence import WhenceError


def asked(call: Callable[[], Any]) -> str | None:
    """None where a call succeeds, else the text of its WhenceError; any other exception is a defect, and rises."""
    message = None
    try:
        call()
    except WhenceError as error:
        message = str(error)
    assert message is None or ("\n" not in message and message.endswith((".", "?", "!")))
    return message


def read_scores(path: Path) -> None:
    """All that can be asked of scores on disk."""
    scores = whence.load_scores(path)
    repr(scores)
    for k in (1, 30):
        scores.top(k)
        scores.top(k, harmful=True)
    scores.mean_over_targets(even=True)
    if scores.info["matrix"]:
        assert np.isfinite(np.asarray(scores)).all()
    if scores.null is not None:
        scores.noise_floor()
        scores.significance()


def refusal(path: Path, by: str) -> str | None:
    """What one call says of a run's directory: "open", "verify", "scores/NAME" or "truth/NAME"."""
    calls = {
        "open": lambda: whence.open_run(path),
        "verify": lambda: differing(path),
        "scores": lambda: read_scores(path / by),
        "truth": lambda: whence.evaluation.load_truth(path / by),
    }
    return asked(calls[by.partition("/")[0]])


def outcomes(path: Path, *, thorough: bool = True) -> dict[str, str | None]:
    """What the library says of a run's directory, call by call.

    Args:
        thorough: let it be audited and reported too.
    """
    opened: list[Any] = []
    said = {"open": asked(lambda: opened.append(whence.open_run(path)))}
    said["verify"] = refusal(path, "verify")
    for kind in ("scores", "truth"):
        for folder in sorted((path / kind).glob("*/")):
            said[f"{kind}/{folder.name}"] = refusal(path, f"{kind}/{folder.name}")
    for run in opened:
        for method in ("turnover", "kernel"):
            said[method] = asked(lambda method=method, run=run: whence.influence(run, "test", method=method))
        if thorough:
            said["audit"] = asked(lambda run=run: whence.audit(run))
            said["report"] = asked(lambda run=run: whence.report(run))
    return said


def differing(path: Path) -> None:
    """Raise what ``whence.verify`` finds, so that it counts as a refusal."""
    found = [check.detail for check in whence.verify(path) if check.state == "differs"]
    if found:
        raise WhenceError("not as it should be", got=" ".join(found))
