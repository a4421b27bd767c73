"""The code and console blocks of a page, run in a folder as a reader would run them, and what they print against what is shown.

    ```python                              is executed; all blocks of a page share their names
    ```text                                right after it: what that printed
    ```console                             $ command, then what it printed, if anything is shown
    ```{literalinclude} ../examples/a.py   is a file that the reader saves, so it lies in the folder as a.py

Pages of which others go on name them in their front matter: ``continues: tutorials/csv.md``. Shown text is compared with what is printed
word by word. "…" stands for anything within a line, or alone on one for any lines; numbers with a decimal point may differ by a tenth or two of
their last digits, since machines round differently; all others may not differ.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whence.cli import main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^(`{3,})(\{[\w-]+\}|[\w-]*) *([^\n]*)\n(.*?)^\1 *$", re.M | re.S)
_NUMBER = r"[-+−]?\d[\d,]*\.\d+(?:e[-+]?\d+)?"
_NOT_RUN = ("pip ", "make test", "git ")


@dataclass
class Block:
    """One block of a page: what to run and what is shown of its output (None: nothing)."""

    kind: str
    text: str
    line: int
    shown: str | None = None


@dataclass
class Page:
    """A page in a folder of its own."""

    path: Path
    folder: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})

    def run(self) -> None:
        """Run all blocks in order.

        Raises:
            AssertionError: a block prints something else than the page shows.
        """
        text = self.path.read_text(encoding="utf-8")
        if first := re.search(r"\A---\n.*?^continues: (\S+)$.*?^---$", text, re.M | re.S):
            Page(DOCS / first[1], self.folder, self.names).run()
        elsewhere, known = Path.cwd(), set(sys.modules)
        os.chdir(self.folder)
        sys.path.insert(0, str(self.folder))  # what the reader saved can be imported
        try:
            for block in blocks(text):
                self._run(block)
        finally:
            os.chdir(elsewhere)
            sys.path.remove(str(self.folder))
            for name in {path.stem for path in self.folder.glob("*.py")} - known:
                sys.modules.pop(name, None)

    def _run(self, block: Block) -> None:
        if block.kind == "{literalinclude}":
            source = self.path.parent / block.text
            shutil.copy(source, self.folder / source.name)
        elif block.kind == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * block.line + block.text, str(self.path), "exec"), self.names)
            self._compare(block, block.shown, printed.getvalue())
        elif block.kind == "console":
            for command, shown in commands_of(block.text):
                if not command.startswith(_NOT_RUN):
                    self._compare(block, shown, call(command))

    def _compare(self, block: Block, shown: str | None, printed: str) -> None:
        if shown is not None and not matches(shown, printed):
            raise AssertionError(
                f"{self.path.name}, line {block.line}: the page shows\n{shown}\nbut this is printed:\n{printed}"
            )


def blocks(text: str) -> list[Block]:
    """The blocks of a page in order; a text block right after one of Python is what it prints."""
    found: list[Block] = []
    end = -1
    for match in _FENCE.finditer(text):
        kind, argument, body = match[2], match[3].strip(), match[4]
        if kind == "text" and found and found[-1].kind == "python" and not text[end : match.start()].strip():
            found[-1].shown = body
        elif kind in ("python", "console"):
            found.append(Block(kind, body, text[: match.start()].count("\n") + 1))
        elif kind == "{literalinclude}":
            found.append(Block(kind, argument, text[: match.start()].count("\n") + 1))
        end = match.end()
    return found


def commands_of(text: str) -> list[tuple[str, str | None]]:
    """The commands of a console block, each with what is shown of its output, or None."""
    found: list[tuple[str, str | None]] = []
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        while part.partition("\n")[0].endswith("\\"):
            part = part.replace("\\\n", " ", 1)
        command, _, shown = part.partition("\n")
        found.append((command, shown if shown.strip() else None))
    return found


def call(command: str) -> str:
    """What a command prints on standard output. whence and python run in this process."""
    words = shlex.split(command, comments=True)
    if words[:2] == ["make", "demo"]:
        words = shlex.split(re.search(r"^demo:.*\n\t\$\(BIN\)/(.*)$", (ROOT / "Makefile").read_text(), re.M)[1])
    program, *arguments = words
    printed, before = io.StringIO(), sys.argv
    try:
        with contextlib.redirect_stdout(printed):
            if program == "whence":
                sys.argv = words
                main()
            elif program == "python":
                sys.argv = arguments
                runpy.run_path(arguments[0], run_name="__main__")
            else:
                raise ValueError(f"a command that is not run: {command}")
    except SystemExit as end:
        if end.code not in (None, 0):
            raise AssertionError(f"{command}: exit code {end.code}") from None
    finally:
        sys.argv = before
    return printed.getvalue()


def matches(shown: str, printed: str) -> bool:
    """Whether what is printed is what is shown, numbers and elisions aside."""
    pattern, numbers = [], []
    for line in shown.rstrip().splitlines():
        if line.strip() == "…":
            pattern.append(r"(?:[^\n]*\n)*?")
            continue
        parts = re.split(rf"({_NUMBER}|…|\s+)", line.rstrip())
        for part in parts:
            if re.fullmatch(_NUMBER, part):
                numbers.append(part)
        pattern.append("".join(map(_piece, parts)) + r"[ \t]*\n")
    found = re.fullmatch("".join(pattern), printed.rstrip() + "\n")
    return found is not None and all(map(_close, numbers, found.groups()))


def _piece(part: str) -> str:
    if part == "…":
        return r"[^\n]*?"
    if part.isspace():
        return r"[ \t]+"
    return f"({_NUMBER})" if re.fullmatch(_NUMBER, part) else re.escape(part)


def _close(shown: str, printed: str) -> bool:
    one, other = (float(number.replace("−", "-").replace(",", "")) for number in (shown, printed))
    last = 10.0 ** -len(re.search(r"\.(\d+)", shown)[1])
    return abs(one - other) <= max(0.1 * abs(one), 2 * last)
