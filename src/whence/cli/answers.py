"""What a command prints: lines for people, or one JSON object for machines."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["answer", "counted", "finite", "full_path", "on_terminal", "plain"]


def answer(as_json: bool, record: dict[str, Any], lines: list[str]) -> None:
    """Print the answer of a command, in one form or the other."""
    text = json.dumps(finite(record), ensure_ascii=False, allow_nan=False) if as_json else "\n".join(map(plain, lines))
    # A terminal of another encoding must not turn a label into a traceback.
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)


def plain(line: str) -> str:
    """A line without characters that a terminal obeys, which names and labels may hold."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)


def finite(value: Any) -> Any:
    """A record with None in place of numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def counted(number: int, what: str) -> str:
    """So many of something: 1 target, 2 targets."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def full_path(path: str | os.PathLike[str]) -> str:
    """A path as machines are told it: absolute, with slashes."""
    return Path(path).resolve().as_posix()


def on_terminal() -> bool:
    """Whether somebody watches: then progress is shown."""
    return sys.stderr.isatty()
