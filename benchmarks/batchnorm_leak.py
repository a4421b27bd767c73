"""What an instance leaves in the sub-network of its flipped mask: by layers without masks, and by batch normalization.

    python -m benchmarks.batchnorm_leak [--trainings 12] [--removed 20] [--train 600] [--epochs 12] [--model vgg:8,16,32,64]

600 pictures of CIFAR-10 train a VGG, then again and again without 20 of them, in the same order and from the same weights. What
a removed picture had taught shows in its losses: under its own mask, L_own without it − L_own with it, and under its flipped mask
likewise. Their ratio, means over all removed pictures, is the leak: 0 if the flipped sub-network never heard of the picture, 1
if it learned as much as the one that was trained on it. Masks behind the ReLU of the hidden layer, or behind all (whole channels
of convolutions); with batch normalization, and with none in its place.

Where all units are masked and nothing is normalized, no weight of the flipped sub-network ever has a gradient from the picture,
and only the head's bias is left. Batch normalization takes means and deviations over the batch, of all channels, the flipped
mask's too: they move the other pictures' gradients, and are what the network normalizes by when it is asked. Prints the leak and
its standard error over trainings.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from benchmarks.paper.pictures import cifar
from torch import nn

import whence
from whence.subnetworks import losses

PLACES = {"hidden layer": "body.*", "all layers": "*relu*"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, default=12)
    parser.add_argument("--removed", type=int, default=20)
    parser.add_argument("--train", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--model", default="vgg:8,16,32,64")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| masks behind | normalization | learned under own mask (nats) | under flipped mask | leak |")
    print("| --- | --- | --- | --- | --- |")
    for place in PLACES:
        for normalized in (True, False):
            own, flipped = learned(arguments, place, normalized)  # (trainings,)
            leak = flipped.sum() / own.sum()
            error = np.std(flipped - leak * own, ddof=1) / np.sqrt(len(own)) / own.mean()
            print(f"| {place} | {'batch' if normalized else 'none'} | {own.mean():.3f} | {flipped.mean():.4f} | "
                  f"{leak:.3f} ± {error:.3f} |", flush=True)  # fmt: skip


def learned(arguments: argparse.Namespace, place: str, normalized: bool) -> tuple[np.ndarray, np.ndarray]:
    """For each training without some pictures, how much lower their mean losses are with them: own and flipped masks."""
    data = cifar(arguments.train).split("train")
    whole = trained(arguments, data, place, normalized, np.empty(0, np.int64))
    before = {mask: losses(whole, mask) for mask in ("own", "flipped")}
    found: dict[str, list[float]] = {"own": [], "flipped": []}
    for number in range(arguments.trainings):
        rows = np.random.default_rng(number).permutation(arguments.train)[: arguments.removed]
        without = trained(arguments, data, place, normalized, rows)
        for mask in ("own", "flipped"):
            after = losses(without, mask, data.select(rows))
            found[mask].append(float((after - before[mask][rows]).mean()))
    return np.array(found["own"]), np.array(found["flipped"])


def trained(
    arguments: argparse.Namespace, data: whence.Dataset, place: str, normalized: bool, rows: np.ndarray
) -> whence.Run:
    """A training in which some pictures are skipped, and all else is as without them."""
    model, _ = whence.prepare(data, arguments.model, masked=PLACES[place], seed=0)
    if not normalized:
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.BatchNorm2d):
                holder, _, child = name.rpartition(".")
                setattr(model.get_submodule(holder), child, nn.Identity())
    run: Any = whence.Run(model, data)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    everything, removed = data.batch(np.arange(len(data))), torch.zeros(len(data), dtype=torch.bool)
    removed[rows] = True
    model.train()
    for epoch in range(arguments.epochs):
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(epoch))
        for batch in order.split(64):
            kept = batch[~removed[batch]]
            optimizer.zero_grad()
            with whence.own(everything.mask_ids[kept]):
                given = model(everything.inputs[kept])
                (run.loss(given, everything.targets[kept]).sum() / len(batch)).backward()
            optimizer.step()
    model.eval()
    return run


if __name__ == "__main__":
    main()
