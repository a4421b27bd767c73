"""Addresses within a report: from a training instance to the targets it moves and back, by links that the back button keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from tests.reporting.conftest import HOSTILE_ID, pictures, trained
from tests.reporting.pages import Page
from whence.estimators import influence
from whence.reporting import report
from whence.reporting.listed import _MOST
from whence.reporting.targets import choose_targets
from whence.run import Run

pytestmark = pytest.mark.browser
_SETTLED = "const done = arguments[0]; requestAnimationFrame(() => setTimeout(done));"


@pytest.fixture(scope="module")
def path(picture_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(picture_run, tmp_path_factory.mktemp("report") / "r.html", targets="test", limit=20)


def opened(browser: Any, section: str) -> dict[str, Any] | None:
    """What stands in the box of a section that a link opened; None while it is shut."""
    browser.execute_async_script(_SETTLED)
    found: dict[str, Any] | None = browser.execute_script(
        """
        const box = document.querySelector("#" + arguments[0] + " [data-opened]");
        if (!box || box.hidden) return null;
        const place = box.getBoundingClientRect();
        return {
          text: box.innerText, links: [...box.querySelectorAll("li a:not([href^='#group='])")].map((link) => link.getAttribute("href")),
          focused: document.activeElement === box, name: box.getAttribute("aria-label"),
          seen: place.top >= 0 && place.top < innerHeight, marked: getComputedStyle(box).borderTopStyle,
        };""",
        section,
    )
    return found


def test_each_instance_knows_the_targets_it_moves_most(picture_run: Run, path: Path) -> None:
    data = Page.read(path).data
    chosen = choose_targets(picture_run, "test", 20).data
    scores = np.asarray(influence(picture_run, chosen))
    place = {picture_run.train.name_of(row): row for row in range(len(picture_run.train))}
    assert len(data["audited"]) == len(picture_run.train)
    for item in data["audited"]:
        row = scores[place[data["instances"][item["i"]]["id"]]]
        order = np.argsort(-row, kind="stable")
        wanted = [t for t in order[:3] if row[t] > 0] + [t for t in order[::-1][:3] if row[t] < 0]
        assert [target for target, _ in item["moves"]] == wanted
        assert [value for _, value in item["moves"]] == pytest.approx(row[wanted] / scale(data), rel=1e-3)


def scale(data: dict[str, Any]) -> float:
    """The power of ten of the unit in which scores are shown."""
    unit = data["units"]["score"].split(" ")[0]
    digits = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    return 10.0 ** int(unit[2:].translate(digits)) if unit.startswith("10") else 1.0


def test_without_the_matrix_the_extremes_of_each_target_are_turned_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(pictures(), out=tmp_path / "run")
    whole = Page.read(report(run, tmp_path / "whole.html", targets="test", limit=20)).data
    monkeypatch.setattr("whence.reporting.explanations._READ", 0)
    page = Page.read(report(run, tmp_path / "r.html", targets="test", limit=20))
    assert page.data["moves_all"] is False
    assert whole["moves_all"] is True
    best = {item["i"]: item["moves"][0] for item in whole["audited"] if item["moves"][0][1] > 0}
    found = {item["i"]: item.get("moves", []) for item in page.data["audited"]}
    # Of 120 rows, 100 at each end: what an instance helps most is among them, unless it is of the 20 that help it least.
    assert np.mean([best[i] in found[i] for i in best]) > 0.9


def test_from_an_instance_to_a_target_and_back(browser: Any, path: Path) -> None:
    data = Page.read(path).data
    item = next(one for one in data["audited"] if one["moves"])
    instance = data["instances"][item["i"]]
    browser.get(path.as_uri())
    browser.execute_script("document.querySelector(arguments[0]).click()", f"a[href='#instance={instance['id']}']")
    box = opened(browser, "instances")
    assert box is not None
    assert box["focused"] and box["seen"] and box["marked"] == "solid"
    assert box["name"] == f"Training instance {instance['id']}"
    names = [data["instances"][data["explanations"][target]["i"]]["id"] for target, _ in item["moves"]]
    assert box["links"] == [f"#target={name}" for name in names]

    browser.execute_script(
        "document.querySelector(arguments[0]).click()", f"#instances [data-opened] a[href='#target={names[0]}']"
    )
    box = opened(browser, "predictions")
    assert box is not None
    assert box["name"] == f"Target {names[0]}"
    assert opened(browser, "instances") is None
    explained = data["explanations"][item["moves"][0][0]]
    ids = [data["instances"][pair[0]]["id"] for pair in (*explained["helps"], *explained["hurts"])]
    assert box["links"] == [f"#instance={name}" for name in ids]

    browser.back()
    box = opened(browser, "instances")
    assert box is not None and box["name"] == f"Training instance {instance['id']}"
    browser.execute_script("document.querySelector('#instances [data-opened] a.close').click()")
    assert opened(browser, "instances") is None
    browser.back()
    assert opened(browser, "instances") is not None
    assert browser.get_log("browser") == []


def test_every_training_instance_that_an_explanation_names_can_be_opened(
    picture_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_MOST, "all", 0)
    for kind in ("label_issue", "memorized", "ambiguous"):
        monkeypatch.setitem(_MOST, kind, 1)
    page = Page.read(report(picture_run, tmp_path / "r.html", targets="test", limit=20))
    listed = {item["i"] for item in page.data["audited"]}
    named = {pair[0] for one in page.data["explanations"] for pair in (*one["helps"], *one["hurts"])}
    assert named <= listed < set(range(len(page.data["instances"])))
    assert len(listed) < 120
    assert f"All that other lists have and those that move dev most: {len(listed)} of 120." in page.words


def test_hostile_unknown_and_broken_ids(browser: Any, text_run: Run, tmp_path: Path) -> None:
    path = report(text_run, tmp_path / "r.html")
    browser.get(f"{path.as_uri()}#instance={quote(HOSTILE_ID, safe='')}")
    box = opened(browser, "instances")
    assert box is not None
    assert box["name"] == f"Training instance {HOSTILE_ID}"
    assert HOSTILE_ID in box["text"]
    hrefs = browser.execute_script(
        "return [...document.querySelectorAll('a[href^=\"#instance=\"]')].map((link) => link.getAttribute('href'))"
    )
    assert f"#instance={quote(HOSTILE_ID, safe=chr(39) + '()!*~')}" in hrefs
    for broken, shown in (
        ("nobody", "nobody"),
        ("%3Cimg%20src%3Dx%3E", "<img src=x>"),
        ("%E0%A4%A", "%E0%A4%A"),
        ("", ""),
    ):
        for what, section, name in (
            ("instance", "instances", "Training instance"),
            ("target", "predictions", "Target"),
        ):
            browser.execute_script("location.hash = arguments[0]", f"#{what}={broken}")
            box = opened(browser, section)
            assert box is not None
            assert box["name"] == f"{name} {shown}"
            assert f"There is no such {name.lower()} among the" in box["text"]
            assert not box["links"]
    assert browser.execute_script("return window.hacked") is None
    assert browser.get_log("browser") == []


def test_groups_lead_to_what_they_move_and_to_their_members(browser: Any, corrupted_run: Run, tmp_path: Path) -> None:
    path = report(corrupted_run, tmp_path / "r.html", targets="test", limit=5)
    page = Page.read(path)
    group = next(one for one in page.data["groups"] if one["name"] == HOSTILE_ID)
    browser.get(f"{path.as_uri()}#group={quote(HOSTILE_ID, safe='')}")
    box = opened(browser, "groups")
    assert box is not None
    names = [page.data["instances"][page.data["explanations"][target]["i"]]["id"] for target, _ in group["moves"]]
    assert box["links"] == [f"#target={name}" for name in names]
    browser.execute_script("document.querySelector('#groups [data-opened] button').click()")
    shown = browser.execute_script("return document.querySelector('[data-list=audited] [data-status]').textContent")
    members = sum(page.data["instances"][item["i"]].get("group") == HOSTILE_ID for item in page.data["audited"])
    assert members == 24
    assert shown == f"Showing 24 of 24 that match ({len(page.data['audited'])} in all)"
    assert browser.get_log("browser") == []


def test_many_rows_are_looked_at_in_parts(picture_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Page.read(report(picture_run, tmp_path / "r.html", limit=4)).data["audited"]
    monkeypatch.setattr("whence.reporting.movements._ROWS", 7)
    assert Page.read(report(picture_run, tmp_path / "r.html", limit=4)).data["audited"] == whole


def test_no_targets_move_nothing(browser: Any, train_only_run: Run, tmp_path: Path) -> None:
    path = report(train_only_run, tmp_path / "r.html")
    name = train_only_run.train.name_of(0)
    browser.get(f"{path.as_uri()}#instance={name}")
    box = opened(browser, "instances")
    assert box is not None and not box["links"]
    assert browser.get_log("browser") == []


def test_a_kind_is_still_opened_by_its_address(browser: Any, tmp_path: Path) -> None:
    path = report(trained(pictures(errors=20)), tmp_path / "r.html", limit=2)
    browser.get(f"{path.as_uri()}#instances-all")
    pressed = browser.execute_script("return document.querySelector('[aria-pressed=true]').dataset.kind")
    assert pressed == "all"
