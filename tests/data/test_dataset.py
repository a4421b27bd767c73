"""Datasets given from Python: what is refused."""

from __future__ import annotations

import pytest
import torch

import whence
from tests.toys import blobs
from whence import WhenceError


def test_targets_are_labels():
    data = blobs(20)
    for bad in (-1, 7):
        targets = data.targets.copy()
        targets[4] = bad
        with pytest.raises(WhenceError, match="a target that is no label in row 4"):
            whence.Dataset.of((data.ids, data.inputs.array, targets), task=data.task)


def test_items_without_their_keys():
    item = {"id": 1, "inputs": torch.zeros(6), "target": 0}
    assert len(whence.Dataset.of([item, {**item, "id": 2, "target": 1}])) == 2
    with pytest.raises(
        WhenceError,
        match="a key that is needed in item 0 of the dataset: got keys id, x, label, expected also inputs, target",
    ):
        whence.Dataset.of([{"id": 1, "x": 2, "label": 3}])
    with pytest.raises(WhenceError, match="in item 1 of the dataset: got keys inputs, target, expected also id"):
        whence.Dataset.of([item, {"inputs": 1, "target": 0}])


def test_arrays_without_ids():
    with pytest.raises(
        WhenceError, match=r"arrays without ids in the dataset: got 2 in a tuple, expected \(ids, inputs, targets\)"
    ):
        whence.Dataset.of((torch.zeros(4, 6), torch.zeros(4)))
