"""What all estimators share: blocks and order, quantities, the choice among them, softening."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.toys import blobs, network, trained
from whence import WhenceError
from whence.data import Regression
from whence.estimators import influence, reference
from whence.estimators.dispatch import choose
from whence.estimators.softening import matched_temperature
from whence.quantities import QUANTITIES, quantity_named
from whence.subnetworks import probabilities


def test_temperature_matches_the_flipped_error():
    run = trained(epochs=30, widths=(6, 64, 3))
    temperature = matched_temperature(run)
    rows, labels = np.arange(120), run.train.targets
    logits = np.log(probabilities(run)) / temperature
    softened = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert temperature > 1
    assert softened[rows, labels].mean() == pytest.approx(
        probabilities(run, mask="flipped")[rows, labels].mean(), abs=1e-4
    )
    untrained = whence.Run(network(6, 8, 3), blobs(50))
    with torch.no_grad():
        for parameter in untrained.model.parameters():
            parameter.zero_()
    assert matched_temperature(untrained) == 1.0


@pytest.mark.parametrize("method", ["turnover", "first_order", "kernel"])
def test_blocks_and_order_change_nothing(method):
    run = trained(epochs=2)
    whole = np.asarray(influence(run, "test", method=method))
    np.testing.assert_allclose(influence(run, "test", method=method, block_rows=7), whole, atol=1e-6)
    order = np.random.default_rng(0).permutation(30)
    shuffled = run.splits["test"].select(order)
    np.testing.assert_allclose(influence(run, shuffled, method=method), whole[:, order], atol=1e-6)


def test_regression():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(80, 6)).astype(np.float32)
    y = x[:, 0] + 0.1 * generator.normal(size=80).astype(np.float32)
    run = whence.fit(
        network(6, 32, 1),
        (np.arange(60), x[:60], y[:60]),
        test=(np.arange(20), x[60:], y[60:]),
        epochs=10,
        device="cpu",
    )
    assert isinstance(run.task, Regression)
    for quantity in ("loss", "absolute_error"):
        expected = reference(run, run.splits["test"], quantity_named(quantity, run.task))
        np.testing.assert_allclose(influence(run, "test", method="turnover", quantity=quantity), expected, atol=1e-5)
    assert np.isfinite(influence(run, "test", method="kernel")).all()
    with pytest.raises(
        WhenceError, match="unknown quantity: got 'accuracy', expected one of loss, absolute_error for regression"
    ):
        influence(run, "test", quantity="accuracy")
    with pytest.raises(WhenceError, match="errors are defined for classification"):
        influence(run, "errors")


def test_auto():
    run = trained(epochs=1)
    assert choose(run, run.loss) == "kronecker"
    assert choose(run, quantity_named("accuracy", run.task)) == "turnover"
    grouped = influence(trained(epochs=1, groups=5), "dev")
    assert (grouped.info["method"], grouped.info["level"], len(grouped.ids)) == ("kronecker", "group", 5)
    assert influence(run, "errors").info["method"] == "kronecker"
    wrong = influence(run, "errors").targets
    with torch.no_grad():
        test = run.splits["test"]
        predicted = run.model(test.batch(np.arange(30)).inputs).argmax(1).numpy()
    assert np.array_equal(wrong, test.ids[predicted != test.targets])


def test_errors():
    run = trained(epochs=1)
    for arguments, message in [
        ({"method": "magic"}, "in method: got 'magic', expected auto or turnover or first_order or kernel or kronecker"),
        ({"targets": "val"}, "no split named 'val' in the run: got only train, dev, test"),
        ({"method": "kernel", "quantity": "accuracy"}, "without a gradient in method kernel.*method turnover"),
        ({"method": "first_order", "quantity": "accuracy"}, "without a gradient in method first_order"),
        ({"method": "kernel", "residual": "x"}, "unknown residual"),
        ({"method": "kernel", "damping": 0}, "out of range in method kernel"),
        ({"method": "turnover", "damping": 1}, "an option this method does not have in method turnover: got 'damping', expected one of path"),
        ({"quantity": "f1"}, "unknown quantity"),
    ]:  # fmt: skip
        with pytest.raises(WhenceError, match=message):
            influence(run, **{"targets": "test", **arguments})
    assert set(QUANTITIES) == {"loss", "accuracy", "probability", "margin", "absolute_error"}


def test_quantities_are_told_apart_by_what_they_do(tmp_path):
    run = trained(epochs=1, out=tmp_path / "run")
    plain = influence(run, "test", method="turnover", quantity=nn.CrossEntropyLoss(reduction="none"))
    smooth = nn.CrossEntropyLoss(reduction="none", label_smoothing=0.5)
    with pytest.raises(WhenceError, match="scores of another run, data or setting"):
        influence(run, "test", method="turnover", quantity=smooth)
    other = influence(run, "test", method="turnover", quantity=smooth, name="smooth")
    assert not np.allclose(plain, other)
    assert influence(run, "test", method="turnover", quantity=lambda o, t: o[:, 0]).shape == (120, 30)


@pytest.mark.parametrize("method", ["turnover", "first_order", "kernel", "kronecker"])
def test_a_network_of_weights_that_are_no_numbers_is_refused(method):
    run = trained(epochs=1)
    with torch.no_grad():
        run.model[2].weight[0, 0] = torch.nan
    with pytest.raises(WhenceError, match="not finite|a mean square of nan"):
        influence(run, "test", method=method)
