"""A classifier small enough to train in a test, rows whose first token tells which row it is, and settings without noise.

Run as a module it trains under torchrun: ``python -m torch.distributed.run ... -m tests.integrations.tiny_trainer FOLDER``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

from examples.trainer import masked, trainer_for  # noqa: E402

SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
         "max_position_embeddings": 16, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.3}  # fmt: skip


def rows(count=24, start=0, seed=0):
    """Dicts with an id (a string), a text, a label and 4 to 9 tokens, of which the first is the row's number."""
    generator = np.random.default_rng(seed)
    made = []
    for row in range(count):
        tokens = [1 + row, *generator.integers(32, 64, generator.integers(3, 9)).tolist()]
        made.append(
            {
                "id": f"row-{start + row}",
                "text": f"text {row}",
                "input_ids": tokens,
                "attention_mask": [1] * len(tokens),
                "labels": row % 2,
            }
        )
    return made


def collate(batch):
    """Pads to the longest row, as ``DataCollatorWithPadding`` does with a tokenizer."""
    longest = max(len(row["input_ids"]) for row in batch)
    padded = {
        name: torch.tensor([row[name] + [0] * (longest - len(row[name])) for row in batch])
        for name in ("input_ids", "attention_mask")
    }
    return padded | ({"labels": torch.tensor([row["labels"] for row in batch])} if "labels" in batch[0] else {})


def classifier(**changes):
    torch.manual_seed(0)
    config = transformers.BertConfig(**{**SIZES, **changes})
    return masked(transformers.BertForSequenceClassification(config), rank=8)


def settings(folder, **changes):
    """Plain gradient descent in the order of the rows: what is left is the masks."""
    return transformers.TrainingArguments(
        **{"output_dir": str(folder), "per_device_train_batch_size": 8, "num_train_epochs": 2, "optim": "sgd", "learning_rate": 0.5,
           "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "train_sampling_strategy": "sequential", "use_cpu": True,
           "report_to": [], "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True,
           "dataloader_pin_memory": False, **changes})  # fmt: skip


def trainer(model, folder, data=None, dev=None, **changes):
    data = rows() if data is None else data
    return trainer_for(model, settings(folder, **changes), collate, data, dev)


def trained_weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}


if __name__ == "__main__":
    from safetensors.torch import save_file

    folder = Path(sys.argv[1])
    model = classifier()
    ours = trainer(model, folder / "checkpoints", per_device_train_batch_size=4, ddp_backend="gloo")
    ours.train()
    assert ours.args.world_size == 2
    if ours.is_world_process_zero():
        save_file(trained_weights(model), folder / "weights.safetensors")
    ours.accelerator.wait_for_everyone()
    torch.distributed.destroy_process_group()
