"""The commands that are disturbed: what each is given, and what has to be there before it.

A new command needs a line in the table alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cli.tables import write_table

__all__ = ["COMMANDS", "Command", "write_data"]


@dataclass(frozen=True)
class Command:
    """One command in a place, a directory whose neighbor ``data.csv`` is the data.

    Attributes:
        arguments: of the command line; RUN and DATA stand for the paths.
        after: names of the commands that were given in the same place before.
        call: (place) → what is done in place of the command line.
    """

    arguments: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    call: Callable[[Path], None] | None = None

    def perform(self, place: Path) -> None:
        """Give the command in this process; exits as the command line does."""
        if self.call is not None:
            self.call(place)
            return
        from whence.cli import main

        paths = {
            "RUN": str(place / "run"),
            "DATA": str(place.parent / "data.csv"),
            "PAGE": str(place / "pages" / "page.html"),
            "TABLE": str(place / "marked.csv"),
        }
        sys.argv = ["whence", *(paths.get(argument, argument) for argument in self.arguments)]
        main()


def write_data(root: Path) -> None:
    write_table(root / "data.csv", n=60)


def _in_blocks(place: Path) -> None:
    import whence

    whence.influence(whence.open_run(place / "run"), "test", method="kernel", block_rows=5)


def _of_an_older_version(place: Path) -> None:
    """Scores that an audit made by an older version of its method."""
    for file in (place / "run" / "scores").glob("*/scores.json"):
        record = json.loads(file.read_text())
        file.write_text(json.dumps({**record, "version": 0}))


def _replaced(place: Path) -> None:
    import whence
    from tests.toys import blobs, network

    whence.Run(network(6, 8, 3, seed=1), blobs(60), dev=blobs(20, seed=1, start=900), out=place / "run", replace=True)


def _exported(place: Path) -> None:
    import whence

    scores = whence.load_scores(place / "run" / "scores" / "kernel-test")
    scores.to_parquet(place / "tables" / "all.parquet")


def _finished(place: Path) -> None:
    import whence

    whence.influence(whence.open_run(place / "run"), "test", method="kernel").top(2)


_FIT = (
    *("fit", "DATA", "--features", "x,z", "--label", "label", "--out", "RUN", "--model", "mlp:8,8"),
    *("--epochs", "3", "--batch-size", "16", "--checkpoint-seconds", "0", "--device", "cpu"),
)
_SCORE = ("influence", "RUN", "--targets", "test", "--method")
_EVALUATE = ("evaluate", "RUN", "--method", "kernel", "--subsets", "3", "--seeds", "1")

COMMANDS = {
    "fit": Command(_FIT),
    "fit with early stopping": Command((*_FIT, "--patience", "2")),
    "fit groups": Command((*_FIT, "--group", "source")),
    "turnover": Command((*_SCORE, "turnover"), ("fit",)),
    "first order": Command((*_SCORE, "first_order"), ("fit",)),
    "kernel": Command((*_SCORE, "kernel"), ("fit",)),
    "kronecker": Command((*_SCORE, "kronecker"), ("fit",)),
    "no matrix": Command((*_SCORE, "turnover", "--no-matrix"), ("fit",)),
    "errors": Command(("influence", "RUN"), ("fit",)),
    "blocks": Command(call=_in_blocks, after=("fit",)),
    "shard": Command((*_SCORE, "kernel", "--shard", "0/2"), ("fit",)),
    "other shard": Command((*_SCORE, "kernel", "--shard", "1/2"), ("fit",)),
    "rest of a shard": Command((*_SCORE, "kernel"), ("fit", "shard")),
    "groups": Command(("influence", "RUN", "--targets", "test"), ("fit groups",)),
    "audit": Command(("audit", "RUN"), ("fit",)),
    "audit of groups": Command(("audit", "RUN"), ("fit groups",)),
    "report": Command(("report", "RUN"), ("fit",)),
    "report of groups": Command(("report", "RUN", "--out", "PAGE"), ("fit groups",)),
    "evaluate": Command(_EVALUATE, ("fit",)),
    "evaluate leaving one out": Command(
        ("evaluate", "RUN", "--method", "kernel", "--kind", "leave-one-out", "--subsets", "3", "--seeds", "1"), ("fit",)
    ),
    "cleanse": Command(
        ("cleanse", "RUN", "--drop", "10%", "--method", "kernel", "--seeds", "2", "--table", "TABLE"), ("fit",)
    ),
    "cleanse labels": Command(("cleanse", "RUN", "--relabel", "2", "--seeds", "2"), ("fit",)),
    "evaluate in two processes": Command((*_EVALUATE, "--jobs", "2"), ("fit",)),
    "cleanse in two processes": Command(
        ("cleanse", "RUN", "--drop", "10%", "--method", "kernel", "--seeds", "2", "--jobs", "2"), ("fit",)
    ),
    "replace": Command(call=_replaced, after=("fit", "kernel", "audit")),
    "older version": Command(call=_of_an_older_version, after=("fit", "audit")),
    "verify": Command(("verify", "RUN"), ("fit",)),
    "report after an audit": Command(("report", "RUN"), ("fit", "audit")),
    "audit again": Command(("audit", "RUN"), ("fit", "audit", "older version")),
    "finished": Command(call=_finished, after=("fit", "kernel")),
    "export": Command(call=_exported, after=("fit", "kernel")),
}
