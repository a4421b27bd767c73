"""How many labels are wrong, and how likely each is: a model of label noise fitted to held-out probabilities.

Held-out probabilities p̄ tell how likely a label is among those that people gave. A low p̄ has two causes: the label is
wrong, or the model does not know. They are told apart by their shapes over the whole data set. Let q ∝ p̄^a be the model's
belief about the true label, the sharper the larger a is; a given label is the true one with probability 1 − ε, and otherwise
the true class k is mistaken for class c with probability R[k, c]:

    P(given c | x) = (1 − ε)·q_c + ε·Σ_k q_k·R[k, c]

Where labels come from sources (annotators, files), each has an ε of its own, drawn towards the common one by a beta prior whose
weight is found from how much the sources differ. ε, a and R are those under which the given labels are most likely (expectation
maximization), R with a Dirichlet prior whose weight is found the same way (empirical Bayes): where mistakes are alike, uniform;
where they follow a pattern, that pattern. No true label is used. Then P(true k | x, given c) follows by Bayes' rule.

A model that has learned wrong labels by heart makes them look right, and ε small. So ε is taken from a witness that cannot have.
And a model that is unsure between two classes makes mistakes between them that look like a pattern of the labels'. Witnesses that
have learned in different ways are unsure in different ways, so a pattern is believed as far as each of them finds it: a witness
who finds none, also one who cannot, vetoes it. Confident learning (Northcutt et al. 2021) counts the same table R from thresholds
instead of likelihoods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, gammaln

from whence.estimators.base import evenly

__all__ = ["NoiseModel", "fit_noise"]

_ROUNDS, _CLOSE = 300, 1e-7
_MOST_WRONG = 0.5  # beyond, which labels are the wrong ones is a matter of words
_MOST_WRONG_OF_ONE = 0.99  # source: the others tell what is right
_PRIOR = (2.0, 20.0)  # pseudo-counts of wrong and right labels: what is believed of data that say nothing
_WEIGHTS = (
    1.0,
    3.0,
    10.0,
    30.0,
    100.0,
    300.0,
    1e3,
    1e4,
    1e6,
)  # of the priors of R, in mistakes per class, and of ε, in labels
_LEARNED = 2**25  # entries of held-out probabilities that the likelihood is taken from, evenly spaced instances
_BLOCK = 2**20  # entries that are looked at together


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """What was found.

    Attributes:
        belief: float32 [N, C], q: how likely each class is the true one, given the instance, whatever its label.
        posterior: float32 [N, C], the same given its label too.
        p_wrong: float64 [N], how likely each given label is wrong: what the posterior gives to the other classes.
        rate: ε, the share of labels that are wrong.
        rates: float64 [S], that of each source, in the order of their numbers; [1] without sources.
        confusions: float64 [C, C], R: of the mistakes made on each true class, the share that each given class has.
        sharpness: a.
    """

    belief: np.ndarray
    posterior: np.ndarray
    p_wrong: np.ndarray
    rate: float
    rates: np.ndarray
    confusions: np.ndarray
    sharpness: float


def fit_noise(
    held_out: np.ndarray,
    labels: np.ndarray,
    witnesses: Sequence[np.ndarray] = (),
    sources: np.ndarray | None = None,
) -> NoiseModel:
    """Fit the noise model.

    Args:
        held_out: [N, C], probabilities for each instance by a model that was not trained on it.
        labels: int64 [N], as given.
        witnesses: [N, C] each, by models that did not learn the instance's label, the surest of that first: ε is found by the
            first, and of two or more R is what all of them find beyond a uniform one. Without any, both are found by ``held_out``.
        sources: int64 [N], numbers from 0 of where the labels come from; None for one source.
    """
    count, classes = held_out.shape
    if sources is None:
        sources = np.zeros(count, np.int64)
    confusions, rates = None, None
    if len(witnesses) > 1 and classes > 2:
        confusions = _agreed([_learn(said, labels, sources).confusions for said in witnesses])
    if len(witnesses):
        rates = _learn(witnesses[0], labels, sources, confusions=confusions).rates
    known = _learn(held_out, labels, sources, rates, confusions)
    belief, posterior = np.empty((count, classes), np.float32), np.empty((count, classes), np.float32)
    p_wrong = np.empty(count)
    for rows in _blocks(count, classes):
        seen = _Seen(_logits(held_out[rows]), labels[rows], sources[rows], known)
        belief[rows], posterior[rows], p_wrong[rows] = seen.belief, seen.posterior, seen.mistakes.sum(1)
    rate = float(known.rates @ np.bincount(sources, minlength=len(known.rates)) / max(count, 1))
    return NoiseModel(belief, posterior, p_wrong, rate, known.rates, known.confusions, known.sharpness)


@dataclass(frozen=True)
class _Known:
    """ε of each source [S], R [C, C] and a."""

    rates: np.ndarray
    confusions: np.ndarray
    sharpness: float


class _Seen:
    """Some instances in the light of what is known. All [B, C] but ``likely`` [B]: how likely the given labels were.

    ``mistakes`` is the posterior without what it gives to the label itself.
    """

    def __init__(self, logits: np.ndarray, labels: np.ndarray, sources: np.ndarray, known: _Known) -> None:
        rows, wrong = np.arange(len(labels)), known.rates[sources]
        self.logits, self.belief = logits, _softmax(known.sharpness * logits)
        joint = wrong[:, None] * self.belief * known.confusions[:, labels].T  # true class, mistaken
        joint[rows, labels] = (1 - wrong) * self.belief[rows, labels]
        self.likely = np.maximum(joint.sum(1), 1e-300)
        self.posterior = joint / self.likely[:, None]
        self.mistakes = self.posterior.copy()
        self.mistakes[rows, labels] = 0


def _learn(
    held_out: np.ndarray,
    labels: np.ndarray,
    sources: np.ndarray,
    rates: np.ndarray | None = None,
    confusions: np.ndarray | None = None,
) -> _Known:
    """The maximum of the likelihood, by expectation maximization; ``rates`` where ε is known, ``confusions`` where R is."""
    count, classes = held_out.shape
    most = max(_LEARNED // classes, 1)
    some = evenly(count, most)
    some = some[np.argsort(labels[some], kind="stable")]  # so that mistakes can be summed by given label
    held_out, labels, of = held_out[some], labels[some], sources[some]
    sizes = np.bincount(of, minlength=int(sources.max(initial=0)) + 1)
    known = _Known(np.full(len(sizes), 0.1) if rates is None else rates,
                   _uniform(classes) if confusions is None else confusions, 1.0)  # fmt: skip
    before = -np.inf
    for _ in range(_ROUNDS):
        likely, slope, curvature = 0.0, 0.0, 0.0
        counts, mistakes = np.zeros((classes, classes)), np.zeros(len(sizes))
        for rows in _blocks(len(labels), classes):
            seen = _Seen(_logits(held_out[rows]), labels[rows], of[rows], known)
            likely += float(np.log(seen.likely).sum())
            mistakes += np.bincount(of[rows], seen.mistakes.sum(1), len(sizes))
            given, first = np.unique(labels[rows], return_index=True)
            counts[:, given] += np.add.reduceat(seen.mistakes, first, axis=0).T
            mean = (seen.belief * seen.logits).sum(1)
            slope += float(((seen.posterior * seen.logits).sum(1) - mean).sum())
            curvature += float(((seen.belief * seen.logits**2).sum(1) - mean**2).sum())
        if abs(likely - before) < _CLOSE * len(labels):
            break
        before = likely
        known = _Known(_rates(mistakes, sizes) if rates is None else rates,
                       _confusions(counts) if confusions is None else confusions,
                       _sharper(known.sharpness, slope / len(labels), curvature / len(labels)))  # fmt: skip
    return known


def _blocks(count: int, classes: int) -> Iterator[slice]:
    size = max(_BLOCK // classes, 1)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _logits(probabilities: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.log(np.clip(probabilities.astype(np.float64), 1e-7, 1))
    return found


def _rates(mistakes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """ε of each source from expected mistakes [S] among its labels [S]."""
    common = min((float(mistakes.sum()) + _PRIOR[0]) / (float(sizes.sum()) + sum(_PRIOR)), _MOST_WRONG)
    if len(sizes) == 1:
        return np.array([common])

    def likelihood(weight: float) -> float:
        wrong, right = weight * common, weight * (1 - common)
        return float((betaln(mistakes + wrong, sizes - mistakes + right) - betaln(wrong, right)).sum())

    weight = max(reversed(_WEIGHTS), key=likelihood)  # sources of one label each tell nothing: all weights alike
    found: np.ndarray = np.minimum((mistakes + weight * common) / (sizes + weight), _MOST_WRONG_OF_ONE)
    return found


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    found: np.ndarray = powers / powers.sum(1, keepdims=True)
    return found


def _sharper(sharpness: float, slope: float, curvature: float) -> float:
    """One Newton step towards the a that makes the true classes, as far as known, most likely under softmax(a·logits)."""
    return float(np.clip(sharpness + slope / max(curvature, 1e-9), sharpness / 2, sharpness * 2))


def _uniform(classes: int) -> np.ndarray:
    """Mistakes that are all alike."""
    found: np.ndarray = (1 - np.eye(classes)) / max(classes - 1, 1)
    return found


def _agreed(found: Sequence[np.ndarray]) -> np.ndarray:
    """Of some R [C, C] what all have beyond a uniform one; the rest of each class's mistakes is uniform.

    That shrinks a pattern that all find, too: a class whose mistakes all go one way keeps 1 − (C − 2)/(C − 1)² of them there.
    """
    uniform = _uniform(len(found[0]))
    common = np.min([np.maximum(one - uniform, 0) for one in found], axis=0)
    both: np.ndarray = common + (1 - common.sum(1, keepdims=True)) * uniform
    return both


def _confusions(counts: np.ndarray) -> np.ndarray:
    """R of expected counts of mistakes [C, C], smoothed by the Dirichlet prior under which they are most likely."""
    classes = len(counts)
    if classes < 3:
        return _uniform(classes)
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
