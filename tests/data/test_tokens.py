"""Rows of tokens: padding, selection, and batches of like length."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import whence
from whence.data import Classification, Dataset
from whence.data.tokens import TokenInputs, together
from whence.forward import predict
from whence.options import TrainingOptions
from whence.schedule import Schedule, alike


def tokens(lengths, kinds=False):
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = np.arange(1, starts[-1] + 1, dtype=np.int32)
    return TokenInputs(flat, starts, (flat % 2).astype(np.int8) if kinds else None, padding=-7)


def test_padding_is_that_of_the_batch():
    given = tokens([2, 3, 1, 5], kinds=True).gather(np.array([2, 1]))
    assert given["input_ids"].tolist() == [[6, -7, -7], [3, 4, 5]]
    assert given["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert given["token_type_ids"].tolist() == [[0, 0, 0], [1, 0, 1]]
    assert "token_type_ids" not in tokens([2]).gather(np.array([0]))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.data())
def test_selected_rows_are_the_same_rows(lengths, data):
    whole = tokens(lengths, kinds=True)
    rows = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=9)), np.int64)
    for name, value in whole.select(rows).gather(np.arange(len(rows))).items():
        assert torch.equal(value, whole.gather(rows)[name])


def test_fingerprints_tell_rows_apart():
    prints = [tokens(lengths).fingerprint() for lengths in ([2, 3], [3, 2], [2, 2, 1])]
    prints += [tokens([2, 3], kinds=True).fingerprint()]
    assert len(set(prints)) == 4


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 200), st.integers(0, 5))
def test_passes_hold_every_row_once_in_batches_that_fit(count, size, most, seed):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 60, 400)
    rows = generator.permutation(400)[:count]
    parts = together(lengths, rows, size, most)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.sort(rows))
    for part in parts:
        assert 1 <= len(part) <= size
        assert len(part) == 1 or len(part) * lengths[part].max() <= most
    assert (np.diff(lengths[np.concatenate(parts)]) >= 0).all()
    for part, following in zip(parts, parts[1:], strict=False):  # and none could have taken one more
        more = len(part) + 1
        assert more > size or more * lengths[following[0]] > most


def test_a_dataset_knows_its_lengths():
    data = _dataset(tokens([9, 1, 8, 1, 1]))
    assert [part.tolist() for part in data.parts(4, 16)] == [[1, 3, 4], [2], [0]]
    assert [part.tolist() for part in data.parts(2, 1000, np.array([4, 0, 1]))] == [[4, 1], [0]]


@given(st.integers(1, 700), st.integers(1, 16), st.integers(0, 5))
def test_batches_of_like_length_hold_every_row_once(count, size, seed):
    generator = np.random.default_rng(seed)
    order, lengths = generator.permutation(count), generator.integers(1, 60, count)
    batches = [order[start : start + size] for start in range(0, count, size)]
    found = alike(batches, lengths)
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(count))
    assert sorted(map(len, found)) == sorted(map(len, batches))
    if count % size == 0:  # a short last batch can be lucky
        assert sum(lengths[rows].max() for rows in found) <= sum(lengths[rows].max() for rows in batches)


def test_the_schedule_pads_less_and_mixes_anew_each_epoch():
    lengths = np.random.default_rng(0).integers(1, 60, 1000)
    schedule = Schedule(_dataset(tokens(lengths)), TrainingOptions(batch_size=16, epochs=2))
    first, second = ([batch.rows for (batch,) in schedule.batches(epoch, 0)] for epoch in (0, 1))
    padded = sum(len(rows) * lengths[rows].max() for rows in first)
    assert padded < 1.15 * lengths.sum()
    assert {tuple(sorted(rows)) for rows in first}.isdisjoint(tuple(sorted(rows)) for rows in second)
    resumed = [batch.rows for (batch,) in schedule.batches(0, 40)]
    assert all(np.array_equal(a, b) for a, b in zip(first[40:], resumed, strict=True))
    means = [lengths[rows].mean() for rows in first]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5  # short and long batches come mixed


class _Length(nn.Module):
    """A model that answers with the sum of a text's tokens."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout()

    def forward(self, input_ids, attention_mask):
        total = (input_ids * attention_mask).sum(1, keepdim=True).float()
        return self.drop(torch.cat([total, -total], 1))


def test_predictions_are_in_the_order_of_the_data():
    lengths = [5, 1, 4, 2, 8, 3]
    model = whence.attach(_Length())
    data = _dataset(tokens(lengths))
    flat = np.split(np.arange(1, sum(lengths) + 1), np.cumsum(lengths)[:-1])
    np.testing.assert_array_equal(predict(model, data, batch_size=2)[:, 0], [part.sum() for part in flat])
    own = predict(model, data, "own", batch_size=2)
    with torch.no_grad(), whence.own(torch.from_numpy(data.mask_ids)):
        np.testing.assert_array_equal(own, model(**data.inputs.gather(np.arange(6))).numpy())


def _dataset(inputs):
    return Dataset(np.arange(len(inputs)) + 50, inputs, np.arange(len(inputs)) % 2, Classification(("a", "b")))
