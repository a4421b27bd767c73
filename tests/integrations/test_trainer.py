"""Hugging Face Trainer: whatever it does with batches, each row trains under its own masks."""

from __future__ import annotations

import copy
import csv
import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft")

import transformers
from examples import trainer as example
from safetensors.torch import load_file

import whence
from tests.integrations.tiny_trainer import classifier, collate, rows, settings, trained_weights, trainer
from tests.models.encoders.tiny import save_encoder, write_reviews
from whence import WhenceError
from whence.dropout import in_force
from whence.integrations.transformers import DynamicsCallback, IdCollator, MaskCallback, as_dataset
from whence.masks import as_ids
from whence.subnetworks import probabilities

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers and peft warn about each other
ROOT = Path(__file__).parents[2]


def plain_loop(model, data, epochs=2, autocast=False):
    """What the Trainer's settings come to, with ``whence.own`` written out."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    model.train()
    for _ in range(epochs):
        for start in range(0, len(data), 8):
            some = data[start : start + 8]
            with whence.own([row["id"] for row in some]):
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    loss = model(**collate(some)).loss
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return trained_weights(model)


WAYS = {
    "plain": {},
    "accumulation": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    "checkpointing": {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
    "reentrant checkpointing": {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
    "workers": {"dataloader_num_workers": 2},
    "bfloat16": {"bf16": True},
    "all columns": {"remove_unused_columns": False},
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_equals_the_plain_loop(way, tmp_path):
    expected = plain_loop(classifier(), rows(), autocast=way == "bfloat16")
    model = classifier()
    before = trained_weights(model)
    trainer(model, tmp_path, **WAYS[way]).train()
    for name, value in trained_weights(model).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(before[name], value) for name, value in expected.items())


def test_masks_matter_to_that_comparison(tmp_path):
    """With other ids the plain loop ends elsewhere, so the test above tells right masks from wrong ones."""
    others = [{**row, "id": f"other-{row['id']}"} for row in rows()]
    expected = plain_loop(classifier(), others)
    model = classifier()
    trainer(model, tmp_path).train()
    different = [
        name for name, value in trained_weights(model).items() if not torch.allclose(value, expected[name], 1e-3, 1e-5)
    ]
    assert len(different) > len(expected) / 2  # fmt: skip


@pytest.mark.parametrize("reentrant", [True, False])
def test_dropped_units_learn_nothing(reentrant, tmp_path):
    """Rows of one group, with accumulation, checkpointing and evaluation after each step: what its mask drops stays as it was."""
    data = [{**row, "id": "one-group"} for row in rows()]
    model = classifier()
    before = trained_weights(model)
    ours = trainer(model, tmp_path, data, rows(8, start=100), per_device_train_batch_size=4, gradient_accumulation_steps=2,
                   gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": reentrant},
                   eval_strategy="steps", eval_steps=1)  # fmt: skip
    ours.train()
    after, checked = trained_weights(model), 0
    for name, layer in whence.attached(model).items():
        if not name.endswith("lora_A.default"):
            continue
        kept = torch.from_numpy(layer.bits(as_ids(["one-group"]))[0])
        down, up = f"{name}.weight", name.replace("lora_A", "lora_B") + ".weight"
        assert torch.equal(before[down][~kept], after[down][~kept])
        assert torch.equal(before[up][:, ~kept], after[up][:, ~kept])
        checked += not torch.equal(before[down][kept], after[down][kept])
        assert not torch.equal(before[up][:, kept], after[up][:, kept])
    assert checked > 5


class Watch:
    """Which ids were in force for which rows (told by their first token), and what was in force in evaluation."""

    def __init__(self, model):
        self.trained, self.evaluated = [], []
        model.base_model.model.bert.register_forward_pre_hook(self._before, with_kwargs=True)

    def _before(self, module, given, named):
        context, first = in_force(), (given[0] if given else named["input_ids"])[:, 0].tolist()
        if module.training:
            self.trained.append((first, context.mode, context.ids.tolist()))
        else:
            self.evaluated.append((first, context))


@pytest.mark.parametrize("strategy", ["group_by_length", "random"])
def test_ids_follow_their_rows_and_evaluation_has_none(strategy, tmp_path):
    model, data = classifier(), rows()
    watch = Watch(model)
    ours = trainer(model, tmp_path, data, rows(8, start=100), per_device_train_batch_size=5, gradient_accumulation_steps=2,
                   train_sampling_strategy=strategy, eval_strategy="steps", eval_steps=1, dataloader_num_workers=1)  # fmt: skip
    ours.train()
    number = {1 + place: int(as_ids(row["id"])[0]) for place, row in enumerate(data)}
    for first, mode, ids in watch.trained:
        assert mode == "own" and ids == [number[token] for token in first]
    assert sorted(token for first, _, _ in watch.trained for token in first) == sorted([*number] * 2)
    assert len({tuple(first) for first, _, _ in watch.trained}) > 5  # the order was not that of the rows
    assert len(watch.evaluated) == ours.state.global_step
    assert all(context is None for _, context in watch.evaluated)
    logged = [entry["eval_loss"] for entry in ours.state.log_history if "eval_loss" in entry]
    model.eval()
    with whence.full(), torch.no_grad():
        assert logged[-1] == pytest.approx(float(model(**collate(rows(8, start=100))).loss), rel=1e-5)


def test_predict_and_evaluate_after_training_use_all_units(tmp_path):
    model = classifier()
    ours = trainer(model, tmp_path, dev=rows(8, start=100), num_train_epochs=1)
    ours.train()
    given = ours.predict(rows(8, start=100)).predictions
    with whence.full(), torch.no_grad():
        np.testing.assert_allclose(given, model(**collate(rows(8, start=100))).logits.numpy(), rtol=1e-5, atol=1e-6)
    assert in_force() is None


def test_whole_models_without_peft(tmp_path):
    def build():
        torch.manual_seed(0)
        config = transformers.BertConfig(**{**classifier().config.to_dict(), "num_labels": 2})
        model = transformers.BertForSequenceClassification(config)
        model.accepts_loss_kwargs = False
        return whence.attach(model, ["bert.embeddings.dropout", "dropout"])

    expected = plain_loop(build(), rows())
    model = build()
    trainer(model, tmp_path).train()
    for name, value in trained_weights(model).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)


def test_resumed_training_ends_where_uninterrupted_training_does(tmp_path):
    ways = {"train_sampling_strategy": "random", "num_train_epochs": 3, "save_strategy": "steps", "save_steps": 4, "optim": "adamw_torch",
            "learning_rate": 1e-2}  # fmt: skip
    whole, resumed = classifier(), classifier()
    trainer(whole, tmp_path / "whole", **ways).train()
    again = trainer(resumed, tmp_path / "again", **ways)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))  # in the middle of the second epoch
    assert again.state.global_step == 9
    for name, value in trained_weights(resumed).items():
        torch.testing.assert_close(value, trained_weights(whole)[name], rtol=1e-5, atol=1e-7)


@pytest.mark.skipif(not torch.distributed.is_available() or not hasattr(os, "fork"), reason="needs gloo")
def test_two_processes_equal_one(tmp_path):
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
               "-m", "tests.integrations.tiny_trainer", str(tmp_path)]  # fmt: skip
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240,
                          env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    model = classifier()
    trainer(model, tmp_path / "one").train()
    given = load_file(tmp_path / "weights.safetensors")
    for name, value in trained_weights(model).items():
        torch.testing.assert_close(given[name], value, rtol=1e-4, atol=1e-6)


def test_the_column_survives_until_training_and_forward_is_given_back(tmp_path):
    model = classifier()
    ours = trainer(model, tmp_path, num_train_epochs=1)
    inside = model.get_base_model()
    assert "id" in inspect.signature(inside.forward).parameters
    copied = copy.deepcopy(inside)
    assert copied.forward._forward.__self__ is copied
    ours.train()
    assert "id" not in inspect.signature(inside.forward).parameters and "forward" not in inside.__dict__


def test_a_model_goes_on_with_another_trainer(tmp_path):
    """As in a notebook whose cell is run again: the first Trainer's hook would find the ids gone that the second has taken."""
    twice, once = classifier(), classifier()
    for _ in range(2):
        trainer(twice, tmp_path)  # never begun
        trainer(twice, tmp_path).train()
        assert len(twice._forward_pre_hooks) == 1
    trainer(once, tmp_path).train()
    again = trainer(copy.deepcopy(once), tmp_path)
    again.train()
    for name, weight in trained_weights(twice).items():
        assert torch.equal(weight, trained_weights(again.model)[name]), name


def test_two_passes_of_a_step_go_on_in_one_context(tmp_path):
    """As R-Drop does: the second pass does not orphan the recomputation of the first."""

    class Twice(transformers.Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return model(**inputs).loss + model(**inputs).loss

    model = classifier()
    ways = settings(
        tmp_path, num_train_epochs=1, gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": True}
    )
    Twice(model, ways, train_dataset=rows(), data_collator=IdCollator(collate), callbacks=[MaskCallback()]).train()
    assert in_force() is None


def test_a_failed_step_leaves_no_masks_for_what_comes_after(tmp_path):
    model = classifier()
    ours = trainer(model, tmp_path, num_train_epochs=1)

    def fail(*_):
        raise KeyboardInterrupt

    parameter = next(p for p in model.parameters() if p.requires_grad)
    hook = parameter.register_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        ours.train()
    hook.remove()
    model.eval()
    with torch.no_grad():
        given = model(**collate(rows(4))).logits
        assert in_force() is None
        with whence.full():
            assert torch.equal(given, model(**collate(rows(4))).logits)


def test_a_run_takes_it_from_there(tmp_path):
    model = classifier()
    trainer(model, tmp_path / "checkpoints", num_train_epochs=4).train()
    train, dev = (
        as_dataset(part, collate, texts="text", classes=["bad", "good"])
        for part in (rows(), rows(8, start=100, seed=1))
    )
    assert sorted(train.batch(np.arange(3)).inputs) == ["attention_mask", "input_ids"]
    assert train.task.classes == ("bad", "good") and train.name_of(3) == "row-3"
    run = whence.Run(model, train, dev=dev, out=tmp_path / "run")
    np.testing.assert_array_equal(train.ids, as_ids([row["id"] for row in rows()]))
    exact, straight = (
        whence.influence(run, "dev", method="turnover"),
        whence.influence(run, "dev", method="first_order", softened=False),
    )
    assert exact.shape == (24, 8)
    # The flipped mask was never trained: scores are those of masks that the Trainer used, not of some others.
    with torch.no_grad():
        batch = collate(rows(8, start=100, seed=1))
        model.eval()
        with whence.own("row-5"):
            own = torch.nn.functional.cross_entropy(model(**batch).logits, batch["labels"], reduction="none")
        with whence.flipped("row-5"):
            flipped = torch.nn.functional.cross_entropy(model(**batch).logits, batch["labels"], reduction="none")
    np.testing.assert_allclose(np.asarray(exact)[5], (flipped - own).numpy(), rtol=1e-3, atol=1e-5)
    assert np.corrcoef(np.asarray(exact).ravel(), np.asarray(straight).ravel())[0, 1] > 0.9
    assert len(whence.audit(run).table) == 24
    assert whence.report(run).exists()
    again = whence.open_run(tmp_path / "run", model=classifier(), train=train, dev=dev)
    np.testing.assert_allclose(whence.influence(again, "dev", method="turnover"), exact)


def test_a_second_callback_watches_the_training(tmp_path):
    data = as_dataset(rows(), collate)
    expected = []
    for epochs in (1, 2, 3):
        model = classifier()
        trainer(model, tmp_path, num_train_epochs=epochs).train()
        expected.append(probabilities(whence.Run(model, data), mask="flipped"))
    model, watching = classifier(), DynamicsCallback(data)
    watched = trainer(model, tmp_path, num_train_epochs=3)
    watched.add_callback(watching)
    watched.train()
    run = whence.Run(model, data, dynamics=watching.dynamics)
    assert run.dynamics.moments == 2
    np.testing.assert_allclose(run.dynamics.flipped, np.mean(expected[:2], axis=0), atol=1e-6)
    np.testing.assert_allclose(probabilities(run, mask="flipped"), expected[2], atol=1e-6)
    assert np.abs(whence.out_of_sample(run) - whence.out_of_sample(whence.Run(model, data))).max() > 1e-3


def test_each_training_is_watched_anew_and_no_model_in_pieces_is(tmp_path):
    model, watching = classifier(), DynamicsCallback(as_dataset(rows(), collate))
    watched = trainer(model, tmp_path, num_train_epochs=3)
    watched.add_callback(watching)
    for _ in range(2):
        watched.train()
        assert watching.dynamics.moments == 2
    for pieces in ({"fsdp": "full_shard"}, {"deepspeed": "zero.json"}):
        with pytest.raises(WhenceError, match=f"a model in pieces in DynamicsCallback: got {next(iter(pieces))}"):
            watching.on_train_begin(SimpleNamespace(**pieces), None, None)


def test_own_losses_fall_below_flipped_ones(tmp_path):
    model = classifier()
    trainer(model, tmp_path, num_train_epochs=60).train()
    run = whence.Run(model, as_dataset(rows(), collate))
    own, flipped = (whence.subnetworks.losses(run, mask) for mask in ("own", "flipped"))
    assert own.mean() < 0.5 * flipped.mean() and np.mean(own < flipped) > 0.8


def test_groups_share_a_mask_and_rows_keep_their_ids():
    data = [{**row, "source": f"source-{place % 3}"} for place, row in enumerate(rows(9))]
    made = as_dataset(data, collate, groups="source")
    np.testing.assert_array_equal(made.mask_ids, as_ids([row["source"] for row in data]))
    np.testing.assert_array_equal(made.ids, as_ids([row["id"] for row in data]))
    assert list(made.group_names[:2]) == ["source-0", "source-1"]
    assert as_dataset(list(reversed(data)), collate, groups="source").fingerprint() != made.fingerprint()


def test_what_is_wrong_is_said(tmp_path):
    without = [{name: value for name, value in row.items() if name != "id"} for row in rows()]
    with pytest.raises(whence.WhenceError, match="a training batch without ids.*expected also id.*IdCollator"):
        trainer(classifier(), tmp_path, without).train()
    assert in_force() is None
    with pytest.raises(whence.WhenceError, match="no turn-over dropout in the model"):
        trainer(whence.detach(classifier()), tmp_path).train()
    with pytest.raises(whence.WhenceError, match="the column of ids is an argument of the model.*input_ids"):
        transformers.Trainer(classifier(), settings(tmp_path), callbacks=[MaskCallback(column="input_ids")])
    ours = trainer(classifier(), tmp_path)
    ours.args._n_gpu = 2
    with pytest.raises(whence.WhenceError, match="several GPUs in one process.*torchrun"):
        MaskCallback().on_train_begin(ours.args, None, None, model=ours.model)
    with pytest.raises(whence.WhenceError, match="rows without an id among others.*got 1 ids, expected 2"):
        IdCollator(collate)([rows()[0], without[1]])
    with pytest.raises(whence.WhenceError, match="not an id.*0.5"):
        IdCollator(collate)([{**row, "id": 0.5} for row in rows(2)])
    with pytest.raises(whence.WhenceError, match="a row without a column.*also source"):
        as_dataset(rows(), collate, groups="source")
    with pytest.raises(whence.WhenceError, match="neither classes nor numbers"):
        as_dataset([{**row, "labels": "good"} for row in rows()], collate)
    with pytest.raises(whence.WhenceError, match="a label without a class.*got 1"):
        as_dataset(rows(), collate, classes=["bad"])


def test_the_example(tmp_path, capsys):
    table = write_reviews(tmp_path / "reviews.tsv", n=60)
    with open(table, newline="") as source, open(tmp_path / "reviews.csv", "w", newline="") as target:
        csv.writer(target).writerows(csv.reader(source, delimiter="\t"))
    folder = save_encoder(tmp_path / "encoder")
    run = example.main(
        [
            "--model",
            str(folder),
            "--data",
            str(tmp_path / "reviews.csv"),
            "--out",
            str(tmp_path / "run"),
            "--epochs",
            "1",
        ]
    )
    said = capsys.readouterr().out
    assert "the training texts that help most are r" in said and "labels are suspected" in said
    assert (tmp_path / "run" / "report.html").exists() and len(run.train) == 48
