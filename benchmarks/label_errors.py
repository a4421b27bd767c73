"""Which probabilities rank planted label errors best, and which instances to call an issue: digits, one run a seed.

    python benchmarks/label_errors.py [--seeds 5] [--share 0.05] [--data digits | FILE.npz] [--limit N]

Prints, over seeds, mean ± standard deviation of the area under the ROC curve of 1 − p(given label) by the flipped
sub-network, the full network and ``whence.out_of_sample`` (what whence.audit uses), and of the influence on dev; then how many
labels the audit suspects, with precision and recall; and how many of its instances are of kind memorized, and how many of those
have planted labels.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.metrics import roc_auc_score

import whence
from whence.demo import plant_label_errors
from whence.subnetworks import probabilities


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    clean = whence.load(arguments.data, limit=arguments.limit)
    print(
        f"{arguments.data}, {100 * arguments.share:g} % of training labels wrong, mlp:512,512, {arguments.seeds} seeds"
    )
    for epochs in (20, 60):
        rows = [one(clean, arguments.share, seed, epochs) for seed in range(arguments.seeds)]
        print(f"{epochs} epochs")
        for name in rows[0]:
            values = np.array([row[name] for row in rows])
            print(f"  {name:<28} {values.mean():.4f} ± {values.std(ddof=1) if len(values) > 1 else 0:.4f}")


def one(clean: whence.Dataset, share: float, seed: int, epochs: int) -> dict[str, float]:
    """The figures of one run."""
    noisy, planted = plant_label_errors(clean, share, seed=seed)
    model, data = whence.prepare(noisy, "mlp:512,512", seed=seed)
    run = whence.fit(model, data, seed=seed, epochs=epochs, device="cpu")
    wrong = planted[noisy.splits == "train"]
    rows, given = np.arange(len(run.train)), run.train.targets
    flipped, full = probabilities(run, mask="flipped")[rows, given], probabilities(run)[rows, given]
    audit = whence.audit(run, method="kernel")
    issues = audit.issues
    return {
        "AUC flipped sub-network": roc_auc_score(wrong, 1 - flipped),
        "AUC full network": roc_auc_score(wrong, 1 - full),
        "AUC out of sample (audit)": roc_auc_score(wrong, audit.column("p_wrong")),
        "AUC −influence on dev": roc_auc_score(wrong, -audit.column("influence_on_dev")),
        "share of labels suspected": len(issues) / len(wrong),
        "precision of the suspected": wrong[issues].mean() if len(issues) else 0.0,
        "recall of the suspected": wrong[issues].sum() / wrong.sum(),
        "memorized": (audit.column("kind") == "memorized").sum(),
        "memorized, planted": wrong[audit.column("kind") == "memorized"].sum(),
    }


if __name__ == "__main__":
    main()
