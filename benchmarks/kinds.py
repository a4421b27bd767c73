"""Are wrong labels told from ambiguous and from memorized instances? What an audit calls planted ones of each.

    python -m benchmarks.kinds [--seeds 3]

3,000 pictures of Fashion-MNIST, mlp:512,512, 10 epochs and 60; scikit-learn's digits (1,446 of training), mlp:512, 10 and 60.
Of the training pictures 5 % have a wrong label, drawn at random; 5 % are blends, the mean of two pictures of different classes
under the label of one of them; and 3 % are rare, upside down under their right label. Prints, for each of these and for the rest,
which share is of each kind (mean ± standard deviation over seeds, of what is planted and of the run), and the mean p_wrong. A
finished training is a line of results/kinds.jsonl.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from benchmarks.paper.material import RESULTS, Results, data_file
from sklearn.datasets import load_digits

import whence
from whence.auditing import KINDS

PLANTED = {"wrong label": 0.05, "blend": 0.05, "upside down": 0.03}
SETS = {"Fashion-MNIST": "mlp:512,512", "digits": "mlp:512"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(RESULTS / "kinds.jsonl")
    for name in SETS:
        for epochs in (10, 60):
            found = []
            for seed in range(arguments.seeds):
                settings = {"set": name, "epochs": epochs, "seed": seed}
                found.append(results.once(settings, partial(shares, name, epochs, seed))["shares"])
            print(
                f"\n{name}, {epochs} epochs\n| planted | " + " | ".join(KINDS) + " | p_wrong |\n" + "| --- " * 6 + "|"
            )
            for row, what in enumerate((*PLANTED, "the rest")):
                values = np.array([one[row] for one in found])
                mean, error = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.zeros(5)
                print(
                    f"| {what} | " + " | ".join(f"{m:.2f} ± {e:.2f}" for m, e in zip(mean, error, strict=True)) + " |",
                    flush=True,
                )


def shares(name: str, epochs: int, seed: int) -> dict[str, list[list[float]]]:
    """Of each sort planted, and of the rest, the shares of each kind and the mean p_wrong: [4][5]."""
    data, sort = planted(name, seed)
    model, data = whence.prepare(data, SETS[name], seed=seed)
    run = whence.fit(model, data, seed=seed, epochs=epochs, device="cpu", exposure_limit=1)
    audit = whence.audit(run)
    kinds, p_wrong = audit.column("kind"), audit.column("p_wrong")
    sorts = [sort == s for s in range(len(PLANTED) + 1)]
    return {
        "shares": [[*(float((kinds[of] == kind).mean()) for kind in KINDS), float(p_wrong[of].mean())] for of in sorts]
    }


def planted(name: str, seed: int) -> tuple[whence.Dataset, np.ndarray]:
    """Training pictures, and of what sort each is: its place in ``PLANTED``, or one more for the rest."""
    pictures, labels = digits() if name == "digits" else fashion()
    random, count = np.random.default_rng(seed), len(labels)
    order, start = random.permutation(count), 0
    sort = np.full(count, len(PLANTED))
    for number, share in enumerate(PLANTED.values()):
        rows = order[start : start + round(share * count)]
        sort[rows], start = number, start + len(rows)
    given, shown = labels.copy(), pictures.copy()
    wrong, blends, rare = (np.flatnonzero(sort == s) for s in range(3))
    given[wrong] = (given[wrong] + random.integers(1, 10, len(wrong))) % 10
    others = np.array([random.choice(np.flatnonzero((labels != labels[row]) & (sort == 3))) for row in blends])
    shown[blends] = ((pictures[blends].astype(np.uint16) + pictures[others]) // 2).astype(np.uint8)
    shown[rare] = pictures[rare, ::-1]
    data = whence.Dataset.of((np.arange(count), shown, given))
    return replace(data, task=whence.data.Classification(tuple(map(str, range(10))))), sort


def fashion() -> tuple[np.ndarray, np.ndarray]:
    rows = np.random.default_rng(6).permutation(60_000)[:3000]
    with np.load(data_file("fashion_mnist.npz")) as file:
        return file["x_train"][rows], file["y_train"][rows].astype(np.int64)


def digits() -> tuple[np.ndarray, np.ndarray]:
    found = load_digits()
    rows = np.random.default_rng(6).permutation(len(found.target))[:1446]
    return (found.images[rows] * 15).astype(np.uint8), found.target[rows].astype(np.int64)


if __name__ == "__main__":
    main()
