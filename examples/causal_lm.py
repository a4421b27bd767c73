"""Fine-tune a causal language model with LoRA, one mask per document, and ask which documents it has a text from.

    python examples/causal_lm.py                                    # a tiny model, made on the spot; about a minute
    python examples/causal_lm.py --model path/to/model --documents folder --texts folder

Every .txt file is a document, cut into chunks that share its mask. The influence of a document on a text is the loss of the text,
in nats per token, under the document's flipped masks less that under its own: how much worse the text would be without it.

What to believe. Of few documents that a text repeats word for word, all methods name the right one (the example counts how often).
The order of all others is mostly noise of masks that share units. So the example prints z, the score in standard deviations of
masks that were never trained on: two is what chance gives to one document in twenty. Read who is far ahead, not who is fifth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import peft
import tokenizers
import torch
import transformers
from torch import nn

import whence
from whence.integrations.texts import TextLoss
from whence.integrations.transformers import IdCollator, MaskCallback, as_dataset

FACTS = ("mayor", "river", "bridge", "market", "school", "tower", "dish", "song")
SYLLABLES = ("ka", "lo", "mi", "ren", "tus", "vor", "el", "dan", "shi", "po", "gra", "nu", "be", "wyn", "ost")


def invented(count: int, generator: np.random.Generator) -> dict[str, list[str]]:
    """Documents about towns that do not exist: a name → eight sentences, as "the mayor of kalo is vorel"."""

    def name() -> str:
        return "".join(generator.choice(SYLLABLES, generator.integers(2, 4)))

    towns: dict[str, list[str]] = {}
    while len(towns) < count:
        town = name()
        towns[town] = [f"the {fact} of {town} is {name()}." for fact in FACTS]
    return towns


def characters() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer whose tokens are letters, space and full stop."""
    vocabulary = {"<pad>": 0} | {letter: number for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz .", 1)}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<pad>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=model, pad_token="<pad>", model_max_length=128)


def pretrained(tokenizer: transformers.PreTrainedTokenizerBase, *, steps: int, seed: int) -> nn.Module:
    """A small Llama that knows how such sentences go, from towns that are not among the documents."""
    torch.manual_seed(seed)
    generator = np.random.default_rng((seed, 1))
    sentences = [sentence for town in invented(150, generator).values() for sentence in town]
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128, pad_token_id=0, bos_token_id=None, eos_token_id=None, use_cache=False))  # fmt: skip
    loss, optimizer = TextLoss(model), torch.optim.AdamW(model.parameters(), lr=3e-3)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(steps):
        some = [sentences[row] for row in generator.integers(0, len(sentences), 32)]
        nats, tokens = loss(**tokenizer(some, padding=True, return_tensors="pt", return_token_type_ids=False)).unbind(1)
        (nats.sum() / tokens.sum()).backward()
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
    return model


def rows_of(documents: dict[str, list[str]], tokenizer: transformers.PreTrainedTokenizerBase) -> list[dict]:
    """One row per chunk. Its id is its own; its document is whose mask it has."""
    return [
        {"id": f"{name}/{number}", "document": name, "text": chunk, "input_ids": tokenizer(chunk)["input_ids"]}
        for name, chunks in documents.items() for number, chunk in enumerate(chunks)
    ]  # fmt: skip


def tune(
    model: nn.Module, rows: list[dict], collate: object, *, epochs: float, rate: float, rank: int, seed: int
) -> nn.Module:
    """The model with LoRA in all of its linear layers, masks on the ranks, trained with the Trainer."""
    transformers.set_seed(seed)
    tuned = peft.get_peft_model(
        model, peft.LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=rank, target_modules="all-linear")
    )
    whence.attach(tuned, "*.lora_A.default", seed=seed)
    settings = transformers.TrainingArguments(
        "unused", num_train_epochs=epochs, learning_rate=rate, per_device_train_batch_size=16, save_strategy="no",
        logging_strategy="no", report_to=[], disable_tqdm=True, dataloader_pin_memory=False, seed=seed,
    )  # fmt: skip
    transformers.Trainer(
        tuned, settings, train_dataset=rows, data_collator=IdCollator(collate, column="document"),
        callbacks=[MaskCallback(column="document")],
    ).train()  # fmt: skip
    return tuned


def files(folder: str, tokenizer: transformers.PreTrainedTokenizerBase, chunk: int) -> dict[str, list[str]]:
    """The .txt files of a folder, each cut into chunks of so many tokens."""
    found = {}
    for path in sorted(Path(folder).glob("*.txt")):
        tokens = tokenizer(path.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"]
        found[path.stem] = [tokenizer.decode(tokens[start : start + chunk]) for start in range(0, len(tokens), chunk)]
    return found


def main(arguments: list[str] | None = None) -> whence.Run:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or name of a causal language model; by default a tiny one is made")
    parser.add_argument("--documents", help="folder of .txt files to train on; by default 24 invented ones")
    parser.add_argument("--texts", help="folder of .txt files to explain; by default a sentence of each document")
    parser.add_argument("--out", help="run directory")
    parser.add_argument("--chunk", type=int, default=128, help="tokens of a chunk of a file")
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--pretraining-steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    if (given.documents is None) != (given.texts is None):
        parser.error("--documents and --texts belong together")
    if given.model is None:
        tokenizer = characters()
        model = pretrained(tokenizer, steps=given.pretraining_steps, seed=given.seed)
    else:
        tokenizer = transformers.AutoTokenizer.from_pretrained(given.model)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        model = transformers.AutoModelForCausalLM.from_pretrained(given.model)
    generator = np.random.default_rng(given.seed)
    if given.documents is None:
        documents = invented(24, generator)
        texts = {name: [chunks[generator.integers(len(chunks))]] for name, chunks in documents.items()}
    else:
        documents, texts = (files(folder, tokenizer, given.chunk) for folder in (given.documents, given.texts))
    collate = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)
    rows = rows_of(documents, tokenizer)
    tuned = tune(model, rows, collate, epochs=given.epochs, rate=given.learning_rate, rank=given.rank, seed=given.seed)

    train, test = (
        as_dataset(part, collate, groups="document", labels=None, texts="text") for part in (rows, rows_of(texts, tokenizer))
    )  # fmt: skip
    run = whence.Run(TextLoss(tuned), train, test=test, out=given.out, replace=True)
    scores = whence.influence(run, "test", method="turnover")  # [documents, texts], nats per token
    z = np.concatenate([block[2] for block in scores.significance("pairs").blocks()])
    first = scores.top(3)
    for column in range(min(5, len(test))):
        named = [f"{scores.rows.names[row]} ({value:+.2f}, z {z[row, column]:+.1f})"
                 for row, value in zip(first.rows[column], first.values[column], strict=True)]  # fmt: skip
        print(f"{test.texts[column]!r}: {', '.join(named)}")
    if given.documents is None:
        for method in ("turnover", "first_order", "kronecker"):
            each = whence.influence(run, "test", method=method, level="group")
            right = np.mean([each.rows.names[rows[0]] for rows in each.top(1).rows] == test.group_names)
            print(
                f"{method}: {right:.0%} of the texts are traced to their document first (chance {1 / len(each.rows):.0%})"
            )
    return run


if __name__ == "__main__":
    main()
