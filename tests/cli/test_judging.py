"""``whence audit`` and ``whence report``: groups, and a model that knows little."""

from __future__ import annotations

import csv
import json

import pyarrow.parquet as pq

from tests.cli.tables import QUICK, write_table
from whence.run import open_run


def test_groups_without_dev_are_not_judged(whence, tmp_path, monkeypatch):
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    fit = ("fit", data, "--features", "x,z", "--label", "label", "--group", "source", "--out", run, *QUICK)
    assert whence(*fit)[0] == 0

    def without_dev(path):
        opened = open_run(path)
        del opened.splits["dev"]
        return opened

    monkeypatch.setattr("whence.run.open_run", without_dev)
    code, out, _ = whence("audit", run)
    groups = run / "groups.parquet"
    assert (code, out.splitlines()[-2:]) == (0, ["groups: not judged, which takes a dev split", f"groups: {groups}"])
    record = json.loads(whence("audit", run, "--json")[1])
    assert record["groups"] is None
    assert record["sources"] == pq.read_table(groups).to_pylist()
    assert {source["name"] for source in record["sources"]} == {f"s{number}" for number in range(6)}
    assert whence("report", run)[0] == 0


def test_groups(whence, tmp_path):
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    assert (
        whence("fit", data, "--features", "x,z", "--label", "label", "--group", "source", "--out", run, *QUICK)[0] == 0
    )
    code, out, _ = whence("influence", run, "--targets", "dev")
    assert code == 0
    assert "6 training groups × 30 targets by kronecker" in out
    assert "s1 " in out or "s2 " in out
    code, out, _ = whence("audit", run, "--show", 4)
    assert code == 0
    table = pq.read_table(run / "groups.parquet").to_pylist()
    lines = out.splitlines()
    place = next(
        number for number, line in enumerate(lines) if line.endswith("(loss on dev).") or "(loss on dev);" in line
    )
    assert lines[place + 1].split() == ["group", "members", "effect", "z", "p", "q", "kernel", "verdict"]
    for line, row in zip(lines[place + 2 : place + 6], table, strict=False):
        assert line.split()[:2] == [row["name"], str(row["members"])]
        assert line.endswith(row["verdict"])
    sources = json.loads(whence("audit", run, "--json")[1])["sources"]
    head = lines.index(f"{'group':<20} {'members':>9} {'suspected':>9}  wrong, expected")
    assert [line.split()[0] for line in lines[head + 1 : head + 5]] == [source["name"] for source in sources[:4]]
    assert lines[place + 6] == lines[head + 5] == "… and 2 more groups in the table"
    assert lines[-1] == f"groups: {run / 'groups.parquet'}"
    record = json.loads(whence("audit", run, "--json")[1])
    assert record["groups"]["groups"] == table
    assert sum(record["groups"]["counts"].values()) == 6
    assert record["groups_table"].endswith("run/groups.parquet")
    assert whence("report", run)[0] == 0


def test_an_audit_of_a_model_that_knows_little_is_not_sold_as_fact(whence, tmp_path):
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    fit = ("fit", data, "--features", "z", "--label", "label", "--out", run, "--epochs", 1, "--model", "mlp:32")
    assert whence(*fit)[0] == 0
    record = json.loads(whence("audit", run, "--json")[1])
    share = record["counts"]["label_issue"] / 90
    error = 1 - json.loads(whence(*fit, "--json")[1])["results"]["dev_accuracy"]
    assert (record["caveat"] is not None) == (0 < share <= error)
    from whence.auditing import Audit

    table = pq.read_table(run / "audit.parquet")
    for dev_error, said in ((None, False), (share * 0.9, False), (share, True), (0.9, True)):
        assert (Audit(table, None, dev_error).caveat is not None) == (said and share > 0)
    assert ("caution: The model errs on" in whence("audit", run)[1]) == (record["caveat"] is not None)
    shown = whence("audit", run, "--show", 1)[1].splitlines()
    more = [f"… and {record['counts']['label_issue'] - 1} more in the table"] * (record["counts"]["label_issue"] > 1)
    assert [line for line in shown if line.startswith("…")] == more
    code, _, err = whence("audit", run, "--show", -1)
    assert code == 2
    assert "out of range in --show: got -1" in err
    assert "p(wrong)" not in whence("audit", run, "--show", 0)[1]


def test_two_runs_are_compared(whence, tmp_path):
    data = write_table(tmp_path / "reviews.csv")
    runs = [tmp_path / name for name in ("one", "two")]
    for seed, run in enumerate(runs):
        fit = ("fit", data, "--features", "x,z", "--label", "label", "--seed", seed, "--out", run, *QUICK)
        assert whence(*fit)[0] == 0
    code, out, err = whence("report", runs[0], "--against", runs[1], "--top", 3)
    assert (code, err) == (0, "")
    page = runs[0] / "against-two.html"
    assert out.strip() == f"report: {page}"
    assert "the seed alone" in page.read_text(encoding="utf-8")
    named = tmp_path / "both.html"
    assert json.loads(whence("report", runs[0], "--against", runs[1], "--out", named, "--json")[1]) == {
        "report": str(named)
    }
    assert not (runs[0] / "report.html").exists()

    other = write_table(tmp_path / "others.csv")
    lines = other.read_text(encoding="utf-8").splitlines()
    other.write_text("\n".join([f"name,{lines[0]}", *(f"other {k},{line}" for k, line in enumerate(lines[1:]))]) + "\n")
    foreign = tmp_path / "foreign"
    assert (
        whence("fit", other, "--features", "x,z", "--label", "label", "--id", "name", "--out", foreign, *QUICK)[0] == 0
    )
    code, out, err = whence("report", runs[0], "--against", foreign)
    assert (code, out) == (2, "")
    assert "no test instances in common in --against: got no id in both" in err
    assert "--id" in err
    code, _, err = whence("report", runs[0], "--against", runs[0])
    assert code == 2
    assert "a run compared with itself" in err
    code, _, err = whence("report", runs[0], "--against", tmp_path / "nowhere")
    assert code == 2
    assert "no run in this directory" in err


def test_labels_are_reviewed(whence, tmp_path):
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    assert whence("fit", data, "--text", "text", "--label", "label", "--out", run, *QUICK[:2])[0] == 0
    code, _, err = whence("audit", run, "--review", 9)
    assert code == 2
    assert "an option out of range in --review: got 9" in err
    assert not (run / "audit.parquet").exists()
    code, out, _ = whence("audit", run, "--review", 20)
    assert code == 0
    form, page = run / "review.csv", run / "review.html"
    assert "labels that are wrong, as far as this run can tell: " in out
    assert out.splitlines()[-2] == (f"review: 0 of 20 labels looked at, 10 are needed: open {page}, or fill in right_label in {form}; "
                                    "from the top, as many as you like; then audit again")  # fmt: skip
    assert "the film was" in page.read_text(encoding="utf-8")
    with open(form, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "given_label", "text", "right_label"]
    for row in rows[:12]:
        row["right_label"] = "neg"
    with open(form, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    wrong = sum(row["given_label"] == "pos" for row in rows[:12])
    record = json.loads(whence("audit", run, "--json")[1])
    assert record["review"] == {"table": str(form), "page": str(page), "drawn": 20, "looked_at": 12}
    low, high = record["error_limits"]
    assert wrong <= low < record["expected_errors"] < high <= 90
    out = whence("audit", run, "--show", 0)[1]
    assert (
        f"told by 12 that somebody looked at: {record['expected_errors']:,.0f} ({low:,.0f} to {high:,.0f}, 95 %)" in out
    )
    # More are drawn, and what was answered stays.
    assert json.loads(whence("audit", run, "--review", 40, "--json")[1])["review"]["looked_at"] == 12
    with open(form, newline="", encoding="utf-8") as file:
        again = list(csv.DictReader(file))
    assert again[:20] == rows
    assert len(again) == 40
    assert "ok       review: 12 of 40 labels looked at" in whence("verify", run)[1]
    # Some were left out, and the page is gone.
    for row in again:
        row["right_label"] = "" if row is again[0] else row["right_label"]
    with open(form, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, again[0])
        table.writeheader()
        table.writerows(again)
    left_out = "11 of 40 labels looked at, 1 above the last left out: the limits hold if that has nothing to do with the labels"
    assert f"review: {left_out}: open {page}" in whence("audit", run)[1]
    page.unlink()
    assert f"{left_out}: to go on, give --review 40 again, which writes {page} and {form}" in whence("audit", run)[1]
    form.write_text(
        form.read_text(encoding="utf-8").replace(",neg\n", ",dog\n").replace(",neg\r\n", ",dog\r\n"), encoding="utf-8"
    )
    code, _, err = whence("audit", run)
    assert code == 2
    assert "a right label that is no class" in err
    assert "neg, pos, or - where none is right" in err


def test_numbers_are_not_reviewed(whence, tmp_path):
    data, run = write_table(tmp_path / "reviews.csv"), tmp_path / "run"
    assert whence("fit", data, "--features", "z", "--label", "x", "--out", run, *QUICK)[0] == 0
    code, _, err = whence("audit", run, "--review", 20)
    assert code == 2
    assert "a review of something else than classes" in err
