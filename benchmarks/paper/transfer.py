"""Train on one domain, score on half of another, remove the most harmful, train again, measure on the other half."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

import whence
from whence.forward import predict

__all__ = ["DEV_MODEL", "Transfer", "threshold"]

DEV_MODEL = "dev model"  # not an influence, but a simple rival: what a model of dev is most wrong about
RIDGES = np.logspace(-4, 2, 7)  # inverse strengths, C of scikit-learn


class Transfer:
    """One seed: what is trained on one domain, and what becomes of it on another.

    Args:
        data: with splits train (source), dev and test (target).
        encoder: of the model.
        arguments: the script's.
        seed: of weights, masks, order and random removals.
    """

    def __init__(self, data: whence.Dataset, encoder: str, arguments: argparse.Namespace, seed: int) -> None:
        self.data, self.encoder, self.arguments, self.seed = data, encoder, arguments, seed
        self.train = np.flatnonzero(data.splits == "train")
        self.labels = data.targets[self.train]
        self._runs: dict[tuple[bytes, int], whence.Run] = {}
        self._harm: dict[tuple[str, bytes], np.ndarray] = {}

    def untouched(self) -> dict[str, Any]:
        return self._measured(self._run(np.zeros(len(self.labels), bool), 0))

    def stopped_early(self) -> dict[str, Any]:
        return self._measured(self._trained(self.data, 0, patience=20))

    def trained_on_dev(self) -> dict[str, Any]:
        splits = np.where(self.data.splits == "dev", "train", self.data.splits)
        return self._measured(self._trained(replace(self.data, splits=splits), 0))

    def linear(self, method: str | None = None, share: float = 0.0) -> dict[str, Any]:
        """Logistic regression on frozen features; without the share that a method calls most harmful, if one is named."""
        removed = np.zeros(len(self.labels), bool) if method is None else self._harmful(method, share)
        rest = self._rest(removed)
        (x, y), (dev_x, dev_y), (test_x, test_y) = (
            frozen_features(rest.split(name)) for name in ("train", "dev", "test")
        )
        scale = StandardScaler().fit(x)
        x, dev_x, test_x = (scale.transform(features) for features in (x, dev_x, test_x))
        models = [LogisticRegression(C=ridge, max_iter=1000).fit(x, y) for ridge in RIDGES]
        best = min(models, key=lambda model: log_loss(dev_y, model.predict_proba(dev_x)))
        found = measures(best.decision_function(dev_x), dev_y, best.decision_function(test_x), test_y)
        return {**found, "removed": int(removed.sum()), "positive": int(self.labels[removed].sum()), "C": float(best.C)}

    def without_random(self, share: float, positive: int | None = None) -> dict[str, Any]:
        """Trained without a random share; so many positive instances among those removed, where that is given."""
        return self._without(self._random(share, positive))

    def without_harmful(self, method: str, share: float) -> dict[str, Any]:
        """Trained without the share that a method calls most harmful."""
        return self._without(self._harmful(method, share))

    def _random(self, share: float, positive: int | None) -> np.ndarray:
        """bool [N]."""
        stream = [self.seed, round(1e6 * share), int(positive is not None)]
        order = np.random.default_rng(stream).permutation(len(self.labels))
        count = round(share * len(self.labels))
        if positive is None:
            return np.isin(np.arange(len(order)), order[:count])
        ones, zeros = order[self.labels[order] == 1], order[self.labels[order] == 0]
        return np.isin(np.arange(len(order)), np.concatenate([ones[:positive], zeros[: count - positive]]))

    def _harmful(self, method: str, share: float) -> np.ndarray:
        """bool [N]."""
        removed = np.zeros(len(self.labels), bool)
        ends = np.linspace(0, round(share * len(self.labels)), self.arguments.steps + 1).round().astype(int)
        for start, stop in zip(ends[:-1], ends[1:], strict=True):
            influence = np.full(len(self.labels), np.inf)
            influence[~removed] = self._influence(method, removed)
            if self.arguments.balanced:
                for label in (0, 1):
                    mine = np.where(self.labels == label, influence, np.inf)
                    removed[np.argsort(mine)[: (stop - start + label) // 2]] = True
            else:
                removed[np.argsort(influence)[: stop - start]] = True
        return removed

    def _influence(self, method: str, removed: np.ndarray) -> np.ndarray:
        """The mean influence on dev of each instance that is not removed, over runs that have not seen those removed."""
        if method == DEV_MODEL:
            return self._dev_model(removed)
        key = removed.tobytes()
        if (method, key) not in self._harm:
            found = []
            for number in range(self.arguments.runs):
                run = self._run(removed, number)
                scores = whence.influence(
                    run, "dev", method=method, quantity=self.arguments.quantity, keep_matrix=False
                )
                mean = scores.mean_over_targets(even=self.arguments.even)
                found.append(mean / mean.std())
            self._harm[method, key] = np.mean(found, axis=0)
        return self._harm[method, key]

    def _dev_model(self, removed: np.ndarray) -> np.ndarray:
        """Minus the loss of each instance that is not removed, under logistic regression on the features of dev."""
        (x, y), (train, labels) = frozen_features(self.data.split("dev")), frozen_features(self.data.split("train"))
        scale = StandardScaler().fit(x)
        search = GridSearchCV(LogisticRegression(max_iter=1000), {"C": RIDGES}, scoring="neg_log_loss", cv=5)
        model = search.fit(scale.transform(x), y)
        said = model.predict_log_proba(scale.transform(train))
        return said[np.arange(len(labels)), labels][~removed]

    def _run(self, removed: np.ndarray, number: int) -> whence.Run:
        """A run that scores are taken from. Those of all instances are kept, as every method and share asks for them."""
        key = removed.tobytes(), number
        if key not in self._runs:
            self._runs = {k: run for k, run in self._runs.items() if k[0] == key[0] or not any(k[0])}
            self._runs[key] = self._trained(self._rest(removed), number)
        return self._runs[key]

    def _without(self, removed: np.ndarray) -> dict[str, Any]:
        found = self._measured(self._trained(self._rest(removed), 0))
        return {**found, "removed": int(removed.sum()), "positive": int(self.labels[removed].sum())}

    def _rest(self, removed: np.ndarray) -> whence.Dataset:
        kept = np.ones(len(self.data), bool)
        kept[self.train[removed]] = False
        return self.data.select(kept)

    def _trained(self, data: whence.Dataset, number: int, **options: Any) -> whence.Run:
        """Run ``number`` of the seed; that of number 0 is measured, whatever was removed."""
        seed = 1000 * self.seed + number
        model, data = whence.prepare(
            data, self.encoder, masked=self.arguments.masked, max_length=self.arguments.max_length, seed=seed
        )
        dev = data.split("dev") if data.has_split("dev") else None
        return whence.fit(model, data.split("train"), dev=dev, test=data.split("test"), seed=seed, device="cpu",
                          exposure_limit=1, **options)  # fmt: skip

    def _measured(self, run: whence.Run) -> dict[str, Any]:
        """What the full network says of test."""
        test = run.dataset("test")
        if "dev" not in run.splits:
            return measures(None, None, margin(run, test), test.targets)
        dev = run.dataset("dev")
        return measures(margin(run, dev), dev.targets, margin(run, test), test.targets)


def measures(dev: Any, dev_labels: Any, test: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Of log odds and labels: accuracy, loss and AUC on test, and accuracy at the threshold of dev, where there is one."""
    found = {
        "accuracy": float(((test > 0) == labels).mean()),
        "loss": float(np.logaddexp(0, np.where(labels == 1, -test, test)).mean()),
        "AUC": float(roc_auc_score(labels, test)),
    }
    if dev is not None:
        found["tuned accuracy"] = float(((test > threshold(dev, dev_labels)) == labels).mean())
    return found


def frozen_features(data: whence.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, H] and labels [N] of reviews that a frozen encoder has read."""
    features = data.inputs.gather(np.arange(len(data)))
    assert isinstance(features, torch.Tensor)
    return features.numpy(), data.targets


def margin(run: whence.Run, data: whence.Dataset) -> np.ndarray:
    """log odds of a positive review: float [N]."""
    logits = predict(run.model, data)
    return logits[:, 1] - logits[:, 0]


def threshold(margins: np.ndarray, labels: np.ndarray) -> float:
    """The threshold of highest accuracy; of several, the middle one."""
    order = np.argsort(margins)
    between = (margins[order][1:] + margins[order][:-1]) / 2
    # Left of a threshold are those called negative.
    right = np.cumsum(labels[order] == 0)[:-1] + (labels.sum() - np.cumsum(labels[order])[:-1])
    best = np.flatnonzero(right == right.max())
    return float(between[best[len(best) // 2]])
