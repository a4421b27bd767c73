"""Which column of a table is what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from whence.errors import WhenceError

__all__ = ["MARK", "Roles", "assign", "listed"]

MARK = "whence_"  # begins the names of columns that whence adds to a table, which are never inputs by default

_LABELS = ("label", "labels", "target", "targets", "class", "category", "y", "sentiment", "stars", "rating")
_PANDAS_INDEX = re.compile(r"(Unnamed: \d+|__index_level_\d+__|)")


@dataclass(frozen=True)
class Roles:
    """The columns in use; ``text_pair`` is that of a second text.

    ``features``, ``text`` and ``image`` None: all ``others``, if they are numbers.
    """

    label: str
    text: str | None
    features: tuple[str, ...] | None
    id: str | None
    group: str | None
    split: str | None
    others: tuple[str, ...] = ()
    text_pair: str | None = None
    image: str | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns the model is fed."""
        if self.image is not None:
            return (self.image,)
        if self.text is not None:
            return (self.text,) if self.text_pair is None else (self.text, self.text_pair)
        return self.others if self.features is None else self.features

    @property
    def used(self) -> tuple[str, ...]:
        """Every column that has to be read, once."""
        given = (self.label, self.id, self.group, self.split, *self.inputs)
        return tuple(dict.fromkeys(name for name in given if name is not None))


def assign(
    names: Sequence[str],
    *,
    label: str | None,
    text: str | None = None,
    text_pair: str | None = None,
    features: Sequence[str] | None = None,
    id: str | None = None,
    group: str | None = None,
    split: str | None = None,
    image: str | None = None,
    where: Any,
) -> Roles:
    """The roles of columns.

    Args:
        names: of all columns.
        label, text, text_pair, image, id, group, split: as for ``whence.data.load``. Columns named "id" and "split" are taken
            for what they say, unless they were given another role, or id or split is "none".
        features: names, globs or lists of them with commas; globs leave out columns that have another role.
        where: the file.

    Raises:
        WhenceError: a column is missing or has two roles that exclude each other; no column is left to feed.
    """
    if label is None:
        guesses = [name for name in names if name.strip().lower() in _LABELS]
        guesses = guesses or get_close_matches("label", names, 1)
        mend = "Name it with --label." + (f" Did you mean --label {guesses[0]}?" if guesses else "")
        raise WhenceError("which column is the label is not said", where=where,
                          got=f"columns {listed(names)}", mend=mend)  # fmt: skip
    for option, name in (("label", label), ("text", text), ("text-pair", text_pair), ("image", image), ("id", id),
                         ("group", group), ("split", split)):  # fmt: skip
        if name is not None and name not in names and not (name == "none" and option in ("id", "split")):
            raise _no_column(name, names, option, where)
    given = {label, text, text_pair, image, group}.union(
        *((item, *map(str.strip, item.split(","))) for item in features or ())
    )
    id, split = (
        None if chosen == "none" and "none" not in names
        else option if chosen is None and option in names and option not in given | {id, split}
        else chosen
        for option, chosen in (("id", id), ("split", split))
    )  # fmt: skip
    if label in (text, text_pair, image):
        raise WhenceError(f"one column is both {'image' if label == image else 'text'} and label", where=where, got=repr(label),
                          mend="The model would be fed its answer: name another column.")  # fmt: skip
    taken = {label, id, group, split}
    if features is not None:
        return Roles(label, None, _expanded(features, names, taken, label, where), id, group, split)
    if text is not None or image is not None:
        return Roles(label, text, None, id, group, split, text_pair=text_pair, image=image)
    others = tuple(
        name for name in names if name not in taken and not name.startswith(MARK) and not _PANDAS_INDEX.fullmatch(name)
    )
    if not others:
        raise WhenceError("no column is left for the inputs", where=where, got=f"columns {listed(names)}",
                          mend="Name them with --text, --image or --features.")  # fmt: skip
    return Roles(label, None, None, id, group, split, others)


def _expanded(
    patterns: Sequence[str], names: Sequence[str], taken: set[str | None], label: str, where: Any
) -> tuple[str, ...]:
    """Feature patterns as column names, in the order of the patterns, each once."""
    found: list[str] = []
    known = frozenset(names)
    for item in patterns:
        parts = [item] if item in known else [part.strip() for part in item.split(",")]
        for pattern in filter(None, parts):
            matches = [pattern] if pattern in known else [
                name for name in names
                if fnmatchcase(name, pattern) and name not in taken and not name.startswith(MARK)]  # fmt: skip
            if not matches:
                raise _no_column(pattern, names, "features", where)
            found += matches
    if label in found:
        raise WhenceError("the label is among the features", where=where, got=repr(label),
                          mend="The model would be fed its answer: leave it out of --features.")  # fmt: skip
    if not found:
        raise WhenceError("no features are named", where=where, got=repr(list(patterns)),
                          expected="column names")  # fmt: skip
    return tuple(dict.fromkeys(found))


def _no_column(name: str, names: Sequence[str], option: str, where: Any) -> WhenceError:
    lower = {known.strip().lower(): known for known in names}
    close = [lower[match] for match in get_close_matches(name.strip().lower(), lower, 3)]
    mend = f"Did you mean {' or '.join(close)}?" if close else f"Name another with --{option}."
    if len(names) == 1 and (signs := [sign for sign in (";", "\t", "|", ",") if sign in names[0]]):
        mend = f"The header holds {signs[0]!r}: separate columns by commas (.csv) or tabs (.tsv)."
    return WhenceError("no such column", where=f"{where}, --{option}", got=repr(name),
                       expected=f"one of {listed(names)}", mend=mend)  # fmt: skip


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names for a message, the first ``most`` of them."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name or "''" for name in names[:most]) + rest
