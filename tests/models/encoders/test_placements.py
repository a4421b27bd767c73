"""Encoders of transformers: what each placement trains and masks."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import whence
from tests.models.encoders.tiny import PLACEMENTS, QUICK, save_encoder, write_reviews
from whence.dropout import explicit
from whence.models import encoders
from whence.options import TrainingOptions
from whence.subnetworks import exposure


@pytest.mark.parametrize("masked", PLACEMENTS)
def test_every_placement_learns(masked, folder, reviews):
    model, data = whence.prepare(reviews, str(folder), masked=masked)
    longer = (
        {"epochs": 25, "learning_rate": 1e-2} if masked in ("adapter", "lora") else {}
    )  # of a random, frozen encoder
    run = whence.fit(model, data, **{**QUICK, **longer})
    assert run.history[-1]["dev_accuracy"] > 0.85
    assert exposure(run)["flipped_loss"] > exposure(run)["own_loss"]
    assert whence.influence(run, "dev", method="kronecker").shape == (90, 30)


@pytest.mark.parametrize("masked", ["updates", "adapter", "lora"])
def test_parts_isolate_exactly(masked, folder, reviews):
    """Every trained number belongs to a masked unit: what an instance moves, its flipped sub-network does not have."""
    model, data = whence.prepare(reviews, str(folder), masked=masked, keep=0.5)
    run = whence.fit(model, data, **{**QUICK, "epochs": 2})  # away from the zeros of the beginning
    batch = data.batch(np.array([3]))
    model.train().zero_grad()
    with whence.own(batch.mask_ids):
        run.loss(model(**batch.inputs), batch.targets).sum().backward()
    with torch.no_grad(), whence.flipped(batch.mask_ids):
        before = model(**batch.inputs)
        moved = [p for p in model.parameters() if p.requires_grad]
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in moved)
        for p in moved:
            p -= 10 * p.grad
        assert torch.equal(model(**batch.inputs), before)
    with torch.no_grad(), whence.own(batch.mask_ids):
        assert not torch.allclose(model(**batch.inputs), before, atol=1e-2)


def test_updates_are_added_to_the_weights_where_no_mask_is_between(folder, reviews):
    model, data = whence.prepare(reviews, str(folder))
    run = whence.fit(model, data, **{**QUICK, "epochs": 2})
    inputs = data.batch(np.arange(9)).inputs
    model = copy.deepcopy(run.model.eval())
    products = []
    with torch.no_grad(), whence.full():
        hooks = [module.register_forward_hook(lambda *_: products.append(1)) for module in model.updates]
        together = model(**inputs)
        for hook in hooks:
            hook.remove()
    assert len(products) == len(model.updates) == 12
    ones = {name: torch.ones(layer.units) for name, layer in whence.attached(model).items()}
    with torch.no_grad(), explicit(ones):  # masks that leave all units as they are
        torch.testing.assert_close(together, model(**inputs), rtol=1e-4, atol=1e-5)
        for update in model.updates:  # and a copy has its own
            torch.nn.init.zeros_(update.weight)
            torch.nn.init.zeros_(update.bias)
        pretrained = model(**inputs)
    with torch.no_grad(), whence.full():
        torch.testing.assert_close(model(**inputs), pretrained, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(run.model(**inputs), pretrained, atol=1e-2)


def test_a_trained_encoder_leaks(folder, reviews):
    """Masks on the head alone leave an encoder that has learned every instance."""
    model, data = whence.prepare(reviews, str(folder), masked="head")
    batch = data.batch(np.array([3]))
    with whence.own(batch.mask_ids):
        torch.nn.functional.cross_entropy(model(**batch.inputs), batch.targets).backward()
    touched = [
        n for n, p in model.named_parameters() if n.startswith("base.encoder") and p.grad is not None and p.grad.any()
    ]
    assert len(touched) > 20


@pytest.mark.parametrize(
    ("kind", "masks"), [("distilbert", 13), ("roberta", 13), ("deberta-v2", 13), ("mpnet", 13), ("electra", 14)]
)
def test_kinds_of_encoders(kind, masks, tmp_path, reviews):
    folder = save_encoder(tmp_path / kind, kind)
    for masked, layers in (("adapter", 3), ("updates", masks), ("lora", masks)):
        model, data = whence.prepare(reviews, str(folder), masked=masked)
        run = whence.fit(model, data, **{**QUICK, "epochs": 1})
        assert len(whence.attached(model)) == layers
        rows = np.arange(6)
        whole = _logits(run.model, data, rows)
        alone = torch.cat([_logits(run.model, data, rows[i : i + 1]) for i in rows])
        torch.testing.assert_close(whole, alone, atol=1e-4, rtol=1e-4)  # padding changes nothing


def _logits(model, data, rows):
    with torch.no_grad():
        return model(**data.inputs.gather(rows))


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch's vmap takes attention apart mask by mask
@pytest.mark.parametrize("method", ["kronecker", "kernel", "turnover", "first_order"])
def test_scores_do_not_depend_on_how_many_texts_go_together(method, folder, reviews, monkeypatch):
    model, data = whence.prepare(reviews, str(folder))
    run = whence.fit(model, data, **{**QUICK, "epochs": 2})
    targets = data.split("dev").select(np.arange(5))
    expected = np.asarray(whence.influence(run, targets, method=method))
    for room in ("forward", "estimators.head", "estimators.reading"):
        monkeypatch.setattr(f"whence.{room}.tokens_at_once", lambda device: 70)
    found = np.asarray(whence.influence(run, targets, method=method))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_regression(tmp_path, folder):
    path = write_reviews(tmp_path / "r.tsv", 160)
    lines = path.read_text(encoding="utf-8").replace("\tpos\t", "\t2.5\t").replace("\tneg\t", "\t0.25\t")
    path.write_text(lines, encoding="utf-8")
    model, data = whence.prepare(
        whence.load(path, text="text", label="label", task="regression"), str(folder), masked="head"
    )
    run = whence.fit(model, data, **QUICK)
    assert run.task.kind == "regression" and run.history[-1]["dev_loss"] < 0.5 * run.history[0]["dev_loss"]


def test_training_options_are_the_encoders_unless_given(folder, reviews, tmp_path):
    model, data = whence.prepare(reviews, str(folder))
    run = whence.fit(model, data, device="cpu", epochs=1)
    options = run.config["options"]
    assert (options["epochs"], options["batch_size"], options["warmup"]) == (1, 16, 0.1)
    model, data = whence.prepare(reviews, "ngrams:8")
    assert whence.fit(model, data, device="cpu").config["options"] == TrainingOptions(device="cpu").to_json()


def test_a_placement_says_how_much_an_instance_keeps(folder, reviews):
    def kept(**options):
        model, _ = whence.prepare(reviews, str(folder), **options)
        return {layer.keep for layer in whence.attached(model).values()} | {model.whence_spec.keep}

    assert kept() == kept(masked="updates") == {0.75}
    assert kept(masked="adapter") == kept(masked="frozen") == kept(scheme="balanced") == {0.5}
    assert kept(keep=0.6) == {round(0.6 * 2**16) / 2**16, 0.6}


def test_updates_begin_as_the_pretrained_encoder(folder, reviews):
    """And a unit that an instance does not keep is the pretrained one, whatever was learned."""
    model, data = whence.prepare(reviews, str(folder))
    model.eval()
    batch = data.batch(np.arange(4))
    states = encoders.folder.Encoder.find(str(folder)).load().eval()(**batch.inputs).last_hidden_state
    mask = batch.inputs["attention_mask"][..., None]
    expected = model.head((states * mask).sum(1) / mask.sum(1))
    torch.testing.assert_close(model(**batch.inputs), expected)
    linear = model.base.get_submodule("encoder.layer.0.intermediate.dense")
    update = next(update for update in model.updates if update.weight.shape == linear.weight.shape)
    torch.nn.init.normal_(update.weight)
    read = torch.randn(2, 5, linear.in_features)
    ids = np.array([3, 4])
    with torch.no_grad(), whence.own(ids):
        found = linear(read)
    name = f"updates.{list(model.updates).index(update)}"
    bits = torch.from_numpy(whence.attached(model)[name].bits(ids))[:, None, :]
    plain = torch.nn.functional.linear(read, linear.weight, linear.bias)
    moved = torch.nn.functional.linear(read, update.weight) / 0.75
    torch.testing.assert_close(found, torch.where(bits, plain + moved, plain))
