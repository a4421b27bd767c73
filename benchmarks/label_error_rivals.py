"""What else ranks label errors: other libraries on the same run, other readings of folds, and parts of what one run says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from benchmarks.label_error_cases import Case, cross_validated, epoch_by_epoch
from benchmarks.label_error_tables import (
    EKFAC,
    FOLD_MARGINS,
    FOLD_NOISE,
    MEAN_LOSS,
    ORDINARY,
    REGRESSION,
    REGRESSION_NOISE,
    TRACIN,
    TRAK,
)

import whence
from whence.estimators.unseen import accounts_of_pictures
from whence.forward import predict
from whence.label_noise import fit_noise
from whence.subnetworks import probabilities

__all__ = ["MORE", "Piece", "over_epochs"]

CHECKPOINTS = 5  # epochs, evenly spaced, that TracIn sums over
CHECKED = 50  # instances that dattri is asked about, from which its cost for all is told
Piece = Callable[[Case], dict[str, Any]]


def by_self_influence(case: Case) -> dict[str, Any]:
    """What the self-influence of each instance is worth, on the network of one run."""
    from benchmarks import self_influence

    began = time.process_time()
    run = case.trained(np.arange(len(case.labels)), case.seed)
    once, found = time.process_time() - began, {}
    for name, method in ((EKFAC, self_influence.ekfac), (TRAK, self_influence.trak)):
        began = time.process_time()
        figures = case.figures(method(run))
        found[name] = figures | {"cost": 1 + (time.process_time() - began) / once}
    return found


def by_tracin(case: Case) -> dict[str, Any]:
    """What TracIn's self-influence is worth: in closed form for all instances, by dattri for some, which have to be the same."""
    from benchmarks import self_influence

    began = time.process_time()
    wanted = {case.epochs * number // CHECKPOINTS for number in range(1, CHECKPOINTS + 1)}
    run, weights, rates, total = None, [], [], np.zeros(len(case.labels))
    for epoch, (run, rate) in enumerate(epoch_by_epoch(case), start=1):
        if epoch in wanted:
            weights.append({name: value.clone() for name, value in run.model.state_dict().items()})
            rates.append(rate)
            total += rate * self_influence.last_layer_norms(run)
    assert run is not None
    once = time.process_time() - began
    began = time.process_time()
    some = np.arange(0, len(total), len(total) // CHECKED)[:CHECKED]
    np.testing.assert_allclose(self_influence.tracin(run, weights, rates, some), total[some], rtol=1e-3, atol=1e-6)
    of_all = (time.process_time() - began) * len(total) / CHECKED
    return {TRACIN: case.figures(total) | {"cost": 1 + of_all / once}}


def by_folds(case: Case) -> dict[str, Any]:
    """What else can be made of five folds."""
    from cleanlab.rank import get_label_quality_scores

    held_out = cross_validated(case)
    margins = get_label_quality_scores(case.labels, held_out, method="normalized_margin")
    noise = fit_noise(held_out, case.labels).p_wrong
    return {FOLD_MARGINS: case.figures(-margins), FOLD_NOISE: case.figures(noise)}


def by_regression(case: Case) -> dict[str, Any]:
    """What the regression on random convolutions says by itself, no network being trained; and the model of label noise on it."""
    given = np.arange(len(case.labels)), case.labels
    began = time.process_time()
    model, data = whence.prepare(case.data(given[0]), "mlp:8", seed=case.seed)  # of which nothing is asked
    said = accounts_of_pictures(whence.Run(model.eval(), data)).ridge[0].double().numpy()
    seconds = time.process_time() - began
    noise = fit_noise(said, case.labels, (said,)).p_wrong
    return {REGRESSION: case.figures(1 - said[given]) | {"seconds": seconds}, REGRESSION_NOISE: case.figures(noise)}


def by_losses(case: Case) -> dict[str, Any]:
    """The label's loss in the full network, averaged over epochs; and which share of wrong labels it and own masks fit at last."""
    given = np.arange(len(case.labels)), case.labels
    total = np.zeros(len(case.labels))
    for run, _ in epoch_by_epoch(case):
        total -= torch.from_numpy(predict(run.model, run.train)).double().log_softmax(1).numpy()[given]
    fits = {f"{mask} fit of wrong": float((probabilities(run, mask=mask).argmax(1) == case.labels)[case.wrong].mean())
            for mask in ("own", "full")}  # fmt: skip
    return {MEAN_LOSS: case.figures(total / case.epochs), **fits}


def by_ordinary_folds(case: Case) -> dict[str, Any]:
    """Five folds of the same model without masks, as people cross-validate."""
    began = time.process_time()
    held_out = cross_validated(case, masks=False)
    seconds = time.process_time() - began
    return {ORDINARY: case.figures(1 - held_out[np.arange(len(case.labels)), case.labels]) | {"seconds": seconds}}


MORE: dict[str, Piece] = {"self-influence": by_self_influence, "tracin": by_tracin, "folds": by_folds,
                          "regression": by_regression, "losses": by_losses, "ordinary": by_ordinary_folds}  # fmt: skip


def over_epochs(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The same training again: mean probabilities [N, C] after each epoch, and mean margins [N] of the label (logits)."""
    everyone = np.arange(len(case.labels))
    means, margins = np.zeros((len(everyone), 10)), np.zeros(len(everyone))
    for run, _ in epoch_by_epoch(case):
        logits = predict(run.model, run.train)
        means += torch.from_numpy(logits).softmax(1).numpy() / case.epochs
        own = logits[everyone, case.labels]
        logits[everyone, case.labels] = -np.inf
        margins += (own - logits.max(1)) / case.epochs
    return means, margins
