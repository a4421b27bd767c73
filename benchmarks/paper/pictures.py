"""S2 of Kobayashi et al. (2020): a VGG on CIFAR-10 with turn-over dropout, against ordinary dropout in the same places.

    python -m benchmarks.paper.pictures [--seeds 3] [--model vgg:16,32,64,256] [--train 10000] [--epochs 20]
                                        [--places none,fc,conv,both]

10,000 pictures of CIFAR-10 (the first official batch), shifted and mirrored at random, 1,000 test pictures as dev and 3,000
others as test; AdamW at 1e-3 falling to zero, batches of 64, bfloat16. Dropout at rate one half behind the ReLU of the hidden
layer (fc), of all convolutions (conv: whole channels), both, or nowhere. Ordinary dropout is the same layer with a new mask for
each picture and step: its loop gives random ids in place of the pictures' own. Everything else, initial weights and order
included, is the same.

Prints accuracy and loss of the full network on test and dev; with turn-over dropout also the mean losses of 2,000 training
pictures under their own and flipped masks at the end, and isolation, (flipped − own) / (dev − own); mean ± standard deviation
over seeds. Draws docs/figures/exposure_pictures.svg from the losses after each epoch (masks in the hidden layer). A finished
training is a line of results/paper_pictures.jsonl.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.paper.exposure import NAMES, spread
from benchmarks.paper.figures import Curve, line_chart
from benchmarks.paper.material import RESULTS, Results, data_file

import whence
from whence.data.images import unpack_sheet
from whence.options import TrainingOptions
from whence.schedule import Schedule
from whence.subnetworks import losses, probabilities

FIGURE = Path(__file__).resolve().parents[2] / "docs" / "figures" / "exposure_pictures.svg"
PLACES = {"fc": "body.*", "conv": "features.relu*", "both": "*relu*"}
TURN_OVER, ORDINARY = "turn-over", "ordinary"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model", default="vgg:16,32,64,256")
    parser.add_argument("--train", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--places", default="none,fc,conv,both")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results, rows = Results(RESULTS / "paper_pictures.jsonl"), []
    for seed in range(arguments.seeds):
        for place in arguments.places.split(","):
            for kind in (ORDINARY,) if place == "none" else (TURN_OVER, ORDINARY):
                settings = {"model": arguments.model, "train": arguments.train, "epochs": arguments.epochs, "place": place,
                            "dropout": kind, "seed": seed}  # fmt: skip
                rows.append(results.once(settings, lambda settings=settings: trained(settings)))
                print({k: v for k, v in rows[-1].items() if k != "history"}, flush=True)
    table(rows)
    if followed := [row for row in rows if (row["place"], row["dropout"]) == ("fc", TURN_OVER)]:
        FIGURE.write_text(figure(followed), encoding="utf-8")
        print(FIGURE)


def cifar(train: int) -> whence.Dataset:
    """CIFAR-10 pictures with splits train, dev and test."""
    sheets = [unpack_sheet(data_file(f"cifar10/{name}.webp"), 32, 32) for name in ("train_1", "test")]
    pictures = np.concatenate([sheets[0][:train], sheets[1][:4000]])
    with np.load(data_file("cifar10/labels.npz")) as file:
        labels = np.concatenate([file["y_train"][:train], file["y_test"][:4000]]).astype(np.int64)
        names = [str(name) for name in file["class_names"]]
    splits = np.array(["train"] * train + ["dev"] * 1000 + ["test"] * 3000, dtype=object)
    data = whence.Dataset.of((np.arange(len(labels)), pictures, labels))
    return replace(data, splits=splits, task=whence.data.Classification(tuple(names)))


def trained(settings: dict[str, Any]) -> dict[str, Any]:
    """Accuracy and losses at the end of one training; of turn-over dropout after each epoch too."""
    place, seed = settings["place"], settings["seed"]
    model, data = whence.prepare(
        cifar(settings["train"]), settings["model"], masked=PLACES.get(place, "body.*"), seed=seed
    )
    chosen: dict[str, Any] = {"epochs": settings["epochs"], "seed": seed, "augment": "crop+flip", "autocast": "bfloat16",
                              "device": "cpu"}  # fmt: skip
    if settings["dropout"] == TURN_OVER:
        run = whence.fit(model, data, **chosen)
        return {**judged(run), "history": run.history, **whence.subnetworks.exposure(run)}
    run = whence.Run(model, data)
    ordinary(run, TrainingOptions(**chosen), masked=place != "none")
    return judged(run)


def ordinary(run: whence.Run, options: TrainingOptions, masked: bool) -> None:
    """Train as ``whence.fit`` does, with new masks for each picture and step, or without masks."""
    schedule = Schedule(run.train, options)
    optimizer = torch.optim.AdamW(run.model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    ids, step = torch.Generator().manual_seed(options.seed), 0
    run.model.train()
    for epoch in range(options.epochs):
        for (batch,) in schedule.batches(epoch, skip=0):
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate(step)
            optimizer.zero_grad()
            strangers = torch.randint(2**62, (len(batch.rows),), generator=ids)
            with whence.own(strangers) if masked else whence.full(), torch.autocast("cpu", torch.bfloat16):
                given = run.model(batch.inputs)
                run.loss(given.float(), batch.targets).mean().backward()
            optimizer.step()
            step += 1
    run.model.eval()


def judged(run: whence.Run) -> dict[str, float]:
    """Of the full network, on test and dev."""
    found = {}
    for split in ("test", "dev"):
        data = run.dataset(split)
        found[f"{split} accuracy"] = float((probabilities(run, data).argmax(1) == data.targets).mean())
        found[f"{split} loss"] = float(losses(run, "full", data).mean())
    return found


def table(rows: list[dict[str, Any]]) -> None:
    """Mean ± standard deviation over seeds, in Markdown."""
    columns = ["test accuracy", "test loss", "dev loss", "own_loss", "flipped_loss", "isolation"]
    print("\n| dropout | " + " | ".join(columns) + " |\n" + "| --- " * (len(columns) + 1) + "|")
    for place, kind in dict.fromkeys((row["place"], row["dropout"]) for row in rows):
        mine = [row for row in rows if (row["place"], row["dropout"]) == (place, kind)]
        cells = [spread([row[name] for row in mine]) if name in mine[0] else "" for name in columns]
        print(f"| {'none' if place == 'none' else f'{kind}, {place}'} | " + " | ".join(cells) + " |")


def figure(rows: list[dict[str, Any]]) -> str:
    """Mean losses after each epoch, over seeds."""
    epochs, curves = [float(point["epoch"]) for point in rows[0]["history"]], []
    for name, written in NAMES.items():
        values = np.array([[point[f"{name}_loss"] for point in row["history"]] for row in rows])
        curves.append(Curve(name, written, epochs, values.mean(0), values.min(0), values.max(0)))
    title = f"CIFAR-10, {rows[0]['train']:,} pictures: mean loss (nats) after each epoch"
    return line_chart(curves, title, "epoch")


if __name__ == "__main__":
    main()
