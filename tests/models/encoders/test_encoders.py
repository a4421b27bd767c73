"""Encoders of transformers: what each placement trains and masks, what reopens, and what is refused."""

from __future__ import annotations

import copy
import json
import shutil
import sys

import numpy as np
import pytest
import torch

import whence
from tests.models.encoders.tiny import save_encoder, write_reviews
from whence import WhenceError
from whence.dropout import explicit
from whence.evaluation.recipes import recipe_of
from whence.models import encoders
from whence.models.encoders.features import featured
from whence.options import TrainingOptions
from whence.subnetworks import exposure, losses

PLACEMENTS = ["updates", "adapter", "lora", "frozen", "head", "dropouts"]
QUICK = {"device": "cpu", "epochs": 8, "learning_rate": 3e-3}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("encoders") / "tiny")


@pytest.fixture
def reviews(tmp_path):
    return whence.load(write_reviews(tmp_path / "reviews.tsv"), text="text", label="label")


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


def test_pairs_of_sentences(tmp_path, folder):
    data = whence.load(
        write_reviews(tmp_path / "p.tsv", 40, pairs=True), text="text", text_pair="second", label="label"
    )
    first, second = data.inputs.texts[0], data.inputs.pairs[0]
    assert data.texts[0] == f"{first} ‖ {second}"
    _, encoded = whence.prepare(data, str(folder))
    (row,) = encoded.inputs.gather(np.array([0]))["input_ids"]
    (kinds,) = encoded.inputs.gather(np.array([0]))["token_type_ids"]
    words = encoders.folder.Encoder.find(str(folder)).tokenizer.convert_ids_to_tokens(row.tolist())
    assert words == ["[CLS]", *first.split(), "[SEP]", *second.split(), "[SEP]"]
    assert kinds.tolist() == [0] * (len(first.split()) + 2) + [1] * (len(second.split()) + 1)
    model, encoded = whence.prepare(data, "ngrams:8")  # n-grams read both
    assert whence.fit(model, encoded, epochs=1, device="cpu").history


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


def test_long_texts_are_cut_and_that_is_said(folder, reviews):
    _, data = whence.prepare(reviews, str(folder), max_length=7)
    assert data.inputs.lengths.tolist() == [7] * 120
    (note,) = data.notes
    assert note == "120 of 120 texts are longer than 7 tokens; what comes after is not read"
    _, data = whence.prepare(reviews, str(folder), max_length=8)
    assert data.notes == ()
    long = whence.Dataset(reviews.ids[:2], whence.data.inputs.TextInputs(np.array(["the film " * 100] * 2, dtype=object)),
                          reviews.targets[:2], reviews.task, texts=reviews.texts[:2])  # fmt: skip
    _, data = whence.prepare(long, str(folder), masked="head")
    assert data.inputs.lengths.tolist() == [40, 40]  # what the encoder has positions for


def test_features_are_computed_once(folder, reviews, cache, monkeypatch):
    model, data = whence.prepare(reviews, str(folder), masked="frozen")
    (file,) = cache.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(encoders.folder.Encoder, "load", lambda self: pytest.fail("the encoder was run again"))
        _, again = whence.prepare(reviews, str(folder), masked="frozen", seed=1)
    assert again.fingerprint() == data.fingerprint()
    tokens = whence.prepare(reviews, str(folder), masked="head")
    rows = np.array([5, 2])
    with torch.no_grad():
        given = tokens[1].inputs.gather(rows)
        states = tokens[0].base(**given).last_hidden_state
        mask = given["attention_mask"][..., None]
        torch.testing.assert_close(data.inputs.gather(rows), (states * mask).sum(1) / mask.sum(1), atol=1e-5, rtol=1e-4)
    assert torch.equal(data.select(rows).inputs.gather(np.array([0, 1])), data.inputs.gather(rows))
    file.write_bytes(file.read_bytes()[:-100])  # a damaged file is made again
    _, mended = whence.prepare(reviews, str(folder), masked="frozen")
    assert torch.equal(mended.inputs.gather(rows), data.inputs.gather(rows))
    other = save_encoder(cache / "other", intermediate_size=32)
    whence.prepare(reviews, str(other), masked="frozen")
    assert len(list(cache.glob("*.npy"))) == 2  # another encoder, other features


def test_data_with_features_are_known_by_their_tokens(folder, reviews):
    encoder = encoders.folder.Encoder.find(str(folder))
    _, tokens = whence.prepare(reviews, str(folder), masked="head")
    data = featured(encoder, tokens)
    data.inputs.array = np.asarray(data.inputs.array) + 1e-6  # as another machine rounds
    assert data.fingerprint() == featured(encoder, tokens).fingerprint()
    assert data.fingerprint() != tokens.fingerprint()


@pytest.mark.parametrize("masked", PLACEMENTS)
def test_a_run_reopens_from_the_folder(masked, tmp_path, folder):
    table, where = write_reviews(tmp_path / "reviews.tsv"), shutil.copytree(folder, tmp_path / "encoder")
    source = whence.data.loading.Source(str(table), text="text", label="label")
    model, data = whence.prepare(source.load(), str(where), masked=masked)
    run = whence.fit(model, data, out=tmp_path / "run", source=source, device="cpu", epochs=2)
    again = whence.open_run(tmp_path / "run")
    np.testing.assert_array_equal(losses(again, "flipped"), losses(run, "flipped"))
    spec = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["model_spec"]
    assert spec["masked"] == masked and spec["name"] == where.as_posix() and len(spec["encoder"]) == 32
    more = again.more_targets(write_reviews(tmp_path / "more.tsv", 8, seed=5))
    assert whence.influence(again, more).shape == (90, 8)
    config = json.loads((where / "config.json").read_text(encoding="utf-8"))
    (where / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-3}), encoding="utf-8")
    with pytest.raises(WhenceError, match="an encoder that has changed since the run in .*encoder: got fingerprint"):
        whence.open_run(tmp_path / "run")
    shutil.rmtree(where)
    with pytest.raises(
        WhenceError, match="no such folder in --model: got .*encoder, expected a folder that holds an encoder"
    ):
        whence.open_run(tmp_path / "run")


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


def test_a_run_trains_again_from_another_seed(folder, tmp_path):
    source = whence.data.loading.Source(str(write_reviews(tmp_path / "r.tsv", 40)), text="text", label="label")
    model, data = whence.prepare(source.load(), str(folder))
    run = whence.fit(model, data, out=tmp_path / "run", source=source, device="cpu", epochs=1)
    recipe = recipe_of(run)
    first, second = recipe.train(run.train, 1), recipe.train(run.train, 1)
    assert torch.equal(first.head.weight, second.head.weight)
    assert not torch.equal(first.head.weight, run.model.head.weight)
    assert recipe.fingerprint() == recipe_of(whence.open_run(tmp_path / "run")).fingerprint()


def _only_pickles(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _code_of_its_own(folder):
    config = {"model_type": "stranger", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "code.py").write_text("raise SystemExit('code of a stranger ran')", encoding="utf-8")


def _missing_layer(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}), encoding="utf-8")


def _damaged(folder):
    (folder / "model.safetensors").write_bytes(b"\x10" + bytes(20))


def _no_tokenizer(folder):
    for path in [*folder.glob("*token*"), *folder.glob("vocab*")]:
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "a folder that holds no model"),
        (_only_pickles, "a model without weights as safetensors in .*: got pytorch_model.bin, expected model.safetensors"),
        (_code_of_its_own, "that transformers cannot load"),
        (_missing_layer, "weights that lack a part of the model in .*: got no 'encoder.layer.2"),
        (_damaged, "a model that transformers cannot load"),
        (_no_tokenizer, "a folder that holds no tokenizer"),
    ],
)  # fmt: skip
def test_folders_that_are_refused(spoil, message, tmp_path, folder, reviews):
    where = shutil.copytree(folder, tmp_path / "encoder")
    spoil(where)
    with pytest.raises(WhenceError, match=message):
        whence.prepare(reviews, str(where))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nowhere/at/all", {}, "no such folder in --model: got nowhere/at/all"),
        (
            "FOLDER",
            {"masked": "last"},
            "unknown place of masks in an encoder in --masked: got 'last', expected updates, lora, adapter",
        ),
        ("FOLDER", {"max_length": 2}, "no room for a text in --max-length: got 2, expected more than 2 tokens"),
    ],
)
def test_choices_that_are_refused(name, options, message, folder, reviews):
    with pytest.raises(WhenceError, match=message):
        whence.prepare(reviews, str(folder) if name == "FOLDER" else name, **options)


def test_features_for_an_encoder(folder):
    with pytest.raises(WhenceError, match="does not fit the data in --model: .* expected texts for an encoder"):
        whence.prepare(whence.load("digits", limit=20), str(folder))


@pytest.mark.parametrize(("module", "masked", "message"), [
    ("transformers", "auto", "an encoder needs transformers, which is not installed in --model. pip install 'whence\\[text\\]'"),
    ("peft", "lora", "LoRA needs peft, which is not installed in --masked: got lora. pip install"),
])  # fmt: skip
def test_packages_that_are_missing(module, masked, message, folder, reviews, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(WhenceError, match=message):
        whence.prepare(reviews, str(folder), masked=masked)


def test_layers_that_are_not_a_list(tmp_path, reviews):
    folder = save_encoder(tmp_path / "albert", "albert")
    with pytest.raises(
        WhenceError, match="an encoder whose layers are not found in AlbertModel: expected a list of 2 modules"
    ):
        whence.prepare(reviews, str(folder), masked="adapter")
    for masked in ("updates", "lora", "frozen", "head", "dropouts"):
        model, data = whence.prepare(reviews, str(folder), masked=masked)
        assert whence.fit(model, data, device="cpu", epochs=1).history


def test_from_table_to_report_by_the_command_line(tmp_path, folder, monkeypatch, capsys):
    from whence.cli import main

    table, run = write_reviews(tmp_path / "reviews.tsv"), tmp_path / "run"

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["whence", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    out = call(
        "fit",
        table,
        "--text",
        "text",
        "--label",
        "label",
        "--model",
        folder,
        "--out",
        run,
        "--epochs",
        2,
        "--max-length",
        7,
    )
    assert "90 train, 30 dev instances, 2 classes" in out and "note: 120 of 120 texts are longer than 7 tokens" in out
    options = json.loads((run / "run.json").read_text(encoding="utf-8"))["options"]
    assert (options["epochs"], options["batch_size"]) == (2, 16)
    assert "90 training instances × 30 targets by kronecker" in call("influence", run, "--targets", "dev")
    call("report", run)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "updates.0: 32 units, keep rate 0.75" in page and "5 more, " in page and "isolation" in page.lower()
