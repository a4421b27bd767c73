"""What layers read and move: gradients of every weight, and which layers are left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.estimators.pictures import picture_run
from tests.toys import trained
from whence.data import Dataset
from whence.estimators.views import Views, mean_read
from whence.forward import outputs, predict


@pytest.mark.parametrize("make", [picture_run, lambda: trained(widths=(6, 8, 7, 3))])
def test_views_give_the_gradient_of_every_weight(make):
    run = make()
    views = Views(run.model, run.train)
    batch = run.train.batch(np.arange(5))
    given, seen = views(batch, torch.eye(3))
    assert len(seen) == sum(isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d) for m in run.model.modules())
    torch.testing.assert_close(given, torch.from_numpy(predict(run.model, run.train.select(np.arange(5)))))
    for row in range(5):
        for c in range(3):
            run.model.zero_grad()
            with whence.full():
                outputs(run.model.eval(), run.train.batch(np.array([row])).inputs)[0, c].backward()
            for layer, view in zip(views.layers, seen, strict=True):
                gradient = view.moves[row, c].T @ view.reads[row]
                wanted = layer.weight.grad.flatten(1)
                if layer.bias is not None:
                    wanted = torch.cat([wanted, layer.bias.grad[:, None]], 1)
                torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)


def test_an_embedding_bag_is_seen_whole_when_it_is_small():
    indices, weights = torch.randint(30, (6, 5)), torch.rand(6, 5)

    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag, self.relu, self.head = nn.EmbeddingBag(30, 4, mode="sum"), nn.ReLU(), nn.Linear(4, 2)

        def forward(self, indices: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            return self.head(self.relu(self.bag(indices, per_sample_weights=weights)))

    bag = Bag()
    data = Dataset.of((np.arange(6), list(zip(indices, weights, strict=True)), torch.tensor([0, 1] * 3)))
    views = Views(bag, data)
    assert views.names == ["bag", "head"]
    _, seen = views(data.batch(np.arange(6)), torch.eye(2))
    bag.zero_grad()
    bag(indices[2:3], weights[2:3])[0, 1].backward()
    torch.testing.assert_close(seen[0].moves[2, 1].T @ seen[0].reads[2], bag.bag.weight.grad.T)


def test_a_sketched_bag_keeps_inner_products():
    bag = nn.EmbeddingBag(50_000, 2, mode="sum")
    generator = torch.Generator().manual_seed(1)
    indices = torch.randint(50_000, (40, 300), generator=generator)
    indices[20:, :150] = indices[:20, :150]  # half in common
    from whence.estimators.views import _bag

    rows = _bag(bag, indices, {})
    cosine = torch.nn.functional.cosine_similarity(rows[:20], rows[20:])
    assert rows.shape == (40, 2048)
    assert torch.all((cosine - 0.5).abs() < 0.12)


class Wrapped(nn.Module):
    """Something, dropout, a head."""

    def __init__(self, core: nn.Module, width: int) -> None:
        super().__init__()
        self.core, self.dropped, self.head = core, nn.Dropout(0.5), nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropped(self.core(x)))


class Call(nn.Module):
    def __init__(self, layer: nn.Module, how) -> None:
        super().__init__()
        self.layer, self.how = layer, how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.how(self.layer, x)


def looked_at(core, width, inputs, targets=5):
    """Layers seen, and scores of an untrained model."""
    labels = torch.arange(len(inputs)) % 3
    run = whence.Run(whence.attach(Wrapped(core, width), ["dropped"]), (np.arange(len(inputs)), inputs, labels),
                     test=(np.arange(targets) + 1000, inputs[:targets], labels[:targets]))  # fmt: skip
    scores = np.asarray(whence.influence(run, method="kronecker"))
    assert np.isfinite(scores).all()
    return Views(run.model, run.train).names, scores


def test_layers_whose_first_axis_is_not_the_instances_are_left_out():
    torch.manual_seed(0)
    tokens = torch.randn(60, 5, 8)
    flat = Call(nn.Linear(8, 8), lambda layer, x: layer(x.reshape(-1, 8)).reshape(len(x), 5, 8).mean(1))
    assert looked_at(flat, 8, tokens)[0] == ["head"]
    first = Call(nn.Linear(8, 8), lambda layer, x: layer(x.transpose(0, 1)).mean(0))
    assert looked_at(first, 8, tokens)[0] == ["head"]
    named = Call(nn.Linear(8, 8), lambda layer, x: layer(input=x).mean(1))
    assert looked_at(named, 8, tokens)[0] == ["core.layer", "head"]
    indices = torch.randint(30, (60, 5))
    offsets = Call(nn.EmbeddingBag(30, 8), lambda layer, x: layer(x.flatten(), torch.arange(0, x.numel(), 5)))
    assert looked_at(offsets, 8, indices)[0] == ["head"]
    assert looked_at(nn.EmbeddingBag(30, 8, mode="max"), 8, indices)[0] == ["head"]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_hard_inputs_do_no_harm():
    torch.manual_seed(0)
    pictures = torch.zeros(600, 1, 12, 12)
    pictures[:, :, 4:8, 4:8] = torch.randn(600, 1, 4, 4)  # a border that never changes
    net = nn.Sequential(nn.Conv2d(1, 18, 4, padding="same"), nn.ReLU(), nn.Conv2d(18, 20, 3), nn.ReLU(), nn.Flatten())
    names, _ = looked_at(net, 2000, pictures, targets=1)
    assert names == ["core.0", "core.2", "head"]
    looked_at(nn.Linear(8, 4), 4, 2000 + torch.randn(200, 8))
    looked_at(nn.Linear(8, 4), 4, torch.zeros(30, 8))


def test_padding_takes_no_part():
    reads = torch.randn(5, 4, 3)
    padded = torch.cat([reads, torch.zeros(5, 6, 3)], dim=1)
    torch.testing.assert_close(mean_read(padded), reads.mean(1))
