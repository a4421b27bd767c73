"""How far can published scores be trusted before anything is trained? The law behind ``whence.resolution``, measured.

    python benchmarks/resolution.py [digits | ARRAYS.npz] [--instances 3000] [--seeds 4] [--json CELLS.jsonl]

Training instances are dealt into N groups at random, so that only the number of masks changes, and a model with D masked
units is trained for each seed 0, 1, … (masks, weights and order). Printed for each N and D: the Spearman correlation of
the published scores of two runs per target, averaged over targets and pairs of runs; the same for means over two runs each;
the share of signal that the runs' own noise floors state; and what the law foretells.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

import whence
from whence.evaluation import agreement

IDS = (10, 30, 100, 300, 1000, 3000)
UNITS = (128, 512, 2048)
TARGETS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="digits")
    parser.add_argument("--instances", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--json", type=Path, help="a line of JSON for each cell is added to this file")
    options = parser.parse_args()
    data = whence.load(options.data, limit=options.instances)
    rows = int((data.splits == "train").sum())
    print(
        f"{Path(options.data).stem}, {rows:,} training instances, mlp:512,D, last hidden layer masked, {options.seeds} seeds"
    )
    print("    ids  units  agreement  foretold (range)      of 2-run means  foretold  signal share")
    for ids in IDS:
        for units in UNITS if ids <= rows else ():
            cell = measured(data, ids, units, options.seeds)
            one, two = (whence.resolution(rows, units, runs=runs, groups=ids) for runs in (1, 2))
            print(f"{ids:>7,} {units:>6,} {cell['agreement']:>10.3f} {one.agreement:>9.3f} ({one.low:.3f}–{one.high:.3f}) "
                  f"{cell['of_two']:>15.3f} {two.agreement:>9.3f} {cell['signal']:>13.3f}", flush=True)  # fmt: skip
            if options.json is not None:
                with options.json.open("a") as file:
                    file.write(json.dumps({"data": Path(options.data).stem, "rows": rows, **cell}) + "\n")


def measured(data: whence.Dataset, ids: int, units: int, seeds: int) -> dict[str, float]:
    """Agreement of runs that differ in nothing but their seed, with N ids dealt at random."""
    dealt = replace(data, groups=np.random.default_rng(0).permutation(len(data)) % ids)
    runs = []
    for seed in range(seeds):
        model, encoded = whence.prepare(dealt, f"mlp:512,{units}", seed=seed)
        run = whence.fit(model, encoded, seed=seed, device="cpu")
        test = run.splits["test"]
        runs.append(whence.influence(run, test.select(np.arange(min(TARGETS, len(test)))), method="turnover"))
    pairs = list(combinations(range(seeds), 2))
    single = [agreement(runs[a], runs[b]).value for a, b in pairs]
    halves = [(pair, rest) for pair in pairs for rest in pairs if pair < rest and not set(pair) & set(rest)]
    double = [agreement(*(whence.ensemble([runs[a], runs[b]]) for a, b in sides)).value for sides in halves]
    shares = [scores.noise_floor().signal for scores in runs]
    return {"ids": ids, "units": units, "seeds": seeds, "agreement": float(np.mean(single)),
            "of_two": float(np.mean(double)) if double else float("nan"), "signal": float(np.mean(shares))}  # fmt: skip


if __name__ == "__main__":
    main()
