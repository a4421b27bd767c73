"""Influence through all layers, against the formula written out, per-instance gradients and refits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.toys import blobs, network, trained
from whence.data import Classification, Dataset
from whence.data.inputs import ArrayInputs
from whence.data.tokens import TokenInputs
from whence.estimators import components, curvatures, parts
from whence.estimators.kronecker import Kronecker
from whence.estimators.softening import matched_temperature
from whence.estimators.unseen import LeftOut
from whence.estimators.views import Views, mean_read, probes_of
from whence.forward import outputs, predict
from whence.quantities import loss_of


class Pictures(nn.Module):
    """Convolutions of every kind of geometry, in-place ReLU, a token-wise linear layer, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, padding=1, stride=2)
        self.second = nn.Conv2d(3, 4, (3, 1), padding="same", dilation=(2, 1), bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.line = nn.Conv1d(4, 4, 2)
        self.tokens = nn.Linear(4, 5)
        self.dropped = nn.Dropout(0.5)
        self.head = nn.Linear(5, 3)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        maps = self.relu(self.second(self.relu(self.first(pictures))))
        line = self.relu(self.line(maps.flatten(2)))
        return self.head(self.dropped(torch.tanh(self.tokens(line.transpose(1, 2))).mean(1)))


def pictures(n=40, seed=0, start=0):
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 3, n)
    images = generator.normal(size=(n, 2, 6, 6)).astype(np.float32) + targets[:, None, None, None].astype(np.float32)
    return Dataset.of((np.arange(n) + start, torch.from_numpy(images), torch.from_numpy(targets)))


def picture_run(**options):
    torch.manual_seed(0)
    model = whence.attach(Pictures(), ["dropped"])
    return whence.fit(
        model, pictures(), test=pictures(9, 1, 100), epochs=3, learning_rate=1e-2, device="cpu", **options
    )


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


def test_ridge_models_leave_instances_out_exactly():
    generator = torch.Generator().manual_seed(0)
    features, targets = torch.randn(60, 5, generator=generator), torch.randn(60, 2, generator=generator)
    model = LeftOut(2)
    for part in (slice(0, 25), slice(25, 60)):
        model.learn(features[part, :2], features[part, 2:], targets[part])
    model.solve()
    first, both = model.without(features[:, :2], features[:, 2:], targets)
    for said, columns in ((first, 2), (both, 5)):
        left_out_by_hand(said, features[:, :columns], targets)
    torch.testing.assert_close(model.predict(features[:7, :2], features[:7, 2:])[1], fitted(features, targets)[:7])


def left_out_by_hand(said, features, targets):
    columns = features.shape[1]
    ridge = 1e-3 * float(features.var(0, correction=0).sum()) * 60
    for row in (0, 17, 59):
        rest = [n for n in range(60) if n != row]
        # the penalty and the intercept are those of all 60
        mean = features.mean(0)
        x = torch.cat([features - mean, torch.ones(60, 1)], 1).double()
        penalty = ridge * torch.diag(torch.tensor([1.0] * columns + [0.0])).double()
        weights = torch.linalg.solve(x[rest].T @ x[rest] + penalty, x[rest].T @ targets[rest].double())
        torch.testing.assert_close(said[row].double(), x[row] @ weights, rtol=1e-4, atol=1e-4)


def fitted(features, targets):
    x = features - features.mean(0)
    ridge = 1e-3 * float(x.square().sum()) * torch.eye(x.shape[1])
    return x @ torch.linalg.solve(x.T @ x + ridge, x.T @ (targets - targets.mean(0))) + targets.mean(0)


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


def test_components_that_hold_everything_change_nothing(monkeypatch):
    run = trained(widths=(6, 8, 7, 3))
    scores = np.asarray(whence.influence(run, method="kronecker", share=0.0))
    monkeypatch.setattr(parts, "_MOVES", 7)  # of 8 and 7, but units that are never on take no part
    near = np.asarray(whence.influence(run, method="kronecker", share=0.0))
    assert np.corrcoef(scores.ravel(), near.ravel())[0, 1] > 0.99


def test_few_components_are_taken_only_where_they_lose_next_to_nothing():
    generator = torch.Generator().manual_seed(0)
    smooth = torch.randn(900, 40, generator=generator) @ torch.randn(40, 300, generator=generator)
    smooth += 0.1 * torch.randn(900, 300, generator=generator)
    basis = components.leading(smooth, 2048)
    assert basis.shape == (300, 64)
    torch.testing.assert_close(basis.T @ basis, torch.eye(64), atol=1e-5, rtol=0)
    held = components.project(smooth, basis).square().sum(0)
    assert held.sum() > 0.985 * smooth.square().sum() and held[0] == held.max()
    for rows, most, width in [
        (torch.randn(900, 300, generator=generator), 2048, None),  # no direction is better than another
        (torch.randn(900, 300, generator=generator), 200, 200),
        (torch.randn(40, 300, generator=generator), 2048, None),  # too few rows to tell
        (torch.zeros(900, 300), 2048, None),
        (smooth[:, :100], 2048, None),
    ]:
        found = components.leading(rows, most)
        assert (None if found is None else found.shape[1]) == width


def test_padding_takes_no_part():
    reads = torch.randn(5, 4, 3)
    padded = torch.cat([reads, torch.zeros(5, 6, 3)], dim=1)
    torch.testing.assert_close(mean_read(padded), reads.mean(1))


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


def test_ridge_models_are_asked_only_where_outputs_are_what_they_predict():
    def one_against_all(given, wanted):
        return nn.functional.binary_cross_entropy_with_logits(
            given, nn.functional.one_hot(wanted, 3).float(), reduction="none"
        ).sum(1)

    run = trained(loss=one_against_all)
    np.testing.assert_array_equal(
        whence.influence(run, method="kronecker"), whence.influence(run, method="kronecker", share=0.0)
    )
