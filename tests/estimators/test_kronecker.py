"""Influence through all layers, against the formula written out, per-instance gradients and refits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.estimators.pictures import picture_run
from tests.toys import blobs, network, trained
from whence.data import Classification, Dataset
from whence.data.inputs import ArrayInputs
from whence.data.tokens import TokenInputs
from whence.estimators import curvatures
from whence.estimators.kronecker import Kronecker
from whence.estimators.softening import matched_temperature
from whence.estimators.views import Views, mean_read, probes_of
from whence.quantities import loss_of


def oracle(run, damping):
    """The formula of the module, written out with whole per-instance gradients."""
    temperature = matched_temperature(run)
    train, test = (run.dataset(name) for name in ("train", "test"))
    views, eye = Views(run.model, train), torch.eye(3)
    given, seen = views(train.batch(np.arange(len(train))), eye)
    given_test, seen_test = views(test.batch(np.arange(len(test))), eye)
    p, p_test = (given / temperature).softmax(1), (given_test / temperature).softmax(1)
    e, e_test = (
        torch.where(whole.abs() >= 0.1 * whole.abs().amax(1, keepdim=True), whole, 0)
        for whole in (eye[train.targets] - p, eye[test.targets] - p_test)
    )
    total = torch.zeros(len(train), len(test))
    for layer, a, b in zip(views.layers, seen, seen_test, strict=True):
        reads, reads_test, tokens = a.reads, b.reads, False
        if isinstance(layer, nn.Linear):
            tokens = reads.shape[1] > 1
            reads, reads_test = (mean_read(some)[:, None] for some in (reads, reads_test))
        lengths = a.moves.sum(2).norm(dim=2)
        for c in range(3):
            w = p[:, c] * (1 - p[:, c])
            heaviest, sums = w.sort(descending=True)[0], w.sort(descending=True)[0].cumsum(0)
            w_kept = torch.where(w >= heaviest[(sums < 0.9 * w.sum()).sum()], w, 0)
            moment = torch.einsum("n,npi,npj->ij", w_kept, reads, reads) / w.sum()
            square = (reads**2).sum(1).mean()
            inverse = torch.linalg.inv(moment + damping * square * torch.eye(len(moment)))
            both = e[:, c, None] * e_test[:, c] / w.mean() / len(train)
            if reads.shape[1] > 1:
                g, h = (torch.einsum("nph,npd->nhd", v.moves[:, c], v.reads) for v in (a, b))
                total += both * torch.einsum("nhd,de,mhe->nm", g, inverse, h)
            else:
                similarity = reads[:, 0] @ inverse @ reads_test[:, 0].T
                mine, theirs = (v.moves[:, c].sum(1) for v in (a, b))
                mine, theirs = (m / m.norm(dim=1, keepdim=True).clamp_min(1e-12).sqrt() for m in (mine, theirs))
                square = lengths.square().mean()
                total += both * similarity * (square if tokens else mine @ theirs.T * square.sqrt())
    return total.numpy()


def text_run():
    """Texts of two to five tokens under a layer that reads each token, and one that reads their mean."""
    torch.manual_seed(1)
    model, generator = whence.attach(Reader(3), ["dropped"]), np.random.default_rng(0)
    lengths = generator.integers(2, 6, 69)
    tokens = generator.integers(1, 20, lengths.sum()).astype(np.int32)
    inputs = TokenInputs(tokens, np.concatenate([[0], lengths.cumsum()]), None, padding=0)
    data = Dataset(np.arange(69), inputs, np.arange(69) % 3, Classification(("a", "b", "c")))
    return whence.Run(model, data.select(np.arange(60)), test=data.select(np.arange(60, 69)))


@pytest.mark.parametrize("make", [lambda: trained(widths=(6, 8, 7, 3)), picture_run, text_run])
def test_scores_are_the_formula(make):
    run = make()
    scores = whence.influence(run, method="kronecker", damping=0.4, share=0.0)
    wanted = oracle(run, 0.4)
    np.testing.assert_allclose(np.asarray(scores), wanted, atol=2e-4 * np.abs(wanted).max())


def test_a_linear_regression_is_told_what_refits_without_each_instance_would_show():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 4)).astype(np.float32)
    y = (x @ [1.0, -2.0, 0.5, 0.0] + generator.normal(size=300)).astype(np.float32)
    x_test = generator.normal(size=(5, 4)).astype(np.float32)
    y_test = generator.normal(size=5).astype(np.float32)
    a, b = (np.concatenate([v, np.ones((len(v), 1), np.float32)], 1) for v in (x, x_test))
    best = np.linalg.lstsq(a, y, rcond=None)[0]
    model = nn.Sequential(nn.Identity(), nn.Linear(4, 1))
    model[1].weight.data = torch.from_numpy(best[None, :4].astype(np.float32))
    model[1].bias.data = torch.from_numpy(best[4:].astype(np.float32))
    run = whence.Run(whence.attach(model, ["0"]), (np.arange(300), torch.from_numpy(x), torch.from_numpy(y)),
                     test=(np.arange(5) + 1000, torch.from_numpy(x_test), torch.from_numpy(y_test)))  # fmt: skip
    scores = np.asarray(whence.influence(run, method="kronecker", damping=1e-6, share=0.0))
    refits = np.empty_like(scores)
    for row in range(300):
        weights = np.linalg.lstsq(np.delete(a, row, 0), np.delete(y, row), rcond=None)[0]
        refits[row] = (b @ weights - y_test) ** 2 - (b @ best - y_test) ** 2
    assert np.corrcoef(scores.ravel(), refits.ravel())[0, 1] > 0.995
    assert 0.9 < np.polyfit(scores.ravel(), refits.ravel(), 1)[0] < 1.1


def test_neither_blocks_nor_order_nor_the_cache_change_scores(monkeypatch):
    run = trained(widths=(6, 8, 7, 3))
    scores = np.asarray(whence.influence(run, method="kronecker"))
    np.testing.assert_array_equal(scores, np.asarray(whence.influence(run, method="kronecker", block_rows=len(scores))))
    in_blocks = np.asarray(whence.influence(run, method="kronecker", block_rows=17))
    np.testing.assert_allclose(in_blocks, scores, atol=1e-5 * np.abs(scores).max())
    monkeypatch.setattr("whence.estimators.reading._KEPT_BYTES", 0)
    np.testing.assert_allclose(
        np.asarray(whence.influence(run, method="kronecker")), scores, atol=1e-5 * np.abs(scores).max()
    )
    order = np.random.default_rng(0).permutation(len(run.train))
    shuffled = whence.Run(run.model, run.train.select(order), dev=run.dataset("dev"), test=run.dataset("test"))
    other = np.asarray(whence.influence(shuffled, method="kronecker"))
    np.testing.assert_allclose(other, scores[order], atol=1e-4 * np.abs(scores).max())


class Reader(nn.Module):
    """Embeds tokens, reads each, averages those that are there."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embedding, self.tokens, self.head = nn.Embedding(20, 8), nn.Linear(8, 6), nn.Linear(6, classes)
        self.dropped = nn.Dropout(0.5)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        there = attention_mask[..., None].float()
        read = torch.tanh(self.tokens(self.embedding(input_ids))) * there
        return self.head(self.dropped(read.sum(1) / there.sum(1)))


def test_rows_may_be_asked_for_twice():
    estimator = Kronecker(run := trained(epochs=1), run.splits["test"], run.loss)
    once = estimator.of_rows(np.array([2, 3, 5])).copy()
    np.testing.assert_allclose(estimator.of_rows(np.array([5, 3, 3, 2])), once[[2, 1, 1, 0]], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("classes", [3, 20])  # sums over positions, and means over them
def test_the_padding_of_texts_changes_nothing(classes):
    torch.manual_seed(0)
    model = whence.attach(Reader(classes), ["dropped"])
    generator = np.random.default_rng(0)
    texts = [generator.integers(1, 20, generator.integers(2, 6)) for _ in range(60)]

    def run(padding):
        rows = [
            {"input_ids": np.pad(t, (0, 5 + padding - len(t))), "attention_mask": np.arange(5 + padding) < len(t)}
            for t in texts
        ]
        rows = [{name: torch.from_numpy(value) for name, value in row.items()} for row in rows]
        labels = torch.arange(60) % classes
        return whence.Run(model, (np.arange(60), rows, labels), test=(np.arange(9) + 100, rows[:9], labels[:9]))

    scores = [np.asarray(whence.influence(run(padding), method="kronecker")) for padding in (0, 7)]
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-4 * np.abs(scores[0]).max())
    memory = [whence.memorization(run(padding)) for padding in (0, 7)]
    np.testing.assert_allclose(memory[1], memory[0], atol=1e-3)
    assert memory[0].std() > 1e-3


def test_many_classes_share_curvatures_and_probes(monkeypatch):
    signs = probes_of(50)
    assert signs.shape == (16, 50)
    monkeypatch.setattr(curvatures, "_MOST_CURVATURES", 2)
    run = trained(widths=(6, 8, 7, 3))
    shared = np.asarray(whence.influence(run, method="kronecker"))
    monkeypatch.undo()
    own = np.asarray(whence.influence(run, method="kronecker"))
    assert np.corrcoef(own.ravel(), shared.ravel())[0, 1] > 0.8
    wide = whence.attach(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)), ["1"])
    assert np.isfinite(
        np.asarray(whence.influence(whence.Run(wide, blobs(), test=blobs(8, start=9000)), method="kronecker"))
    ).all()


def test_auto_takes_it_and_says_when_it_cannot():
    run = trained()
    assert whence.influence(run).info["method"] == "kronecker"
    assert whence.influence(run, quantity="accuracy").info["method"] == "turnover"
    with pytest.raises(whence.WhenceError, match="damping above 0"):
        whence.influence(run, method="kronecker", damping=0.0)
    with pytest.raises(whence.WhenceError, match="without a gradient"):
        whence.influence(run, method="kronecker", quantity="accuracy")
    frozen = network(6, 8, 3)
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(whence.WhenceError, match="no trained linear"):
        Kronecker(whence.Run(frozen, blobs(), test=blobs(8, start=9000)), blobs(8, start=9000), loss_of(run.task))


def test_copies_help_and_wrong_copies_hurt_most():
    data = blobs(150, spread=1.0)
    inputs, targets = data.inputs.gather(np.arange(150)).numpy().copy(), data.targets.copy()
    target = blobs(1, seed=5, start=5000, spread=1.0)
    look, label = target.inputs.gather(np.arange(1)).numpy()[0], int(target.targets[0])
    inputs[3], targets[3] = look, label
    inputs[4], targets[4] = look, (label + 1) % 3
    train = Dataset(data.ids, ArrayInputs(inputs), targets, data.task)
    run = whence.fit(network(6, 32, 3), train, test=target, epochs=10, learning_rate=1e-2, device="cpu")
    scores = np.asarray(whence.influence(run, method="kronecker"))[:, 0]
    assert scores.argmin() == 4
    assert (scores > scores[3]).mean() < 0.2


def test_groups_are_sums_over_members_and_can_be_rows():
    run = trained(groups=7)
    instances = whence.influence(run, "dev", method="kronecker")
    groups = whence.influence(run, "dev", block_rows=3)
    assert (groups.info["level"], instances.info["level"]) == ("group", "instance")
    wanted = instances.for_groups()
    assert groups.rows.names == wanted.rows.names
    np.testing.assert_allclose(groups, wanted, rtol=1e-4, atol=1e-5 * np.abs(np.asarray(wanted)).max())
    last = whence.influence(run, "dev", method="kernel", level="group")
    np.testing.assert_allclose(last, whence.influence(run, "dev", method="kernel").for_groups(), rtol=1e-4, atol=1e-7)
    for arguments, message in [
        ({"method": "turnover", "level": "instance"}, "masks that belong to groups in level"),
        ({"level": "row"}, "unknown level"),
    ]:
        with pytest.raises(whence.WhenceError, match=message):
            whence.influence(run, "dev", **arguments)
    with pytest.raises(whence.WhenceError, match="groups of a run that has none"):
        whence.influence(trained(epochs=1), "dev", method="kernel", level="group")
