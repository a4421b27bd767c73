"""The file needs nothing from outside, and no text of the data runs."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

from tests.reporting.conftest import HOSTILE, HOSTILE_CLASS, HOSTILE_ID
from tests.reporting.pages import Page
from whence.reporting import report
from whence.reporting.render import island
from whence.run import Run

TAGS = {"html", "head", "meta", "title", "style", "body", "script", "noscript"}


@pytest.fixture(scope="module")
def path(text_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(text_run, tmp_path_factory.mktemp("report") / "r.html", top=4)


def test_hostile_texts_arrive_whole_and_inert(path: Path) -> None:
    page = Page.read(path)
    shown = [instance.get("text", "") for instance in page.data["instances"]]
    for hostile in HOSTILE:
        assert any(text.startswith(hostile) for text in shown), hostile
    assert HOSTILE_ID in [instance["id"] for instance in page.data["instances"]]
    assert HOSTILE_CLASS in page.text  # in the table of classes, as text
    assert len(page.scripts) == 2  # the data and ours
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert "img" not in {tag for tag, _ in page.elements}


def test_nothing_comes_from_outside(path: Path, picture_run: Run, tmp_path: Path) -> None:
    for file in (path, report(picture_run, tmp_path / "r.html")):
        page = Page.read(file)
        assert not {"link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.elements}
        assert page.attribute("src") == []
        assert all(link.startswith("#") for link in page.attribute("href"))
        assert page.attribute("style") == []
        ours = "".join(page.styles) + "".join(text for attributes, text in page.scripts if not attributes)
        assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttpRequest|WebSocket|innerHTML|eval\(", ours)


def test_policy_names_exactly_the_inline_script_and_style(path: Path) -> None:
    page = Page.read(path)
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    script = next(text for attributes, text in page.scripts if not attributes)
    assert len(page.styles) == 1
    for directive, inline in (("script-src", script), ("style-src", page.styles[0])):
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


def test_pictures_are_data(picture_run: Run, tmp_path: Path) -> None:
    sheets = Page.read(report(picture_run, tmp_path / "r.html")).data["sheets"]
    assert all(source.startswith("data:image/png;base64,") for source in sheets["sources"])
    assert (sheets["width"], sheets["height"]) == (8, 8)


def test_island_cannot_end_its_element() -> None:
    written = island({"</script>": "<!-- & \u2028 \ud800"})
    assert written == '{"\\u003c/script\\u003e":"\\u003c!-- \\u0026 \\u2028 \\ud800"}'


def test_isolated_writing_direction(path: Path) -> None:
    page = Page.read(path)
    assert "unicode-bidi: isolate" in page.styles[0]
    assert all(attributes.get("dir") in (None, "auto") for tag, attributes in page.elements if tag == "bdi")


def test_hostile_group_names_are_text(corrupted_run: Run, tmp_path: Path) -> None:
    path = report(corrupted_run, tmp_path / "r.html")
    page, plain = Page.read(path), Page.read(report(corrupted_run, tmp_path / "again.html", limit=1))
    assert len(page.scripts) == 2  # the data and the page's own
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in plain.elements}
    for name in (HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE_CLASS):
        assert " ".join(name.split()) in page.words
    assert "\ud800" not in path.read_text(encoding="utf-8")
    table = path.read_text(encoding="utf-8").split('<section id="groups"')[1].split("</section>")[0]
    assert table.count('<th scope="row"><bdi dir="auto">') == 10
