"""How a command ends that cannot be finished: one line on standard error, and its exit code."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from whence.cli.answers import plain
from whence.errors import WhenceError

__all__ = ["Notes", "fail", "interruptible", "stopped", "typed"]


def fail(message: str) -> None:
    """End with one line: bad input."""
    print("whence: " + plain(" ".join(message.split())), file=sys.stderr)
    sys.exit(2)


def stopped(kept: str = "") -> None:
    """End as an interrupted program does."""
    print(f"\nwhence: interrupted{kept}; give the same command again to resume", file=sys.stderr)
    sys.exit(130)


@contextmanager
def interruptible(kept: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C ends the program with a word on what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        stopped(f"; {kept()}")


@contextmanager
def typed(**options: str) -> Iterator[None]:
    """Errors about an option name it as it is typed."""
    try:
        yield
    except WhenceError as error:
        if error.where not in options:
            raise
        raise WhenceError(error.what, where=options[error.where], got=error.got, expected=error.expected,
                          mend=error.mend) from error  # fmt: skip


class Notes(logging.Handler):
    """What the library logs, a line each on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"whence: {plain(record.getMessage())}", file=sys.stderr)
