"""The site builds without a warning, says something of every public name and option, and asks nothing of the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib

import click
import pytest

import whence
from tests.docs.execution import DOCS, ROOT
from whence.cli import commands

pytest.importorskip("sphinx", reason="needs the tools of the documentation: pip install 'whence[docs]'")


def test_the_site(tmp_path):
    """One test, since building takes longest: on several workers each would build its own."""
    site = built(tmp_path)
    described = objects(site)
    assert public_names() <= described
    assert public_methods() <= described
    assert_every_command_is_described(site / "reference" / "commands.html")
    assert_nothing_is_loaded_from_elsewhere(site)
    assert_every_page_can_be_reached((site / "index.html").read_text(encoding="utf-8"))


def built(folder):
    """The site, built as ``make docs`` does."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        "-d",
        folder / "trees",
        DOCS,
        folder / "html",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def objects(site):
    """Names of Python objects that the reference describes."""
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]  # after four lines of text
    lines = zlib.decompress(packed).decode("utf-8").splitlines()
    return {line.split()[0] for line in lines if line.split()[1].startswith("py:")}


def public_names():
    names = {f"whence.{name}" for name in whence.__all__}
    names |= {f"whence.evaluation.{name}" for name in whence.evaluation.__all__}
    names |= {f"whence.masks.{name}" for name in ("keep_bits", "as_ids", "hash_id")}
    for module, those in {"transformers": ("IdCollator", "MaskCallback", "as_dataset"), "lightning": ("MaskCallback",),
                          "texts": ("TextLoss",), "cleanlab": ("find_label_issues", "datalab")}.items():  # fmt: skip
        names |= {f"whence.integrations.{module}.{name}" for name in those}
    return names


def public_methods():
    return {
        f"whence.{owner.__name__}.{name}"
        for owner in (whence.Scores, whence.Audit, whence.GroupEffects)
        for name, value in vars(owner).items()
        if not name.startswith("_") and callable(value) and value.__doc__ and name != "ranges"
    }


def assert_every_command_is_described(page):
    text = re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))
    for name, command in commands.commands.items():
        assert f"whence {name}" in text
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert all(option in text for option in parameter.opts), (name, parameter.opts)


def assert_nothing_is_loaded_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    away = r"<(?:script|img|iframe|source)[^>]*\bsrc=[\"'](?:https?:)?//|<link[^>]*\bhref=[\"'](?:https?:)?//"
    for page in pages:
        assert not re.search(away, page.read_text(encoding="utf-8")), page


def assert_every_page_can_be_reached(front):
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).with_suffix(".html").as_posix()
        if not name.startswith("_build") and name != "index.html":
            assert f'href="{name}"' in front, name


def test_the_changelog_names_formats_and_versions():
    from whence import rundir, score_store
    from whence.estimators import METHODS
    from whence.evaluation import ground_truth

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"The first version, {whence.__version__}." in text or f"## {whence.__version__}" in text
    assert f"`run.json` {rundir.FORMAT}, `scores.json` {score_store.FORMAT}, `truth.json` {ground_truth.FORMAT}" in text
    for name, estimator in METHODS.items():
        assert f"`{name}` {estimator.version}" in text
