"""S3 of Kobayashi et al. (2020): wrong predictions, and the training instances that explain them. They share words.

    python -m benchmarks.paper.explanations [--seeds 5] [--errors 300] [--top 5] [--examples 6] [--masked frozen]
                                            [--encoder FOLDER]

AG News: 10,001 training texts, the first 3,000 test texts; MiniLM with masks in a head on frozen features. Of each seed's run,
up to --errors wrong predictions of test are explained: influence on the loss of the class that was *predicted*, so what is positive
helped the wrong answer. The --top most helpful training texts are compared with chance, which is the mean over all training texts
of the same labels (exactly, not a sample), in

    shared words   Jaccard: words in both texts / words in either, without stop words, numbers and debris of markup
    tf-idf cosine  of the same words, weighted by their rarity in the training texts
    features       cosine of the frozen features, centered

Prints for each method means over errors (± standard deviation over seeds), their ratio to chance, how often an explanation
shares more words than chance, and how many of its texts have the predicted label; beside them random training texts, and the texts
of the predicted label with the nearest frozen features, which ask no trained model. Then the first errors of the first seed as
examples. The paper shows examples (Yahoo! Answers) and counts nothing. A finished seed and method is a line of
results/paper_explanations.jsonl.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from benchmarks.paper.material import RESULTS, Results, chosen_encoder, data_file, encoder_option
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer, TfidfTransformer

import whence
from whence.estimators import METHODS as ESTIMATORS
from whence.subnetworks import probabilities

METHODS = ("turnover", "first_order", "kernel", "kronecker")
RANDOM, NEAREST = "random texts", "nearest features, no model"
TOPICS = ("World", "Sports", "Business", "Sci/Tech")
TESTED, KEPT_EXAMPLES, SHOWN = 3000, 6, 160  # test texts; examples of the first seed, and letters of their texts
_DEBRIS = {"quot", "lt", "gt", "amp", "http", "www", "com", "fullquote", "href", "font", "br"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    encoder_option(parser)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--errors", type=int, default=300)
    parser.add_argument("--top", type=int, default=5)
    parser.add_argument("--examples", type=int, default=6, help="to print, at most 6")
    parser.add_argument("--masked", default="frozen")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder, results = chosen_encoder(arguments), Results(RESULTS / "paper_explanations.jsonl")
    likeness = Likeness(news(), encoder)
    rows = []
    for seed in range(arguments.seeds):
        errors: list[Errors] = []  # made when a method is not in the results yet
        for method in (RANDOM, *METHODS, NEAREST):
            settings = {"masked": arguments.masked, "errors": arguments.errors, "top": arguments.top, "method": method,
                        "seed": seed}  # fmt: skip
            if method in ESTIMATORS and ESTIMATORS[method].version > 1:
                settings["version"] = ESTIMATORS[method].version

            def work(method: str = method, seed: int = seed, errors: list[Errors] = errors) -> dict[str, Any]:
                if not errors:
                    errors.append(Errors(likeness, encoder, arguments.masked, arguments.errors, seed))
                return errors[0].explained(method, arguments.top)

            rows.append(results.once(settings, work))
    table(rows)
    shown = next(row for row in rows if row["method"] == "kronecker" and row["seed"] == 0)
    for example in shown["examples"][: arguments.examples]:
        print("\n" + written(example, likeness))


def news() -> whence.Dataset:
    """Training texts, and test texts that are not among them."""
    texts = whence.load(data_file("ag_news_10k.tsv.gz"), text="text", label="label", split="split")
    train, test = np.flatnonzero(texts.splits == "train"), np.flatnonzero(texts.splits == "test")[:TESTED]
    return texts.select(np.concatenate([train, test[~np.isin(texts.texts[test], texts.texts[train])]]))


class Likeness:
    """How alike texts are, in three ways. A ``Likeness.between`` is float [T, N], T texts against all training texts.

    Args:
        texts: with splits train and test.
        encoder: whose frozen features are compared.
    """

    def __init__(self, texts: whence.Dataset, encoder: str) -> None:
        self.texts = texts
        self.train = np.flatnonzero(texts.splits == "train")
        words = CountVectorizer(
            token_pattern=r"(?u)\b[a-z]{2,}\b", stop_words=list(ENGLISH_STOP_WORDS | _DEBRIS), dtype=np.float32
        )
        counts = words.fit_transform(texts.texts)
        self.vocabulary = words.get_feature_names_out()
        self.words = (counts > 0).astype(np.float32).tocsr()
        self.tf_idf = TfidfTransformer().fit(counts[self.train]).transform(counts)
        _, self.featured = whence.prepare(texts, encoder, masked="frozen")
        features = self.featured.inputs.gather(np.arange(len(texts)))
        features = features - features[self.train].mean(0)
        self.features = torch.nn.functional.normalize(features).numpy()

    def between(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The texts of some rows against all training texts, by the name of the measure."""
        shared = (self.words[rows] @ self.words[self.train].T).toarray()
        sizes = np.asarray(self.words.sum(1))[:, 0]
        union = sizes[rows, None] + sizes[self.train] - shared
        return {
            "shared words": shared / np.maximum(union, 1),
            "tf-idf cosine": (self.tf_idf[rows] @ self.tf_idf[self.train].T).toarray(),
            "features": self.features[rows] @ self.features[self.train].T,
        }

    def shared(self, row: int, other: int) -> list[str]:
        """The words that two texts share, the rarest first."""
        both = self.tf_idf[row].multiply(self.tf_idf[other])
        return [str(self.vocabulary[column]) for column in both.indices[np.argsort(-both.data)]]


class Errors:
    """The wrong predictions of one run, and how like them the training texts are.

    Args:
        likeness: of the texts.
        encoder, masked: of the model.
        most: wrong predictions, the first of test.
        seed: of weights, masks and order.
    """

    def __init__(self, likeness: Likeness, encoder: str, masked: str, most: int, seed: int) -> None:
        texts = likeness.featured if masked == "frozen" else likeness.texts
        model, data = whence.prepare(texts, encoder, masked=masked, seed=seed)
        self.seed, self.likeness, self.run = (
            seed,
            likeness,
            whence.fit(model, data, seed=seed, device="cpu", exposure_limit=1),
        )
        test = np.flatnonzero(likeness.texts.splits == "test")
        said = probabilities(self.run, self.run.dataset("test"))
        wrong = np.flatnonzero(said.argmax(1) != likeness.texts.targets[test])
        self.accuracy, self.rows = 1 - len(wrong) / len(test), test[wrong[:most]]
        self.said = said[wrong[:most]]
        predicted = self.said.argmax(1)
        self.targets = replace(self.run.dataset("test").select(wrong[:most]), targets=predicted)
        self.alike = likeness.between(self.rows)

    def explained(self, method: str, top: int) -> dict[str, Any]:
        """Means over the errors, and the first of them as examples."""
        labels, predicted = self.run.train.targets, self.targets.targets
        if method == NEAREST:
            same = np.where(labels == predicted[:, None], self.alike["features"], -np.inf)
            best = np.argsort(-same, axis=1)[:, :top]  # (M, k)
        elif method == RANDOM:
            best = np.random.default_rng(self.seed).integers(len(labels), size=(len(predicted), top))
        else:
            best = whence.influence(self.run, self.targets, method=method).top(top).rows
        found = {"accuracy": self.accuracy, "count": len(best), **against_chance(best, self.alike, labels, predicted)}
        if self.seed == 0:
            found["examples"] = [self._example(number, best[number]) for number in range(min(KEPT_EXAMPLES, len(best)))]
        return found

    def _example(self, number: int, best: np.ndarray) -> dict[str, Any]:
        """One error with its two most helpful training texts, as rows of the texts: whose they are is not ours to store."""
        return {
            "row": int(self.rows[number]),
            "predicted": int(self.targets.targets[number]),
            "probability": round(float(self.said[number].max()), 3),
            "helpers": [int(self.likeness.train[helper]) for helper in best[:2]],
        }


def against_chance(
    best: np.ndarray, alike: dict[str, np.ndarray], labels: np.ndarray, predicted: np.ndarray
) -> dict[str, Any]:
    """How alike chosen training instances are, beside all training instances of the same labels.

    Args:
        best: int64 [M, k], the chosen rows of each target.
        alike: by the name of a measure, float [M, N].
        labels: int64 [N], of the training instances.
        predicted: int64 [M].
    """
    found: dict[str, Any] = {}
    for name, likeness in alike.items():
        by_label = np.stack([likeness[:, labels == label].mean(1) for label in range(labels.max() + 1)], axis=1)
        chance = np.take_along_axis(by_label, labels[best], axis=1).mean(1)  # (M,)
        helpful = np.take_along_axis(likeness, best, axis=1).mean(1)
        found[name] = {"helpful": float(helpful.mean()), "chance": float(chance.mean()),
                       "above": float((helpful > chance).mean())}  # fmt: skip
    found["of the predicted label"] = float((labels[best] == predicted[:, None]).mean())
    return found


def table(rows: Sequence[dict[str, Any]]) -> None:
    """Means over seeds, in Markdown."""
    seeds = {row["seed"] for row in rows}
    accuracy = [row["accuracy"] for row in rows if row["method"] == METHODS[0]]
    counts = [row["count"] for row in rows if row["method"] == METHODS[0]]
    print(f"AG News, {rows[0]['masked']}: {np.mean(counts):.0f} wrong predictions of each of {len(seeds)} seeds "
          f"(accuracy {np.mean(accuracy):.3f}), their {rows[0]['top']} most helpful training texts")  # fmt: skip
    print(
        "| method | shared words | chance | ratio | above chance | tf-idf cosine | chance | ratio | features | same label |"
    )
    print("| --- " * 10 + "|")
    for method in (RANDOM, *METHODS, NEAREST):
        mine = [row for row in rows if row["method"] == method]
        cells = [method]
        for name in ("shared words", "tf-idf cosine"):
            cells += [spread([row[name][key] for row in mine], 4) for key in ("helpful", "chance")]
            cells.append(spread([row[name]["helpful"] / row[name]["chance"] for row in mine], 2))
            if name == "shared words":
                cells.append(spread([row[name]["above"] for row in mine], 2))
        cells.append(spread([row["features"]["helpful"] for row in mine], 2))
        cells.append(spread([row["of the predicted label"] for row in mine], 2))
        print("| " + " | ".join(cells) + " |")


def spread(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation."""
    error = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{error}"


def written(example: dict[str, Any], likeness: Likeness) -> str:
    """An example to read."""

    def labeled(row: int) -> str:
        return f"{TOPICS[likeness.texts.targets[row]]}: {short(likeness.texts.texts[row])}"

    row = example["row"]
    lines = [f"taken for {TOPICS[example['predicted']]} (p {example['probability']:.2f}): {labeled(row)}"]
    for helper in example["helpers"]:
        shared = ", ".join(likeness.shared(row, helper)[:6])
        lines.append(f"    helped: {labeled(helper)} [shares {shared or 'no word'}]")
    return "\n".join(lines)


def short(text: str) -> str:
    """The beginning of a text."""
    return str(text) if len(text) <= SHOWN else text[: SHOWN - 1].rsplit(" ", 1)[0] + " …"


if __name__ == "__main__":
    main()
