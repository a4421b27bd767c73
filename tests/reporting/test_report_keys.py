"""A report by keyboard, sorted by its headings, and with thousands of rows."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.conftest import pictures, trained
from tests.reporting.pages import Page
from whence.reporting import report
from whence.reporting.gather import gather
from whence.reporting.render import render
from whence.run import Run

pytestmark = pytest.mark.browser
_ACTIVE = """
const at = document.activeElement, style = getComputedStyle(at);
return { tag: at.tagName, search: at.matches("[data-search]"), value: at.value, section: at.closest("section")?.id ?? null,
  outline: style.outlineStyle, text: at.textContent, top: at.getBoundingClientRect().top + scrollY };
"""


@pytest.fixture(scope="module")
def path(picture_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(picture_run, tmp_path_factory.mktemp("report") / "r.html", targets="test", limit=12)


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def active(browser: Any) -> dict[str, Any]:
    found: dict[str, Any] = browser.execute_script(_ACTIVE)
    return found


def test_slash_searches_and_escape_leaves(browser: Any, path: Path) -> None:
    keys = pytest.importorskip("selenium.webdriver").Keys
    data = Page.read(path).data
    browser.get(path.as_uri())
    press(browser, "/")
    assert active(browser)["search"] and active(browser)["section"] == "instances"
    assert active(browser)["value"] == ""  # the slash itself is not searched for
    press(browser, "nothing has this in it / at all")
    assert active(browser)["value"].endswith("/ at all")
    status = "return document.querySelector('#instances [data-status]').textContent"
    assert browser.execute_script(status) == "Nothing matches."
    press(browser, keys.ESCAPE)
    assert active(browser)["search"] and active(browser)["value"] == ""
    assert browser.execute_script(status).startswith("Showing ")
    press(browser, keys.ESCAPE)
    assert active(browser)["tag"] == "BODY"

    browser.execute_script("document.querySelector('#predictions').scrollIntoView({ behavior: 'instant' })")
    press(browser, "/")
    assert active(browser)["search"] and active(browser)["section"] == "predictions"
    press(browser, keys.ESCAPE)
    name = data["instances"][data["audited"][0]["i"]]["id"]
    browser.execute_script("location.hash = arguments[0]", f"#instance={name}")
    browser.execute_async_script("setTimeout(arguments[0], 50)")
    press(browser, keys.ESCAPE)
    browser.execute_async_script("setTimeout(arguments[0], 50)")
    assert browser.execute_script("return location.hash") == "#instances"
    assert browser.execute_script("return document.querySelectorAll('[data-opened]:not([hidden])').length") == 0
    assert browser.get_log("browser") == []


def test_tab_goes_through_everything_in_order_and_is_seen(browser: Any, path: Path) -> None:
    keys = pytest.importorskip("selenium.webdriver").Keys
    browser.get(path.as_uri())
    controls = "main :is(a, button, input, select):not([hidden])"
    count = browser.execute_script(
        f"return [...document.querySelectorAll({controls!r})].filter((one) => one.checkVisibility()).length"
    )
    seen: list[dict[str, Any]] = []
    sections = browser.execute_script("return [...document.querySelectorAll('section')].map((one) => one.id)")
    for _ in range(count + 60):
        press(browser, keys.TAB)
        found = active(browser)
        if found["tag"] == "BODY":
            break
        seen.append(found)
    assert all(one["outline"] not in ("none", "") for one in seen)  # focus is visible
    inside = [one for one in seen if one["section"]]
    order = [sections.index(one["section"]) for one in inside]
    assert order == sorted(order)
    reached = [one for one in inside if one["tag"] in ("A", "BUTTON", "INPUT", "SELECT")]
    assert len(reached) == count
    assert [one["tag"] for one in seen[:3]] == ["A", "A", "A"]  # the sections come first


def table_of(browser: Any) -> None:
    browser.execute_script("""
        document.querySelector("[data-kind=all]").click();
        const fields = [...document.querySelectorAll("[data-list=audited] label.field")];
        const select = fields.find((one) => one.querySelector("span").textContent === "View").querySelector("select");
        select.value = "table"; select.dispatchEvent(new Event("change"));""")


def rows_of(browser: Any, column: int) -> list[str]:
    found: list[str] = browser.execute_script(
        "return [...document.querySelectorAll('.table.instances tbody tr')].map((row) => row.cells[arguments[0]].textContent.trim())",
        column,
    )
    return found


def test_a_table_is_ordered_by_its_headings(browser: Any, path: Path) -> None:
    data = Page.read(path).data
    browser.get(path.as_uri())
    table_of(browser)
    name = lambda item: data["instances"][item["i"]]["id"]  # noqa: E731
    items = list({item["i"]: item for item in data["audited"]}.values())
    assert len(items) == 120
    by_suspicion = sorted(items, key=lambda item: -item["p_wrong"])
    assert rows_of(browser, 1) == [name(item) for item in by_suspicion[:100]]

    def heading(text: str) -> Any:
        return browser.execute_script(
            """
            const heading = [...document.querySelectorAll(".table.instances thead th")].find((one) => one.textContent.startsWith(arguments[0]));
            const button = heading.querySelector("button");
            button.click();
            const said = [...document.querySelectorAll(".table.instances [aria-sort]")];
            return [heading.getAttribute("aria-sort"), said.length, button.tagName];""",
            text,
        )

    assert heading("Influence on dev") == ["descending", 1, "BUTTON"]
    ordered = sorted(items, key=lambda item: -item["dev"])
    assert rows_of(browser, 1) == [name(item) for item in ordered[:100]]
    assert heading("Influence on dev") == ["ascending", 1, "BUTTON"]
    assert rows_of(browser, 1) == [name(item) for item in ordered[::-1][:100]]
    assert heading("Instance") == ["ascending", 1, "BUTTON"]
    assert rows_of(browser, 1) == sorted(map(name, items), key=int)[:100]
    assert heading("Suggested") == ["ascending", 1, "BUTTON"]
    labels = rows_of(browser, 3)
    known = [label for label in labels if label]
    assert known == sorted(known) and "" not in labels[: len(known)]  # what is not known comes last

    browser.execute_script("document.querySelector('#accuracy th:nth-child(2) button').click()")
    counts = browser.execute_script(
        "return [...document.querySelectorAll('#accuracy table[data-sortable] tbody tr')].map((row) => Number(row.cells[1].textContent))"
    )
    assert counts == sorted(counts, reverse=True)
    assert browser.get_log("browser") == []


def test_ten_thousand_rows_are_drawn_a_page_at_a_time(browser: Any, tmp_path: Path) -> None:
    """What is in the document, and which sheets of pictures are decoded, does not depend on how many rows there are."""
    content = gather(trained(pictures(), epochs=1), targets="test", limit=3)
    few, many = tmp_path / "few.html", tmp_path / "many.html"
    few.write_text(render(content), encoding="utf-8")
    data = deepcopy(content.data)
    for number in range(10_000 - len(data["audited"])):
        item = dict(data["audited"][number % 100])
        record = {**data["instances"][item["i"]], "id": f"more {number}"}
        data["audited"].append({**item, "i": len(data["instances"]), "kind": "ok"})
        data["instances"].append(record)
    many.write_text(render(replace(content, data=data)), encoding="utf-8")
    elements = []
    for file in (few, many):
        browser.get(file.as_uri())
        elements.append(browser.execute_script("return document.querySelectorAll('*').length"))
    assert elements[0] == elements[1] < 2500
    table_of(browser)
    assert len(rows_of(browser, 1)) == 100
    browser.execute_script("document.querySelector('#instances [data-more]').click()")
    assert len(rows_of(browser, 1)) == 200
    browser.execute_script(
        "const box = document.querySelector('#instances [data-search]'); box.value = 'more 9877'; box.dispatchEvent(new Event('input'))"
    )
    assert rows_of(browser, 1) == ["more 9877"]
    browser.execute_script("location.hash = '#instance=more%209876'")
    browser.execute_async_script("setTimeout(arguments[0], 50)")
    assert "more 9876" in browser.execute_script("return document.querySelector('#instances [data-opened]').innerText")
    assert browser.get_log("browser") == []
