"""What README and the pages of the documentation show is what happens."""

from __future__ import annotations

import inspect
import re
import shlex
from contextlib import suppress

import click
import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.docs.execution import DOCS, ROOT, Page, blocks, commands_of, matches
from tests.toys import blobs
from whence.cli import commands

README = (ROOT / "README.md").read_text(encoding="utf-8")

OTHERS_WARN = pytest.mark.filterwarnings("ignore")  # transformers, peft and Lightning about each other
PAGES = [
    "tutorials/csv.md",
    "tutorials/plain_loop.md",
    pytest.param("tutorials/lightning.md", marks=OTHERS_WARN),
    pytest.param("tutorials/trainer.md", marks=OTHERS_WARN),
    "tutorials/pictures.md",
    "how_to/reading_scores.md",
    pytest.param("how_to/choosing_a_method.md", marks=pytest.mark.long),
    "how_to/groups.md",
    "how_to/reviewing.md",
    "reference/files.md",
    "reference/masks.md",
]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_does_what_it_shows(name, tmp_path):
    if "lightning" in name:
        pytest.importorskip("lightning")
    if "trainer" in name:
        pytest.importorskip("transformers")
        pytest.importorskip("peft")
    Page(DOCS / name, tmp_path).run()


def test_the_readme_does_what_it_shows(tmp_path, monkeypatch):
    """Its commands on a small table, its loop on a small model."""
    write_reviews(tmp_path / "reviews.csv")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 3))
    sets = {}
    for number, name in enumerate(("train", "dev", "test")):
        data = blobs(60, seed=number, start=1000 * number)
        sets[name] = [(f"{name}-{i}", torch.from_numpy(data.inputs.array[i]), int(data.targets[i])) for i in range(60)]
    names = {
        "model": model, "criterion": nn.CrossEntropyLoss(), "optimizer": torch.optim.Adam(model.parameters()),
        "train_set": sets["train"], "dev_set": sets["dev"], "test_set": sets["test"],
        "loader": torch.utils.data.DataLoader(sets["train"], batch_size=16, shuffle=True),
    }  # fmt: skip
    Page(ROOT / "README.md", tmp_path, names).run()
    monkeypatch.chdir(tmp_path)  # its paths begin there
    scores = names["scores"]
    assert scores.shape == (60, 60)
    np.testing.assert_allclose(scores, whence.influence(names["run"], "test"))
    for run in ("mine", "reviews"):
        assert (tmp_path / "runs" / run / "report.html").exists()
        assert (tmp_path / "runs" / run / "audit.parquet").exists()


def write_reviews(path):
    """The table that README's commands speak of: reviews, and one to five stars."""
    draw = np.random.default_rng(0)
    words = [["awful", "broken"], ["poor", "weak"], ["fair", "plain"], ["good", "solid"], ["great", "superb"]]
    lines = ["review,stars"]
    for said in draw.integers(0, 5, 200):
        given = said if draw.random() < 0.8 else draw.integers(0, 5)  # some predictions shall be wrong
        lines.append(f"it is {' and '.join(draw.permutation(words[said]))},{given + 1}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_methods_are_those_of_the_code():
    table = set(re.findall(r"^\| `(\w+)` \|", README, flags=re.M))
    assert table == set(whence.estimators.METHODS)


def test_options_of_methods_are_those_of_the_code():
    page = (DOCS / "how_to" / "choosing_a_method.md").read_text(encoding="utf-8")
    found = set(re.findall(r"^\| `(\w+)` \| `(\w+)(?:=[^`]*)?` \|", page, flags=re.M))
    known = {(name, option) for name, method in whence.estimators.METHODS.items()
             for option in inspect.signature(method).parameters if option not in ("run", "targets", "quantity")}  # fmt: skip
    assert found == known - {("turnover", "path")}  # which is for tests


def test_every_command_parses():
    """Commands in running text and in blocks that are not run have the options of today."""
    found = 0
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        inline = re.findall(r"`(whence (?:\w+) [^`]*)`", text)
        blocked = re.findall(r"^(?:    |\$ )(?:.*-m whence\.cli|.*srun -n 64 whence|whence) (\w+ [^#\n]*)", text, re.M)
        for line in [*(line.partition(" ")[2] for line in inline), *blocked]:
            name, *arguments = shlex.split(line)
            if name in commands.commands and not {"…", "..."} & set(arguments):
                with suppress(click.MissingParameter):  # running text may speak of options alone
                    commands.commands[name].make_context(name, arguments)
                found += 1
    assert found > 30


@pytest.mark.parametrize(("shown", "printed", "same"), [
    ("loss 0.143, 2 rows", "loss 0.145, 2 rows", True),
    ("loss 0.143, 2 rows", "loss 0.193, 2 rows", False),
    ("loss 0.143, 2 rows", "loss 0.143, 3 rows", False),
    ("z -6.1", "z 6.1", False),
    ("a  b\n…\nz", "a b\nc\nd\nz\n", True),
    ("a\n…\nz", "a\nz", True),
    ("helped by x +1.00, …", "helped by x +1.01, y +.3", True),
    ("helped by x +1.00, …", "helped by y +1.01, x +.3", False),
    ("two lines\nshown", "two lines\nshown\nand a third", False),
])  # fmt: skip
def test_what_counts_as_the_same(shown, printed, same):
    assert matches(shown, printed) is same


def test_blocks_of_a_page():
    page = "```python\nprint(1)\n```\n\n```text\n1\n```\nwords\n```text\nnot an output\n```\n```console\n$ whence plan \\\n    a\n$ make test\nshown\n```\n"
    first, second = blocks(page)
    assert (first.kind, first.shown, second.kind) == ("python", "1\n", "console")
    assert commands_of(second.text) == [("whence plan      a", None), ("make test", "shown\n")]
