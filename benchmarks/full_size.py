"""Scores at full size: every training picture of Fashion-MNIST on every test picture, next to their bare matrix products.

    python -m benchmarks.full_size [--methods turnover,first_order,kernel,kronecker] [--threads 2] [--repeats 3]

A perceptron 784-512-512-10 of 5 epochs, masks on the last hidden layer, on all 60,000 × 10,000. Asked for: the ten most helpful
and harmful training pictures of each test picture, the mean influence of each training picture, and that of groups of them (the
classes). Each method has a process of its own, and starts from the run's directory. Timed is the whole ``influence`` with its
preparation, files and rankings; the run is opened before. Bare are the products that the scores themselves are made of, done once,
in tiles of 4,096 rows into the same memory:

    turnover      [N, 512] × [512, 9 · M]: what each mask leaves of each class's distance from the label
    first_order   [N, 512] × [512, M]
    kernel        [N, 513] × [513, M], residuals [N, 10] × [10, M], and features squared, [513, N] × [N, 513]
    kronecker     per class and layer: its N_c instances, by what the layer reads and by what it moves, × its M_c targets; the
                  curvatures, N_c heavy instances by what the layer reads, squared; and the two ridge models that say what the model
                  would say of an instance unseen, N instances by the features of each, squared to learn and again to leave out

all with columns rounded up to 16, as such are multiplied faster. Passes through the network are not counted.

Prints seconds, their ratio and the peak memory of the process, data included; writes full_size_vs_products and the peaks into
results/speed.json. Medians of --repeats.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from benchmarks.paper.material import RESULTS, data_file
from benchmarks.peak_memory import peak_bytes
from benchmarks.speed import timed

import whence
from whence.estimators.base import round_up
from whence.estimators.curvatures import matters
from whence.estimators.kronecker import Kronecker
from whence.models import prepare

METHODS = ("turnover", "first_order", "kernel", "kronecker")
WIDTH, CLASSES, TILE = 512, 10, 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", help="a run that an earlier call left there, or where to leave it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(arguments.run or folder) / "run"
        if not (run / "run.json").exists():
            alone(train, run, arguments.threads)
        found = {}
        for method in arguments.methods.split(","):
            made = [alone(measure, run, method, arguments.threads) for _ in range(arguments.repeats)]
            seconds, bare = (median(row[key] for row in made) for key in ("seconds", "bare"))
            ratio, of_best = (median(row["seconds"] / row[key] for row in made) for key in ("bare", "best"))
            peak = max(row["peak_gib"] for row in made)
            found[method] = {
                "ratio": ratio,
                "ratio_of_best": of_best,
                "seconds": seconds,
                "bare": bare,
                "peak_gib": peak,
            }
            print(f"{method:<12} {seconds:6.1f} s, {ratio:.2f} times the bare products ({bare:.1f} s), {of_best:.2f} if all their "
                  f"tiles were as fast as the fastest; peak {peak:.2f} GiB", flush=True)  # fmt: skip
    file = RESULTS / "speed.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    before["full_size_vs_products"] = {**before.get("full_size_vs_products", {}), **found}
    file.write_text(json.dumps(before, indent=1) + "\n", encoding="utf-8")


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """What a new process makes of it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def train(out: Path, threads: int) -> None:
    """On all training pictures: the first 1,000 test pictures serve as dev."""
    torch.set_num_threads(threads)
    with np.load(data_file("fashion_mnist.npz")) as file:
        pictures = {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.with_name("fashion.npz")
    np.savez(path, **pictures, x_dev=pictures["x_test"][:1000], y_dev=pictures["y_test"][:1000])
    source = whence.data.Source(str(path))
    model, data = prepare(source.load(), "mlp:512,512", masked="last")
    whence.fit(model, data, out=out, source=source, epochs=5, seed=0)


def measure(path: Path, method: str, threads: int) -> dict[str, float]:
    """Seconds of scores and of their bare products, and the peak memory of this process in GiB (not on Windows)."""
    torch.set_num_threads(threads)
    run = whence.open_run(path)
    classes = run.train.targets

    def work() -> None:
        with tempfile.TemporaryDirectory(dir=path) as name:
            scores = whence.influence(run, "test", method=method, keep_matrix=False, keep_top=10, name=Path(name).name)
            for harmful in (False, True):
                scores.top(10, harmful=harmful)
            scores.mean_over_targets()
            scores.mean_over_targets(groups=classes)

    seconds, _ = timed(work)
    peak = peak_bytes() / 2**30
    bare, best = np.sum([product_seconds(*shape) for shape in products(run, method)], axis=0)
    return {"seconds": seconds, "bare": float(bare), "best": float(best), "peak_gib": peak}


def products(run: whence.Run, method: str) -> list[tuple[int, int, int]]:
    """The shapes of what is multiplied: rows, inner, columns."""
    n, m = len(run.train), len(run.splits["test"])
    if method == "turnover":
        return [(n, WIDTH, m)] * (CLASSES - 1)
    if method == "first_order":
        return [(n, WIDTH, m)]
    if method == "kernel":
        return [(n, WIDTH + 1, m), (n, CLASSES, m), (n, WIDTH + 1, round_up(WIDTH + 1))]
    estimator = Kronecker(run, run.splits["test"], run.loss)
    features = next(estimator.reading.features(run.train))
    first, both = features.first.shape[1], features.first.shape[1] + features.others.shape[1]
    shapes = [(n, first, round_up(first)), (n, both, round_up(both)), (n, both, round_up(both + CLASSES + 1))]
    asked = matters(estimator.residuals).sum(0).tolist()
    heavy = estimator.demand.heavy
    for c, rows in enumerate(asked):
        for part in estimator.reading.parts:
            shapes.append((rows, *part.asked.of(c, slice(None)).shape))
            if getattr(part, "moved", None):
                shapes.append((rows, *part.moved.of(c, slice(None)).shape))
            shapes.append((int(heavy[estimator.demand.shared[c]]), part.width, round_up(part.width)))
    return shapes


def product_seconds(rows: int, inner: int, columns: int) -> tuple[float, float]:
    """Of a product alone, all of it, in tiles of rows into the same memory; and what it would be if all were as the fastest."""
    height = min(TILE, rows)
    left, right, out = torch.rand(height, inner), torch.rand(inner, columns), torch.empty(height, columns)
    torch.mm(left, right, out=out)
    sizes = [min(TILE, rows - top) for top in range(0, rows, TILE)]
    seconds = [timed(partial(torch.mm, left[:size], right, out=out[:size]))[0] for size in sizes]
    return sum(seconds), min(took / size for took, size in zip(seconds, sizes, strict=True)) * rows


if __name__ == "__main__":
    main()
