"""Make a BERT of two layers and random weights, tiny-bert/, and reviews.csv, in which one label of twenty is wrong.

They stand in for an encoder and texts of your own where nothing can be downloaded. The last column has the true label.

python examples/tiny_bert.py
"""

import csv
import random
from pathlib import Path

import torch
import transformers

praise = ["good", "great", "lovely", "fine", "moving", "funny"]
blame = ["bad", "poor", "awful", "dull", "slow", "silly"]
words = ["the", "film", "plot", "cast", "music", "was", "and", *praise, *blame]
draw = random.Random(0)
with open("reviews.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["id", "text", "label", "truth"])
    for row in range(400):
        truth, other = draw.sample(["pos", "neg"], 2)
        first, second = draw.sample(praise if truth == "pos" else blame, 2)
        label = other if draw.random() < 0.05 else truth
        table.writerow([f"review-{row}", f"the {draw.choice(words[1:5])} was {first} and {second}", label, truth])

folder = Path("tiny-bert")
folder.mkdir(exist_ok=True)
(folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=32).save_pretrained(folder)
torch.manual_seed(0)
config = transformers.BertConfig(
    vocab_size=5 + len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
    max_position_embeddings=32,
)  # fmt: skip
transformers.BertModel(config).save_pretrained(folder)
