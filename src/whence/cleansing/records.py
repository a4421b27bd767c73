"""What ``cleanse.json`` may hold: each value of the kind that whence writes there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from whence.cleansing.comparing import GAIN, HARM, MIXED, UNSEEN
from whence.cleansing.treatments import DROPPED, NONE, OTHER_GROUPS, RANDOM, SAME_LABELS

__all__ = ["misshapen"]

_Kind: TypeAlias = Callable[[Any], bool]
_LARGEST = 1e15  # of what is measured, either way; charts are drawn of it


def misshapen(record: Mapping[str, Any]) -> str | None:
    """The first value that is missing or of another kind, in words; None where all are as they should be."""
    return next(_wrong(record), None)


def _wrong(record: Mapping[str, Any]) -> Iterator[str]:
    yield from _others(record, _CLEANSING)
    for step in record["steps"]:
        yield from _others(step, _STEP)
        for difference in step["differences"]:
            yield from _others(difference, _DIFFERENCE)


def _others(values: Mapping[str, Any], kinds: Mapping[str, _Kind]) -> Iterator[str]:
    for key, right in kinds.items():
        if key not in values or not right(values[key]):
            yield f"{key} {values.get(key)!r:.40}"


def _text(value: object) -> bool:
    return isinstance(value, str)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST


def _one_of(*values: str) -> _Kind:
    return lambda value: isinstance(value, str) and value in values


def _or_null(right: _Kind) -> _Kind:
    return lambda value: value is None or right(value)


def _list_of(right: _Kind) -> _Kind:
    return lambda value: isinstance(value, list) and all(map(right, value))


def _named(right: _Kind) -> _Kind:
    return lambda value: isinstance(value, dict) and all(map(right, value.values()))


_VERDICT = _one_of(GAIN, UNSEEN, MIXED, HARM)
_CLEANSING: dict[str, _Kind] = {
    "action": _one_of("drop", "relabel"), "level": _one_of("instance", "group"), "by": _text, "score": _text, "unit": _text,
    "q_basis": _text, "best": _or_null(_count), "asked": _named(_count), "seeds": _count, "runs": _count,
    "targets": _count, "target_set": _text, "before": _named(lambda value: _list_of(_number)(value) and len(value) > 0),
    "steps": _list_of(lambda value: isinstance(value, dict)),
}  # fmt: skip
_STEP: dict[str, _Kind] = {
    "amount": _text, "units": _count, "rows": _count, "sure": _or_null(_count), "false_share": _or_null(_number),
    "verdict": _VERDICT, "sentence": _text, "differences": _list_of(lambda value: isinstance(value, dict)),
}  # fmt: skip
_DIFFERENCE: dict[str, _Kind] = {
    "measure": _text, "against": _one_of(NONE, DROPPED, RANDOM, OTHER_GROUPS, SAME_LABELS), "mean": _number, "low": _number,
    "high": _number, "p": _number, "confidence": lambda value: _number(value) and 0 < value < 1,
}  # fmt: skip
