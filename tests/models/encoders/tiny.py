"""Encoders small enough to train in a test, saved as safetensors, and texts that they can learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers")

WORDS = ["the", "film", "was", "and", "plot", "actor", "scene", "good", "great", "lovely", "fine", "bad", "poor", "awful",
         "dull", "is", "a", "remake", "of"]  # fmt: skip
SIZES = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64,
         "max_position_embeddings": 40}  # fmt: skip
PLACEMENTS = ["updates", "adapter", "lora", "frozen", "head", "dropouts"]
QUICK = {"device": "cpu", "epochs": 8, "learning_rate": 3e-3}


def save_encoder(folder, kind="bert", **changes):
    """An encoder of two layers, 32 wide, of random weights, with a tokenizer whose words are ``WORDS``."""
    folder.mkdir(parents=True, exist_ok=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join([*special, *WORDS]), encoding="utf-8")
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=10**30)
    if kind in ("distilbert", "roberta"):
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    settings = {"vocab_size": len(special) + len(WORDS), "pad_token_id": 0, **SIZES, **changes}
    if kind == "roberta":
        settings["pad_token_id"] = 1
    config = transformers.AutoConfig.for_model(kind, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_reviews(path, n=120, *, pairs=False, seed=0):
    """A table with text (and second), label, id and split; of pairs, the label is whether both are of one opinion."""
    generator = np.random.default_rng(seed)
    good, bad = WORDS[7:11], WORDS[11:15]

    def review(positive):
        return f"the {generator.choice(WORDS[4:7])} was {' and '.join(generator.choice(good if positive else bad, 2))}"

    lines = ["id\ttext\tsecond\tlabel\tsplit" if pairs else "id\ttext\tlabel\tsplit"]
    for row in range(n):
        positive, same = generator.random() < 0.5, generator.random() < 0.5
        split = "dev" if row % 4 == 0 else "train"
        if pairs:
            lines.append(
                f"r{row}\t{review(positive)}\t{review(positive == same)}\t{'same' if same else 'other'}\t{split}"
            )
        else:
            lines.append(f"r{row}\t{review(positive)}\t{'pos' if positive else 'neg'}\t{split}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
