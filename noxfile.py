"""Everything on every Python: ``nox``. One session: ``nox -s tests-3.12``. Interpreters that are missing are skipped."""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.sessions = ["lint", "docs", "tests", "wheel"]
nox.options.error_on_missing_interpreters = False
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
PLACES = ["src", "tests", "benchmarks", "examples", "docs/conf.py", "docs/picture.py", "noxfile.py"]


def install(session: nox.Session, *what: str) -> None:
    session.install("-c", "constraints.txt", *what)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff and mypy."""
    install(session, "-e", ".[dev]")
    session.run("ruff", "check", *PLACES)
    session.run("ruff", "format", "--check", *PLACES)
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The site, in docs/_build; warnings are errors."""
    install(session, "-e", ".[docs]")
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests but the long ones; what follows -- goes to pytest."""
    install(session, "-e", ".[dev]")
    session.run("pytest", "-n", "2", "-m", "not long", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(python=PYTHONS)
def wheel(session: nox.Session) -> None:
    """The wheel in an environment without anything else: the demonstration runs."""
    out = Path(session.create_tmp())
    session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), ".")
    install(session, *map(str, out.glob("whence-*.whl")))
    with session.chdir(out):
        session.run("whence", "demo")


@nox.session
def citation(session: nox.Session) -> None:
    """CITATION.cff against the schema of the Citation File Format."""
    session.install("cffconvert")
    session.run("cffconvert", "--validate")
