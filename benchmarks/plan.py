"""What ``whence plan`` foretells, next to what training and scores then cost.

    python -m benchmarks.plan [--sets digits,fashion,reviews,pictures,groups] [--threads 2]

    digits     scikit-learn's digits, mlp:512,512, 20 epochs
    fashion    Fashion-MNIST, 60,000 training pictures (a tenth of them dev), mlp:512,512, 5 epochs, on 10,000 test pictures
    reviews    SST-2's sentences, ngrams:256, 5 epochs
    pictures   2,000 pictures of Fashion-MNIST, vgg:8,16,64, 3 epochs, on 500
    groups     multi-domain reviews in groups of domains, ngrams:256, 3 epochs

Each foretelling and each thing foretold has a process of its own. Scores are by "auto" on the test split, or without one on
dev, the matrix kept. Printed are foretold / found: seconds of ``fit``, of ``influence``, peak memory of the process that fits and
scores, bytes of the run's directory and of its scores. Writes results/plan.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from benchmarks.full_size import alone
from benchmarks.paper.material import RESULTS, data_file
from benchmarks.peak_memory import peak_bytes

import whence
from whence.data import Source
from whence.models import prepare
from whence.planning import plan

SETS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "digits": ("digits", {}, "mlp:512,512", {"epochs": 20}),
    "fashion": ("fashion_mnist.npz", {}, "mlp:512,512", {"epochs": 5}),
    "reviews": ("sst2_sentences.tsv.gz", {"text": "sentence", "label": "label"}, "ngrams:256", {"epochs": 5}),
    "pictures": ("fashion_mnist.npz", {"limit": 2000}, "vgg:8,16,64", {"epochs": 3}),
    "groups": ("multidomain_sentiment.tsv.gz", {"text": "text", "label": "label", "group": "domain"}, "ngrams:256", {"epochs": 3}),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    file = RESULTS / "plan.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name in arguments.sets.split(","):
        with tempfile.TemporaryDirectory() as folder:
            said = alone(foretell, name, arguments.threads)
            had = alone(measure, name, folder, arguments.threads)
        found[name] = {key: {"foretold": said[key], "found": had[key], "ratio": said[key] / had[key]} for key in had}
        print(f"{name:<9} planning took {said['planning']:.0f} s;  foretold / found:", ", ".join(
            f"{key.replace('_', ' ')} {row['ratio']:.2f} ({row['found']:.3g})" for key, row in found[name].items()
        ), flush=True)  # fmt: skip
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def prepared(name: str, threads: int) -> tuple[Any, Any, Any, dict[str, Any]]:
    torch.set_num_threads(threads)
    path, options, model, training = SETS[name]
    source = Source(path if path == "digits" else data_file(path), **options)
    return source, *prepare(source.load(), model), training


def foretell(name: str, threads: int) -> dict[str, float]:
    _, model, data, training = prepared(name, threads)
    began = time.perf_counter()
    costs = plan(whence.Run(model, data), trial=True, options=training).costs
    assert costs is not None
    return {"fit_seconds": costs.fit_seconds, "score_seconds": costs.score_seconds, "memory": costs.memory,
            "run_bytes": costs.run_bytes, "score_bytes": costs.score_bytes, "planning": time.perf_counter() - began}  # fmt: skip


def measure(name: str, folder: str, threads: int) -> dict[str, float]:
    """Not on Windows."""

    source, model, data, training = prepared(name, threads)
    out = Path(folder) / "run"
    began = time.perf_counter()
    run = whence.fit(model, data, out=out, source=source, **training)
    trained = time.perf_counter()
    run_bytes = size(out)
    began_scores = time.perf_counter()
    scores = whence.influence(run, "test" if "test" in run.splits else "dev")
    ended = time.perf_counter()
    assert scores.path is not None
    peak = peak_bytes()
    return {"fit_seconds": trained - began, "score_seconds": ended - began_scores, "memory": peak,
            "run_bytes": run_bytes, "score_bytes": size(scores.path)}  # fmt: skip


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
