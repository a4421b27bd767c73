"""What is shipped: a wheel that works in an environment without anything else, a source distribution that gives the same wheel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import whence

ROOT = Path(__file__).parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
TEMPLATES = {f"whence/reporting/templates/{file.name}" for file in (ROOT / "src/whence/reporting/templates").iterdir()}


def run(*command, **more):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def contents(wheel):
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_wheel_and_source_distribution(tmp_path):
    pytest.importorskip("build", reason="needs the development tools: pip install 'whence[dev]'")
    pytest.importorskip("hatchling")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", ROOT)
    (wheel,), (source,) = (tmp_path / "dist").glob("*.whl"), (tmp_path / "dist").glob("*.tar.gz")

    inside = contents(wheel)
    modules = {file.relative_to(ROOT / "src").as_posix() for file in (ROOT / "src" / "whence").rglob("*.py")}
    assert modules | TEMPLATES | {"whence/py.typed"} <= set(inside)
    assert {name.split("/")[0] for name in inside} == {"whence", f"whence-{whence.__version__}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in inside)

    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path / "source", filter="data")
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml", "noxfile.py", "docs/index.md",
            "tests/test_packaging.py", "src/whence/py.typed"} <= names  # fmt: skip
    assert not any(name.endswith((".npz", ".pt", ".pkl", ".csv")) for name in names)
    (tree,) = (tmp_path / "source").iterdir()
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path / "again", tree)
    (again,) = (tmp_path / "again").glob("*.whl")
    assert contents(again) == inside

    bare = tmp_path / "bare"
    run(sys.executable, "-m", "venv", bare)
    run(bare / "bin" / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    said = run(bare / "bin" / "whence", "demo", cwd=tmp_path, env=clean)
    assert re.match(r"Planted \d+ wrong labels among 1,446 handwritten digits", said)
    assert (tmp_path / "demo" / "digits" / "report.html").exists()
    assert str(bare) in run(
        bare / "bin" / "python", "-c", "import whence; print(whence.__file__)", cwd=tmp_path, env=clean
    )


def test_one_version_everywhere():
    assert 'dynamic = ["version"]' in PROJECT
    assert 'path = "src/whence/__init__.py"' in PROJECT


def test_pythons_are_those_that_are_tested():
    classified = re.findall(r"Programming Language :: Python :: (3\.\d+)", PROJECT)
    assert re.search(r"PYTHONS = \[(.*)\]", (ROOT / "noxfile.py").read_text(encoding="utf-8"))[1] == ", ".join(
        f'"{p}"' for p in classified
    )
    assert f'requires-python = ">={classified[0]}"' in PROJECT


def test_citation():
    """It cites the paper, whose method this is; ``nox -s citation`` checks it against the format's schema."""
    yaml = pytest.importorskip("yaml")
    record = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(record)
    assert (record["cff-version"], record["type"], record["license"]) == ("1.2.0", "software", "Apache-2.0")
    paper = record["preferred-citation"]
    assert (paper["title"], paper["year"]) == ("Efficient Estimation of Influence of a Training Instance", 2020)
    assert [author["family-names"] for author in paper["authors"]] == ["Kobayashi", "Yokoi", "Suzuki", "Inui"]
    assert {"type": "other", "value": "arXiv:2012.04207"}.items() <= paper["identifiers"][0].items()
