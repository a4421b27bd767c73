"""What the scripts of the paper's experiments rest on: splits, thresholds, and results that are found again."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest
import scipy.stats
from benchmarks.paper.figures import Curve, line_chart
from benchmarks.paper.material import Results, from_domains, paired
from benchmarks.paper.transfer import Transfer, measures, threshold

import whence


@pytest.fixture
def reviews():
    random = np.random.default_rng(0)
    data = whence.Dataset.of((np.arange(400), random.normal(size=(400, 3)), random.integers(0, 2, 400)))
    splits = np.where(random.random(400) < 0.8, "train", "dev")
    domains = np.repeat(["movies", "electronics", "kitchen", "books"], 100)
    return whence.Dataset(data.ids, data.inputs, data.targets, data.task, splits=splits), domains


def test_a_pair_of_domains_trains_on_one_and_halves_the_other(reviews):
    data, domains = reviews
    pair = from_domains(data, domains, "movies", "electronics", seed=1)
    train, dev, test = (set(pair.split(name).ids) for name in ("train", "dev", "test"))
    assert train == set(data.ids[(domains == "movies") & (data.splits == "train")])
    assert dev | test == set(data.ids[domains == "electronics"]) and not dev & test
    assert abs(int(pair.split("dev").targets.sum()) - int(pair.split("test").targets.sum())) <= 1
    assert set(from_domains(data, domains, "movies", "electronics", seed=2).split("dev").ids) != dev


def test_random_removal_keeps_the_label_mix_that_it_is_given(reviews):
    data, domains = reviews
    pair = Transfer(from_domains(data, domains, "movies", "books", seed=0), "", argparse.Namespace(), seed=3)
    count = round(0.1 * len(pair.labels))
    for positive in (0, 3, count):
        removed = pair._random(0.1, positive)
        assert (removed.sum(), pair.labels[removed].sum()) == (count, positive)
    assert pair._random(0.1, None).sum() == count


def test_threshold_is_the_best_of_all():
    random = np.random.default_rng(0)
    for _ in range(50):
        margins = random.normal(size=30)
        labels = (margins + random.normal(size=30) > 0.3).astype(int)
        best = max(((margins > cut) == labels).mean() for cut in np.sort(margins)[:-1])
        assert ((margins > threshold(margins, labels)) == labels).mean() == pytest.approx(best)


def test_measures_of_a_known_case():
    margins, labels = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 1, 0, 1])
    found = measures(np.array([-1.0, 3.0]), np.array([0, 1]), margins, labels)
    assert found["accuracy"] == 0.5 and found["AUC"] == 0.75
    assert found["tuned accuracy"] == 0.75  # cut at 1: only 2.0 is called positive
    assert found["loss"] == pytest.approx(np.log1p(np.exp([-2, 1, 1, -2])).mean())


def test_paired_differences():
    values = [1.0, 2.0, 3.0, -0.5]
    mean, error, p, above = paired(values)
    assert (mean, above) == (1.375, 3)
    assert error == pytest.approx(np.std(values, ddof=1) / 2)
    assert p == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue)


def test_finished_work_is_not_done_again_even_after_a_kill(tmp_path):
    path, calls = tmp_path / "results" / "some.jsonl", []

    def work():
        calls.append(1)
        return {"value": len(calls)}

    first = Results(path)
    assert first.once({"seed": 0}, work)["value"] == 1
    assert Results(path).once({"seed": 0}, work)["value"] == 1
    assert Results(path).once({"seed": 1}, work)["value"] == 2
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"key": "half of a li')
    assert Results(path).once({"seed": 2}, work)["value"] == 3
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row["seed"] for row in rows] == [0, 1, 2] and len(calls) == 3


def test_a_chart_escapes_names_and_shows_zero():
    y = np.array([0.0, -1.5, 2.0])
    drawn = line_chart([Curve("a", "<b>", [0, 1, 5], y, y - 1, y + 1, written="+.1f")], "A & B", "x")
    assert "&lt;b&gt; +2.0" in drawn and "A &amp; B" in drawn and ">-3<" not in drawn
    assert 'stroke="#888"' in drawn  # the line at zero
