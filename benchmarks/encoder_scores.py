"""Do scores of a fine-tuned encoder foretell retraining it? Linear datamodeling scores of kernel and kronecker.

    python benchmarks/encoder_scores.py [--encoder FOLDER] [--sets sst2,ag_news] [--subsets 40] [--seeds 2] [--truth FOLDER]

600 training texts, 150 targets, at most 40 tokens. Each set's model is trained again on --subsets random halves
(``whence.evaluation.retrain``, one training each, the recipe of the scored run) and the mean over targets of Spearman(sum of
scores over the half, − loss after retraining) is printed for --seeds scored models, of other seeds than the retrained ones, with
the seconds of processor time of the scores. "Moving" is kronecker with directions of how tokens move the outputs, which costs
backward passes. Retrainings are kept in FOLDER.

    sst2      SST-2, 600 sentences from the 3,000th on, targets the first of dev; placement updates, the default
    ag_news   AG News, 600 texts from the 1,000th on, targets the first of test; placement adapter
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import whence
from halves import by, report
from real_data import minilm, shared_data
from whence.estimators import parts, reading

SETS = {
    "sst2": ("sst2_sentences.tsv.gz", "sentence", "dev", 3000, "updates"),
    "ag_news": ("ag_news_10k.tsv.gz", "text", "test", 1000, "adapter"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--subsets", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--truth", type=Path, default=Path("benchmarks/results/encoder_truth"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.sets.split(","):
        encoder, (*_, targets, _, placement) = arguments.encoder or minilm(), SETS[name]
        report(f"{name}, placement {placement}", partial(trained, name, encoder), targets, METHODS, subsets=arguments.subsets,
               retrainings=1, seeds=arguments.seeds, folder=arguments.truth / name)  # fmt: skip


def trained(name: str, encoder: str, seed: int) -> whence.Run:
    file, column, targets, first, placement = SETS[name]
    texts = whence.load(shared_data() / file, text=column, label="label")
    train, test = np.flatnonzero(texts.splits == "train")[first : first + 600], np.flatnonzero(texts.splits == targets)
    model, data = whence.prepare(
        texts.select(np.concatenate([train, test[:150]])), encoder, masked=placement, seed=seed, max_length=40
    )
    return whence.fit(model, data, seed=seed, device="cpu", exposure_limit=1)


@contextmanager
def moving() -> Iterator[None]:
    """While it lasts, layers that read tokens are compared by how they move the outputs, too."""
    usual = reading.part_for

    def part_for(kind: Any, reads: torch.Tensor, moves: torch.Tensor, **options: Any) -> parts.Part:
        if kind != "tokens":
            return usual(kind, reads, moves, **options)
        basis = parts.principal(reads[:, 0], 256)
        return parts.Factored(reads[:, 0], moves, basis, per_class=options["per_class"])

    with mock.patch.object(reading, "part_for", part_for):
        yield


def with_moves(run: whence.Run, targets: str) -> Any:
    with moving():
        return whence.influence(run, targets, method="kronecker")


METHODS = {"kernel": by("kernel"), "kronecker": by("kronecker"), "kronecker, moving": with_moves}


if __name__ == "__main__":
    main()
