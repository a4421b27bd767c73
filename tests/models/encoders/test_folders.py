"""What reopens from an encoder's folder, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import torch

import whence
from tests.models.encoders.tiny import PLACEMENTS, save_encoder, write_reviews
from whence import WhenceError
from whence.evaluation.recipes import recipe_of
from whence.subnetworks import losses


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
