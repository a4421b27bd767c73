"""Which groups does ``whence.group_effects`` say to harm, and are they the corrupted ones: the setting of ``peer_groups.py``.

    python benchmarks/group_effects.py [--seeds 3] [--null NETWORKS] [--pairs SEEDS] [--means SEEDS]

3,000 Fashion-MNIST images in 10, 30 and 100 groups, half of the labels of a fifth of the groups replaced at random. A group is
called harmful by

    published   published turn-over below chance, q at most 0.05, two-sided
    kernel      summed kronecker score below zero, without any test
    agreed      the verdict of group_effects: both, p being counted on the kernel's side

Printed over seeds: recall (called of the corrupted) and precision (corrupted of the called). With --null, also how often any
of 20 groups is called whose masks were never trained on: small networks on Gaussian clusters, 60 draws of groups each. With
--pairs, also for how many pairs of group and target the sign of a score is that of what retraining without the group does,
averaged over that many seeds: scikit-learn's digits in 12 groups, half of the labels of two of them replaced at random, MLP
64-512-512-10. With --means, what plain and even means over targets say of which groups are corrupted (AUC), on sets of
``estimators.py`` in 30 and 100 groups, half of the labels of a fifth of the groups replaced at random, MLP D-512-512-C, 15
epochs of AdamW, that many seeds.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

import estimators
import peer_groups
import whence
import whence.evaluation
from whence.groups import HARMS, UNCLEAR, GroupEffects

DRAWS, LEVEL = 60, 0.05
SETS_OF_MEANS = ("MNIST *", "Fashion-MNIST, other rows *", "SST-2 *", "AG News *", "Subj", "SST-5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--null", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--means", type=int, default=0)
    arguments = parser.parse_args()
    for count in (10, 30, 100) if arguments.seeds else ():
        data, targets, corrupted = peer_groups.corrupt(count)
        called: dict[str, list[np.ndarray]] = {}
        for seed in range(arguments.seeds):
            effects = whence.group_effects(peer_groups.scored_run(data, targets, seed), "test")
            for name, rows in called_harmful(effects).items():
                called.setdefault(name, []).append(np.stack([rows, corrupted[effects.ids]]))
        print(f"{count} groups, {corrupted.sum()} corrupted, {arguments.seeds} seeds")
        for name, parts in called.items():
            said, bad = np.concatenate(parts, axis=1)
            found = int((said & bad).sum())
            print(f"  {name:<10} recall {found}/{bad.sum()}, precision {found}/{said.sum()}")
    if arguments.null:
        rates = [null_rate(seed) for seed in range(arguments.null)]
        spread = np.std(rates, ddof=1) / len(rates) ** 0.5
        print(f"draws of 20 groups without a trace of which any is called: {np.mean(rates):.3f} ± {spread:.3f}")
    if arguments.pairs:
        signs(arguments.pairs)
    if arguments.means:
        means(arguments.means)


def called_harmful(effects: GroupEffects) -> dict[str, np.ndarray]:
    """bool [G] by each rule."""
    assert effects.kernel is not None
    alone = effects.published.significance()
    return {
        "published": (alone.q <= LEVEL) & (effects.effect < 0),
        "kernel": effects.kernel < 0,
        "agreed": np.array([verdict == HARMS for verdict in effects.verdicts]),
    }


def null_rate(seed: int) -> float:
    """The share of draws in which any group is called, in one network that was trained with other groups."""
    generator = np.random.default_rng(seed)
    centers = 1.5 * generator.normal(size=(3, 6))
    labels = generator.integers(0, 3, 240)
    x = (centers[labels] + generator.normal(size=(240, 6))).astype(np.float32)
    data = whence.Dataset.of((np.arange(240), x, labels))
    train, dev = data.select(np.arange(200)), data.select(np.arange(200, 240))
    torch.manual_seed(seed)
    model = whence.attach(nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3)), ["1"], keep=0.5, seed=seed)
    epochs = 30 if seed % 2 else 6
    whence.fit(model, replace(train, groups=np.arange(200) % 10), dev=dev, epochs=epochs, learning_rate=1e-2, seed=seed)
    anyone = []
    for _ in range(DRAWS):
        groups = generator.choice(2**40, 20, replace=False)[generator.integers(0, 20, 200)].astype(np.int64)
        effects = whence.group_effects(whence.Run(model, replace(train, groups=groups), dev=dev), kernel="kernel")
        anyone.append(effects.counts()[UNCLEAR] < len(effects))
    return float(np.mean(anyone))


def signs(seeds: int) -> None:
    """Print how often each estimate has the sign of retraining, of all groups and targets."""
    clean = whence.load("digits")
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 12, len(clean))
    wrong = (groups < 2) & (generator.random(len(clean)) < 0.5) & (clean.splits == "train")
    labels = np.where(wrong, generator.integers(0, 10, len(clean)), clean.targets)
    model, data = whence.prepare(replace(clean, targets=labels, groups=groups), "mlp:512,512")
    run = whence.fit(model, data, device="cpu")
    effects = whence.group_effects(run)
    assert effects.summed is not None
    truth = whence.evaluation.retrain(run, "dev", kind="leave_one_out", level="group", seeds=seeds)
    print(f"{len(effects)} groups × {effects.targets} targets, {seeds} retrainings without each group")
    for name, scores in (("published", effects.published), ("kernel", effects.summed), ("agreed", effects.agreed())):
        found = whence.evaluation.leave_one_out(scores, truth)
        real = dict(zip(truth.rows.ids[found.rows].tolist(), found.effect, strict=True))
        right = np.sign(scores) == np.sign([real[group] for group in scores.ids.tolist()])
        named = np.asarray(scores) != 0
        print(
            f"  {name:<10} sign right {right[named].mean():.3f} of the {named.mean():.2f} that are named; {found.summary()}"
        )


def means(seeds: int) -> None:
    """Print, of plain and of even means, AUC of corrupted groups, and what the verdicts find."""
    print(
        "| set | groups | published: plain | even | kronecker: plain | even | called, of them corrupted, of so many |"
    )
    print("| --- " * 7 + "|")
    for name in SETS_OF_MEANS:
        make, _ = estimators.SETS[name]
        for count in (30, 100):
            ranked, called = [], np.zeros(3, int)
            for seed in range(seeds):
                effects, corrupted = elsewhere(make(), count, seed)
                scores = effects.published, effects.summed
                ranked.append(
                    [
                        roc_auc_score(corrupted, -of.mean_over_targets(even=even))
                        for of in scores
                        for even in (False, True)
                    ]
                )
                harms = np.array([verdict == HARMS for verdict in effects.verdicts])
                called += harms.sum(), (harms & corrupted).sum(), corrupted.sum()
            cells = [f"{mean:.3f}" for mean in np.mean(ranked, axis=0)]
            print(
                f"| {name.rstrip(' *')} | {count} | {' | '.join(cells)} | {', '.join(map(str, called))} |", flush=True
            )


def elsewhere(arrays: estimators.Arrays, count: int, seed: int) -> tuple[GroupEffects, np.ndarray]:
    """The effects of groups of which a fifth is corrupted, and which these are: bool [G]."""
    x, y, test_x, test_y = arrays
    generator = np.random.default_rng([seed, count])
    owners, classes = generator.permutation(np.arange(len(x)) % count), int(y.max()) + 1
    bad = generator.choice(count, count // 5, replace=False)
    wrong = np.isin(owners, bad) & (generator.random(len(x)) < 0.5)
    data = whence.Dataset.of((np.arange(len(x)), x, np.where(wrong, generator.integers(0, classes, len(x)), y)))
    test = whence.Dataset.of((10**6 + np.arange(len(test_x)), test_x, test_y), task=data.task)
    torch.manual_seed(seed)
    widths = [(x.shape[1], 512), (512, 512)]
    layers = [part for sizes in widths for part in (nn.Linear(*sizes), nn.ReLU())]
    model = whence.attach(nn.Sequential(*layers, nn.Linear(512, classes)), ["3"], keep=0.5, seed=seed)
    run = whence.fit(
        model, replace(data, groups=owners), dev=test, epochs=15, learning_rate=1e-3, seed=seed, device="cpu"
    )
    effects = whence.group_effects(run)
    assert effects.summed is not None and np.array_equal(effects.summed.ids, effects.published.ids)
    return effects, np.isin(effects.ids, bad)


if __name__ == "__main__":
    main()
