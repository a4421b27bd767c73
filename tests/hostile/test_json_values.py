"""Every value of every JSON file of a run, replaced by every kind of other value: an answer, or one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.makers import ABSENT, DEEP, changed, places
from tests.hostile.using import outcomes

FILES = ("run.json", "scores/kernel-test/scores.json", "scores/turnover-test/scores.json", "scores/kernel-test/matrix/zarr.json",
         "truth/t/truth.json")  # fmt: skip
OTHERS: list[Any] = [ABSENT, None, True, -1, 10**12, 2**70, 0.5, "", "../../etc/x", "/etc/passwd", "mlp:99999999", "\ud800", [],
                     [None], {"a": 1}]  # fmt: skip


def cases(files: tuple[str, ...], made: Path) -> list[tuple[str, tuple[Any, ...], Any]]:
    found = []
    for name in files:
        for place in places(json.loads((made / name).read_text())):
            found += [
                (name, place, new) for new in OTHERS if new is not ABSENT or (place and isinstance(place[-1], str))
            ]
    return found


def try_case(run: Path, case: tuple[str, tuple[Any, ...], Any], *, thorough: bool) -> dict[str, str | None]:
    name, place, new = case
    file = run / name
    before = file.read_bytes()
    file.write_text(json.dumps(changed(json.loads(before), place, new)))
    try:
        return outcomes(run, thorough=thorough and name == "run.json")
    except Exception as error:
        raise AssertionError(f"{name} {'.'.join(map(str, place))} = {new!r}") from error
    finally:
        file.write_bytes(before)


def test_some_values(run: Path) -> None:
    """Every 29th of the cases below: about fifty."""
    for case in cases(FILES, run)[::29]:
        try_case(run, case, thorough=False)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("file", FILES)
def test_all_values(run: Path, file: str) -> None:
    """About 1,450 cases."""
    wrong = []
    for case in cases((file,), run):
        try:
            try_case(run, case, thorough=True)
        except AssertionError as error:
            wrong.append(f"{error}: {error.__cause__!r}")
    assert not wrong, "\n".join(wrong)


NOT_JSON = {
    "nothing": b"",
    "another encoding": "ä".encode("latin-1"),
    "nested deeply": b"[" * DEEP,
    "nested deeply, closed": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "not a number": b'{"format": NaN}',
    "infinity": b'{"format": -Infinity}',
    "a number that is too large": b'{"format": 1e400}',
    "digits without end": b'{"format": ' + b"1" * 10_000 + b"}",
    "a key twice": b'{"format": 1, "format": 3}',
    "a list": b"[1]",
    "a text": b'"format"',
    "nothing to a key": b'{"format": null}',
    "cut off": b'{"format": 1',
}


@pytest.mark.parametrize("content", NOT_JSON.values(), ids=list(NOT_JSON))
def test_what_is_no_json(run: Path, content: bytes) -> None:
    for name in FILES:
        file = run / name
        before = file.read_bytes()
        file.write_bytes(content)
        said = outcomes(run, thorough=False)
        refusing = {"run.json": "open", "truth/t/truth.json": "truth/t"}.get(
            name, name.rpartition("/")[0].removesuffix("/matrix")
        )
        message = said[refusing]
        # Whether chunks are compressed is all that is asked of an array's description, so another is no concern.
        assert message is not None or "zarr.json" in name, name
        if message is not None:
            assert any(words in message for words in ("damaged file", "of another format")), message
            assert Path(name).name in message or "another format" in message or "matrix" in message, message
        file.write_bytes(before)
