"""Scores that whence makes for its own pages: they lie in the run's directory under names of its own."""

from __future__ import annotations

from typing import Any

from whence.errors import StaleScoresError
from whence.estimators.dispatch import influence
from whence.run import Run
from whence.score_store import making
from whence.scores import Scores
from whence.whole_files import remove_whole

__all__ = ["derived"]


def derived(run: Run, targets: Any, *, name: str, **options: Any) -> Scores:
    """``whence.influence`` for an audit or a report, which made what lies under ``name`` itself.

    Scores of other weights, options or an older version of the method are made again: no user chose that name, so none is
    asked to delete them.
    """
    try:
        return influence(run, targets, name=name, **options)
    except StaleScoresError as stale:
        with run.in_use(), making(stale.directory):
            try:  # another process may have made them while this one waited
                return influence(run, targets, name=name, **options)
            except StaleScoresError:
                remove_whole(stale.directory)
                return influence(run, targets, name=name, **options)
