"""How fast training with masks and scores of masks are, as ratios within one process.

    python -m benchmarks.speed [--sections demo,step] [--threads 2] [--repeats 5]

    demo   the size of the authors' demonstration (Kobayashi et al. 2020): 3,000 training instances × 200 targets, a perceptron
           784-768-768-768-10 without biases, masks behind the first and the third hidden layer. Exact scores in float32 and with
           bfloat16 products, and first-order scores, preparation included, against the plain loop (``whence.estimators.reference``:
           two forward passes for each training instance) on 100 of the instances, times 30. Error: standard deviation of the
           difference from the plain loop's scores, in standard deviations of these.
    step   a training step (forward, backward, AdamW) of a perceptron 784-512-512-10 at batch 128 with turn-over dropout behind both
           hidden layers, against ordinary dropout in the same places.

Pictures and weights are random: what is timed does not depend on their values. What is compared is taken in turns, --repeats times
(steps: 200 times); printed are medians of the ratios with their quartiles. Writes results/speed.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from benchmarks.paper.material import RESULTS
from torch import nn
from torch.nn.functional import cross_entropy

import whence
from whence.estimators.first_order import FirstOrder
from whence.estimators.reference import reference
from whence.estimators.turnover import Turnover

SECTIONS = ("demo", "step")
SAMPLE, TRAIN, TARGETS, STEPS = 100, 3000, 200, 200


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
        found |= {"demo": demo, "step": step}[section](arguments.repeats)
    found |= {"threads": arguments.threads, "torch": torch.__version__}
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def demo(repeats: int) -> dict[str, Any]:
    """Exact and first-order scores against the plain loop."""
    run, sample = (perceptron_run(count) for count in (TRAIN, SAMPLE))
    targets = run.splits["test"]
    ways: dict[str, Callable[[], np.ndarray]] = {
        "exact": lambda: Turnover(run, targets, run.loss).block(0, TRAIN),
        "exact, bfloat16": lambda: Turnover(run, targets, run.loss, precision="bfloat16").block(0, TRAIN),
        "first_order": lambda: FirstOrder(run, targets, run.loss, softened=False).block(0, TRAIN),
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
    for name, key in (("exact", "exact"), ("exact, bfloat16", "exact_bfloat16"), ("first_order", "first_order")):
        ratios = np.divide(seconds["reference"], seconds[name])
        found |= {f"{key}_vs_reference": float(np.median(ratios)), f"{key}_error": errors[name]}
        print(
            f"  {name:<16} {np.median(seconds[name]):7.3f} s   {quartiles(ratios, 1)} times as fast   error {errors[name]:.1e}",
            flush=True,
        )
    return found


def step(repeats: int) -> dict[str, Any]:
    """A training step with masks next to one with ordinary dropout."""
    masked, ordinary = (hidden_dropout([784, 512, 512, 10], bias=True) for _ in range(2))
    whence.attach(masked)
    both = [(model.train(), torch.optim.AdamW(model.parameters())) for model in (masked, ordinary)]
    generator, seconds = torch.Generator().manual_seed(0), []
    for _ in range(STEPS + 10):
        batch = torch.rand(128, 784, generator=generator), torch.randint(0, 10, (128,), generator=generator)
        ids = torch.randint(0, 2**62, (128,), generator=generator)
        seconds.append([one_step(model, optimizer, *batch, ids) for model, optimizer in both])
    took = np.array(seconds[10:])
    ratios = took[:, 0] / took[:, 1]
    print(
        f"a step with ordinary dropout takes {1e3 * np.median(took[:, 1]):.2f} ms; with masks {quartiles(ratios, 3)} times that"
    )
    return {"step_vs_dropout": float(np.median(ratios))}


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
