"""The report of two runs says what the comparison says, fits its window, and lets nothing of the data run."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.reporting.conftest import HOSTILE, corrupted, exported, look, numbers, pictures, texts, trained
from tests.reporting.pages import Page
from whence.comparison import Comparison, compare
from whence.errors import WhenceError
from whence.reporting import report
from whence.reporting.comparison_page import render_comparison
from whence.reporting.figures import percent, points
from whence.run import Run


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compare(
        trained(pictures(errors=55), epochs=2), trained(pictures(errors=55), epochs=1, seed=1), limit=10, top=4
    )


@pytest.fixture(scope="module")
def path(found: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("comparison") / "two.html"
    file.write_text(render_comparison(found), encoding="utf-8")
    return file


def test_numbers_are_those_of_the_comparison(found: Comparison, path: Path) -> None:
    page, main = Page.read(path), found.paired.main
    for said in (
        percent(main.first),
        percent(main.second),
        points(main.value),
        f"{points(main.low)} to {points(main.high)}",
    ):
        assert said.replace("\u00a0", " ") in page.words.replace("\u00a0", " ")
    kinds = [item["kind"] for item in page.data["changes"]]
    assert kinds.count("gained") == len(found.paired.gained)
    assert kinds.count("lost") == len(found.paired.lost)
    right = kinds.count("right")
    assert len(kinds) - right == len(found.paired.gained) + len(found.paired.lost) + len(found.paired.both_wrong)
    for item in page.data["changes"]:
        right = [one["predicted"] == page.data["instances"][item["i"]]["label"] for one in item["runs"]]
        assert right == [one["right"] for one in item["runs"]]
        assert right == {"gained": [True, False], "lost": [False, True]}.get(
            item["kind"], [item["kind"] == "right"] * 2
        )
    issues = [item["kind"] for item in page.data["audited"]]
    assert issues.count("both") == len(found.issues.both)
    assert issues.count("only_first") == len(found.issues.only_first)
    assert f"mean Spearman correlation {found.rankings.agreement:.2f}" in page.words
    assert "training: epochs21" in page.words


def test_lists_name_what_either_run_names_those_of_both_first(found: Comparison, path: Path) -> None:
    page, test = Page.read(path), found.run.splits["test"]
    ids = {page.data["instances"][item["i"]]["id"]: item for item in page.data["changes"] if "helps" in item}
    assert ids
    for column, row in enumerate(found.targets.tolist()):
        item = ids[test.name_of(int(found.shared.held_out.first[row]))]
        for side, harmful in (("helps", False), ("hurts", True)):
            ours, theirs = (set(rows.tolist()) for rows in found.rankings.ends(column, harmful=harmful))
            place = {found.run.train.name_of(row): row for row in range(120)}
            named = {place[page.data["instances"][pair[0]]["id"]]: pair[3] for pair in item[side]}
            assert named == {row: (row in ours) + 2 * (row in theirs) for row in ours | theirs}
            who = [pair[3] == 3 for pair in item[side]]
            assert who == sorted(who, reverse=True)


def test_written_beside_the_run_by_the_name_of_the_other(tmp_path: Path) -> None:
    first, second = (
        trained(pictures(), tmp_path / "one", epochs=1),
        trained(pictures(), tmp_path / "t wo", epochs=1, seed=1),
    )
    written = report(first, against=second, limit=3)
    assert written == tmp_path / "one" / "against-t-wo.html"
    assert '<bdi dir="auto">one</bdi>' in written.read_text(encoding="utf-8")
    assert report(first, tmp_path / "x.html", against=second, limit=3).read_bytes() == written.read_bytes()
    with pytest.raises(WhenceError, match="a run compared with itself"):
        report(first, tmp_path / "y.html", against=first)
    assert not (tmp_path / "y.html").exists()
    # A run that takes this one's place has no comparison yet.
    assert first.directory is not None
    first.directory.clear()
    assert not written.exists()


@pytest.mark.browser
def test_after_cleansing_what_was_relabeled_and_removed_is_listed(browser: Any, tmp_path: Path) -> None:
    data = pictures()
    train = np.flatnonzero(data.splits == "train")
    targets, keep = data.targets.copy(), np.ones(len(data), bool)
    targets[train[4:10]] = (targets[train[4:10]] - 1) % 3
    keep[train[:4]] = False
    clean = trained(replace(data, targets=targets).select(keep), epochs=1)
    before = trained(data, epochs=1)
    path = report(clean, tmp_path / "r.html", against=before, limit=3)
    page = Page.read(path)
    listed = {
        kind: [item for item in page.data["audited"] if item["kind"] == kind]
        for kind in ("relabeled", "only_second_data")
    }
    ids = {kind: {page.data["instances"][item["i"]]["id"] for item in items} for kind, items in listed.items()}
    assert ids == {"relabeled": set(map(str, train[4:10])), "only_second_data": set(map(str, train[:4]))}
    for item in listed["relabeled"]:
        row = int(page.data["instances"][item["i"]]["id"])
        assert [one["label"] for one in item["runs"]] == ["abc"[targets[row]], "abc"[data.targets[row]]]
    for item in listed["only_second_data"]:
        assert item["runs"][0] is None
        assert item["runs"][1]["label"] == page.data["instances"][item["i"]]["label"]
    assert "training data (10 instances)" in page.words
    browser.get(path.as_uri())
    for kind, items in listed.items():
        browser.execute_script("document.querySelector(`#instances [data-kind=${arguments[0]}]`).click()", kind)
        assert browser.execute_script("return document.querySelectorAll('#instances .cards > article').length") == len(
            items
        )
    assert browser.get_log("browser") == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1200])
def test_fits_its_window(
    browser: Any, width: int, path: Path, text_run: Run, number_run: Run, corrupted_run: Run, tmp_path: Path
) -> None:
    look(browser, width)
    others = {
        "texts": (text_run, trained(texts(), epochs=2, learning_rate=2e-3)),
        "numbers": (number_run, trained(numbers(), seed=1)),
        "groups": (corrupted_run, trained(corrupted(), epochs=2, model="mlp:512", seed=1)),
    }
    files = [path, *(report(a, tmp_path / f"{name}.html", against=b, limit=4) for name, (a, b) in others.items())]
    for file in files:
        browser.get(file.as_uri())
        assert browser.get_log("browser") == []
        assert (
            browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
            == 0
        )
        assert browser.execute_script("return window.hacked") is None
        assert browser.execute_script("return document.querySelectorAll('script').length") == 2
        # Scores of two runs are stacked or wrapped, never over their neighbors.
        over = """return [...document.querySelectorAll(".row .score, .tile, .why table")].filter((one) => {
            const box = one.getBoundingClientRect(), room = one.closest(".row, .cards, .target").getBoundingClientRect();
            return box.width && box.right > room.right + 1; }).length"""
        assert browser.execute_script(over) == 0, file.name


@pytest.mark.browser
def test_hostile_texts_of_two_runs_stay_text(browser: Any, text_run: Run, tmp_path: Path) -> None:
    file = report(text_run, tmp_path / "r.html", against=trained(texts(), epochs=1, learning_rate=2e-3), limit=4)
    page = Page.read(file)
    shown = [instance.get("text", "") for instance in page.data["instances"]]
    assert any(text.startswith(hostile) for text in shown for hostile in HOSTILE)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    browser.get(file.as_uri())
    for kind in browser.execute_script(
        "return [...document.querySelectorAll('[data-kind]')].map((one) => one.dataset.kind)"
    ):
        browser.execute_script("document.querySelector(`[data-kind=${arguments[0]}]`).click()", kind)
    assert browser.execute_script("return window.hacked") is None
    assert browser.get_log("browser") == []


@pytest.mark.browser
def test_from_a_changed_prediction_to_a_training_instance_and_back(browser: Any, path: Path) -> None:
    data = Page.read(path).data
    item = next(one for one in data["changes"] if one.get("helps"))
    target, named = data["instances"][item["i"]]["id"], data["instances"][item["helps"][0][0]]["id"]
    browser.get(f"{path.as_uri()}#target={target}")
    link = f"#predictions [data-opened] a[href='#instance={named}']"
    browser.execute_script("document.querySelector(arguments[0]).click()", link)
    browser.execute_async_script("setTimeout(arguments[0], 50)")
    back = browser.execute_script(
        "return [...document.querySelectorAll('#instances [data-opened] li a')].map((one) => one.getAttribute('href'))"
    )
    naming = [
        one
        for one in data["changes"]
        if item["helps"][0][0] in [pair[0] for side in ("helps", "hurts") for pair in one.get(side, [])]
    ]
    assert sorted(back) == sorted(f"#target={data['instances'][one['i']]['id']}" for one in naming)
    assert f"#target={target}" in back
    browser.back()
    browser.execute_async_script("setTimeout(arguments[0], 50)")
    assert browser.execute_script(
        "return document.querySelector('#predictions [data-opened]').getAttribute('aria-label')"
    ).endswith(target)


@pytest.mark.browser
def test_kinds_search_and_filters_of_changes(browser: Any, path: Path) -> None:
    data = Page.read(path).data
    browser.get(path.as_uri())
    names = lambda items: [data["instances"][item["i"]]["id"] for item in items]  # noqa: E731
    shown = "return [...document.querySelectorAll('[data-list=changes] .cards > article .target .id > bdi')].map((one) => one.textContent)"
    buttons = "return [...document.querySelectorAll('#predictions [data-kind]')].map((one) => one.dataset.kind)"
    counts = {
        kind: [item for item in data["changes"] if item["kind"] == kind] for kind in browser.execute_script(buttons)
    }
    assert {"gained", "lost"} <= set(counts)
    assert sum(map(len, counts.values())) == len(data["changes"])
    for kind, items in counts.items():
        browser.execute_script("document.querySelector(`#predictions [data-kind=${arguments[0]}]`).click()", kind)
        assert browser.execute_script(shown) == names(items[:10])
    most = max(counts.values(), key=len)
    assert most
    browser.execute_script(
        "document.querySelector(`#predictions [data-kind=${arguments[0]}]`).click()", most[0]["kind"]
    )
    browser.execute_script(
        "const box = document.querySelector('#predictions [data-search]'); box.value = arguments[0]; box.dispatchEvent(new Event('input'))",
        names(most)[0],
    )
    assert names(most)[0] in browser.execute_script(shown)
    assert np.isin(browser.execute_script(shown), [name for name in names(most) if names(most)[0] in name]).all()


@pytest.mark.browser
def test_what_is_listed_is_exported(browser: Any, tmp_path: Path) -> None:
    """Of the kind that is shown, with what each run says; ids and labels that a spreadsheet would run are marked."""
    data = pictures(errors=55)
    names = np.array([f"=1+{row}" for row in range(len(data))], dtype=object)
    data = replace(data, names=names)
    runs = trained(data, epochs=2), trained(data, epochs=1, seed=1)
    file = report(runs[0], tmp_path / "r.html", against=runs[1], limit=4)
    page = Page.read(file).data
    browser.get(file.as_uri())
    kinds = {
        section: [item["kind"] for item in page[name]]
        for section, name in (("predictions", "changes"), ("instances", "audited"))
    }
    sizes = {}
    for section, name, of_runs in (
        (
            "predictions",
            "changes",
            {"probability": "probability", "probability_of_label": "true_probability", "loss": "loss"},
        ),
        ("instances", "audited", {"p_wrong": "p_wrong", "memorization": "memorization"}),
    ):
        kind = max(set(kinds[section]), key=kinds[section].count)
        browser.execute_script(
            "document.querySelector(`#${arguments[0]} [data-kind=${arguments[1]}]`).click()", section, kind
        )
        rows = list(csv.DictReader(io.StringIO(exported(browser, section), newline="")))
        items = [item for item in page[name] if item["kind"] == kind]
        sizes[section] = len(rows)
        assert [row["id"] for row in rows] == ["'" + page["instances"][item["i"]]["id"] for item in items]
        for row, item in zip(rows, items, strict=True):
            for run, said in zip(("first", "second"), item["runs"], strict=True):
                assert {key: float(row[f"{run}_{key}"]) for key in of_runs} == {
                    key: said[of] for key, of in of_runs.items()
                }
                shown = ("predicted", "predicted") if section == "predictions" else ("suggested_label", "to")
                assert row[f"{run}_{shown[0]}"] == said[shown[1]]
    assert min(sizes.values()) > 5
