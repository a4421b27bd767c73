"""A table that commands are given, and options that train on it quickly."""

from __future__ import annotations

import csv

import numpy as np


def write_table(path, n=150, seed=0, delimiter=",", bad=None):
    """Reviews with two informative features; ids are words, every fifth row is test."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        good = generator.random() < 0.5
        words = generator.choice(["good", "great", "lovely"] if good else ["bad", "poor", "awful"], 2)
        rows.append({"id": f"r{i}", "text": f"the film was {words[0]} and {words[1]}", "x": generator.normal(2 * good), "z": generator.normal(),
                     "source": f"s{i % 6}", "split": "test" if i % 5 == 0 else "dev" if i % 5 == 1 else "train",
                     "label": "pos" if good else "neg"})  # fmt: skip
    if bad:
        bad(rows)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


QUICK = ("--epochs", 6, "--model", "mlp:32", "--learning-rate", 0.01)
