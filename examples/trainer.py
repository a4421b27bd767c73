"""Fine-tune a text classifier with transformers' Trainer; three lines are whence's, then a run explains the model.

    python examples/trainer.py --model path/to/encoder --data reviews.csv --out runs/trainer

The table has the columns id, text and label. The base is frozen and every trained weight belongs to a masked LoRA rank, or to the
head behind a mask: what an example's flipped masks use has then learned nothing from it but the head's bias. On several
processes: torchrun --nproc-per-node 2 examples/trainer.py ...
"""

from __future__ import annotations

import argparse
import csv

import peft
import transformers
from torch import nn

import whence
from whence.integrations.transformers import IdCollator, MaskCallback, as_dataset


def masked(model: transformers.PreTrainedModel, *, rank: int = 16, seed: int = 0) -> nn.Module:
    """A BERT-like classifier with LoRA in all of its layers, masks on the ranks and on what its head reads."""
    for module in model.base_model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # masks are regularization enough
    # BERT's head takes no notice of num_items_in_batch, so that losses would be summed over accumulated steps and processes
    # (https://github.com/huggingface/transformers/issues/47688).
    model.accepts_loss_kwargs = False
    settings = peft.LoraConfig(task_type="SEQ_CLS", r=rank, lora_alpha=rank, target_modules="all-linear")
    tuned = peft.get_peft_model(model, settings)
    return whence.attach(tuned, where=["*.lora_A.default", "base_model.model.dropout"], seed=seed)


def trainer_for(
    model: nn.Module, arguments: transformers.TrainingArguments, collate: object, rows: list, dev: list
) -> transformers.Trainer:
    return transformers.Trainer(
        model, arguments, train_dataset=rows, eval_dataset=dev,
        data_collator=IdCollator(collate),  # keeps the column "id"
        callbacks=[MaskCallback()],  # each row trains under its own masks
    )  # fmt: skip


def read(path: str, tokenizer: transformers.PreTrainedTokenizerBase, classes: list[str]) -> list[dict]:
    """The rows of a table as token numbers, with their ids and the numbers of their classes."""
    with open(path, newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    classes += sorted({row["label"] for row in table} - set(classes))
    tokens = tokenizer([row["text"] for row in table], truncation=True, max_length=256)
    return [
        {"id": row["id"], "text": row["text"], "labels": classes.index(row["label"]), **{k: v[i] for k, v in tokens.items()}}
        for i, row in enumerate(table)
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> whence.Run:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or name of a BERT-like encoder")
    parser.add_argument("--data", required=True, help="csv with id, text and label; every fifth row is kept for dev")
    parser.add_argument("--out", default="runs/trainer", help="run directory")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    given = parser.parse_args(arguments)
    tokenizer = transformers.AutoTokenizer.from_pretrained(given.model)
    classes: list[str] = []
    table = read(given.data, tokenizer, classes)
    rows, dev = [row for i, row in enumerate(table) if i % 5], table[::5]
    transformers.set_seed(0)
    model = masked(
        transformers.AutoModelForSequenceClassification.from_pretrained(given.model, num_labels=len(classes))
    )
    collate = transformers.DataCollatorWithPadding(tokenizer)
    settings = transformers.TrainingArguments(
        f"{given.out}-checkpoints", num_train_epochs=given.epochs, learning_rate=given.learning_rate, warmup_steps=0.1,
        per_device_train_batch_size=16, eval_strategy="epoch", save_strategy="epoch", report_to=[], disable_tqdm=True,
    )  # fmt: skip
    trainer = trainer_for(model, settings, collate, rows, dev)
    trainer.train()

    def known(part: list[dict]) -> whence.Dataset:
        return as_dataset(part, collate, texts="text", classes=classes)

    out = given.out if trainer.is_world_process_zero() else None
    run = whence.Run(model, known(rows), dev=known(dev), out=out, replace=True)
    if trainer.is_world_process_zero():
        scores = whence.influence(run, "dev")
        helpful = [scores.rows.names[row] for row in scores.top(3).rows[0]]
        print(f"{dev[0]['text']!r}: the training texts that help most are {', '.join(helpful)}")
        print(f"{len(whence.audit(run).issues)} labels are suspected; report: {whence.report(run)}")
    return run


if __name__ == "__main__":
    main()
