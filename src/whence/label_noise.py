"""How many labels are wrong, and how likely each is: a model of label noise fitted to held-out probabilities.

Held-out probabilities p̄ tell how likely a label is among those that people gave. A low p̄ has two causes: the label is
wrong, or the model does not know. They are told apart by their shapes over the whole data set. Let q ∝ p̄^a be the model's
belief about the true label, the sharper the larger a is; a given label is the true one with probability 1 − ε, and otherwise
the true class k is mistaken for class c with probability R[k, c]:

    P(given c | x) = (1 − ε)·q_c + ε·Σ_k q_k·R[k, c]

ε, a and R are those under which the given labels are most likely (expectation maximization), R with a Dirichlet prior whose weight
is found the same way (empirical Bayes): where mistakes are alike, uniform; where they follow a pattern, that pattern. No true
label is used. Then P(true k | x, given c) follows by Bayes' rule.

A model that has learned wrong labels by heart makes them look right, and ε small. So ε is taken from a model that cannot have:
``rates_from``. Confident learning (Northcutt et al. 2021) counts the same table R from thresholds instead of likelihoods.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

__all__ = ["NoiseModel", "fit_noise"]

_ROUNDS, _CLOSE = 300, 1e-7
_MOST_WRONG = 0.5  # beyond, which labels are the wrong ones is a matter of words
_PRIOR = (2.0, 20.0)  # pseudo-counts of wrong and right labels: what is believed of data that say nothing
_WEIGHTS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 1e4, 1e6)  # of the prior of R, in mistakes per class


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """What was found.

    Attributes:
        belief: float64 [N, C], q: how likely each class is the true one, given the instance, whatever its label.
        posterior: float64 [N, C], the same given its label too.
        rate: ε, the share of labels that are wrong.
        confusions: float64 [C, C], R: of the mistakes made on each true class, the share that each given class has.
        sharpness: a.
    """

    belief: np.ndarray
    posterior: np.ndarray
    rate: float
    confusions: np.ndarray
    sharpness: float

    def p_wrong(self, labels: np.ndarray) -> np.ndarray:
        """float64 [N]: how likely each given label is wrong."""
        return 1 - self.posterior[np.arange(len(labels)), labels]


def fit_noise(held_out: np.ndarray, labels: np.ndarray, rates_from: np.ndarray | None = None) -> NoiseModel:
    """Fit the noise model.

    Args:
        held_out: [N, C], probabilities for each instance by a model that was not trained on it.
        labels: int64 [N], as given.
        rates_from: [N, C], probabilities by which ε is found instead; None for ``held_out`` too.
    """
    rate = None if rates_from is None else _fit(rates_from, labels, None).rate
    return _fit(held_out, labels, rate)


def _fit(held_out: np.ndarray, labels: np.ndarray, rate: float | None) -> NoiseModel:
    logits = np.log(np.clip(held_out.astype(np.float64), 1e-7, 1))
    count, classes = logits.shape
    rows = np.arange(count)
    spread = np.full((classes, classes), 1 / max(classes - 1, 1))
    np.fill_diagonal(spread, 0)
    sharpness, found, before = 1.0, 0.1 if rate is None else rate, -np.inf
    for _ in range(_ROUNDS):
        belief = _softmax(sharpness * logits)
        joint = found * belief * spread[:, labels].T  # (N, C): true class, mistaken
        joint[rows, labels] = (1 - found) * belief[rows, labels]
        likely = joint.sum(1, keepdims=True)
        posterior = joint / np.maximum(likely, 1e-300)
        now = float(np.log(np.maximum(likely, 1e-300)).mean())
        if abs(now - before) < _CLOSE:
            break
        before = now
        mistakes = posterior.copy()
        mistakes[rows, labels] = 0
        if rate is None:
            found = min((float(mistakes.sum()) + _PRIOR[0]) / (count + sum(_PRIOR)), _MOST_WRONG)
        counts = np.zeros((classes, classes))
        np.add.at(counts.T, labels, mistakes)
        spread = _confusions(counts)
        sharpness = _sharper(sharpness, logits, posterior)
    return NoiseModel(belief, posterior, found, spread, sharpness)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    found: np.ndarray = powers / powers.sum(1, keepdims=True)
    return found


def _sharper(sharpness: float, logits: np.ndarray, posterior: np.ndarray) -> float:
    """One Newton step towards the a that makes the true classes, as far as known, most likely under softmax(a·logits)."""
    belief = _softmax(sharpness * logits)
    mean = (belief * logits).sum(1)
    slope = float(((posterior * logits).sum(1) - mean).mean())
    curvature = float(((belief * logits**2).sum(1) - mean**2).mean())
    return float(np.clip(sharpness + slope / max(curvature, 1e-9), sharpness / 2, sharpness * 2))


def _confusions(counts: np.ndarray) -> np.ndarray:
    """R of expected counts of mistakes [C, C], smoothed by the Dirichlet prior under which they are most likely."""
    classes = len(counts)
    if classes < 3:
        return 1 - np.eye(classes)
    off = ~np.eye(classes, dtype=bool)
    given = counts[off].reshape(classes, classes - 1)
    total = given.sum(1)

    def likelihood(weight: float) -> float:
        each = weight / (classes - 1)
        return float((gammaln(weight) - gammaln(total + weight) + (gammaln(given + each) - gammaln(each)).sum(1)).sum())

    weight = max(_WEIGHTS, key=likelihood)
    smoothed = np.where(off, counts + weight / (classes - 1), 0)
    found: np.ndarray = smoothed / smoothed.sum(1, keepdims=True)
    return found
