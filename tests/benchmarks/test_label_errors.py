"""What benchmarks of label errors measure: the sets are what they say, costs count what was spent, nothing is read off the truth."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.label_error_cases import Case
from benchmarks.noise_figures import MOMENTS, seconds_of_looks
from benchmarks.real_data import find_shared_data

import whence
from benchmarks import image_label_errors, label_error_cases, reviews, text_label_errors
from tests.models.encoders.tiny import save_encoder

ONE_RUN = ("one run, p_wrong", "one run, out of sample", "one run, flipped mask", "one run, full network")


@pytest.fixture(autouse=True)
def _data():
    try:
        find_shared_data()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


def smaller(case: Case, rows: np.ndarray) -> Case:
    """The same case of some of its pictures."""
    case.pictures, case.labels, case.wrong, case.judged = (
        part[rows] for part in (case.pictures, case.labels, case.wrong, case.judged)
    )
    return case


def test_ten_thousand_pictures_are_augmented_and_their_errors_uniform_or_by_people():
    case = Case("cifar10k uniform", "early", 0)
    assert case.pictures.shape == (10_000, 32, 32, 3)
    assert (case.epochs, case.options(0)["augment"], case.options(0)["autocast"]) == (20, "crop+flip", "bfloat16")
    assert case.wrong.sum() == 1000 and case.judged.all()
    right = np.where(case.wrong, -1, case.labels)
    other = Case("cifar10k uniform", "early", 1)
    assert (
        np.where(other.wrong, -1, other.labels)[~case.wrong & ~other.wrong] == right[~case.wrong & ~other.wrong]
    ).all()
    assert 50 < (case.wrong & other.wrong).sum() < 150  # other errors with another seed
    people = Case("cifar10k human", "early", 0)
    assert 0.07 < people.wrong.mean() < 0.11
    assert (people.labels[~people.wrong & ~case.wrong] == case.labels[~people.wrong & ~case.wrong]).all()
    small = Case("cifar uniform", "early", 0)
    assert (small.options(0)["augment"], len(small.labels)) == ("none", 2000)
    with pytest.raises(KeyError):
        Case("cifar10k uniform", "long", 0)


def test_a_case_is_judged_whole(monkeypatch):
    monkeypatch.setitem(label_error_cases.EPOCHS, "fashion", {"early": 5})
    case = smaller(Case("fashion uniform", "early", 0), np.arange(250))
    found = image_label_errors.judged(case)
    assert (found["count"], found["wrong"]) == (250, int(case.wrong.sum()))
    for name in (*ONE_RUN, "one run, all epochs", "one run, margins", "5 folds"):
        assert 0.3 < found[name]["AUC"] <= 1 and found[name]["cost"] > 0, name
    assert found["one run, p_wrong"]["AUC"] > 0.8
    # A run with its looks costs more than one without.
    assert found["one run, out of sample"]["cost"] > found["one run, flipped mask"]["cost"] >= 1
    assert 0 < found["p_wrong"]["expected"] < 250
    assert 0.1 < found["shared gradient"] < 0.6


def test_folds_do_not_look_and_one_run_does(monkeypatch):
    monkeypatch.setitem(label_error_cases.EPOCHS, "fashion", {"early": 5})
    case = smaller(Case("fashion uniform", "early", 0), np.arange(120))
    looked: list[int] = []
    look = whence.Dynamics.look
    monkeypatch.setattr(whence.Dynamics, "look", lambda self, *given: (looked.append(1), look(self, *given))[1])
    label_error_cases.cross_validated(case)
    assert not looked
    run = case.trained(np.arange(120), 0, moments=MOMENTS)
    assert len(looked) == run.dynamics.moments == MOMENTS
    assert seconds_of_looks(run) > 0 == seconds_of_looks(case.trained(np.arange(120), 0))


def test_fine_tuned_encoders(tmp_path, monkeypatch):
    pytest.importorskip("cleanlab")
    monkeypatch.setattr(text_label_errors, "COUNT", 80)
    encoder = str(save_encoder(tmp_path))
    case = text_label_errors.Case("sst2", encoder, "updates", 2, 0)
    case.longest = 16
    trained, plain = [], whence.fit

    def fit(model, data, **options):
        trained.append((len(data), options["dynamics"]))
        return plain(model, data, **options)

    monkeypatch.setattr(whence, "fit", fit)
    found = text_label_errors.judged(case)
    assert trained == [(80, MOMENTS)] + [(64, 0)] * 5
    assert found["p_wrong"]["errors"] == 8
    assert found["shared gradient"] == pytest.approx(0, abs=0.01)
    assert all(0 <= found[name]["AUC"] <= 1 for name in (*ONE_RUN, "5 folds"))
    assert "3 folds" not in found


def test_reviews_are_of_somebody_who_is_right(monkeypatch):
    monkeypatch.setitem(label_error_cases.EPOCHS, "fashion", {"early": 3})
    monkeypatch.setattr(reviews, "Case", lambda *settings: smaller(Case(*settings), np.arange(250)))
    monkeypatch.setattr(reviews, "DRAWS", 20)
    found = reviews.judged("fashion uniform", 0, [30, 250])
    assert found["of"] == 250
    some, every = found["reviews"]["30"], found["reviews"]["250"]
    assert some["held"] >= 0.8 and 0 < some["apart"] < 250
    assert (every["held"], every["apart"], every["expected"]) == (1, 0, found["wrong"])
    lines = reviews.of_set("fashion uniform", [found])
    assert [line.split(" | ")[1] for line in lines] == ["none", "30", "250"]
