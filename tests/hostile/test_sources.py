"""The source itself: nothing in it could run what a file holds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from whence.data.copies import inert

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "dbm", "jsonpickle"}
READERS = {"torch.load", "torch.jit.load", "torch.package.PackageImporter", "torch.hub.load", "joblib.load", "joblib.Memory", "pandas.read_pickle",
           "yaml.load", "yaml.unsafe_load", "os.system", "os.popen", "numpy.lib.format.read_array"}  # fmt: skip
SHORT = {"np": "numpy", "pd": "pandas"}
CODE = sorted((ROOT / "src").rglob("*.py"))


def found_in(path: Path) -> Iterator[str]:
    """What a file does that could run code out of a file or a text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        where = f"{path.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"{where} imports {name}" for name in names if name.partition(".")[0] in FORBIDDEN)
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        first, _, rest = name.partition(".")
        if (SHORT.get(first, first) + ("." + rest if rest else "")) in READERS or name in (
            "eval",
            "exec",
            "compile",
            "__import__",
        ):
            yield f"{where} calls {name}"
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if (
            name.endswith((".load", ".save", ".from_pretrained", ".open_memmap", ".read_array"))
            and given.get("allow_pickle", "False") != "False"
        ):
            yield f"{where} allows pickles"
        if name in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
            yield f"{where} does not refuse pickles"
        if name.endswith("from_pretrained") and given.get("trust_remote_code") != "False":
            yield f"{where} does not refuse a stranger's code"
        if given.get("shell") == "True":
            yield f"{where} starts a shell"


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.stem)
def test_no_code_from_files(path: Path) -> None:
    assert list(found_in(path)) == []


def test_what_is_looked_for_would_be_found(tmp_path: Path) -> None:
    file = ROOT / "src" / "whence" / "errors.py"
    for line in ("import pickle", "from marshal import loads", "import numpy as np; np.load('x')", "np.load('x', allow_pickle=True)", "torch.load(x)",
                 "eval('1')", "exec(code)", "subprocess.run(x, shell=True)", "AutoModel.from_pretrained(x)"):  # fmt: skip
        path = tmp_path / "one.py"
        path.write_text(file.read_text(encoding="utf-8") + "\n" + line + "\n")
        assert list(found_in(path)), line


def test_one_room_writes_csv() -> None:
    """A spreadsheet runs formulas in CSV: what writes more of it than copies of the user's own table has to mark them (``inert``)."""
    for path in CODE:
        if path.name in ("copies.py", "review_files.py"):  # the second marks all but columns of the user's own
            continue
        text = path.read_text(encoding="utf-8")
        assert not any(word in text for word in ("csv.writer", "DictWriter", "write_csv", "to_csv", "savetxt")), path


@pytest.mark.parametrize(
    "text", ["=1", "+1+1", "-a", "@x", "\t1", "\r=1", "\n", " =1", "\uff1d1", "=cmd|' /C calc'!A0"]
)
def test_formulas_are_marked(text: str) -> None:
    for name in ("a.csv", "a.TSV.gz"):
        assert inert(text, Path(name)) == f"'{text}"
    for name in ("a.jsonl", "a.parquet"):
        assert inert(text, Path(name)) == text


@pytest.mark.parametrize("text", ["", "a", "a=b", "-7", "+1.5", "-.5e-3", "1", "0", "'=1", "a-b", "x\t="])
def test_numbers_and_words_are_not(text: str) -> None:
    assert inert(text, Path("a.csv")) == text
