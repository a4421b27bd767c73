"""The report in a browser: nothing runs but its own script, and search finds."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.reporting.conftest import HOSTILE_ID, exported, look, pictures, texts, trained
from tests.reporting.pages import Page
from whence.data.inputs import TextInputs
from whence.reporting import report
from whence.run import Run

pytestmark = pytest.mark.browser


def visible_ids(browser: Any, name: str) -> list[str]:
    cards = f"document.querySelectorAll('[data-list={name}] .id > bdi')"
    found: list[str] = browser.execute_script(f"return [...{cards}].map((name) => name.textContent)")
    return found


def search(browser: Any, words: str) -> None:
    browser.execute_script(
        "const box = document.querySelector('[data-list=audited] [data-search]'); box.value = arguments[0];"
        "box.dispatchEvent(new Event('input'))",
        words,
    )


def test_words_that_texts_share_are_marked(browser: Any, tmp_path: Path) -> None:
    data = texts()
    assert data.texts is not None
    written = data.texts + np.array(
        [f", Topic{row // 8}!" for row in range(len(data))], dtype=object
    )  # of a few texts each
    run = trained(replace(data, inputs=TextInputs(written), texts=written), epochs=10, learning_rate=2e-3)
    path = report(run, tmp_path / "r.html", targets="test")
    items = Page.read(path).data["explanations"][:10]
    browser.get(path.as_uri())
    found = browser.execute_script("""
        const marks = (node) => [...new Set([...node.querySelectorAll("mark")].map((mark) => mark.textContent.toLowerCase()))].sort();
        return [...document.querySelectorAll(".why")].map((card) => ({
          target: marks(card.querySelector(".target")),
          rows: [...card.querySelectorAll("li.row")].map((row) => [marks(row), row.querySelector(".sharing").textContent]),
        }));""")
    assert len(found) == len(items)
    for item, card in zip(items, found, strict=True):
        assert card["target"] == item["words"]
        assert all(word.startswith("topic") for word in item["words"])  # the others are of many texts
        pairs = [*item["helps"][:4], *item["hurts"][:4]]
        assert [row[0] for row in card["rows"]] == [shared for _, _, shared in pairs]
        for (_, _, shared), (_, line) in zip(pairs, card["rows"], strict=True):
            assert line.startswith(f"shares {shared[0]}" if shared else "shares no telling word")
            assert "own mask" in line
    assert any(item["words"] for item in items)


def test_hostile_report(browser: Any, text_run: Run, tmp_path: Path) -> None:
    path = report(text_run, tmp_path / "r.html")
    page = Page.read(path)
    browser.get(path.as_uri())
    assert browser.get_log("browser") == []  # no errors, and nothing that the policy refused
    assert browser.execute_script("return window.hacked") is None
    assert browser.execute_script("return document.querySelectorAll('script').length") == 2
    ids = visible_ids(browser, "audited")
    issues = [item for item in page.data["audited"] if item["kind"] == "label_issue"]
    assert HOSTILE_ID in ids
    assert len(ids) == min(24, len(issues))

    search(browser, "REVERSED")
    assert visible_ids(browser, "audited") == ["t4"]
    search(browser, "nothing has this in it")
    assert visible_ids(browser, "audited") == []
    search(browser, HOSTILE_ID)
    assert visible_ids(browser, "audited") == [HOSTILE_ID]
    assert browser.execute_script("return window.hacked") is None

    header, row, end = exported(browser).split("\r\n")
    assert header.startswith("id,given_label,suggested_label,p_wrong,memorization,influence_on_dev")
    assert row.startswith("\"'" + HOSTILE_ID.replace('"', '""') + '",')
    assert end == ""


def test_what_is_ticked_is_exported(browser: Any, number_run: Run, tmp_path: Path) -> None:
    browser.get(report(number_run, tmp_path / "r.html").as_uri())
    ids = visible_ids(browser, "audited")
    boxes = browser.find_elements("css selector", "[data-list=audited] .pick")
    assert len(boxes) == len(ids) > 4
    for ticked in ([1, 3], [3]):  # the first is ticked off again
        for place in (1, 3) if len(ticked) == 2 else (1,):
            browser.execute_script("arguments[0].click()", boxes[place])
        _, *rows = csv.reader(io.StringIO(exported(browser), newline=""))
        assert sorted(row[0] for row in rows) == sorted(ids[place] for place in ticked)


@pytest.mark.parametrize("width", [390, 1200])
def test_fits_its_window(
    browser: Any, width: int, picture_run: Run, number_run: Run, group_run: Run, corrupted_run: Run, tmp_path: Path
) -> None:
    look(browser, width)
    for run in (picture_run, number_run, group_run, corrupted_run):
        browser.get(report(run, tmp_path / "r.html", limit=5).as_uri())
        assert browser.get_log("browser") == []
        over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.execute_script(f"return {over}") == 0
        assert browser.execute_script("return window.hacked") is None


def test_pictures_are_drawn(browser: Any, picture_run: Run, tmp_path: Path) -> None:
    browser.get(report(picture_run, tmp_path / "r.html").as_uri())
    bright = browser.execute_async_script("""
        const done = arguments[0], canvas = document.querySelector("canvas.picture");
        const look = () => {
          const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          pixels.some((value, k) => k % 4 < 3 && value > 0) ? done(true) : setTimeout(look, 20);
        };
        look();
    """)
    assert bright is True


def choose(browser: Any, name: str, value: str) -> None:
    browser.execute_script(
        "const fields = [...document.querySelectorAll('[data-list=audited] label.field')];"
        "const select = fields.find((one) => one.querySelector('span').textContent === arguments[0]).querySelector('select');"
        "select.value = arguments[1]; select.dispatchEvent(new Event('change'))",
        name,
        value,
    )


def press(browser: Any, selector: str) -> None:
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def test_training_pictures_are_filtered_ordered_and_seen_in_a_grid(browser: Any, tmp_path: Path) -> None:
    """All by what the page's own data say: kind, labels, order, view, selection and export."""
    run = trained(pictures(2400, errors=320), epochs=8)
    path = report(run, tmp_path / "r.html", limit=5)
    data = Page.read(path).data
    count_images = (
        "window.made = []; window.Image = class extends Image { constructor() { super(); window.made.push(this); } };"
    )
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": count_images})
    browser.get(path.as_uri())
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)

    def names(items: list[dict[str, Any]]) -> list[str]:
        return [data["instances"][item["i"]]["id"] for item in items]

    def shown() -> list[str]:
        found: list[str] = browser.execute_script(
            "return [...document.querySelectorAll('[data-list=audited] .tile')].map((tile) => tile.title.slice(3))"
        )
        return found

    issues = [item for item in data["audited"] if item["kind"] == "label_issue"]
    assert len(issues) > 200
    assert len(data["sheets"]["sources"]) > 1
    assert shown() == names(issues[:72])
    drawn = {item["i"] for item in issues[:72]} | {
        pair[0] for one in data["explanations"] for pair in (*one["helps"], *one["hurts"])
    }
    drawn |= {one["i"] for one in data["explanations"]}
    wanted = {data["instances"][i]["picture"] // data["sheets"]["tiles"] for i in drawn}
    loaded = browser.execute_script("return window.made.map((image) => Boolean(image.src))")
    assert {number for number, there in enumerate(loaded) if there} == wanted < set(range(len(loaded)))

    press(browser, "[data-list=audited] [data-more]")
    assert shown() == names(issues[:144])
    choose(browser, "Order", "harm")
    assert shown() == names(sorted(issues, key=lambda item: item["dev"])[:72])
    label, to = data["instances"][issues[0]["i"]]["label"], issues[0]["to"]
    choose(browser, "Order", "")
    choose(browser, "Given label", "=" + label)
    choose(browser, "Suggested", "=" + to)
    matching = [item for item in issues if data["instances"][item["i"]]["label"] == label and item["to"] == to]
    assert shown() == names(matching[:72])
    assert f"of {len(matching)} that match ({len(issues)} in all)" in browser.page_source

    press(browser, "[data-all]")
    assert (
        browser.execute_script("return document.querySelector('[data-selected]').textContent")
        == f"{len(matching)} selected"
    )
    choose(browser, "View", "cards")
    assert shown() == []
    assert visible_ids(browser, "audited") == names(matching[:24])
    assert browser.execute_script("return document.querySelectorAll('.card.chosen').length") == min(24, len(matching))

    others = [item for item in data["audited"] if item["kind"] != "label_issue"]
    kind = others[0]["kind"]
    browser.execute_script("location.hash = arguments[0]", f"#instances-{kind}")
    wait = "const done = arguments[0]; setTimeout(() => done(), 50);"
    browser.execute_async_script(wait)
    assert visible_ids(browser, "audited") == names([item for item in others if item["kind"] == kind][:24])
    pressed = browser.execute_script(
        "return [...document.querySelectorAll('[aria-pressed=true]')].map((one) => one.dataset.kind)"
    )
    assert pressed == [kind]
    assert browser.get_log("browser") == []
