"""The report says what the audit, the scores and the model say."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import whence.rundir
from tests.reporting.conftest import numbers, pictures, trained
from tests.reporting.pages import Page
from whence import auditing
from whence.data.tasks import well_formed
from whence.errors import WhenceError
from whence.estimators import influence
from whence.groups import group_effects
from whence.reporting import report
from whence.reporting.figures import clean, scaled_unit, signed
from whence.reporting.listed import _MOST
from whence.reporting.targets import choose_targets
from whence.run import Run
from whence.subnetworks import probabilities


@pytest.fixture(scope="module")
def page(picture_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page.read(report(picture_run, tmp_path_factory.mktemp("report") / "r.html", targets="test", limit=10, top=5))


def of_kind(page: Page, kind: str) -> list[dict[str, Any]]:
    return [item for item in page.data["audited"] if item["kind"] == kind and "beyond" not in item]


def test_numbers_are_those_of_the_audit(picture_run: Run, page: Page) -> None:
    audit = auditing.audit(picture_run)
    shown, instances = of_kind(page, "label_issue"), page.data["instances"]
    assert len(shown) == len(audit.issues) > 0
    for card, row in zip(shown, audit.issues, strict=True):
        assert instances[card["i"]]["id"] == audit.table["name"][int(row)].as_py()
        assert instances[card["i"]]["label"] == audit.table["given_label"][int(row)].as_py()
        assert card["to"] == audit.table["suggested_label"][int(row)].as_py()
        for name in ("p_wrong", "p_own", "p_flipped", "memorization", "influence_on_dev"):
            assert card[name] == pytest.approx(float(audit.column(name)[row]), rel=1e-5, abs=1e-9)
    assert f"{len(shown)} of 120 training labels" in page.words


def test_how_far_to_trust_it_comes_first(group_run: Run, tmp_path: Path) -> None:
    text = report(group_run, tmp_path / "r.html").read_text(encoding="utf-8")
    sections = re.findall(r'<section id="([a-z]+)"', text)
    assert sections[0] == "trust" and {"accuracy", "instances", "groups"} < set(sections)


def test_memorized_and_ambiguous_instances_are_listed_too(picture_run: Run, tmp_path: Path) -> None:
    audit = auditing.audit(picture_run)
    assert audit.noise is not None
    rows, kinds = np.flatnonzero(audit.column("kind") != "label_issue"), audit.column("kind").astype(object)
    kinds[rows[:4]], kinds[rows[4:9]], kinds[rows[9:]] = "memorized", "ambiguous", "ok"
    place = audit.table.schema.get_field_index("kind")
    page = Page.read(report(picture_run, tmp_path / "r.html",
                            audit=replace(audit, table=audit.table.set_column(place, "kind", [kinds.tolist()]))))  # fmt: skip
    names = audit.table["name"].to_pylist()
    for kind in ("memorized", "ambiguous"):
        ids = [page.data["instances"][item["i"]]["id"] for item in of_kind(page, kind)]
        assert sorted(ids) == sorted(names[row] for row in np.flatnonzero(kinds == kind))
    by_heart = [item["memorization"] for item in of_kind(page, "memorized")]
    assert by_heart == sorted(by_heart, reverse=True)
    doubts = of_kind(page, "ambiguous")
    for item in doubts:
        belief = audit.noise.belief[names.index(page.data["instances"][item["i"]]["id"])]
        assert [p for _, p in item["believed"]] == pytest.approx(np.sort(belief)[::-1][:2].tolist(), rel=1e-2)
        assert item["believed"][0][0] == picture_run.task.show(int(belief.argmax()))[0]
    assert [item["believed"][0][1] for item in doubts] == sorted(item["believed"][0][1] for item in doubts)
    assert "Memorized 4 Ambiguous 5 " in page.words


def test_the_longest_lists_end_with_what_they_leave_out(
    picture_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_MOST, "label_issue", 3)
    page, issues = Page.read(report(picture_run, tmp_path / "r.html")), auditing.audit(picture_run).issues
    beyond = [item for item in page.data["audited"] if "beyond" in item]
    assert len(beyond) == len(issues) - 3  # each can be looked up among all
    assert {item["kind"] for item in beyond} == {"label_issue"}
    assert len(page.data["audited"]) == 120
    assert f"The first 3 of {len(issues)} are listed." in page.words


def test_accuracy_and_confusion_are_those_of_the_model(picture_run: Run, page: Page) -> None:
    test = picture_run.splits["test"]
    right = probabilities(picture_run, test).argmax(1) == test.targets
    assert f"Accuracy {100 * right.mean():.1f}\u00a0% on test (30 instances)." in page.text
    cells = [name.split() for name in page.attribute("class") if name.startswith("h") and name[1:2].isdigit()]
    assert len(cells) == 9
    assert sum("right" in cell for cell in cells) == 3


def test_helpful_and_harmful_instances_are_the_extreme_scores(picture_run: Run, page: Page) -> None:
    targets = choose_targets(picture_run, "test", 10).data
    assert targets is not None
    scores = np.asarray(influence(picture_run, targets, method="kronecker"))
    names = [picture_run.train.name_of(row) for row in range(len(picture_run.train))]
    instances, items = page.data["instances"], page.data["explanations"]
    assert len(items) == 10
    for column, item in enumerate(items):
        assert instances[item["i"]]["id"] == targets.name_of(column)
        best = np.argsort(-scores[:, column])[:5]
        assert [instances[i]["id"] for i, _ in item["helps"]] == [names[r] for r in best if scores[r, column] > 0]
        worst = np.argsort(scores[:, column])[:5]
        assert [instances[i]["id"] for i, _ in item["hurts"]] == [names[r] for r in worst if scores[r, column] < 0]
        for pairs, rows in ((item["helps"], best), (item["hurts"], worst)):
            shown = np.array([value for _, value in pairs])
            ratio = shown / scores[rows[: len(shown)], column]
            np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)  # one unit for the whole page


def test_targets_with_errors_come_the_most_confident_first(picture_run: Run) -> None:
    test = picture_run.splits["test"]
    predicted = probabilities(picture_run, test)
    wrong = np.flatnonzero(predicted.argmax(1) != test.targets)
    choice = choose_targets(picture_run)
    assert choice.data is not None
    if len(wrong):
        assert choice.kind == "errors"
        assert set(choice.data.ids) == set(test.ids[wrong])
    else:
        assert choice.kind == "least_confident"
        assert choice.data.ids[0] == test.ids[predicted.max(1).argmin()]


def test_wrong_predictions_are_explained(tmp_path: Path) -> None:
    run = trained(pictures(errors=0), epochs=1)
    test = run.splits["test"]
    flipped = (test.targets + 1) % 3  # every prediction that was right is now wrong
    run.splits["test"] = type(test)(test.ids, test.inputs, flipped, test.task, images=test.images)
    page = Page.read(report(run, tmp_path / "r.html", limit=4))
    assert "Wrong predictions" in page.words
    assert page.data["errors"] is True
    assert len(page.data["explanations"]) == 4
    confidences = [item["probability"] for item in page.data["explanations"]]
    assert confidences == sorted(confidences, reverse=True)
    for item in page.data["explanations"]:
        assert item["predicted"] != page.data["instances"][item["i"]]["label"]


def test_no_wrong_prediction_is_said(picture_run: Run, tmp_path: Path) -> None:
    test = picture_run.splits["test"]
    right = probabilities(picture_run, test).argmax(1)
    run = Run(
        picture_run.model,
        picture_run.train,
        dev=picture_run.splits["dev"],
        test=type(test)(test.ids, test.inputs, right, test.task, images=test.images),
    )
    page = Page.read(report(run, tmp_path / "r.html"))
    assert "No prediction on test is wrong. These are the least confident ones" in page.words
    assert len(page.data["explanations"]) == 12
    assert "losses of single epochs were not recorded" in page.words  # a run trained elsewhere has no history


def test_a_model_that_errs_more_than_it_suspects_is_said_to(picture_run: Run, tmp_path: Path) -> None:
    audit = auditing.audit(picture_run)
    share = len(audit.issues) / 120
    for error, said in ((share / 2, False), (0.5, True)):
        page = Page.read(report(picture_run, tmp_path / "r.html", audit=replace(audit, dev_error=error)))
        assert ("Are the suspected labels wrong?" in page.words) is said
        assert ("few beside the 50.0 % of unseen instances on which the model errs" in page.words) is said


def test_words_are_explained_where_they_come_first(picture_run: Run, tmp_path: Path) -> None:
    words = Page.read(report(picture_run, tmp_path / "r.html")).words
    for term, meaning in (
        ("own mask", "the half of the masked units that learned it"),
        ("Isolation", "how well that kept"),
        ("nats", "natural logarithm"),
    ):
        assert 0 < words.index(meaning) - words.index(term) < 60
    assert "kernel scores" in words[: words.index("Model")]
    assert "turn-over scores" not in words[: words.index("Model")]


def test_without_dev_and_test(train_only_run: Run, tmp_path: Path) -> None:
    page = Page.read(report(train_only_run, tmp_path / "r.html"))
    assert "There are no test or dev instances" in page.words
    assert "isolation unknown" in page.words
    assert "train instances" in page.words  # what the noise floor was measured on
    assert page.data["explanations"] == []
    assert all(card["influence_on_dev"] is None for card in page.data["audited"])


def test_regression_is_in_the_units_of_the_user(number_run: Run, tmp_path: Path) -> None:
    page = Page.read(report(number_run, tmp_path / "r.html"))
    test = number_run.splits["test"]
    errors = (probabilities(number_run, test)[:, 0] - test.targets) * number_run.task.scale  # type: ignore[union-attr]
    first = page.data["explanations"][0]
    assert page.data["instances"][first["i"]]["id"] == test.name_of(int(np.abs(errors).argmax()))
    assert first["error"] == pytest.approx(errors[np.abs(errors).argmax()], rel=1e-3)
    assert "Largest errors" in page.words
    assert "R²" in page.words
    assert len(page.data["features"]) == 8
    assert {"column 3", "column 7"} <= set(page.data["features"])  # the two that the value depends on
    assert "Of 10 features, the 8 that vary most with the value are shown." in page.words


def test_groups_are_named_and_ranked(group_run: Run, tmp_path: Path) -> None:
    page = Page.read(report(group_run, tmp_path / "r.html"))
    assert page.data["level"] == "group"
    item = page.data["explanations"][0]
    names = {name for name, _, _ in [*item["helps"], *item["hurts"]]}
    assert names
    assert names <= {f"source {g}" for g in range(6)}
    assert all(members == 20 for _, _, members in item["helps"])
    assert page.words.count("source ") == 6 * 5  # the table, and label and hint in two drawings of the chart
    assert "scores of groups" in page.words


def test_table_card_and_headline_of_groups_say_the_same(corrupted_run: Run, tmp_path: Path) -> None:
    audit = auditing.audit(corrupted_run)
    assert audit.groups is not None
    counts = audit.groups.counts()
    assert counts["harms"] >= 1
    path = report(corrupted_run, tmp_path / "r.html", audit=audit)
    page, table = Page.read(path), group_table(path)
    assert page.words.count(audit.groups.sentence()) == 2  # headline and card
    assert table[0] == [
        "Group",
        "Verdict",
        "Published effect",
        "z",
        "q",
        "Kernel effect",
        "Members",
        "Suspected labels",
        "Wrong, expected",
    ]
    assert [row[1] for row in table[1:]].count("harms") == counts["harms"]
    assert [row[1] for row in table[1:]].count("helps") == counts["helps"]
    order = audit.groups.ranking()
    assert [row[0] for row in table[1:]] == [clean(well_formed(audit.groups.names[row])).strip() for row in order]
    assert [row[1] for row in table[1:]] == [audit.groups.verdicts[row] for row in order]
    factor, _ = scaled_unit([*audit.groups.interval()[0], *audit.groups.interval()[1], *audit.groups.kernel], "nats")
    low, high = audit.groups.interval()
    assert [row[2] for row in table[1:]] == [
        f"{signed(audit.groups.effect[row] * factor)}{signed(low[row] * factor)} to {signed(high[row] * factor)}"
        for row in order
    ]
    assert [row[5] for row in table[1:]] == [signed(audit.groups.kernel[row] * factor) for row in order]


@pytest.mark.parametrize("method", ["turnover", "first_order", "kernel"])
def test_verdicts_on_groups_are_the_same_whatever_the_lists_use(group_run: Run, tmp_path: Path, method: str) -> None:
    path = report(group_run, tmp_path / "r.html", method=method)
    assert Page.read(path).data["level"] == ("instance" if method == "kernel" else "group")
    table, wanted = group_table(path), group_effects(group_run, kernel="kernel" if method == "kernel" else "auto")
    assert [row[0] for row in table[1:]] == [wanted.names[row] for row in wanted.ranking()]
    assert [row[3] for row in table[1:]] == [signed(wanted.z[row], 2) for row in wanted.ranking()]


def test_groups_without_dev_are_listed_unjudged(tmp_path: Path) -> None:
    data = pictures(groups=6)
    run = trained(replace(data.split("train"), splits=None), epochs=2)
    path = report(run, tmp_path / "r.html")
    assert "This run has no dev split, so what their removal would do is not known." in Page.read(path).words
    assert group_table(path)[0] == ["Group", "Members", "Suspected labels", "Wrong, expected"]
    assert len(group_table(path)) == 7


def test_of_many_groups_both_ends_are_listed(tmp_path: Path) -> None:
    data = pictures(450)
    numbered = np.arange(450, dtype=np.int64)
    run = trained(
        replace(data, groups=numbered, group_names=np.array([f"g{n}" for n in numbered], dtype=object)), epochs=1
    )
    path = report(run, tmp_path / "r.html", limit=2)
    assert "Only both ends of the ranking are listed." in Page.read(path).words
    listed, effects = [row[0] for row in group_table(path)[1:]], group_effects(run)
    ranked = [effects.names[row] for row in effects.ranking()]
    assert listed == ranked[:30] + ranked[-30:]


def group_table(path: Path) -> list[list[str]]:
    """The cells of the table of groups, as text."""
    section = path.read_text(encoding="utf-8").split('<section id="groups"')[1].split("</section>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", section, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[html.unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in row] for row in cells]


def test_no_issues(number_run: Run, tmp_path: Path) -> None:
    audit = auditing.audit(number_run)
    kind = audit.table.schema.get_field_index("kind")
    calm = auditing.Audit(audit.table.set_column(kind, "kind", [["ok"] * audit.table.num_rows]), audit.method)
    page = Page.read(report(number_run, tmp_path / "r.html", audit=calm))
    assert not of_kind(page, "label_issue")
    assert len(of_kind(page, "nearest")) == 24
    assert "No training value is suspected to be wrong." in page.words
    assert "Every value lies within the usual errors" in page.words


def test_a_stored_run_reports_into_its_directory_and_again(tmp_path: Path) -> None:
    run = trained(numbers(), out=tmp_path / "run")
    path = report(run)
    assert path == tmp_path / "run" / "report.html"
    scores = {p.name for p in (tmp_path / "run" / "scores").iterdir()}
    assert Page.read(report(run, limit=3)).data["name"] == "run"
    assert scores < {p.name for p in (tmp_path / "run" / "scores").iterdir()}  # other targets, other names
    assert not list(tmp_path.glob("run/.report*"))


def test_a_failed_report_leaves_the_old_one(picture_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.html"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(whence.rundir.os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        report(picture_run, path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_bad_input_is_refused(picture_run: Run, number_run: Run, tmp_path: Path) -> None:
    with pytest.raises(WhenceError, match="no place for the report in a run that is kept in memory"):
        report(picture_run)
    with pytest.raises(WhenceError, match=r"not a file in .*: got a directory, expected a file name"):
        report(picture_run, tmp_path)
    with pytest.raises(WhenceError, match="an option out of range in top: got 0, expected an integer of at least 1"):
        report(picture_run, tmp_path / "r.html", top=0)
    with pytest.raises(WhenceError, match="an audit of other data"):
        report(picture_run, tmp_path / "r.html", audit=auditing.audit(number_run))
    with pytest.raises(WhenceError, match="no split named 'nowhere'"):
        report(picture_run, tmp_path / "r.html", targets="nowhere")
    assert list(tmp_path.iterdir()) == []
