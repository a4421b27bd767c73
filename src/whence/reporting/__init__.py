"""The report: one HTML file that tells a reader who never saw the tool what a run knows about its data."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from whence.arguments import instance_of, whole
from whence.auditing import Audit
from whence.errors import WhenceError
from whence.estimators.dispatch import method_named
from whence.reporting.findings import Finding, findings
from whence.reporting.gather import gather
from whence.reporting.headings import run_name
from whence.reporting.render import render
from whence.reporting.trust import Trust, assess
from whence.run import Run
from whence.rundir import as_path
from whence.whole_files import write_aside

__all__ = ["Finding", "Trust", "assess", "findings", "report"]


def report(
    run: Run,
    path: str | os.PathLike[str] | None = None,
    *,
    audit: Audit | None = None,
    targets: Any = "errors",
    method: str = "auto",
    top: int = 8,
    limit: int = 50,
    against: Run | None = None,
    progress: bool = False,
) -> Path:
    """Write the report of a run, or of its comparison with another, as one HTML file.

    It shows how far scores can be trusted, accuracy, exposure curves, suspected labels, memorized instances,
    and predictions with the training instances behind them. It opens offline and runs no code of the data.

    Against another run it shows which of the two predicts better on the instances held out from both, what changed, whether
    both name the same training instances and suspect the same labels, and what differs in data, model and
    training (``whence.compare`` has the numbers). Scores and audits are kept in the directories of both.

    Args:
        run: the trained run.
        path: the file; by default report.html in the run's directory; of a comparison against-NAME.html there, by the name of
            the other's directory.
        audit: of this run; by default it is made.
        targets: predictions to explain: "errors" (the most confident wrong predictions of test, else of dev;
            the largest errors of a regression), a split's name, a ``Dataset``, or (ids, inputs, targets).
        method: of influence: "auto", "kronecker", "kernel", "turnover" or "first_order".
        top: how many helpful and how many harmful training rows to list for each target.
        limit: how many targets to explain.
        against: a run to compare with: of another seed, another model, or the data before they were cleansed; then ``targets`` is
            not used: they are the predictions in which the runs differ.
        progress: show bars.

    Returns:
        The file.

    Raises:
        WhenceError: a run in memory and no path; the path is a directory; the audit is of other data; an
            option is out of range; the other run is the same, of another task or other classes, or shares no held-out instances.
    """
    instance_of(run, Run, "run")
    if against is not None:
        instance_of(against, Run, "against")
    if path is None:
        if run.directory is None:
            raise WhenceError(
                "no place for the report",
                where="a run that is kept in memory",
                mend="Name a file: whence.report(run, 'report.html').",
            )
        path = run.directory.path / ("report.html" if against is None else _file_name(against))
    target = as_path(path)
    if target.is_dir():
        raise WhenceError(
            "not a file", where=str(target), got="a directory", expected="a file name such as report.html"
        )
    top, limit = whole(top, "top"), whole(limit, "limit")
    method_named(method)
    if audit is not None:
        instance_of(audit, Audit, "audit").check_is_of(run.train, "audit")
    with run.in_use():
        if against is None:
            page = render(
                gather(run, audit=audit, targets=targets, method=method, top=top, limit=limit, progress=progress)
            )
        else:
            from whence.comparison import compare  # with whence.evaluation, which few programs need
            from whence.reporting.comparison_page import render_comparison

            found = compare(run, against, audits=(audit, None), method=method, top=top, limit=limit, progress=progress)
            page = render_comparison(found)
        with write_aside(target) as aside:
            aside.write_text(page, encoding="utf-8", newline="\n")
    return target


def _file_name(other: Run) -> str:
    """Of a comparison, by the name of the other run."""
    return f"against-{re.sub(r'[^A-Za-z0-9_.-]+', '-', run_name(other))}.html"
