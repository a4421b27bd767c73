"""How much of the training data to change, as people write it: "1%", 25 or "significant"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.errors import WhenceError

__all__ = ["SIGNIFICANT", "Amount", "amounts_of"]

SIGNIFICANT = "significant"
_EXPECTED = 'a share such as "1%" or 0.01, a number of rows such as 25, or "significant"'
_LARGEST = 0.5  # of the data: what is left should still be the data


@dataclass(frozen=True)
class Amount:
    """A part of the training data that is asked for.

    Attributes:
        written: as the user wrote it.
        share: of all rows; or
        count: of rows; or neither: all that are significant.
    """

    written: str
    share: float | None = None
    count: int | None = None

    def of(self, rows: int) -> int:
        """How many that is of so many rows."""
        if self.share is not None:
            return max(1, round(self.share * rows))
        assert self.count is not None
        return self.count


def amounts_of(given: Any, where: str) -> tuple[Amount, ...]:
    """One amount, or several, separated by commas or in a sequence.

    Raises:
        WhenceError: not an amount; nothing; more than half of the data.
    """
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, list | tuple) else [given]
    found = tuple(_amount(part, where) for part in parts)
    if not found:
        raise WhenceError("no amount", where=where, expected=_EXPECTED)
    return found


def _amount(given: Any, where: str) -> Amount:
    text = str(given).strip() if isinstance(given, str | int | float | np.number) else ""
    wrong = WhenceError("not an amount of rows", where=where, got=repr(given), expected=_EXPECTED)
    if text == SIGNIFICANT:
        return Amount(text)
    percent = text.endswith("%")
    try:
        value = float(text.removesuffix("%"))
    except ValueError as error:
        raise wrong from error
    if percent or (0 < value < 1):
        share = value / 100 if percent else value
        if not 0 < share <= _LARGEST:
            raise WhenceError(
                "a share that cannot be changed", where=where, got=text, expected="more than 0, at most 50%"
            )
        return Amount(text if percent else f"{100 * share:g}%", share=share)
    if isinstance(given, bool) or not value.is_integer() or value < 1:
        raise wrong
    return Amount(f"{int(value)}", count=int(value))
