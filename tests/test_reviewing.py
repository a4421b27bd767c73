"""Reviews: few labels that somebody looked at tell how many of all are wrong, in memory and in a run's directory."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import expit
from scipy.stats import binomtest

import whence
from tests.toys import blobs, network, trained
from whence import WhenceError
from whence.cleansing.choosing import labels_to_mend, rows_by_suspicion
from whence.data import Classification, Dataset
from whence.reporting.review_page import begin_review
from whence.review_files import put_review, read_review
from whence.reviewing import OPEN, drawn, reviewed
from whence.rundir import RunDirectory

N = 2000


def labels(generator, classes=("a", "b")):
    data = Dataset.of((np.arange(N), np.zeros((N, 2), np.float32), generator.integers(0, len(classes), N)))
    return replace(data, task=Classification(classes))


def looked_at(review, wrong):
    """All of what was drawn, by somebody who knows which labels of all [N] are wrong."""
    given = review.train.targets[review.rows]
    return replace(review, answers=np.where(wrong[review.rows], (given + 1) % 2, given))


# What p_wrong says of labels that are wrong where a score is high.
SAID = {
    "right": lambda score, wrong: expit(score),
    "far too few": lambda score, wrong: expit(2 * score - 4),
    "flat": lambda score, wrong: expit(0.3 * score - 1),
    "the wrong way round": lambda score, wrong: expit(-0.2 * score - 2),
    "nothing": lambda score, wrong: np.zeros(N),
    "all of them": lambda score, wrong: np.ones(N),
    "four of five, surely": lambda score, wrong: (wrong & (np.arange(N) % 5 > 0)).astype(float),
    "surely that they are right": lambda score, wrong: np.where(wrong, 1e-6, 0.3),
}


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("count", [30, 200])
def test_limits_hold_however_wrong_p_wrong_is(rate, said, count):
    generator = np.random.default_rng([int(100 * rate), count, len(said)])
    data, held, errors = labels(generator), [], []
    for seed in range(120):
        score = 2 * generator.normal(size=N) + 1.5 * np.log(rate / (1 - rate))
        wrong = generator.random(N) < expit(score)
        p = SAID[said](score, wrong)
        told = reviewed(p, looked_at(drawn(data, p, count, seed), wrong))
        held.append(told.low <= wrong.sum() <= told.high)
        errors.append(told.p_wrong.sum() - wrong.sum() - (p.sum() - wrong.sum()) / (count + 1))
        assert told.low <= told.p_wrong.sum() <= told.high
    assert binomtest(sum(held), 120, 0.95, alternative="less").pvalue > 1e-3
    # Right on average, but for one answer's worth of what p_wrong says.
    assert abs(np.mean(errors)) < 4 * np.std(errors) / 120**0.5 + N / count / 2


def test_limits_are_narrower_than_those_of_labels_drawn_at_random():
    generator = np.random.default_rng(0)
    data, scores = labels(generator), 4 * generator.normal(size=N) - 6
    p, widths = expit(scores), []
    for seed in range(30):
        told = reviewed(p, looked_at(drawn(data, p, 200, seed), generator.random(N) < p))
        widths.append((told.high - told.low) / N)
    plain = binomtest(round(200 * p.mean()), 200).proportion_ci(method="exact")
    assert np.mean(widths) < 0.75 * (plain.high - plain.low)


def test_whoever_stops_anywhere_has_looked_at_a_sample():
    """The first n of the order are drawn with chances in proportion to sizes, whatever n is."""
    generator = np.random.default_rng(0)
    data, p = labels(generator), np.where(np.arange(N) % 10 == 0, 0.5, 0.01)
    for count in (50, 400):
        often = np.zeros(N)
        for seed in range(400):
            review = drawn(data, p, 500, seed)
            often[review.rows[:count]] += 1
        suspected = p == 0.5
        ratio = review.sizes[suspected][0] / review.sizes[~suspected][0]
        assert often[suspected].mean() / often[~suspected].mean() == pytest.approx(ratio, rel=0.06)
        assert 1.5 < ratio < 3


def test_who_looks_at_all_labels_knows():
    generator = np.random.default_rng(1)
    data, p = labels(generator), generator.random(N)
    wrong = generator.random(N) < 0.2
    told = reviewed(p, looked_at(drawn(data, p, 10**9), wrong))
    assert told.looked_at == N
    assert told.low == told.high == told.wrong == wrong.sum()
    np.testing.assert_array_equal(told.p_wrong, wrong)


@pytest.mark.parametrize("all_wrong", [False, True])
def test_where_all_answers_are_alike_the_limit_is_that_of_what_was_not_seen(all_wrong):
    generator = np.random.default_rng(2)
    data, p = labels(generator), np.full(N, 0.9 if all_wrong else 0.02)
    told = reviewed(p, looked_at(drawn(data, p, 60), np.full(N, all_wrong)))
    limit = binomtest(60 if all_wrong else 0, 60).proportion_ci(method="exact")
    expected = (limit.low * N, N) if all_wrong else (0, limit.high * N)
    assert (told.low, told.high) == pytest.approx(expected)


def test_the_order_of_suspicion_stays_but_of_what_was_looked_at():
    generator = np.random.default_rng(3)
    data, p = labels(generator), generator.random(N) ** 3
    review = looked_at(drawn(data, p, 80), generator.random(N) < p / 2)
    told = reviewed(p, review)
    others = np.delete(np.arange(N), review.rows)
    np.testing.assert_array_equal(np.argsort(told.p_wrong[others], kind="stable"), np.argsort(p[others], kind="stable"))
    assert set(told.p_wrong[review.rows]) == {0.0, 1.0}
    np.testing.assert_array_equal(told.right[review.rows], review.answers)
    assert (told.right[others] == OPEN).all()


def test_less_than_ten_answers_tell_nothing():
    data = labels(np.random.default_rng(0))
    review = drawn(data, np.full(N, 0.1), 20)
    names = review.names()
    assert reviewed(np.full(N, 0.1), review.answered(dict.fromkeys(names[:9], "a"))) is None
    told = reviewed(np.full(N, 0.1), review.answered(dict.fromkeys(names[:10], "-")))
    assert (told.looked_at, told.wrong) == (10, 10)
    assert len(drawn(replace(data.select(np.arange(4))), np.full(4, 0.1), 10)) == 4


def test_answers_are_classes_of_what_was_drawn():
    data = labels(np.random.default_rng(0), ("a", "-"))
    review = drawn(data, np.full(N, 0.1), 20)
    name = review.names()[3]
    once = review.answered({name: "-"})
    assert once.answers[3] == 1  # a class of that name
    assert once.answered({name: ""}).answers[3] == OPEN
    assert repr(once) == "Review(20 of 2,000 labels to look at, 1 looked at)"
    assert once.table().column_names == ["id", "given_label", "right_label"]
    assert once.table()["right_label"].to_pylist() == [""] * 3 + ["-"] + [""] * 16
    with pytest.raises(WhenceError, match="not among those to review"):
        review.answered({data.name_of(int(review.order[20])): "a"})
    with pytest.raises(WhenceError, match="no class in id") as refused:
        review.answered({name: "A"})
    assert "a, -" in str(refused.value)
    with pytest.raises(WhenceError, match="no mapping"):
        review.answered([name])
    with pytest.raises(WhenceError, match="at least 10"):
        drawn(data, np.full(N, 0.1), 9)
    numbers = Dataset.of((np.arange(60), np.ones((60, 2), np.float32), np.ones(60)))
    with pytest.raises(WhenceError, match="something else than classes"):
        drawn(numbers, np.full(60, 0.1), 10)


def test_more_labels_are_added_to_those_that_were_drawn():
    data = labels(np.random.default_rng(0))
    review = drawn(data, np.full(N, 0.1), 20)
    review = review.answered(dict.fromkeys(review.names(), "a"))
    more = review.extended(50)
    np.testing.assert_array_equal(more.rows[:20], review.rows)
    assert more.looked_at.sum() == 20
    assert len(more) == 50
    assert len(more.extended(10)) == 50


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A run whose wrong labels are known."""
    data, generator = blobs(240, spread=2.5), np.random.default_rng(0)
    wrong = generator.random(240) < 0.3
    train = replace(data, targets=np.where(wrong, (data.targets + generator.integers(1, 3, 240)) % 3, data.targets))
    run = whence.fit(network(6, 32, 3), train, dev=blobs(40, seed=1, start=1000), epochs=5, learning_rate=1e-2, device="cpu",
                     out=tmp_path_factory.mktemp("review") / "run")  # fmt: skip
    return run, data, wrong


def right_of(review, clean):
    return {name: clean.task.classes[clean.targets[row]] for name, row in zip(review.names(), review.rows, strict=True)}


def test_an_audit_takes_answers_into_account(noisy):
    run, clean, wrong = noisy
    before = whence.audit(run)
    review = before.to_review(60)
    assert (before.review, before.reviewed) == (None, None)
    with pytest.raises(WhenceError, match="a review of other labels"):
        whence.audit(run, review=drawn(clean, before.noise.p_wrong, 60))
    after = whence.audit(run, review=review.answered(right_of(review, clean)))
    told = after.reviewed
    assert (told.looked_at, told.wrong) == (60, wrong[review.rows].sum())
    assert told.low <= wrong.sum() <= told.high
    assert after.expected_errors == pytest.approx(told.p_wrong.sum())
    np.testing.assert_array_equal(after.column("p_wrong")[review.rows], wrong[review.rows])
    shown = after.column("suggested_label")[review.rows]
    assert shown.tolist() == list(right_of(review, clean).values())
    assert set(review.rows[wrong[review.rows]]) <= set(after.issues)
    assert not set(review.rows[~wrong[review.rows]]) & set(after.issues)
    np.testing.assert_array_equal(after.noise.p_wrong, before.noise.p_wrong)
    # What was drawn and answered is extended; the same run without the answers is as it was.
    assert after.to_review(80).looked_at.sum() == 60
    np.testing.assert_array_equal(whence.audit(run).column("p_wrong"), before.column("p_wrong"))
    assert after.caveat is None


def test_of_a_label_that_is_wrong_but_of_no_class_nothing_is_suggested(noisy, tmp_path):
    run, clean, _ = noisy
    review = whence.audit(run).to_review(20)
    first = int(review.rows[0])
    found = whence.audit(run, review=review.answered({**right_of(review, clean), review.names()[0]: "-"}))
    assert found.column("p_wrong")[first] == 1
    assert found.column("kind")[first] == "label_issue"
    assert found.column("suggested_label")[first] == found.column("given_label")[first]
    same = found.column("p_wrong") <= 0.5
    np.testing.assert_array_equal(found.column("suggested_label")[same], found.column("given_label")[same])
    kept = whence.Run(run.model, run.train, dev=run.splits["dev"], out=tmp_path / "run", dynamics=run.dynamics)
    put_review(kept.directory, found.review)
    dropped, relabeled = (choose(kept) for choose in (rows_by_suspicion, labels_to_mend))
    assert first in dropped.order
    assert first not in relabeled.order


def filled(run, review, right):
    """The table in the run's directory, filled in as a spreadsheet would leave it: CRLF, a byte order mark, another column."""
    path = put_review(run.directory, review)
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(file, [*rows[0], "remark"], lineterminator="\r\n")
        table.writeheader()
        table.writerows({**row, "right_label": f" {right.get(row['id'], '')}", "remark": "x"} for row in reversed(rows))
    return path


def test_a_review_lies_in_the_run_for_all_that_asks(noisy, tmp_path):
    run, clean, wrong = noisy
    kept = whence.Run(run.model, run.train, dev=run.splits["dev"], out=tmp_path / "run", dynamics=run.dynamics)
    review = whence.audit(kept).to_review(60)
    path = filled(kept, review, right_of(review, clean))
    found = whence.audit(kept)
    assert found.reviewed.looked_at == 60
    np.testing.assert_array_equal(
        found.column("p_wrong"), whence.audit(run, review=review.answered(right_of(review, clean))).column("p_wrong")
    )
    assert whence.report(kept).read_text(encoding="utf-8").count(", as 60 labels tell that somebody looked at (") == 1
    p_wrong, suggested = whence.auditing.suspicions(kept)
    np.testing.assert_array_equal(p_wrong, found.column("p_wrong"))
    assert [clean.task.classes[target] for target in suggested[review.rows]] == list(right_of(review, clean).values())
    # More labels, and another run of the same labels: the answers stay. Of other labels they say nothing.
    put_review(kept.directory, found.to_review(80))
    with open(path, newline="", encoding="utf-8") as file:
        assert [row["remark"] for row in csv.DictReader(file)] == ["x"] * 60 + [""] * 20  # what its user added stays
    other = whence.Run(network(6, 32, 3, seed=9), run.train, dev=run.splits["dev"], out=tmp_path / "run", replace=True)
    again = whence.audit(other)
    assert (again.reviewed.looked_at, len(again.review)) == (60, 80)
    assert again.reviewed.p_wrong[review.rows].tolist() == wrong[review.rows].tolist()
    whence.Run(network(6, 32, 3), clean, out=tmp_path / "run", replace=True)
    with pytest.raises(WhenceError, match="a review of other labels"):
        whence.audit(whence.open_run(tmp_path / "run", model=network(6, 32, 3), train=clean))
    assert path.exists()
    path.unlink()  # who deletes the table has looked at nothing
    assert read_review(kept.directory, run.train).looked_at.sum() == 0


def test_ids_and_classes_that_spreadsheets_would_run(tmp_path):
    data = replace(
        blobs(30),
        names=np.array([f"={row}" for row in range(30)], dtype=object),
        task=Classification(("@a", "-1", "c")),
    )
    review = drawn(data, np.full(30, 0.1), 30)
    directory = RunDirectory(tmp_path)
    path = put_review(directory, review)
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    assert all(row[0].startswith("'=") for row in rows[1:])
    assert {row[1] for row in rows[1:]} == {"'@a", "-1", "c"}
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([rows[0], *([*row[:2], row[1]] for row in rows[1:])])
    np.testing.assert_array_equal(read_review(directory, data).answers, data.targets[review.rows])


@pytest.mark.parametrize(("change", "said"), [
    (lambda rows: [row[:2] for row in rows], "no column 'right_label'"),
    (lambda rows: [["; ".join(row)] for row in rows], "no column 'id'"),
    (lambda rows: [*rows, ["99", "a", "a"]], "an id that is not among those to review"),
    (lambda rows: [*rows[:-1], [*rows[-1][:2], "dog"]], "a right label that is no class"),
    (lambda rows: [*rows, [*rows[1][:2], "b"], [*rows[1][:2], "c"]], "two answers for one id"),
])  # fmt: skip
def test_a_table_that_cannot_be_right_is_refused(tmp_path, change, said):
    data, directory = blobs(30), RunDirectory(tmp_path)
    path = put_review(directory, drawn(data, np.full(30, 0.1), 12))
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    rows = [rows[0], [*rows[1][:2], "a" if len(rows) else ""], *rows[2:]]
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(change(rows))
    before = path.read_bytes()
    with pytest.raises(WhenceError) as refused:
        read_review(directory, data)
    assert said in str(refused.value)
    assert "review.csv" in str(refused.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", [
    lambda t, m: t.pop("sizes"),
    lambda t, m: t.update(sizes=t["sizes"].float()),
    lambda t, m: t["sizes"][3].fill_(torch.nan),
    lambda t, m: t["sizes"][3].fill_(0),
    lambda t, m: t["order"][0].copy_(t["order"][1]),
    lambda t, m: t.update(order=t["order"][:-1]),
    lambda t, m: m.update(count="0"),
    lambda t, m: m.update(count="31"),
    lambda t, m: m.update(count="²"),
])  # fmt: skip
def test_a_damaged_draw_is_refused(tmp_path, change):
    data, directory = blobs(30), RunDirectory(tmp_path)
    put_review(directory, drawn(data, np.full(30, 0.1), 12))
    assert len(read_review(directory, data)) == 12
    path = tmp_path / "review.safetensors"
    tensors = load_file(path)
    with whence.rundir.safe_open(path, "pt") as file:
        about = file.metadata()
    change(tensors, about)
    save_file(tensors, path, metadata=about)
    with pytest.raises(WhenceError, match="a damaged file"):
        read_review(directory, data)


def test_a_failed_training_leaves_the_review_and_the_place(tmp_path):
    run = trained(out=tmp_path / "run", epochs=1)
    put_review(run.directory, whence.audit(run).to_review(12))
    run.directory.clear()
    run.directory.abandon()
    assert (tmp_path / "run" / "review.csv").exists()
    assert not RunDirectory(tmp_path / "run").is_foreign()
    assert whence.audit(trained(out=tmp_path / "run", epochs=1)).review is not None


def test_answers_left_out_by_chance_leave_limits_that_hold():
    generator, held = np.random.default_rng(5), []
    data = labels(generator).select(np.arange(200))
    for seed in range(150):
        wrong = generator.random(200) < 0.05
        p = 1.0 - wrong
        review = looked_at(drawn(data, p, 166, seed), np.append(wrong, np.zeros(N - 200, bool)))
        left_out = generator.choice(166, 66, replace=False)
        review.answers[left_out] = OPEN
        told = reviewed(p, review)
        held.append(told.low <= wrong.sum() <= told.high)
    assert binomtest(sum(held), 150, 0.95, alternative="less").pvalue > 1e-3


def test_what_was_answered_while_an_audit_lasted_stays(noisy, tmp_path):
    run, clean, _ = noisy
    kept = whence.Run(run.model, run.train, dev=run.splits["dev"], out=tmp_path / "run", dynamics=run.dynamics)
    begin_review(kept, whence.audit(kept).to_review(20))
    audit = whence.audit(kept)
    filled(kept, audit.review, right_of(audit.review, clean))
    more = audit.to_review(40)
    begin_review(kept, more.answered(dict.fromkeys(more.names()[20:25], "-")))  # and what was answered elsewhere
    now = read_review(kept.directory, run.train)
    np.testing.assert_array_equal(now.looked_at, np.arange(40) < 25)
    begin_review(kept, audit.to_review(20))
    assert len(read_review(kept.directory, run.train)) == 40
    (tmp_path / "run" / "review.safetensors").unlink()
    before = (tmp_path / "run" / "review.csv").read_bytes()
    with pytest.raises(WhenceError, match="whose draw is lost"):
        begin_review(kept, whence.audit(kept).to_review(40))
    assert (tmp_path / "run" / "review.csv").read_bytes() == before


def test_a_review_of_a_run_in_memory_is_answered_in_memory(noisy):
    run, _, _ = noisy
    alone = whence.Run(run.model, run.train)
    with pytest.raises(WhenceError, match=r"a run in memory .* Use Review.table\(\)"):
        begin_review(alone, whence.audit(alone).to_review(12))


def test_ids_that_a_table_cannot_tell_apart(tmp_path):
    names = np.array([f"r{row}" for row in range(28)] + ["=1", "'=1"], dtype=object)
    review = drawn(replace(blobs(30), names=names), np.full(30, 0.1), 30)
    with pytest.raises(WhenceError, match="ids that look alike"):
        put_review(RunDirectory(tmp_path), review)
    assert not list(tmp_path.iterdir())


def test_what_spreadsheets_leave_and_add(tmp_path):
    """Empty rows at the end, and apostrophes that this table would not have needed."""
    data, directory = blobs(30), RunDirectory(tmp_path)
    review = drawn(data, np.full(30, 0.1), 12)
    path = put_review(directory, review)
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([rows[0], *([f"'{row[0]}", row[1], "'b"] for row in rows[1:]), ["", "", ""]])
    np.testing.assert_array_equal(read_review(directory, data).answers, np.ones(12))


def test_a_class_without_a_name_is_not_reviewed():
    with pytest.raises(WhenceError, match="a class without a name"):
        drawn(labels(np.random.default_rng(0), ("", "a")), np.full(N, 0.1), 20)
