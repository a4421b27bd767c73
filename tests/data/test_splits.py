"""Splits and limits are pure functions of seed and id."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence import WhenceError
from whence.data import load
from whence.data.splits import divide, draw, limited, split_name

IDS = st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, min_size=1, max_size=60)
SEED = st.integers(-(2**63), 2**64 - 1)


def drawn(ids, seed=0):
    return divide(None, np.array(ids, np.int64), seed=seed, where="a.csv").tolist()


def test_the_draw_is_a_file_format():
    ids = np.array([0, 1, -1, 2**40], np.int64)
    # Values of the first release: another value here would move instances between splits of saved runs.
    assert draw(ids, seed=0, purpose="split").tolist() == [
        0xFA9229DAE703A2F0,
        0x41479278044D36C5,
        0xFD31ABABF31F19A9,
        0xD7D36C752F21EEDD,
    ]
    assert draw(ids[:2], seed=-1, purpose="limit").tolist() == [0xFAF4E452F5FA9101, 0xEB765219DC9FE6E3]
    assert draw(ids, seed=2**64 - 1, purpose="split").tolist() == draw(ids, seed=-1, purpose="split").tolist()
    assert " ".join(drawn(range(20))) == (
        "test train dev train dev dev train train train dev dev train train train dev train train test train test"
    )


@given(ids=IDS, seed=SEED, data=st.data())
def test_order_and_company_change_no_draw(ids, seed, data):
    ids = np.array(ids, np.int64)
    order = data.draw(st.permutations(range(len(ids))))
    some = order[: data.draw(st.integers(1, len(ids)))]
    every = draw(ids, seed=seed, purpose="split")
    assert draw(ids[some], seed=seed, purpose="split").tolist() == every[some].tolist()


def test_drawn_splits_have_the_ratio_80_10_10_and_seeds_are_unrelated():
    ids = np.arange(200_000)
    first = divide(None, ids, seed=0, where="")
    second = divide(None, ids, seed=1, where="")
    for name, share in (("train", 0.8), ("dev", 0.1), ("test", 0.1)):
        deviation = (share * (1 - share) / len(ids)) ** 0.5
        assert abs((first == name).mean() - share) < 4 * deviation
        both = ((first == name) & (second == name)).mean()
        assert abs(both - share**2) < 5 * (share**2 * (1 - share**2) / len(ids)) ** 0.5


@given(groups=st.lists(st.sampled_from("abcdefghijklm"), min_size=40, max_size=80), seed=st.integers(0, 5))
def test_a_group_is_never_divided(tmp_path_factory, groups, seed):
    path = tmp_path_factory.getbasetemp() / "groups.csv"
    rows = [f"{row % 7 / 7},{row},{group}\n" for row, group in enumerate([*groups, *range(50)])]
    path.write_text("label,x,source\n" + "".join(rows))
    data = load(path, label="label", group="source", seed=seed, split_by="group")
    for group in set(groups):
        assert len(set(data.splits[data.group_names == group])) == 1


def grouped(write, groups, **options):
    rows = "".join(f"{row % 2},{row},{group}\n" for row, group in enumerate(groups))
    return load(write("a.csv", "label,x,source\n" + rows), label="label", group="source", **options)


def test_small_groups_are_kept_together_and_large_ones_are_divided(write):
    authors = [f"a{row // 4}" for row in range(400)]
    data = grouped(write, authors)
    assert all(len(set(data.splits[data.group_names == author])) == 1 for author in set(authors))
    assert data.notes == ("splits are drawn by group: no group is in two of them",)
    sources = [f"s{row % 5}" for row in range(400)]
    data = grouped(write, sources)
    assert all(set(data.splits[data.group_names == source]) == {"train", "dev", "test"} for source in set(sources))
    assert data.splits.tolist() == drawn(range(400))  # by ids alone
    assert "more than 2 % of the rows" in data.notes[0]
    assert "--split-by group" in data.notes[0]
    assert grouped(write, authors, split_by="instance").splits.tolist() == drawn(range(400))
    assert all(
        len(set(grouped(write, sources, split_by="group").splits[np.arange(400) % 5 == k])) == 1 for k in range(5)
    )


def test_the_order_of_rows_changes_no_split(write):
    rows = [f"{row},{row % 2},t{row}\n" for row in range(60)]
    first = load(write("a.csv", "id,label,text\n" + "".join(rows)), label="label", text="text")
    second = load(write("b.csv", "id,label,text\n" + "".join(rows[::-1][:50])), label="label", text="text")
    splits = dict(zip(first.names, first.splits, strict=True))
    assert all(splits[name] == split for name, split in zip(second.names, second.splits, strict=True))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Training", "train"),
        (" TRAIN ", "train"),
        ("validation", "dev"),
        ("valid", "dev"),
        ("Val", "dev"),
        ("testing", "test"),
        ("TEST", "test"),
        ("Held Out ", "Held Out "),
    ],
)
def test_names_of_splits(written, name):
    assert split_name(written) == name


def test_train_without_dev_gives_a_tenth_away():
    ids = np.arange(5_000)
    given = np.array(["Train", "test"], dtype=object)[ids % 2]
    found = divide(given, ids, seed=4, where="")
    assert (found[ids % 2 == 1] == "test").all()
    assert 0.08 < (found[ids % 2 == 0] == "dev").mean() < 0.12
    np.testing.assert_array_equal(
        found[ids % 2 == 0] == "dev", divide(None, ids[ids % 2 == 0], seed=4, where="") == "dev"
    )


def test_given_splits_stay(write):
    path = write("a.csv", "split,label,text\ntraining,0,a\ntrain,1,b\nVal,1,c\nextra,0,d\n")
    assert load(path, label="label", text="text").splits.tolist() == ["train", "train", "dev", "extra"]


def test_no_split_called_train(write):
    path = write("a.csv", "split,label,text\n" + "all,0,a\nall,1,b\nrest,1,b\n" * 9)
    message = "no split is called train in .*a.csv, column 'split': got 'all', 'rest', expected train.*--split none"
    with pytest.raises(WhenceError, match=message):
        load(path, label="label", text="text")
    assert {"train", "dev", "test"} >= set(load(path, label="label", text="text", split="none").splits)


def test_too_few_instances_to_draw():
    lonely, alone = (drawn(range(100)).index(name) for name in ("test", "dev"))
    with pytest.raises(
        WhenceError, match=r"no training instance after drawing the splits in a.csv: got 1 ids or groups"
    ):
        drawn([lonely])
    with pytest.raises(WhenceError, match=r"no training instance after drawing a dev split.*Name dev instances"):
        divide(np.array(["train"], object), np.array([alone]), seed=0, where="a.csv")


def test_a_missing_split(write):
    path = write("a.csv", "split,label,text\ntrain,0,a\n,1,b\n")
    with pytest.raises(WhenceError, match=r"a missing value in .*column 'split', row 2"):
        load(path, label="label", text="text")


@given(ids=IDS, seed=SEED, small=st.integers(1, 8), more=st.integers(0, 8))
def test_a_smaller_limit_keeps_a_part_of_what_a_larger_one_keeps(ids, seed, small, more):
    ids = np.array(ids, np.int64)
    splits = np.array(["train", "dev"], dtype=object)[ids % 2]
    few, many = (limited(splits, ids, limit, seed=seed) for limit in (small, small + more))
    assert set(few) <= set(many)
    assert few.tolist() == sorted(few)
    for name in set(splits):
        assert (splits[few] == name).sum() == min(small, (splits == name).sum())


def test_a_limit_keeps_the_classes_of_all_training_instances(write):
    rows = [f"{row % 5},t{row},{'dev' if row > 40 else 'train'}\n" for row in range(60)]
    path = write("a.csv", "label,text,split\n" + "".join(rows))
    data = load(path, label="label", text="text", limit=4)
    assert data.task.classes == ("0", "1", "2", "3", "4")
    assert (data.splits == "train").sum() == (data.splits == "dev").sum() == 4
    with pytest.raises(
        WhenceError,
        match=r"only one class is left in the training split in .*--limit: got "
        r"'[0-4]' in 1 instances.*Raise --limit",
    ):
        load(path, label="label", text="text", limit=1)
