"""The error that whence raises for bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["NotGivenError", "StaleScoresError", "UnwritableError", "WhenceError"]

_LONGEST = 1000  # characters of what was got or expected


class WhenceError(ValueError):
    """Bad input, said in one line: what is wrong, where, what was got and expected, how to mend it.

    Args:
        what: what is wrong, without a full stop.
        where: the file, column, option, layer or argument.
        got: what was found there.
        expected: what would have been right.
        mend: what the user can do about it, as a sentence.

    >>> str(WhenceError("no such column", where="a.csv", got="labl", expected="one of x, label", mend="Use --label."))
    'no such column in a.csv: got labl, expected one of x, label. Use --label.'
    """

    def __init__(self, what: str, *, where: Any = None, got: Any = None, expected: Any = None, mend: str = "") -> None:
        self.what, self.where, self.got, self.expected, self.mend = what, where, got, expected, mend
        found = [
            f"{name} {_short(value)}" for name, value in (("got", got), ("expected", expected)) if value is not None
        ]
        message = what if where is None else f"{what} in {where}"
        if found:
            message += ": " + ", ".join(found)
        message = message.rstrip(".") + "." + (f" {mend}" if mend else "")
        super().__init__(" ".join(message.split()))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


class UnwritableError(WhenceError):
    """A place that cannot be written to: a full disk, no permission, a directory that is gone."""


class NotGivenError(WhenceError):
    """A run whose data or model came from Python, and are not given again."""


class StaleScoresError(WhenceError):
    """Scores on disk are not those that were asked for: of another run, data or setting, or version of the method.

    Attributes:
        directory: where they lie.
    """

    def __init__(self, directory: Path, name: str, found: str, wanted: str) -> None:
        self.directory = directory
        super().__init__("scores of another run, data or setting", where=str(directory), got=f"{name} {found}",
                         expected=wanted, mend="Give another name, or delete the directory to score again.")  # fmt: skip
