"""How fast training with masks and scores of masks are, as ratios within one process.

    python -m benchmarks.speed [--sections demo,step,masks,scale,compiled] [--threads 2] [--repeats 5]

    demo   the size of the authors' demonstration (Kobayashi et al. 2020): 3,000 training instances × 200 targets, a perceptron
           784-768-768-768-10 without biases, masks behind the first and the third hidden layer. Exact scores in float32 and with
           bfloat16 products, and first-order scores (as by default, and not softened), preparation included, against the plain
           loop (``whence.estimators.reference``: two forward passes for each training instance) on 100 of the instances, times
           30. Error: standard deviation of the difference from the plain loop's scores, in standard deviations of these.
    step   a training step (forward, backward, AdamW) of a perceptron 784-512-512-10 at batch 128 with turn-over dropout behind both
           hidden layers, and of a head 384-1024-2 on MiniLM's features at batch 32, against ordinary dropout in the same places.
    compiled   both steps under torch.compile(fullgraph=True), which refuses graph breaks. Needs a C++ compiler; not in the short
           set.
    masks  bits of masks per second and core, 4,096 ids × 1,024 units, at keep rates ½ and ¼.
    scale  first-order scores of 10⁴, 10⁵ and 10⁶ training instances × 1,000 targets behind a layer of 1,024 masked units, in blocks
           of 4,096 of which only the mean over targets is kept: seconds beside those of the bare product of [N, 1,024] and
           [1,024, 1,000], and the peak memory of a process that does nothing else, data included (16 features).

Pictures and weights are random: what is timed does not depend on their values. What is compared is taken in turns, --repeats times
(steps: 200 times); printed are medians of the ratios with their quartiles. Writes results/speed.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from benchmarks.paper.material import RESULTS
from benchmarks.peak_memory import peak_bytes
from torch import nn
from torch.nn.functional import cross_entropy

import whence
from whence.estimators.first_order import FirstOrder
from whence.estimators.reference import reference
from whence.estimators.turnover import Turnover
from whence.masks import keep_bits

SECTIONS = ("demo", "step", "masks", "scale")
SAMPLE, TRAIN, TARGETS, STEPS = 100, 3000, 200, 200
COUNTS = (10_000, 100_000, 1_000_000)
NETWORKS = (
    ("perceptron 784-512-512-10, batch 128", [784, 512, 512, 10], 128, ""),
    ("head 384-1024-2 on MiniLM's features, batch 32", [384, 1024, 2], 32, "head_"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    file = RESULTS / "speed.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for section in arguments.sections.split(","):
        found |= {"demo": demo, "step": step, "compiled": compiled, "masks": masks, "scale": scale}[section](
            arguments.repeats
        )
    found |= {"threads": arguments.threads, "torch": torch.__version__}
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def demo(repeats: int) -> dict[str, Any]:
    """Exact and first-order scores against the plain loop."""
    run, sample = (perceptron_run(count) for count in (TRAIN, SAMPLE))
    targets = run.splits["test"]
    ways: dict[str, Callable[[], np.ndarray]] = {
        "exact": lambda: Turnover(run, targets, run.loss).block(0, TRAIN),
        "exact, bfloat16": lambda: Turnover(run, targets, run.loss, precision="bfloat16").block(0, TRAIN),
        "first_order": lambda: FirstOrder(run, targets, run.loss).block(0, TRAIN),
        "first_order, not softened": lambda: FirstOrder(run, targets, run.loss, softened=False).block(0, TRAIN),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ("reference", *ways)}
    for _ in range(repeats):
        took, expected = timed(lambda: reference(sample, targets))
        seconds["reference"].append(took * TRAIN / SAMPLE)
        scores = {}
        for name, way in ways.items():
            took, scores[name] = timed(way)
            seconds[name].append(took)
    errors = {name: float((scores[name][:SAMPLE] - expected).std() / expected.std()) for name in ways}
    print(f"{TRAIN:,} × {TARGETS}: the plain loop takes {np.median(seconds['reference']):.1f} s")
    found = {}
    for name, key in zip(ways, ("exact", "exact_bfloat16", "first_order", "first_order_plain"), strict=True):
        ratios = np.divide(seconds["reference"], seconds[name])
        found |= {f"{key}_vs_reference": float(np.median(ratios)), f"{key}_error": errors[name]}
        print(
            f"  {name:<25} {np.median(seconds[name]):7.3f} s   {quartiles(ratios, 1)} times as fast   error {errors[name]:.1e}",
            flush=True,
        )
    return found


def step(repeats: int) -> dict[str, Any]:
    """Training steps with masks next to those with ordinary dropout."""
    return {f"{key}step_vs_dropout": step_ratio(name, widths, batch) for name, widths, batch, key in NETWORKS}


def compiled(repeats: int) -> dict[str, Any]:
    """The same under torch.compile, which is told to refuse graph breaks."""
    of = partial(torch.compile, fullgraph=True)
    return {
        f"compiled_{key}step_vs_dropout": step_ratio(f"compiled without graph breaks, {name}", widths, batch, of)
        for name, widths, batch, key in NETWORKS
    }


def step_ratio(name: str, widths: list[int], batch: int, of: Callable[[nn.Module], Any] = lambda model: model) -> float:
    """The median of how many times as long a step with masks takes."""
    masked, ordinary = (hidden_dropout(widths, bias=True) for _ in range(2))
    whence.attach(masked)
    took = step_seconds([of(masked), of(ordinary)], widths, batch)
    ratios = took[:, 0] / took[:, 1]
    print(f"{name}: a step with ordinary dropout takes {1e3 * np.median(took[:, 1]):.2f} ms; with masks "
          f"{quartiles(ratios, 3)} times that")  # fmt: skip
    return float(np.median(ratios))


def step_seconds(models: list[Any], widths: list[int], size: int) -> np.ndarray:
    """Of models in turns: [steps, models]."""
    both = [(model.train(), torch.optim.AdamW(model.parameters())) for model in models]
    generator, seconds = torch.Generator().manual_seed(0), []
    for _ in range(STEPS + 10):
        batch = (
            torch.rand(size, widths[0], generator=generator),
            torch.randint(widths[-1], (size,), generator=generator),
        )
        ids = torch.randint(0, 2**62, (size,), generator=generator)
        seconds.append([one_step(model, optimizer, *batch, ids) for model, optimizer in both])
    return np.array(seconds[10:])


def masks(repeats: int) -> dict[str, Any]:
    """Bits per second, on one core."""
    threads, found = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    ids = np.arange(4096) * 7919
    for keep in (0.5, 0.25):
        seconds = [
            timed(lambda keep=keep: keep_bits(ids, 1024, seed=0, layer="hidden", keep=keep))[0]
            for _ in range(4 * repeats)
        ]
        rate = len(ids) * 1024 / float(np.median(seconds))
        found[f"bits_per_second_keep_{keep:g}"] = rate
        print(f"masks at keep rate {keep:g}: {rate / 1e9:.2f}·10⁹ bits per second and core")
    torch.set_num_threads(threads)
    return found


def scale(repeats: int) -> dict[str, Any]:
    """First-order scores as the number of training instances grows, each in a process of its own."""
    found: dict[str, Any] = {}
    for count in COUNTS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            seconds, bare, peak = pool.submit(first_order_of, count, torch.get_num_threads()).result()
        found |= {
            f"first_order_seconds_{count}": seconds,
            f"first_order_vs_product_{count}": seconds / bare,
            f"first_order_gib_{count}": peak,
            "peak_gib": max(peak, found.get("peak_gib", 0.0)),
        }
        print(f"first order, {count:,} × 1,000 × 1,024 units: {seconds:.2f} s, {seconds / bare:.2f} times the bare product; "
              f"peak {peak:.2f} GiB", flush=True)  # fmt: skip
    return found


def first_order_of(count: int, threads: int) -> tuple[float, float, float]:
    """Seconds of scores, of their bare product, and the peak memory of this process in GiB (not on Windows)."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = whence.attach(nn.Sequential(nn.Linear(16, 1024), nn.ReLU(), nn.Linear(1024, 10)), "1")
    random = np.random.default_rng(0)
    x, y = random.random((count + 1000, 16), np.float32), random.integers(0, 10, count + 1000)
    test = np.arange(count, count + 1000)
    run = whence.Run(model.eval(), (np.arange(count), x[:count], y[:count]), test=(test, x[test], y[test]))
    sums = np.zeros(count)

    def work() -> None:
        estimator = FirstOrder(run, run.splits["test"], run.loss, softened=False)
        for start in range(0, count, 4096):
            block = estimator.block(start, min(start + 4096, count))
            sums[start : start + len(block)] = block.mean(1)

    seconds, _ = timed(work)
    left, right = torch.rand(4096, 1024), torch.rand(1024, 1000)
    bare = min(timed(lambda: left @ right)[0] for _ in range(10)) * count / 4096
    return seconds, bare, peak_bytes() / 2**30


def one_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor, ids: torch.Tensor
) -> float:
    """Seconds of a training step."""
    began = time.perf_counter()
    optimizer.zero_grad()
    with whence.own(ids):
        loss = cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return time.perf_counter() - began


def perceptron_run(count: int) -> whence.Run:
    model = hidden_dropout([784, 768, 768, 768, 10], bias=False)
    whence.attach(model, ["2", "7"])
    random = np.random.default_rng(0)
    x, y = random.random((TRAIN + TARGETS, 784), np.float32), random.integers(0, 10, TRAIN + TARGETS)
    test = np.arange(TRAIN, TRAIN + TARGETS)
    return whence.Run(model.eval(), (np.arange(count), x[:count], y[:count]), test=(test, x[test], y[test]))


def hidden_dropout(widths: list[int], *, bias: bool) -> nn.Sequential:
    """Linear, ReLU, Dropout (0.5) for each hidden layer; linear."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in zip(widths[:-2], widths[1:-1], strict=True):
        layers += [nn.Linear(before, after, bias=bias), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=bias))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def quartiles(values: np.ndarray, digits: int) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main()
