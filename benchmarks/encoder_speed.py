"""What masks cost an encoder's training, and what scores cost next to it.

    python benchmarks/encoder_speed.py [--encoder FOLDER] [--steps 40] [--placements updates,adapter,frozen] [--scores]

Prints seconds of processor time, one thread: a training step (16 sentences of SST-2, forward, backward, AdamW) with turn-over
dropout and with ordinary dropout in the same places and at the same rate, taken in turns in one process, median over --steps of
each, and their ratio with the quartiles of the ratios of neighboring steps. With --scores also: training on all 6,920
sentences by the default placement with its default options, and scores of all of them for all 872 sentences of dev by the default
estimator, as a share of that.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import whence
from real_data import minilm, shared_data
from whence.forward import outputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--placements", default="updates,adapter,frozen")
    parser.add_argument("--scores", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder = arguments.encoder or minilm()
    texts = whence.load(shared_data() / "sst2_sentences.tsv.gz", text="sentence", label="label")
    texts = texts.select(np.isin(texts.splits, ["train", "dev"]))
    for placement in filter(None, arguments.placements.split(",")):
        steps(texts, encoder, placement, arguments.steps)
    if arguments.scores:
        scores(texts, encoder)


def steps(texts: whence.Dataset, encoder: str, placement: str, count: int) -> None:
    """A step with masks next to one with ordinary dropout."""
    data: Any = None
    both = []
    for ordinary in (False, True):
        model, data = whence.prepare(texts.select(np.arange(16 * (count + 5))), encoder, masked=placement, seed=0)
        for layer in whence.attached(model).values() if ordinary else ():
            layer.forward = dropout_like(layer)  # type: ignore[method-assign]
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        both.append((model.train(), torch.optim.AdamW(trained, lr=1e-5)))
    seconds = np.array([[step(*each, batch) for each in both] for batch in batches(data)])[5:]  # the first warm up
    masked, ordinary_seconds = np.median(seconds, axis=0)
    ratios = seconds[:, 0] / seconds[:, 1]
    low, high = np.quantile(ratios, [0.25, 0.75])
    print(
        f"{placement}: a step with masks {1e3 * masked:.1f} ms, with ordinary dropout {1e3 * ordinary_seconds:.1f} ms, "
        f"ratio {np.median(ratios):.3f} (quartiles {low:.3f} to {high:.3f})",
        flush=True,
    )


def dropout_like(layer: whence.TurnOverDropout) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda features: F.dropout(features, 1 - layer.keep, layer.training)


def batches(data: whence.Dataset) -> Iterable[Any]:
    return (data.batch(np.arange(start, start + 16)) for start in range(0, len(data), 16))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> float:
    began = time.process_time()
    optimizer.zero_grad()
    with whence.own(batch.mask_ids):
        F.cross_entropy(outputs(model, batch.inputs), batch.targets).backward()
    optimizer.step()
    return time.process_time() - began


def scores(texts: whence.Dataset, encoder: str) -> None:
    """Training by default, and all scores by default."""
    model, data = whence.prepare(texts, encoder, seed=0)
    began = time.process_time()
    run = whence.fit(model, data, seed=0, device="cpu")
    trained = time.process_time() - began
    began = time.process_time()
    found = whence.influence(run, "dev")
    scored = time.process_time() - began
    print(
        f"scores {found.shape[0]:,} × {found.shape[1]:,} by {found.info['method']}: {scored:.0f} s, "
        f"{100 * scored / trained:.1f} % of the {trained:.0f} s of training",
        flush=True,
    )


if __name__ == "__main__":
    main()
