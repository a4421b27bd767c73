"""The section on cleansings: every verdict and difference of this run, links to the instances that were changed, nothing of other runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cleansing.noisy import noisy
from tests.reporting.conftest import HOSTILE_CLASS, HOSTILE_ID, look
from tests.reporting.pages import Page
from tests.reporting.test_report_links import opened
from whence.cleansing import Cleansing, cleanse
from whence.cleansing.kept import kept
from whence.cleansing.results import sentence
from whence.reporting import cleansings, report
from whence.reporting.listed import _MOST
from whence.run import Run, open_run

MINUS = str.maketrans("-", "\u2212")


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Cleansing, Cleansing]:
    """A run of which a fifth of the labels are wrong, cleansed of what harms most and of rows drawn at random."""
    run, _ = noisy(tmp_path_factory.mktemp("tried") / "run")
    drawn = run.train.ids[np.random.default_rng(3).permutation(200)[:20]]
    return run, cleanse(run, drop="2%,10%", seeds=4), cleanse(run, rows=drawn, seeds=4)


@pytest.fixture(scope="module")
def page(tried: tuple[Run, Cleansing, Cleansing], tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page.read(report(tried[0], tmp_path_factory.mktemp("page") / "r.html", limit=2))


def section(page: Page) -> str:
    """The words from the section's heading on."""
    return page.words[page.words.index("What training again said") :]


def test_every_amount_has_its_verdict_in_plain_words(tried: tuple[Run, Cleansing, Cleansing], page: Page) -> None:
    _, drop, rows = tried
    words = section(page)
    assert drop.verdict == "gain" and rows.verdict == "no detectable gain"
    for found, asked in ((drop, ("2%", "10%")), (rows, ("given",))):
        for step, amount in zip(found.steps, asked, strict=True):
            share = f"{100 * step.rows / 200:.1f} %"
            assert f"{amount}: {step.rows} of 200 training instances dropped ({share})" in words
            said = sentence(step).removeprefix(step.verdict + ": ")
            assert f"{step.verdict} {said[0].upper()}{said[1:]}." in words
    sure = drop.steps[1].sure
    assert sure and f"Of these instances at least {sure} do harm on dev, with 95 % confidence." in words
    assert "Rows to drop: 2%, 10%, by kronecker influence on dev (150 instances)." in words
    assert "Rows to drop: those that were given. Each change and each control was trained from 4 seeds" in words
    assert "cleansed.parquet marks the 20 rows of “10%”." in words
    assert "marks the 20 rows of “given”, because that was asked for, not because it was found to help." in words


def test_every_difference_is_in_the_table_and_the_charts(tried: tuple[Run, Cleansing, Cleansing], page: Page) -> None:
    words, charts = section(page), page.attribute("aria-label")
    for found in tried[1:]:
        for name, before in found.before.items():
            assert (f"{100 * before.mean():.1f}" if name == "accuracy" else f"{before.mean():.4f}") in words
        for step in found.steps:
            for one in step.differences:
                digits = 1 if one.measure.scale != 1 else 4
                ends = [one.measure.scale * value for value in (one.mean, one.low, one.high)]
                mean, low, high = (f"{value:+.{digits}f}".translate(MINUS) for value in ends)
                if 0 not in np.round(ends, digits):  # which has no sign
                    assert f"{mean}{low} to {high}" in words
    for chart in ("loss (nats)", "AUC (area under the ROC curve)", "accuracy (points)"):
        (two,) = [label for label in charts if label.startswith(f"{chart}, with 98.8 % intervals: 2%, no change")]
        assert two.count(" to ") == 6  # two amounts, each against no change and two random removals
        assert sum(label.startswith(f"{chart}, with 97.5 % intervals: no change") for label in charts) == 1


def test_charts_say_which_side_is_better_and_color_what_leaves_out_zero(
    tried: tuple[Run, Cleansing, Cleansing],
) -> None:
    run, drop, _ = tried
    shown = cleansings.gather_cleansings(run).experiments[0]
    charts = shown.charts
    signs = [sign for _, lines in shown.tables for line in lines for _, _, sign in line.cells]
    assert signs == [{1: "better", 0: "", -1: "worse"}[one.sign] for step in drop.steps for one in step.differences]
    assert [chart.sides for chart in charts] == [("better", "worse"), ("worse", "better"), ("worse", "better")]
    for chart, name in zip(charts, drop.before, strict=True):
        differences = [one for step in drop.steps for one in step.differences if one.measure.name == name]
        scale = 100 if name == "accuracy" else 1
        assert [estimate.value for estimate in chart.estimates] == pytest.approx(
            [scale * one.mean for one in differences]
        )
        assert [estimate.style for estimate in chart.estimates] == [
            {1: "helps", 0: "unclear", -1: "hurts"}[one.sign] for one in differences
        ]
    assert {estimate.style for estimate in charts[0].estimates} == {"helps", "unclear"}


def hrefs(page: Page) -> list[list[str]]:
    """The instances that the section links to, of each cleansing."""
    found: list[list[str]] = []
    for tag, attributes in page.elements:
        if tag == "article" and str(attributes.get("id")).startswith("cleansing-"):
            found.append([])
        elif tag == "section" and found:
            break
        elif tag == "a" and found and str(attributes.get("href")).startswith("#instance="):
            found[-1].append(unquote(str(attributes["href"]).partition("=")[2]))
    return found


def test_rows_that_were_changed_are_linked_listed_and_marked(
    tried: tuple[Run, Cleansing, Cleansing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the list would leave them out."""
    run, drop, rows = tried
    monkeypatch.setattr(cleansings, "_LISTED", 12)
    for kind in _MOST:
        monkeypatch.setitem(_MOST, kind, 1)
    page = Page.read(report(run, tmp_path / "r.html", limit=1))
    links = hrefs(page)
    audited = {page.data["instances"][item["i"]]["id"]: item for item in page.data["audited"]}
    assert len(audited) < 100
    table = drop.table()
    order = np.argsort(table["score"].to_numpy(), kind="stable")
    assert links[0] == [run.train.name_of(row) for row in order[:12]]  # the most harmful, by amounts
    changed = {run.train.name_of(row) for row in np.flatnonzero(rows.table()["step"].is_valid())}
    assert len(set(links[1])) == 12 and set(links[1]) < changed
    for name in {*links[0], *links[1]}:
        assert name in audited
    for number, found in enumerate((drop, rows)):
        for entry in found.table().to_pylist():
            if (item := audited.get(entry["name"])) is not None:
                marks = [mark for mark in item.get("cleansed", []) if mark[0] == number]
                assert marks == ([] if entry["action"] == "keep" else [[number, entry["reason"], None]])
    assert page.data["cleansings"] == [{"name": "drop", "action": "drop", "verdict": "gain"},
                                       {"name": "rows", "action": "drop", "verdict": "no detectable gain"}]  # fmt: skip
    assert section(page).count("The first 12. ") == 2


def test_a_run_without_cleansings_has_no_section(picture_run: Run, tmp_path: Path) -> None:
    page = Page.read(report(picture_run, tmp_path / "r.html", limit=1))
    assert "cleansing" not in page.attribute("id") and "#cleansing" not in page.attribute("href")
    assert "Are all cleansings" not in page.words and page.data["cleansings"] == []


def test_what_is_not_this_runs_is_left_out_and_said_to_be(
    tried: tuple[Run, Cleansing, Cleansing], tmp_path: Path
) -> None:
    run = tried[0]
    assert run.directory is not None
    shutil.copytree(run.directory.path, tmp_path / "run")
    folder = tmp_path / "run" / "cleanse"
    for name, change in (("rows", {"run": "0" * 32}), ("drop", {"format": 99})):
        record = json.loads((folder / name / "cleanse.json").read_text(encoding="utf-8"))
        (folder / name / "cleanse.json").write_text(json.dumps(record | change))
    shutil.copytree(folder / "rows", folder / "\u202egnp<script>")
    again = open_run(tmp_path / "run", model=run.model, train=run.train, dev=run.splits["dev"], test=run.splits["test"])
    path = report(again, tmp_path / "r.html", limit=1)
    page = Page.read(path)
    assert "cleansing" not in page.attribute("id")
    assert "Are all cleansings in the run's directory shown? !3 are left out" in page.words
    assert f"a cleansing of another format in {folder / 'drop'}: got 99, expected 1." in page.words
    assert f"a cleansing of another run or data in {folder / 'rows'}: got run 00000000" in page.words
    assert "\u202e" not in path.read_text(encoding="utf-8") and "gnp<script>" in page.words


def test_many_cleansings_are_not_all_shown(
    tried: tuple[Run, Cleansing, Cleansing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleansings, "_MOST", 1)
    page = Page.read(report(tried[0], tmp_path / "r.html", limit=1))
    assert len(hrefs(page)) == 1 and "1 is left out 1 more is not shown." in page.words


def test_harm_and_nothing_to_change_are_said(tried: tuple[Run, Cleansing, Cleansing], tmp_path: Path) -> None:
    """Of results that are made to say so."""
    run, _, rows = tried
    assert run.directory is not None
    shutil.copytree(run.directory.path, tmp_path / "run")
    table = rows.table().set_column(2, "action", pa.array(["keep"] * 200))
    without = table.set_column(8, "step", pa.nulls(200, pa.int64()))
    worse = {"mean": 0.5, "low": 0.25, "high": 0.75}
    harm = rows.to_json()["steps"][0] | {"verdict": "harm", "sentence": "harm: loss (+0.5000) worse"}
    harm["differences"] = [
        one | (worse if one["measure"] == "loss" else {"low": -1, "high": 1}) for one in harm["differences"]
    ]
    none: dict[str, Any] = {"steps": [], "before": {}, "asked": {"significant": 0}}
    for name, change, marked in (("drop", none, without), ("rows", {"steps": [harm]}, table)):
        file = tmp_path / "run" / "cleanse" / name / "cleanse.json"
        file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"best": None, **change}))
        pq.write_table(marked, file.with_name("cleansed.parquet"))
    again = open_run(tmp_path / "run", model=run.model, train=run.train, dev=run.splits["dev"], test=run.splits["test"])
    words = section(Page.read(report(again, tmp_path / "r.html", limit=1)))
    assert "significant ?nothing to drop No instance is called at a false-discovery rate of 5 %, by kronecker" in words
    assert "given: 20 of 200 training instances dropped (10.0 %) ✕harm Loss (+0.5000) worse." in words
    assert "Each change does harm, so none is marked in cleansed.parquet." in words
    assert words.count("Training instances that were changed") == 1


@pytest.mark.browser
def test_hostile_names_are_inert_and_links_lead_there_and_back(browser: Any, cleansed_run: Run, tmp_path: Path) -> None:
    path = report(cleansed_run, tmp_path / "r.html", limit=2)
    page = Page.read(path)
    first, second = hrefs(page)
    assert HOSTILE_ID in first and second
    assert [one["name"] for one in page.data["cleansings"]] == ["groups", "\u0645\u0631\u062d\u0628\u0627 &amp; b"]
    assert "\u0645\u0631\u062d\u0628\u0627 &amp; b" in page.words  # as it is, not as markup
    look(browser, 390)
    browser.get(path.as_uri())
    browser.execute_script("for (const box of document.querySelectorAll('details')) box.open = true")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    browser.execute_script(
        "[...document.querySelectorAll('#cleansing a')].find((link) => link.textContent === arguments[0]).click()",
        HOSTILE_ID,
    )
    box = opened(browser, "instances")
    assert box is not None and box["name"] == f"Training instance {HOSTILE_ID}"
    assert (
        "Cleansing groups (" in box["text"]
        and ") drops it: group </script><script>window.hacked=1</script> dull" in box["text"]
    )

    browser.execute_script("location.hash = '#instance=' + encodeURIComponent(arguments[0])", second[0])
    box = opened(browser, "instances")
    new = next(one["to"] for one in page.data["audited"] if page.data["instances"][one["i"]]["id"] == second[0])
    assert box is not None and f"relabels it as {new}: p_wrong" in box["text"]
    shut = """
        const box = document.querySelector('#instances [data-opened]');
        box.querySelector('a[href="#cleansing-2"]').click();
        return box.hidden;"""
    assert browser.execute_script(shut)  # before the hash changes, so that the goal does not move on the way
    arrived = browser.execute_async_script("""
        const done = arguments[0], until = performance.now() + 20000;
        const look = () => {
          const top = document.getElementById("cleansing-2").getBoundingClientRect().top;
          if ((top >= 0 && top < 200) || performance.now() > until) done(top); else setTimeout(look, 50);
        };
        look();""")  # it is scrolled to, smoothly
    assert 0 <= arrived < 200
    assert browser.execute_script("return window.hacked") is None
    assert browser.execute_script("return document.querySelectorAll('script').length") == 2
    assert HOSTILE_CLASS in page.words
    assert browser.get_log("browser") == []


@pytest.mark.browser
def test_what_is_marked_can_be_found_in_the_list(browser: Any, cleansed_run: Run, tmp_path: Path) -> None:
    path = report(cleansed_run, tmp_path / "r.html", limit=2)
    browser.get(path.as_uri())
    browser.execute_script("document.querySelector('[data-kind=all]').click()")
    counts = browser.execute_script("""
        const field = [...document.querySelectorAll("[data-list=audited] label.field")].find((one) => one.textContent.startsWith("Cleansing"));
        const select = field.querySelector("select"), counts = {};
        for (const option of select.options) {
          select.value = option.value;
          select.dispatchEvent(new Event("change"));
          counts[option.value] = document.querySelector("[data-list=audited] [data-status]").textContent;
        }
        return counts;""")
    found, _ = kept(cleansed_run)
    changed = [np.array(one.table["action"].to_pylist()) != "keep" for one in found]
    names = [one.name for one in found]
    wanted = {"=none": ~changed[0] & ~changed[1], f"={names[0]}": changed[0] & ~changed[1], f"={names[1]}": changed[1] & ~changed[0],
              f"={names[0]}, {names[1]}": changed[0] & changed[1]}  # fmt: skip
    assert counts.keys() - {""} == {name for name, rows in wanted.items() if rows.any()}
    for name, rows in wanted.items():
        if rows.any():
            assert f"of {rows.sum()} that match (240 in all)" in counts[name]
