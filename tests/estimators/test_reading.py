"""Passes through a model: probes of an instance's own classes, layers whose input is overwritten, what is kept of a pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.toys import blobs, network, trained
from whence.data import Classification, Dataset
from whence.data.tokens import TokenInputs
from whence.estimators import curvatures, reading
from whence.estimators.curvatures import Classes, by_classes
from whence.estimators.reading import Reading
from whence.estimators.views import Views


def some_residuals(count=400, classes=5):
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(count, classes, generator=generator).mul(2).exp()
        * torch.randn(count, classes, generator=generator).sign()
    )


def test_probes_of_its_own_classes_say_the_same_of_an_instance_as_all_probes():
    run = trained(widths=(6, 8, 7, 3), epochs=1)
    batch = run.train.batch(np.arange(20))
    residuals = some_residuals(20, 3)
    classes = Classes(residuals, per_class=True)
    views = Views(run.model, run.train)
    outputs, whole = views(batch, torch.eye(3))
    own_outputs, own = views(batch, classes.probes())
    torch.testing.assert_close(own_outputs, outputs)
    seen = 0
    for c in range(3):
        rows, slots = classes.of(c)
        seen += len(rows)
        large = residuals.abs() >= 0.1 * residuals.abs().amax(1, keepdim=True)
        assert rows.tolist() == large[:, c].nonzero()[:, 0].tolist()
        for all_probes, few in zip(whole, own, strict=True):
            torch.testing.assert_close(few.moves[rows, slots], all_probes.moves[rows, c])
            torch.testing.assert_close(few.reads, all_probes.reads)
    assert seen < residuals.numel()  # some did not matter
    unused = classes.slots < 0
    assert unused.any()
    assert all((view.moves[unused] == 0).all() for view in own)


def test_batches_hold_every_row_once_and_few_of_many_classes(monkeypatch):
    residuals = some_residuals()
    monkeypatch.setattr(curvatures, "_FULL", 50)
    batches = by_classes(residuals)
    assert sorted(np.concatenate(batches).tolist()) == list(range(400))
    assert min(map(len, batches[:-1])) >= 50
    counts = curvatures.matters(residuals).sum(1)
    most = [int(counts[torch.from_numpy(rows)].max()) for rows in batches]
    assert most == sorted(most, reverse=True)
    spent = sum(len(rows) * number for rows, number in zip(batches, most, strict=True))
    assert spent < 1.15 * int(counts.sum()) < 0.8 * residuals.numel()


@pytest.mark.parametrize("inplace", [False, True])
def test_a_layer_is_seen_as_it_read_even_where_its_input_is_overwritten(inplace):
    """A residual branch that begins with a linear layer, whose input another module then changes in place."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second, self.relu = nn.Linear(6, 6), nn.Linear(6, 3), nn.ReLU(inplace)

        def forward(self, x):
            x = x * 1.0
            return self.second(self.first(x) + self.relu(x))

    data, model = blobs(20), Block()
    views = Views(model, data)
    batch = data.batch(np.arange(20))
    read = views(batch, None)[1][0].reads[:, 0, :6]
    torch.testing.assert_close(read, batch.inputs)
    torch.testing.assert_close(views(batch, torch.eye(3))[1][0].reads[:, 0, :6], batch.inputs)


class Embedder(nn.Module):
    """Embeds tokens, reads each, averages those that are there."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.tokens, self.head = nn.Embedding(20, 8), nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        there = attention_mask[..., None].float()
        read = torch.relu(self.tokens(self.embedding(input_ids))) * there
        return self.head(read.sum(1) / there.sum(1))


def texts(count=60):
    generator = np.random.default_rng(0)
    starts = np.concatenate([[0], generator.integers(2, 9, count).cumsum()])
    tokens = generator.integers(1, 20, starts[-1]).astype(np.int32)
    inputs = TokenInputs(tokens, starts, None, padding=0)
    return Dataset(np.arange(count), inputs, np.arange(count) % 2, Classification(("low", "high")))


def of_all(passed, take):
    rows, found = zip(*((some.rows, take(some)) for some in passed), strict=True)
    return torch.cat(found)[np.argsort(np.concatenate(rows))]


@pytest.mark.parametrize("kept", [0, 2**20])
@pytest.mark.parametrize("kind", ["arrays", "texts"])
def test_every_pass_says_the_same_whether_the_last_was_kept_or_not(kept, kind, monkeypatch):
    monkeypatch.setattr(reading, "_KEPT_BYTES", kept)
    if kind == "texts":
        run = whence.Run(whence.attach(Embedder(), ["tokens"]), texts())
    else:
        run = whence.Run(network(6, 8, 7, 3), blobs(60))
    read = Reading(run)
    assert read.moving == (kind == "arrays")
    read._batch = 16
    passes = [list(read.all(run.train)) for _ in range(2)]
    first, second = (of_all(passed, lambda some: some.outputs) for passed in passes)
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, read.views(run.train.batch(np.arange(60)), None)[0])
    assert sorted(len(some.rows) for some in passes[1]) == [12, 16, 16, 16]
    features = [
        of_all(read.features(run.train), lambda some: torch.cat([some.first, some.others], 1)) for _ in range(2)
    ]
    torch.testing.assert_close(*features)
    assert features[0].shape == (60, sum(part.width for part in read.parts))
    rows = np.array([40, 3, 17])
    probes = torch.eye(run.task.outputs)
    seen = read.views(run.train.batch(rows), probes)[1]
    for part, look, view in zip(read.parts, read.looks(run.train, rows, probes), seen, strict=True):
        for found, expected in zip(look, part.look(part.kept(view), view), strict=True):
            torch.testing.assert_close(found, expected)
        torch.testing.assert_close(look[0] * part.scale, features[0][rows][:, : part.width])
        features = [found[:, part.width :] for found in features]
    assert bool(read._reads) == (kept > 0)
    read.forget(run.train)
    assert not read._reads and not read._features


def test_what_is_read_once_of_each_text_may_be_as_wide_as_texts_are_long():
    length = 6  # of the longest text, and of what the head reads
    tokens = [np.arange(1, 2 + row % length) for row in range(30)]
    starts = np.concatenate([[0], np.cumsum([len(some) for some in tokens])])
    inputs = TokenInputs(np.concatenate(tokens).astype(np.int32), starts, None, padding=0)
    data = Dataset(np.arange(30), inputs, np.arange(30) % 2, Classification(("low", "high")))
    model = Embedder()
    views = Views(model, data)
    batch = data.batch(np.arange(30))
    assert batch.inputs["attention_mask"].shape == (30, length)
    of_tokens, of_head = views(batch, None)[1]
    assert of_head.reads.shape == (30, 1, length + 1)
    torch.testing.assert_close(of_head.mean, of_head.reads[:, 0])
    there = batch.inputs["attention_mask"][..., None].float()
    wanted = (model.embedding(batch.inputs["input_ids"]) * there).sum(1) / there.sum(1)
    torch.testing.assert_close(of_tokens.mean[:, :8], wanted.detach())


def test_what_was_kept_is_not_shared_by_data_sets():
    run = trained(widths=(6, 8, 3), epochs=1)
    read = Reading(run)
    for split in ("train", "dev", "test", "train"):
        data = run.dataset(split)
        found = of_all(read.all(data), lambda some: some.outputs)
        torch.testing.assert_close(found, read.views(data.batch(np.arange(len(data))), None)[0])
