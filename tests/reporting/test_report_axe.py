"""axe-core finds no serious violation of accessibility: light, dark and on a phone, with everything open."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.conftest import corrupted, look, numbers, pictures, texts, trained
from whence.auditing import audit
from whence.reporting import report
from whence.reporting.review_page import begin_review
from whence.run import Run

pytestmark = pytest.mark.browser
_RUN = "const done = arguments[0]; axe.run(document, { resultTypes: ['violations'] }).then(done);"
_LINK = 'main a[href^="#{what}="]'
_TABLE = """
for (const box of document.querySelectorAll("details")) box.open = true;
const fields = [...document.querySelectorAll("[data-list=audited] label.field")];
const view = fields.find((one) => one.querySelector("span").textContent === "View");
if (view) { const select = view.querySelector("select"); select.value = "table"; select.dispatchEvent(new Event("change")); }
document.querySelector("[data-kind=all]")?.click();
const search = document.querySelector("[data-list=audited] [data-search]"); // a few rows are as good as a hundred
if (search) { search.value = "1"; search.dispatchEvent(new Event("input")); }
"""


@pytest.fixture(scope="module")
def axe() -> str:
    package = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    return (resources.files(package) / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def few(
    text_run: Run, picture_run: Run, corrupted_run: Run, cleansed_run: Run, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """Texts, pictures with groups and cleansings, two runs with groups, and a review."""
    folder = tmp_path_factory.mktemp("few")
    again = trained(corrupted(), epochs=2, model="mlp:512", seed=1)
    kept = Run(picture_run.model, picture_run.train, out=folder / "run")
    return [
        report(text_run, folder / "texts.html", limit=2, top=3),
        report(corrupted_run, folder / "two.html", against=again, limit=2, top=3),
        report(cleansed_run, folder / "cleansed.html", limit=2, top=3),
        begin_review(kept, audit(kept).to_review(20)),
    ]


@pytest.fixture(scope="module")
def many(
    picture_run: Run,
    text_run: Run,
    number_run: Run,
    corrupted_run: Run,
    train_only_run: Run,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Path]:
    folder = tmp_path_factory.mktemp("many")
    runs = {"pictures": picture_run, "texts": text_run, "numbers": number_run, "groups": corrupted_run,
            "train": train_only_run}  # fmt: skip
    again = {
        "pictures": trained(pictures(), seed=1),
        "texts": trained(texts(), epochs=2, learning_rate=2e-3),
        "numbers": trained(numbers(), seed=1),
    }
    written = [report(run, folder / f"{name}.html", limit=4) for name, run in runs.items()]
    return written + [
        report(runs[name], folder / f"two-{name}.html", against=run, limit=4) for name, run in again.items()
    ]


def violations(browser: Any, axe: str) -> list[str]:
    browser.execute_script(axe)
    found = browser.execute_async_script(_RUN)["violations"]
    return [
        f"{one['impact']} {one['id']}: {one['nodes'][0]['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def look_through(browser: Any, axe: str, path: Path, opened: tuple[str, ...]) -> None:
    """The table of all instances, and each kind of thing that a link opens."""
    browser.get(path.as_uri())
    browser.execute_script(_TABLE)
    for what in opened:
        browser.execute_script("document.querySelector(arguments[0])?.click()", _LINK.format(what=what))
        browser.execute_async_script("setTimeout(arguments[0], 50)")
        assert violations(browser, axe) == [], f"{path.name}, {what} opened"
    assert browser.get_log("browser") == [], path.name


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False)])
def test_no_serious_violation(browser: Any, axe: str, few: list[Path], width: int, dark: bool) -> None:
    look(browser, width, dark=dark)
    for path in few:
        look_through(browser, axe, path, ("instance",))


@pytest.mark.long
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False), (390, True)])
def test_none_whatever_is_opened(
    browser: Any, axe: str, few: list[Path], many: list[Path], width: int, dark: bool
) -> None:
    look(browser, width, dark=dark)
    for path in (*few, *many):
        look_through(browser, axe, path, ("instance", "target", "group"))


def test_axe_would_find_one(browser: Any, axe: str, few: list[Path]) -> None:
    browser.get(few[0].as_uri())
    browser.execute_script(
        "document.querySelector('[data-search]').closest('label').replaceWith(document.querySelector('[data-search]'))"
    )
    browser.execute_script("document.querySelector('[data-search]').placeholder = ''")
    assert any("label" in one for one in violations(browser, axe))
