"""Is what means nothing called significant, and are published scores of single instances said to be noise?

    python benchmarks/null.py [--seeds 5]

5,000 pictures of Fashion-MNIST, MLP 784-512-512-10 with turn-over dropout after the last hidden activation (512 masked units), 20
epochs, published (turn-over) scores on 200 test pictures. Three sets of ids are scored on each trained network:

    own          the ids that were trained on
    reshuffled   the same ids, dealt to other instances after training
    strangers    ids that were never trained on: the null as it is defined

Printed, mean ± standard deviation over seeds of the network: the share of mean effects of rows, and of single pairs, with
p < .05 (chance: 5 %), how many rows and pairs have q at most .05, and the p-value and verdict of the noise floor.

Then 20,000 masks that were never trained on are scored, of the same networks and of digits (MLP 64-512-512-10, defaults of
``whence fit``). Twenty times a network, 512 of them are the null and others, drawn without replacement, stand for the rows.
Printed: in how many of these sets the scores as a whole are more than chance (nominal: 1 %), some row is called, some group of
ten rows is called, some pair is called (5 %, at q at most .05). Then effects are planted in such rows: so many rows gain so
many standard deviations of the null on all targets. Last, effects are planted in single pairs, 20 anywhere or 20 in each of five
rows, which gain or lose so many: which share of them is called, and which share of what is called was not planted (nominal: 5 %).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from statistics import mean, stdev

import numpy as np
import torch

import peer_settings as settings
import whence
from whence.scores import Labels

WIDTHS = (784, 512, 512, 10)
ROWS, TARGETS = 5000, 200
STRANGERS, DRAWS = 20_000, 20
PLANTED = ((1, 10), (1, 100), (10, 10), (100, 3), (300, 1), (1000, 0.2))  # of 1,000 rows, so many standard deviations
PLANTED_PAIRS = ((1000, 10), (1000, 100), (5, 10), (5, 100))  # 20 pairs anywhere, or in each of 5 rows; deviations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    found: dict[str, list[whence.Scores]] = {"own": [], "reshuffled": [], "strangers": []}
    pools: dict[str, list[np.ndarray]] = {"Fashion-MNIST": [], "digits": []}
    for seed in range(seeds):
        pictures = fashion(seed)
        for ids, scores in scored(*pictures, seed).items():
            found[ids].append(scores)
        pools["Fashion-MNIST"].append(strangers(whence.Run(pictures[0], pictures[1], test=pictures[2])))
        pools["digits"].append(
            strangers(whence.fit(*whence.prepare(whence.load("digits"), "mlp:512,512", seed=seed), seed=seed))
        )
    print(
        f"{ROWS:,} instances, 512 masked units, {seeds} seeds: p < .05 among means of rows, among pairs; called; the noise floor"
    )
    for ids, runs in found.items():
        rows = [one.significance() for one in runs]
        pairs = [one.significance("pairs") for one in runs]
        floors = [one.noise_floor() for one in runs]
        said = Counter(floor.verdict().split(":")[0].split(",")[0] for floor in floors)
        verdicts = ", ".join(f"{verdict} ({count})" for verdict, count in said.items())
        print(f"  {ids:<11} {percent([(one.p < 0.05).mean() for one in rows])}   "
              f"{percent([one.counts(0.05).mean() / ROWS for one in pairs])}   "
              f"{', '.join(str(len(one.called())) for one in rows)} rows, "
              f"{', '.join(str(one.discoveries().sum()) for one in pairs)} pairs   "
              f"{verdicts}; p {', '.join(f'{floor.p_value:.2g}' for floor in floors)}")  # fmt: skip
    for name, of_networks in pools.items():
        false_alarms(name, of_networks)
    for name, of_networks in pools.items():
        power(name, of_networks)
        power_of_pairs(name, of_networks)


def false_alarms(name: str, pools: list[np.ndarray]) -> None:
    """Print in how many sets of what means nothing something is said to mean something."""
    for rows in (300, 5000):
        whole, row, group, pair, pairs = np.mean(
            [
                [
                    not scores.noise_floor().is_noise,
                    len(scores.significance().called()) > 0,
                    len(scores.significance("groups", groups=np.arange(rows) % (rows // 10)).called()) > 0,
                    (count := scores.significance("pairs").discoveries().sum()) > 0,
                    count / np.prod(scores.shape),
                ]
                for scores in drawn(pools, rows)
            ],
            axis=0,
        )
        print(f"{name}, {rows:,} masks without meaning, {DRAWS * len(pools)} sets: as a whole {whole:.2f}, some row {row:.2f}, "
              f"some group of ten {group:.2f}, some pair {pair:.2f} ({1e5 * pairs:.1f} of 100,000)")  # fmt: skip


def power(name: str, pools: list[np.ndarray]) -> None:
    """Print in how many sets planted effects are seen, and which share of them is called."""
    for strong, size in PLANTED:
        seen = []
        for scores in drawn(pools, 1000):
            scores.memory[0][:strong] += size * scores.null.std(axis=0)
            called = scores.significance().called()
            seen.append([not scores.noise_floor().is_noise, len(called) > 0, (called < strong).sum() / strong])
        whole, some, share = np.mean(seen, axis=0)
        print(
            f"{name}, {strong:,} of 1,000 rows + {size} sd: as a whole {whole:.2f}, some row {some:.2f}, called {share:.2f} of them"
        )


def power_of_pairs(name: str, pools: list[np.ndarray]) -> None:
    """Print which share of planted pairs is called, and which share of called pairs was not planted, means over sets."""
    generator = np.random.default_rng(0)
    for rows, size in PLANTED_PAIRS:
        found, false = [], []
        for scores in drawn(pools, 1000):
            planted = np.zeros(scores.shape, bool)
            if rows == len(planted):
                planted.ravel()[generator.choice(planted.size, 20, replace=False)] = True
            else:
                for row in planted[:rows]:
                    row[generator.choice(len(row), 20, replace=False)] = True
            signs = generator.choice([-1, 1], planted.shape)
            scores.memory[0] += planted * signs * (size * scores.null.std(axis=0))
            top = scores.significance("pairs").top(1000)
            hits = planted[top["row"], top["column"]][top["q"] <= 0.05]
            found.append(hits.sum() / planted.sum())
            false.append((~hits).mean() if len(hits) else 0)
        where = "20 pairs anywhere" if rows == 1000 else f"20 pairs of each of {rows} rows"
        print(
            f"{name}, {where} ± {size} sd: called {mean(found):.3f} of them; not planted {mean(false):.3f} of those called"
        )


def drawn(pools: list[np.ndarray], rows: int) -> Iterator[whence.Scores]:
    """Sets of masks without meaning [rows, M], each against 512 others."""
    for network, pool in enumerate(pools):
        generator = np.random.default_rng(network)
        for _ in range(DRAWS):
            chosen = pool[generator.choice(len(pool), rows + 512, replace=False)]
            labels = [Labels(np.arange(count), [""] * count) for count in (rows, pool.shape[1])]
            yield whence.Scores(*labels, {"block_rows": rows}, memory={0: chosen[512:].copy()}, null=chosen[:512])


def strangers(run: whence.Run) -> np.ndarray:
    """Published scores of masks that were never trained on, float32 [20,000, M]."""
    null = whence.influence(run, "test", method="turnover", null_masks=STRANGERS).null
    assert null is not None
    return null


def fashion(seed: int) -> tuple[torch.nn.Module, tuple, tuple]:
    """A network, and the training and test instances: (ids, inputs, labels)."""
    x, y, test_x, test_y = settings.fashion(ROWS, TARGETS)
    model = settings.turnover_mlp(WIDTHS, seed)
    settings.train(model, x, y, seed, torch.arange(ROWS))
    return model, (np.arange(ROWS), x, y), (settings.FIRST_TARGET_ID + np.arange(TARGETS), test_x, test_y)


def scored(model: torch.nn.Module, train: tuple, test: tuple, seed: int) -> dict[str, whence.Scores]:
    """Published scores by three sets of ids."""
    sets = {"own": np.arange(ROWS), "reshuffled": np.random.default_rng(seed).permutation(ROWS),
            "strangers": 1_000_000 + np.arange(ROWS)}  # fmt: skip
    return {
        name: whence.influence(whence.Run(model, (ids, *train[1:]), test=test), "test", method="turnover")
        for name, ids in sets.items()
    }


def percent(shares: list[float]) -> str:
    return f"{100 * mean(shares):.1f} ± {100 * stdev(shares) if len(shares) > 1 else 0:.1f} %"


if __name__ == "__main__":
    main()
