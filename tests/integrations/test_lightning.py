"""Lightning: masks are open from the beginning of a training batch to its end, and never in validation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils.data import DataLoader

pytest.importorskip("lightning.pytorch", reason="needs Lightning: pip install 'whence[lightning]'")

import lightning.pytorch as pl
import numpy as np
from examples import lightning_module as example

import whence
from whence.dropout import in_force
from whence.integrations.lightning import MaskCallback

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns about workers, and about torch


def module():
    torch.manual_seed(0)
    return whence.attach(example.Classifier(64))


def trainer(callback, **changes):
    return pl.Trainer(**{"max_epochs": 2, "callbacks": [callback], "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
                         "enable_checkpointing": False, "enable_model_summary": False, **changes})  # fmt: skip


@pytest.mark.parametrize("accumulated", [1, 2])
def test_equals_the_plain_loop(accumulated):
    rows = example.digits(np.arange(64))
    ours = module()
    expected = copy.deepcopy(ours)
    seen = []
    ours.body[0].register_forward_hook(lambda layer, *_: seen.append((layer.training, in_force())))
    loader = DataLoader(rows, batch_size=16 // accumulated)
    trainer(MaskCallback(), accumulate_grad_batches=accumulated, val_check_interval=2).fit(
        ours, loader, DataLoader(rows, batch_size=32)
    )
    optimizer = expected.configure_optimizers()
    expected.train()
    for _ in range(2):
        for ids, pictures, labels in DataLoader(rows, batch_size=16):
            optimizer.zero_grad()
            with whence.own(ids):
                torch.nn.functional.cross_entropy(expected(pictures), labels).backward()
            optimizer.step()
    for given, wanted in zip(ours.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-5)
    assert {context.mode for training, context in seen if training} == {"own"}
    evaluated = [context for training, context in seen if not training]
    assert len(evaluated) > 4 and all(context is None for context in evaluated)
    assert in_force() is None


def test_ids_are_where_the_user_says():
    rows = [{"key": f"digit-{number}", "x": x, "y": y} for number, x, y in example.digits(np.arange(8))]
    callback = MaskCallback(ids="key")
    batch = next(iter(DataLoader(rows, batch_size=4)))
    callback.on_train_batch_start(None, None, batch, 0)
    assert in_force().ids.tolist() == whence.masks.as_ids([f"digit-{row}" for row in range(4)]).tolist()
    callback.on_exception(None, None, KeyboardInterrupt())
    assert in_force() is None
    MaskCallback(ids=lambda batch: batch["key"]).on_train_batch_start(None, None, batch, 0)
    callback.on_train_batch_end(None, None, None, batch, 0)
    with pytest.raises(whence.WhenceError, match="a training batch without ids.*key, x, y.*'id'.*MaskCallback"):
        MaskCallback().on_train_batch_start(None, None, batch, 0)


def test_a_module_without_masks_is_refused():
    with pytest.raises(whence.WhenceError, match="no turn-over dropout in the module.*Classifier"):
        trainer(MaskCallback()).fit(example.Classifier(8), DataLoader(example.digits(np.arange(8)), batch_size=4))


def test_the_example(tmp_path, capsys):
    run = example.main(["--out", str(tmp_path / "run"), "--epochs", "2"])
    assert "the training digits that help most" in capsys.readouterr().out
    assert (tmp_path / "run" / "report.html").exists() and len(run.train) == 1400
