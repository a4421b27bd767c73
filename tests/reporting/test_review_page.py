"""The page of a review in a browser: what is chosen is what the saved table says, and nothing of the data runs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import whence
from tests.reporting.conftest import look, pictures, texts, trained
from tests.reporting.pages import Page
from whence.auditing import audit
from whence.reporting.review_page import begin_review
from whence.review_files import read_review
from whence.run import Run
from whence.whole_files import write_aside

pytestmark = pytest.mark.browser

SAVED = """
    const saved = [], make = URL.createObjectURL;
    URL.createObjectURL = (blob) => { saved.push(blob.text()); return make.call(URL, blob); };
    document.querySelector("[data-save]").click();
    saved[0].then(arguments[0]);
"""


def in_directory(run: Run, path: Path) -> Run:
    return Run(run.model, run.train, out=path)


def choose(browser: Any, number: int, label: str) -> None:
    browser.execute_script(
        """const box = document.querySelectorAll(".card")[arguments[0]], menu = box.querySelector("select");
        if (menu) { menu.dispatchEvent(new Event("focus")); menu.value = arguments[1]; menu.dispatchEvent(new Event("change")); }
        else [...box.querySelectorAll(".kinds button")].find((button) => button.textContent === arguments[1]).click();""",
        number,
        label,
    )


def save(browser: Any, path: Path) -> list[dict[str, str]]:
    content = browser.execute_async_script(SAVED)
    with write_aside(path) as aside:
        aside.write_text(content, encoding="utf-8", newline="")
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_answers_are_saved_kept_and_read(browser: Any, tmp_path: Path) -> None:
    run = in_directory(trained(pictures()), tmp_path / "run")
    review = audit(run).to_review(20)
    path = begin_review(run, review.answered({review.names()[0]: "c"}))
    browser.get(path.as_uri())
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.querySelectorAll('canvas.picture').length") == 20
    assert "suspicion" not in browser.page_source.split("</style>")[1].lower().split("<script")[0]
    for number, label in ((1, "a"), (2, "none of these"), (3, "b"), (3, "b"), (4, "b"), (4, "c")):
        choose(browser, number, label)
    status = "return document.querySelector('[data-status]').textContent"
    assert browser.execute_script(status) == "4 of 20 looked at"
    browser.refresh()  # nothing is lost
    assert browser.execute_script(status) == "4 of 20 looked at"
    rows = save(browser, tmp_path / "run" / "review.csv")
    assert [row["right_label"] for row in rows] == ["c", "a", "'-", "", "c"] + [""] * 15
    assert [row["id"] for row in rows] == review.names()
    assert run.directory is not None
    found = read_review(run.directory, run.train)
    assert found is not None
    np.testing.assert_array_equal(found.answers[:6], [2, 0, -1, -2, 2, -2])
    names = browser.execute_script("return [...document.querySelectorAll('.kinds')].map((box) => box.ariaLabel)")
    assert names == [f"right label of instance {name}" for name in review.names()]


def test_of_many_classes_one_is_chosen_from_a_list(browser: Any, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    data = whence.Dataset.of((np.arange(60), generator.normal(size=(60, 3)).astype(np.float32), np.arange(60) % 15))
    model, data = whence.prepare(data, "mlp:8")
    run = whence.fit(model, data, epochs=1, device="cpu", out=tmp_path / "run")
    review = audit(run).to_review(12)
    browser.get(begin_review(run, review).as_uri())
    choose(browser, 0, "14")
    choose(browser, 1, "-")
    assert [row["right_label"] for row in save(browser, tmp_path / "run" / "review.csv")[:3]] == ["14", "'-", ""]
    assert "feature 0" in browser.page_source
    assert browser.execute_script("return document.querySelectorAll('.values').length") == 12


def test_hostile_texts_are_text(browser: Any, tmp_path: Path) -> None:
    run = in_directory(trained(texts()), tmp_path / "run")
    review = audit(run).to_review(30)
    path = begin_review(run, review)
    browser.get(path.as_uri())
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.hacked") is None
    classes = Page.read(path).data["classes"]
    for number in range(12):
        choose(browser, number, classes[number % len(classes)])
    rows = save(browser, tmp_path / "run" / "review.csv")
    assert len(rows) == 30
    assert run.directory is not None
    found = read_review(run.directory, run.train)
    assert found is not None
    assert found.answers[:12].tolist() == [number % len(classes) for number in range(12)]


def test_it_fits_windows_and_phones(browser: Any, tmp_path: Path) -> None:
    run = in_directory(trained(pictures()), tmp_path / "run")
    path = begin_review(run, audit(run).to_review(20))
    for width in (360, 1280):
        look(browser, width)
        browser.get(path.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        bar = browser.execute_script("return document.querySelector('[data-save]').getBoundingClientRect().toJSON()")
        assert bar["right"] <= width
        assert bar["height"] < 60
