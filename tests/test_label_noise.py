"""The model of label noise: what it finds in data drawn from it, and what must not matter to it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from whence.label_noise import fit_noise


def drawn(count=6000, classes=5, rate=0.1, confusions=None, sharpness=2.0, seed=0):
    """Held-out probabilities p̄ = softmax(z), true labels from p̄^a, given labels with mistakes."""
    random = np.random.default_rng(seed)
    logits = 1.5 * random.standard_normal((count, classes))
    held_out = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    belief = held_out**sharpness
    belief /= belief.sum(1, keepdims=True)
    true = (belief.cumsum(1) < random.random((count, 1))).sum(1).clip(max=classes - 1)
    if confusions is None:
        confusions = (1 - np.eye(classes)) / (classes - 1)
    mistaken = np.array([random.choice(classes, p=confusions[k]) for k in true])
    wrong = random.random(count) < rate
    return held_out, true, np.where(wrong, mistaken, true), wrong


CYCLE = np.roll(np.eye(5), 1, axis=1)  # each class is mistaken for the next


@pytest.mark.parametrize("rate", [0.03, 0.1, 0.3])
@pytest.mark.parametrize("confusions", [None, CYCLE], ids=["uniform", "cycle"])
def test_what_it_was_drawn_from_is_found(rate, confusions):
    held_out, true, given, wrong = drawn(rate=rate, confusions=confusions)
    found = fit_noise(held_out, given)
    assert found.rate == pytest.approx(rate, abs=0.02)
    assert found.sharpness == pytest.approx(2.0, rel=0.15)
    p = found.p_wrong
    assert p.sum() == pytest.approx(wrong.sum(), rel=0.25)
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.01)):  # calibrated
        inside = (p >= low) & (p < high)
        if inside.sum() > 50:
            assert p[inside].mean() == pytest.approx(wrong[inside].mean(), abs=0.1)
    if confusions is not None:
        assert np.abs(found.confusions - CYCLE).max() < 0.35
        suspected = p > 0.5
        assert (found.posterior.argmax(1) == true)[suspected].mean() > 0.7


def test_the_posterior_is_bayes_rule():
    held_out, _, given, _ = drawn(800)
    found = fit_noise(held_out, given)
    belief = held_out**found.sharpness
    belief /= belief.sum(1, keepdims=True)
    np.testing.assert_allclose(found.belief, belief, atol=0.01)
    for row in range(0, 800, 97):
        label = given[row]
        joint = found.rate * belief[row] * found.confusions[:, label]
        joint[label] = (1 - found.rate) * belief[row, label]
        np.testing.assert_allclose(found.posterior[row], joint / joint.sum(), atol=0.01)


def test_patterns_are_used_only_where_there_are_some():
    """Mistakes that follow a pattern are found better when the pattern is known; a uniform one is left uniform."""
    uniform, cycle = (fit_noise(*drawn(confusions=c)[::2]) for c in (None, CYCLE))
    assert np.ptp(uniform.confusions[~np.eye(5, dtype=bool)]) < 0.15
    assert cycle.confusions[0, 1] > 0.8


def sourced(size, rates, seed=0):
    """As ``drawn``, with mistakes as frequent as the source of each label makes them."""
    random, count = np.random.default_rng(seed), 4000
    held_out, true, _, _ = drawn(count, seed=seed)
    source = np.arange(count) // size
    rates = np.resize(rates, source[-1] + 1)
    wrong = random.random(count) < rates[source]
    return held_out, np.where(wrong, (true + random.integers(1, 5, count)) % 5, true), wrong, source, rates


def test_a_careless_source_is_found_and_its_labels_are_trusted_less():
    held_out, given, wrong, source, rates = sourced(800, [0.05, 0.02, 0.9, 0.05, 0.3])
    found, blind = fit_noise(held_out, given, (), source), fit_noise(held_out, given)
    np.testing.assert_allclose(found.rates, rates, atol=0.06)
    assert found.rate == pytest.approx(wrong.mean(), abs=0.03)
    assert len(blind.rates) == 1
    for number in range(5):  # within a source the order is about the same; between sources it is not
        inside = source == number
        assert found.p_wrong[inside].mean() == pytest.approx(wrong[inside].mean(), abs=0.05)
    assert roc_auc_score(wrong, found.p_wrong) > roc_auc_score(wrong, blind.p_wrong) + 0.03


@pytest.mark.parametrize("size", [1, 2, 20, 1000])
def test_sources_that_err_alike_change_nothing(size):
    held_out, given, _, source, _ = sourced(size, [0.1])
    apart, together = fit_noise(held_out, given, (), source), fit_noise(held_out, given)
    assert np.ptp(apart.rates) < 0.05
    np.testing.assert_allclose(apart.p_wrong, together.p_wrong, atol=0.03)


def test_more_instances_than_the_likelihood_takes(monkeypatch):
    """Learned from a part and looked at in blocks, every instance is judged, about as well."""
    held_out, given, _, source, rates = sourced(400, [0.03, 0.4])
    whole = fit_noise(held_out, given, (held_out,), source)
    monkeypatch.setattr("whence.label_noise._BLOCK", 5 * 333)
    blocks = fit_noise(held_out, given, (held_out,), source)
    np.testing.assert_allclose(blocks.p_wrong, whole.p_wrong, atol=1e-6)
    np.testing.assert_allclose(blocks.confusions, whole.confusions, atol=1e-6)
    monkeypatch.setattr("whence.label_noise._LEARNED", 5 * 2000)
    part = fit_noise(held_out, given, (held_out,), source)
    assert part.posterior.shape == whole.posterior.shape
    np.testing.assert_allclose(part.rates, rates, atol=0.12)
    assert np.corrcoef(part.p_wrong, whole.p_wrong)[0, 1] > 0.98


def test_order_and_names_of_classes_do_not_matter():
    held_out, _, given, _ = drawn(1500)
    p = fit_noise(held_out, given).p_wrong
    rows, classes = np.random.default_rng(1).permutation(1500), np.array([3, 0, 4, 1, 2])
    np.testing.assert_allclose(fit_noise(held_out[rows], given[rows]).p_wrong, p[rows], atol=1e-6)
    renamed = classes.argsort()[given]
    np.testing.assert_allclose(fit_noise(held_out[:, classes], renamed).p_wrong, p, atol=1e-6)


def test_labels_without_mistakes():
    held_out, _, given, _ = drawn(rate=0.0)
    found = fit_noise(held_out, given)
    assert found.rate < 0.02
    assert (found.p_wrong > 0.5).mean() < 0.005


def test_the_rate_comes_from_where_it_is_asked_for():
    """Probabilities that have learned wrong labels by heart hide them; others tell how many there are."""
    held_out, _, given, wrong = drawn(rate=0.2)
    learned = held_out.copy()
    learned[np.arange(len(given)), given] += 0.4
    learned /= learned.sum(1, keepdims=True)
    hidden, told = fit_noise(learned, given), fit_noise(learned, given, (held_out,))
    assert hidden.rate < 0.1
    assert told.rate == fit_noise(held_out, given).rate == pytest.approx(0.2, abs=0.03)
    assert told.p_wrong.sum() > hidden.p_wrong.sum()


def mistaking(probabilities, first, second):
    """As said by someone who takes one of two classes for the other, a fifth of the time."""
    said = probabilities.copy()
    some = np.random.default_rng(first).random(len(said)) < 0.2
    said[np.ix_(some, [first, second])] = said[np.ix_(some, [second, first])]
    return said


def test_a_pattern_is_believed_as_far_as_all_witnesses_find_it():
    """The mistakes of one witness look like a pattern of the labels'."""
    held_out, _, given, wrong = drawn(rate=0.1)
    witnesses = mistaking(held_out, 0, 1), mistaking(held_out, 2, 3)
    for (first, second), witness in zip(((0, 1), (2, 3)), witnesses, strict=True):
        assert fit_noise(witness, given).confusions[first, second] > 0.4
    apart, misled = fit_noise(witnesses[0], given, witnesses), fit_noise(witnesses[0], given, witnesses[:1])
    assert np.ptp(apart.confusions[~np.eye(5, dtype=bool)]) < 0.1
    assert roc_auc_score(wrong, apart.p_wrong) > roc_auc_score(wrong, misled.p_wrong) + 0.005
    held_out, _, given, _ = drawn(rate=0.1, confusions=CYCLE)
    both = fit_noise(held_out, given, (held_out, mistaking(held_out, 2, 4)))
    assert all(both.confusions[k, (k + 1) % 5] > 0.6 for k in (0, 1, 3))  # which neither mistakes
    np.testing.assert_allclose(both.confusions.sum(1), 1)
    alike = fit_noise(held_out, given, (held_out, held_out))
    assert all(alike.confusions[k, (k + 1) % 5] == pytest.approx(1 - 3 / 16, abs=0.06) for k in range(5))


@pytest.mark.parametrize(
    ("held_out", "given"),
    [
        (np.full((40, 2), 0.5), np.arange(40) % 2),  # knows nothing
        (np.eye(3)[np.arange(30) % 3], np.arange(30) % 3),  # sure, and right
        (np.eye(3)[np.arange(30) % 3], (np.arange(30) + 1) % 3),  # sure, and wrong
        (np.ones((10, 1)), np.zeros(10, np.int64)),  # one class
        (np.full((1, 3), 1 / 3), np.zeros(1, np.int64)),  # one instance
        (np.full((20, 4), 0.25), np.zeros(20, np.int64)),  # classes that nobody has
    ],
)
def test_odd_data_give_probabilities(held_out, given):
    said = held_out.astype(np.float32)
    for found in (fit_noise(said, given), fit_noise(said, given, (said, said[:, ::-1]))):
        probable(found)


def probable(found):
    p = found.p_wrong
    assert np.isfinite(p).all() and (p >= 0).all() and (p <= 1).all()
    np.testing.assert_allclose(found.posterior.sum(1), 1, atol=1e-6)
    assert 0 <= found.rate <= 0.5 and np.isfinite(found.sharpness)
