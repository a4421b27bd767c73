"""Do two runs that differ in nothing but their seed agree on who helps? Digits, 1,446 training instances, 172 targets.

    python benchmarks/agreement.py [--pairs 3]

Prints, for each method, the Spearman correlation of the scores of two runs: per target (mean over targets), and of the mean
influence on dev; mean ± standard deviation over pairs of seeds. Then the same for 20 groups with a mask each.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from scipy.stats import spearmanr

import whence

METHODS = ("turnover", "first_order", "kernel", "kronecker")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    pairs = parser.parse_args().pairs
    data = whence.load("digits")
    report("instances", data, METHODS, pairs)
    report("20 groups", replace(data, groups=data.ids % 20), ("turnover", "first_order"), pairs)


def report(title: str, data: whence.Dataset, methods: tuple[str, ...], pairs: int) -> None:
    """Print the agreement of each method over pairs of seeds (0, 1), (2, 3), …"""
    runs = [trained(data, seed) for seed in range(2 * pairs)]
    print(
        f"{title}, mlp:512,512, last hidden layer masked, 20 epochs, {pairs} pairs of seeds: per target · mean on dev"
    )
    for method in methods:
        found = np.array([agreement(runs[2 * pair], runs[2 * pair + 1], method) for pair in range(pairs)])
        cells = [f"{values.mean():.3f} ± {values.std(ddof=1) if pairs > 1 else 0:.3f}" for values in found.T]
        print(f"  {method:<12} {' · '.join(cells)}")


def trained(data: whence.Dataset, seed: int) -> whence.Run:
    model, encoded = whence.prepare(data, "mlp:512,512", seed=seed)
    return whence.fit(model, encoded, seed=seed, device="cpu")


def agreement(first: whence.Run, second: whence.Run, method: str) -> tuple[float, float]:
    """Spearman correlation per target on test (mean), and of the mean influence on dev."""
    a, b = (np.asarray(whence.influence(run, "test", method=method)) for run in (first, second))
    per_target = np.mean([spearmanr(a[:, m], b[:, m])[0] for m in range(a.shape[1])])
    means = [whence.influence(run, "dev", method=method).mean_over_targets() for run in (first, second)]
    return float(per_target), float(spearmanr(*means)[0])


if __name__ == "__main__":
    main()
