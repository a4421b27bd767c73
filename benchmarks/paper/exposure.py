"""S1 of Kobayashi et al. (2020): during training, the loss under an instance's own mask falls below that of unseen
data, and the loss under its flipped mask stays with it, as if the instance had not been trained on.

    python -m benchmarks.paper.exposure [--seeds 2] [--placement adapter] [--points 4] [--phrases] [--encoder FOLDER]

Trains MiniLM on SST-2's 6,920 sentences (with --phrases on the 67,349 phrases and sentences of GLUE) with the options that
whence recommends for the placement of masks, in a loop of its own. At --points evenly spaced steps of each epoch it measures mean
losses: of 300 training instances, the same at each point, under own masks, flipped masks and the full network, and of all 872 dev
sentences by the full network. After the last step, also on 2,000 training instances.

Prints the end values beside the paper's (BERT: 0.145, 0.31, 0.28), mean ± standard deviation over seeds, and draws
docs/figures/exposure.svg. A finished seed is a line of results/paper_exposure.jsonl and is not trained again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.paper.figures import Curve, line_chart
from benchmarks.paper.material import RESULTS, Results, chosen_encoder, data_file, encoder_option

import whence
from whence.forward import outputs
from whence.options import TrainingOptions
from whence.schedule import Schedule
from whence.subnetworks import losses

FIGURE = Path(__file__).resolve().parents[2] / "docs" / "figures" / "exposure.svg"
PAPER = {"own": 0.145, "flipped": 0.31, "dev": 0.28}
NAMES = {"own": "own mask", "flipped": "flipped mask", "full": "full network", "dev": "dev (unseen)"}
FOLLOWED, MOST_AT_END = 300, 2000  # training instances: at each point, and after the last step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    encoder_option(parser)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--placement", default="adapter")
    parser.add_argument("--points", type=int, default=4, help="measurements in each epoch")
    parser.add_argument("--epochs", type=int, help="by default as recommended for the placement")
    parser.add_argument("--phrases", action="store_true", help="67,349 phrases in place of 6,920 sentences")
    parser.add_argument("--limit", type=int, help="of training instances, for a quick look")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    name = "sst2_glue.tsv.gz" if arguments.phrases else "sst2_sentences.tsv.gz"
    texts = whence.load(data_file(name), text="sentence", label="label", split="split", limit=arguments.limit)
    texts = texts.select(np.isin(texts.splits, ["train", "dev"]))
    encoder, results = chosen_encoder(arguments), Results(RESULTS / "paper_exposure.jsonl")
    rows = []
    for seed in range(arguments.seeds):
        settings = {
            "data": name,
            "train": len(texts.split("train")),
            "placement": arguments.placement,
            "points": arguments.points,
            "epochs": arguments.epochs,
            "seed": seed,
        }
        rows.append(results.once(settings, lambda seed=seed: trained(texts, encoder, arguments, seed)))
        print(f"seed {seed}: " + ", ".join(f"{n} {v:.3f}" for n, v in rows[-1]["end"].items()), flush=True)
    table(rows)
    if arguments.limit is None and not arguments.phrases and arguments.placement == "adapter":
        FIGURE.parent.mkdir(parents=True, exist_ok=True)
        FIGURE.write_text(figure(rows), encoding="utf-8")
        print(FIGURE)


def trained(texts: whence.Dataset, encoder: str, arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Losses along one training and at its end."""
    model, data = whence.prepare(texts, encoder, masked=arguments.placement, seed=seed)
    given = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    options = TrainingOptions(**{**model.whence_options, **given, "seed": seed})
    run = whence.Run(model, data)
    random = np.random.default_rng(0)  # the same instances for all seeds
    sample = run.train.select(np.sort(random.permutation(len(run.train))[:FOLLOWED]))
    began, measuring, curves = time.process_time(), 0.0, []
    for epoch in training(run, options, arguments.points):
        measured_from = time.process_time()
        curves.append({"epoch": epoch, **measured(run, sample)})
        measuring += time.process_time() - measured_from
        print(f"  epoch {epoch:.2f}: " + ", ".join(f"{n} {curves[-1][n]:.3f}" for n in NAMES), flush=True)
    seconds = time.process_time() - began - measuring
    rows = np.sort(random.permutation(len(run.train))[:MOST_AT_END])
    return {"curves": curves, "end": measured(run, run.train.select(rows)), "training_seconds": round(seconds, 1),
            "dev_accuracy": accuracy(run, "dev")}  # fmt: skip


def training(run: whence.Run, options: TrainingOptions, points: int) -> Iterator[float]:
    """Train as ``whence.fit`` does, stopping at some points of each epoch: yields how many epochs are done."""
    schedule = Schedule(run.train, options)
    weights = [parameter for parameter in run.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=options.learning_rate, weight_decay=options.weight_decay)
    stops = {round(schedule.steps_per_epoch * (number + 1) / points) for number in range(points)}
    yield 0.0
    step = 0
    for epoch in range(options.epochs):
        run.model.train()
        for done, (batch,) in enumerate(schedule.batches(epoch, skip=0), start=1):
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate(step)
            optimizer.zero_grad()
            with whence.own(batch.mask_ids):
                run.loss(outputs(run.model, batch.inputs), batch.targets).mean().backward()
            optimizer.step()
            step += 1
            if done in stops:
                yield epoch + done / schedule.steps_per_epoch
    run.model.eval()


def measured(run: whence.Run, sample: whence.Dataset) -> dict[str, float]:
    """Mean losses of training instances under three masks, and of dev by the full network."""
    found = {mask: float(losses(run, mask, sample).mean()) for mask in ("own", "flipped", "full")}
    return {**found, "dev": float(losses(run, "full", run.dataset("dev")).mean())}


def accuracy(run: whence.Run, split: str) -> float:
    """The share of a split that the full network gets right."""
    data = run.dataset(split)
    return float((whence.subnetworks.probabilities(run, data).argmax(1) == data.targets).mean())


def table(rows: list[dict[str, Any]]) -> None:
    """End values beside the paper's, in Markdown."""
    print(f"\n{rows[0]['train']:,} training instances of {rows[0]['data']}, {rows[0]['placement']}, {len(rows)} seeds")
    print("| loss at the end | here | paper (BERT) |\n| --- | --- | --- |")
    for name, written in NAMES.items():
        print(f"| {written} | {spread([row['end'][name] for row in rows])} | {PAPER.get(name, '')} |")
    print(f"| accuracy on dev | {spread([row['dev_accuracy'] for row in rows])} | |")


def spread(values: list[float]) -> str:
    """Mean ± standard deviation."""
    array = np.array(values)
    return f"{array.mean():.3f}" + (f" ± {array.std(ddof=1):.3f}" if len(array) > 1 else "")


def figure(rows: list[dict[str, Any]]) -> str:
    """Mean curves over seeds, with the paper's end values at the right edge."""
    epochs = [point["epoch"] for point in rows[0]["curves"]]
    curves = []
    for name, written in NAMES.items():
        values = np.array([[point[name] for point in row["curves"]] for row in rows])
        curves.append(Curve(name, written, epochs, values.mean(0), values.min(0), values.max(0), PAPER.get(name)))
    title = f"SST-2, {rows[0]['train']:,} sentences: mean loss (nats) during training"
    return line_chart(curves, title, "epoch")


if __name__ == "__main__":
    main()
