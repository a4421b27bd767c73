"""Scores on a GPU, as ratios within one process.

    python -m benchmarks.gpu [--device cuda] [--sections fused,scores] [--rows 1280000] [--targets 1000]

    fused    masks drawn inside the product (``whence.estimators.fused``) of 65,536 ids × 4,096 units × 4,096 targets, next to the
             plain product of the same shape, both in bfloat16 with sums in float32: its share of the plain product's rate, at
             keep rates ½ and ¼; and whether the result is that of masks drawn by NumPy
    scores   kernel and kronecker of --rows × --targets behind a perceptron 256-1024-1024-100, of which means and the ten extremes
             per target are kept, and first_order in bfloat16: seconds, and the most memory that the card held

Weights and data are random: what is timed does not depend on their values. Prints the card's name; writes results/gpu.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from benchmarks.paper.material import RESULTS
from benchmarks.speed import hidden_dropout, timed

import whence
from whence.estimators import fused
from whence.masks import exact_keep, keep_bits, mask_key

SECTIONS = ("fused", "scores")
IDS, UNITS, TARGETS = 65_536, 4_096, 4_096
WIDTHS = [256, 1024, 1024, 100]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--rows", type=int, default=1_280_000)
    parser.add_argument("--targets", type=int, default=1_000)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    print(card)
    file = RESULTS / "gpu.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if "fused" in arguments.sections:
        found.setdefault(card, {}).update(fused_product(device))
    if "scores" in arguments.sections:
        found.setdefault(card, {}).update(scores(device, arguments.rows, arguments.targets))
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def fused_product(device: torch.device) -> dict[str, float]:
    if not fused.available(device):
        raise SystemExit("no Triton for this device")
    generator = torch.Generator(device).manual_seed(0)
    matrix = torch.randn(UNITS, TARGETS, generator=generator, device=device).bfloat16()
    left = torch.randn(IDS, UNITS, generator=generator, device=device).bfloat16()
    ids = torch.arange(IDS, device=device) * 7919
    plain = rate(lambda: left @ matrix, device)
    found = {}
    for keep in (0.5, 0.25):
        q, key = exact_keep(keep), mask_key(0, "hidden")
        share = rate(lambda q=q, key=key: fused.mask_product(ids, matrix, key, q), device) / plain
        some = fused.mask_product(ids[:256], matrix, key, q).double().cpu().numpy()
        bits = keep_bits(ids[:256].cpu().numpy(), UNITS, seed=0, layer="hidden", keep=keep)
        error = np.abs(some - (bits - q) @ matrix.double().cpu().numpy()).max() / some.std()
        found[f"fused_vs_plain_keep_{keep:g}"] = share
        print(
            f"fused at keep rate {keep:g}: {share:.2f} of the plain product's {plain / 1e12:.0f} TFLOP/s; largest error {error:.1e}"
        )
    return found


def rate(work: Callable[[], Any], device: torch.device) -> float:
    """Floating-point operations per second of the product: the best of ten."""

    def whole() -> None:
        work()
        torch.cuda.synchronize(device)

    whole()
    return 2 * IDS * UNITS * TARGETS / min(timed(whole)[0] for _ in range(10))


def scores(device: torch.device, rows: int, targets: int) -> dict[str, float]:
    model = hidden_dropout(WIDTHS, bias=True)
    whence.attach(model, ["5"])
    random = np.random.default_rng(0)
    x, y = random.random((rows + targets, WIDTHS[0]), np.float32), random.integers(0, WIDTHS[-1], rows + targets)
    test, found = np.arange(rows, rows + targets), {}
    with tempfile.TemporaryDirectory() as folder:
        data = (np.arange(rows), x[:rows], y[:rows])
        run = whence.Run(model.eval().to(device), data, test=(test, x[test], y[test]), out=f"{folder}/run")
        for method, options in (("first_order", {"precision": "bfloat16"}), ("kernel", {}), ("kronecker", {})):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            seconds, _ = timed(
                lambda method=method, options=options: whence.influence(
                    run, "test", method=method, keep_matrix=False, keep_top=10, **options
                )
            )
            held = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
            found |= {f"{method}_seconds": seconds, f"{method}_gib": held}
            print(f"{method:<12} {rows:,} × {targets:,}: {seconds:.1f} s; {held:.2f} GiB on the card", flush=True)
    return found


if __name__ == "__main__":
    main()
