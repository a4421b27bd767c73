"""Controls: as much is removed as by the change, and only what they say is shared."""

import numpy as np
import pytest

from tests.toys import blobs
from whence.cleansing.choosing import Ranking
from whence.cleansing.treatments import CHANGED, DROPPED, OTHER_GROUPS, RANDOM, SAME_LABELS, controls, treated
from whence.data import Dataset


def ranking(data, order, *, targets=None, owner=None):
    units = len(data) if owner is None else int(owner.max()) + 1
    return Ranking(
        "drop" if targets is None else "relabel", "instance" if owner is None else "group", by="", basis="", score_name="",
        unit="", order=order, score=np.zeros(units), q=np.zeros(units), owner=np.arange(len(data)) if owner is None else owner,
        names=[str(unit) for unit in range(units)], targets=targets,
    )  # fmt: skip


def test_controls_remove_as_many_and_the_second_the_same_labels():
    data = blobs(90)
    rows = np.concatenate([np.flatnonzero(data.targets == 0)[:7], np.flatnonzero(data.targets == 2)[:2]])
    random, same = controls(ranking(data, rows), rows, data, seeds=4, seed=0)
    assert (random.name, same.name) == (RANDOM, SAME_LABELS)
    assert ((~random.kept).sum(axis=1) == 9).all()
    for kept in same.kept:
        assert np.bincount(data.targets[~kept], minlength=3).tolist() == [7, 0, 2]
    for control in (random, same):
        assert len({kept.tobytes() for kept in control.kept}) == 4  # drawn anew for each seed
        assert not np.array_equal(~control.kept[0], np.isin(np.arange(90), rows))
    # The draws of the two have nothing in common: if they had, one control would be nearly the other.
    assert sum(int((~one & ~two).sum()) for one, two in zip(random.kept, same.kept, strict=True)) < 12


def test_removals_go_by_ids_not_by_the_order_of_rows():
    data, rows = blobs(60), np.arange(8)
    shuffled = data.select(np.random.default_rng(0).permutation(60))
    moved = np.flatnonzero(np.isin(shuffled.ids, data.ids[rows]))
    for one, other in zip(controls(ranking(data, rows), rows, data, seeds=2, seed=3),
                          controls(ranking(shuffled, moved), moved, shuffled, seeds=2, seed=3), strict=True):  # fmt: skip
        for kept, as_well in zip(one.kept, other.kept, strict=True):
            assert set(data.ids[kept]) == set(shuffled.ids[as_well])


def test_a_regression_is_matched_by_tenths_of_its_targets():
    targets = np.linspace(-2, 2, 100).astype(np.float32)
    data = Dataset.of((np.arange(100), np.zeros((100, 1), np.float32), targets))
    rows = np.arange(90, 97)  # of the highest tenth
    _, same = controls(ranking(data, rows), rows, data, seeds=3, seed=0)
    assert ((~same.kept)[:, 90:].sum(axis=1) == 7).all()


def test_a_relabeling_keeps_all_rows_and_is_held_against_dropping_them():
    data, rows = blobs(30), np.array([3, 4])
    wanted = (data.targets + 1) % 3
    ranked = ranking(data, rows, targets=wanted)
    change = treated(ranked, rows, data)
    given = change.data(data, 0)
    assert change.name == CHANGED and len(given) == 30
    assert (
        np.flatnonzero(given.targets != data.targets).tolist() == [3, 4] and (given.targets[rows] == wanted[rows]).all()
    )
    assert data.targets.tolist() == blobs(30).targets.tolist()
    names = [control.name for control in controls(ranked, rows, data, seeds=2, seed=0)]
    assert names == [DROPPED, RANDOM, SAME_LABELS]


@pytest.mark.parametrize("wanted", [1, 3])
def test_random_other_groups_hold_about_as_many(wanted):
    data = blobs(100)
    owner = np.repeat(np.arange(10), 10)
    random, same = controls(ranking(data, np.arange(wanted), owner=owner), np.arange(wanted), data, seeds=5, seed=0)
    assert random.name == OTHER_GROUPS
    for kept in random.kept:
        removed = np.bincount(owner[~kept], minlength=10)
        assert removed.sum() == 10 * wanted and set(removed) <= {0, 10} and not removed[:wanted].any()
    assert ((~same.kept).sum(axis=1) == 10 * wanted).all()


def test_without_groups_of_about_that_size_there_is_no_such_control():
    data = blobs(100)
    owner = np.repeat([0, 1, 2, 3], [5, 5, 5, 85])
    first = controls(ranking(data, np.array([0]), owner=owner), np.array([0]), data, seeds=6, seed=0)
    assert [one.name for one in first] == [OTHER_GROUPS, SAME_LABELS]
    assert ((~first[0].kept).sum(axis=1) == 5).all()  # never the large one
    last = controls(ranking(data, np.array([3]), owner=owner), np.array([3]), data, seeds=2, seed=0)
    assert [one.name for one in last] == [SAME_LABELS]


def test_what_is_kept_is_told_apart():
    data, rows = blobs(30), np.arange(4)
    random, _ = controls(ranking(data, rows), rows, data, seeds=3, seed=0)
    dropped = treated(ranking(data, rows), rows, data)
    relabeled = treated(ranking(data, rows, targets=(data.targets + 1) % 3), rows, data)
    marks = [random.fingerprint(0), random.fingerprint(1), dropped.fingerprint(0), relabeled.fingerprint(0)]
    assert len(set(marks)) == 4 and dropped.fingerprint(0) == dropped.fingerprint(2)
