"""S4 of Kobayashi et al. (2020): train on reviews of movies, keep what helps on reviews of electronics.

    python -m benchmarks.paper.cleansing [--seeds 8] [--source dvd] [--target electronics] [--methods kronecker kernel …]
                                         [--shares 0.01 0.05 0.1] [--runs 5] [--steps 1] [--quantity loss] [--balanced] [--even]
                                         [--masked frozen] [--max-length 256] [--encoder FOLDER]

Multi-domain sentiment, MiniLM. Trained on the source's training reviews; a seed draws half of the target's reviews as dev, on
which influence is computed, and half as test. (A text that repeats is taken once.) A training instance's harm is minus its mean
influence on dev, averaged over --runs trainings that differ in their seed, each scaled to unit spread. The most harmful shares are
removed, in --steps parts with new scores before each, and the model is trained again. Beside every estimator:

    random         as many instances at random
    same labels    as many at random, with as many positive and negative ones as the named estimator removes
    dev model      those whose labels logistic regression on the features of dev finds least likely: no influence, but the same use
                   of the same labels
    early stopping no removal; the epoch with the lowest loss on dev
    trained on dev no removal; the dev reviews are training data too: what their labels are worth when used directly
    linear         logistic regression on the frozen features, its ridge the best of seven on dev, in place of the network: without
                   removal, and without what the named estimator removes

Prints accuracy, accuracy at the threshold that is best on dev, loss (nats) and ranking AUC on test, then differences from no
removal of the same seed: mean ± standard error, p of Student's paired t, and in how many seeds the difference is an improvement.
Every trained model is a line of results/paper_cleansing.jsonl and is not trained again. The paper, with BERT at 1 %: accuracy
77.0 ± 0.9 to 78.3 ± 0.2 (random removal 76.8 ± 1.1), loss 0.536 to 0.484.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.paper.figures import Curve, line_chart
from benchmarks.paper.material import (
    RESULTS,
    Results,
    chosen_encoder,
    encoder_option,
    from_domains,
    mean_error,
    paired,
    reviews,
)
from benchmarks.paper.transfer import DEV_MODEL, Transfer

from whence.estimators import METHODS as ESTIMATORS

METHODS = ("turnover", "first_order", "kernel", "kronecker", DEV_MODEL)
FIGURES = Path(__file__).resolve().parents[2] / "docs" / "figures"
DRAWN = {
    "source": "dvd",
    "target": "electronics",
    "masked": "frozen",
    "quantity": "loss",
    "balanced": False,
    "steps": 1,
    "even": False,
}
REFERENCES = ("random", "early stopping", "trained on dev", "linear")
MEASURES = {"accuracy": 1, "tuned accuracy": 1, "loss": -1, "AUC": 1}  # and which way is better


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    encoder, results = chosen_encoder(arguments), Results(RESULTS / "paper_cleansing.jsonl")
    data, domains = reviews(encoder, arguments.masked, arguments.max_length)
    rows: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        pair = from_domains(data, domains, arguments.source, arguments.target, seed)
        rows += treated(Transfer(pair, encoder, arguments, seed), results)
        print(f"seed {seed} done", flush=True)
    table(rows, arguments.seeds)
    if all(getattr(arguments, name) == value for name, value in DRAWN.items()):
        for name in ("accuracy", "AUC"):
            path = FIGURES / f"cleansing_{name.lower()}.svg"
            path.write_text(figure(rows, name), encoding="utf-8")
            print(path)


def treated(pair: Transfer, results: Results) -> list[dict[str, Any]]:
    """One seed's rows: no removal, and everything that it is compared with."""
    arguments = pair.arguments
    base = {name: getattr(arguments, name) for name in ("source", "target", "masked", "max_length")}
    common = {name: getattr(arguments, name) for name in ("runs", "steps", "quantity", "balanced")}
    common |= {"even": True} if arguments.even else {}
    linear = "linear" in arguments.references and arguments.masked == "frozen"
    rows: list[dict[str, Any]] = []

    def done(treatment: str, work: Callable[[], dict[str, Any]], **more: Any) -> dict[str, Any]:
        rows.append(results.once({**base, "seed": pair.seed, "treatment": treatment, **more}, work))
        return rows[-1]

    done("none", pair.untouched)
    for reference, work in (("early stopping", pair.stopped_early), ("trained on dev", pair.trained_on_dev)):
        if reference in arguments.references:
            done(reference, work)
    if linear:
        done("linear", pair.linear)
    for share in arguments.shares:
        if "random" in arguments.references:
            done("random", partial(pair.without_random, share), share=share)
        for method in arguments.methods:
            version = ESTIMATORS[method].version if method in ESTIMATORS else 1
            scored = common | ({"version": version} if version > 1 else {})
            removed = done(method, partial(pair.without_harmful, method, share), share=share, **scored)
            if method in arguments.controlled:
                positive = removed["positive"]
                done("same labels", partial(pair.without_random, share, positive), share=share, of=method, **scored)
                if linear:
                    done("linear", partial(pair.linear, method, share), share=share, of=method, **scored)
    return rows


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    encoder_option(parser)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--source", default="dvd")
    parser.add_argument("--target", default="electronics")
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--controlled", nargs="*", default=["kronecker"], help="estimators whose label mix is matched")
    parser.add_argument("--references", nargs="*", default=list(REFERENCES), help="what estimators are compared with")
    parser.add_argument("--shares", nargs="*", type=float, default=[0.01, 0.05, 0.1])
    parser.add_argument("--runs", type=int, default=5, help="trainings that influence is averaged over")
    parser.add_argument("--steps", type=int, default=1, help="parts that a share is removed in")
    parser.add_argument("--quantity", default="loss", help="of dev: loss, margin or probability")
    parser.add_argument("--balanced", action="store_true", help="remove as many positive as negative reviews")
    parser.add_argument("--even", action="store_true", help="every dev review counts alike in the mean influence")
    parser.add_argument("--masked", default="frozen", help="placement of masks")
    parser.add_argument("--max-length", type=int, default=256, help="tokens of a review")
    return parser.parse_args()


def table(rows: Sequence[dict[str, Any]], seeds: int) -> None:
    """Differences from no removal, in Markdown; those of linear models after removal from linear models without."""
    plain = {(row["seed"], row["treatment"]): row for row in rows if "share" not in row}
    first = rows[0]
    print(f"{first['source']} to {first['target']}, {first['masked']}, {seeds} seeds: mean ± standard error")
    for name in MEASURES:
        mean, error = mean_error([row[name] for (_, treatment), row in plain.items() if treatment == "none"])
        print(f"  no removal: {name} {mean:.4f} ± {error:.4f}")
    print("Differences from no removal: points, of loss nats (p; seeds that improve)")
    print("| removed | share | positive | " + " | ".join(MEASURES) + " |\n" + "| --- " * (3 + len(MEASURES)) + "|")
    kinds = dict.fromkeys((row["treatment"], row.get("of"), row.get("share")) for row in rows)
    for treatment, of, share in sorted(kinds, key=lambda kind: kind[2] or 0):
        if treatment == "none":
            continue
        mine = [row for row in rows if (row["treatment"], row.get("of"), row.get("share")) == (treatment, of, share)]
        before = "linear" if treatment == "linear" and share else "none"
        cells = [treatment + (f" ({of})" if of else ""), "" if share is None else f"{share:.0%}"]
        cells.append(f"{sum(r['positive'] for r in mine) / sum(r['removed'] for r in mine):.2f}" if share else "")
        for name, better in MEASURES.items():
            differences = [row[name] - plain[row["seed"], before][name] for row in mine if name in row]
            cells.append(difference(differences, better, 1 if name == "loss" else 100))
        print("| " + " | ".join(cells) + " |")


def difference(values: Sequence[float], better: int, scale: int) -> str:
    """Mean ± standard error (p; improvements of all)."""
    if len(values) < 2:
        return f"{scale * values[0]:+.2f}" if values else ""
    mean, error, p, _ = paired(values)
    improved = sum(better * value > 0 for value in values)
    digits = 3 if scale == 1 else 2
    return f"{scale * mean:+.{digits}f} ± {scale * error:.{digits}f} ({significance(p)}; {improved}/{len(values)})"


def significance(p: float) -> str:
    return "p < .0001" if p < 1e-4 else f"p {p:.4f}".replace("0.", ".", 1)


def figure(rows: Sequence[dict[str, Any]], name: str) -> str:
    """What removal changes in one measure, by the share removed: mean ± standard error over seeds."""
    base = {row["seed"]: row[name] for row in rows if row["treatment"] == "none"}
    shares = sorted({row["share"] for row in rows if "share" in row})
    curves = []
    for treatment in dict.fromkeys(row["treatment"] for row in rows if "share" in row and row["treatment"] != "linear"):
        found = [(0.0, 0.0)]
        for share in shares:
            mine = [row for row in rows if (row["treatment"], row.get("share")) == (treatment, share)]
            found.append(mean_error([100 * (row[name] - base[row["seed"]]) for row in mine]))
        means, errors = np.array(found).T
        curves.append(Curve(treatment, treatment, [0, *(100 * share for share in shares)], means, means - errors, means + errors,
                            written="+.1f"))  # fmt: skip
    title = f"{rows[0]['source']} to {rows[0]['target']}: change of {name} on test (points, ± standard error)"
    return line_chart(curves, title, "% of the training reviews removed")


if __name__ == "__main__":
    main()
