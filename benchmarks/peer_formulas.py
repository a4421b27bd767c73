"""Methods of ``peers.py`` that are written down here: those of this library, and plain formulas as baselines.

Scores are [N, M], positive where the training instance helps on the target.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize, one_hot

import whence
from peer_cases import Case

Factors = list[tuple[torch.Tensor, torch.Tensor]]  # per layer: what it reads [B, D+1], and df/d(what it writes) [B, H]


def of_whence(name: str, case: Case, option: None) -> np.ndarray:
    """One run, or the mean over runs of scores divided by their standard deviation."""
    found = [np.asarray(whence.influence(case.run(k), "test", method=name)) for k in range(len(case.networks))]
    return found[0] if len(found) == 1 else np.mean([scores / scores.std() for scores in found], axis=0)


def similarity(case: Case, option: None) -> np.ndarray:
    """Cosine of inputs, negative where labels differ: no network at all."""
    given = case.given
    cosine = normalize(given.x) @ normalize(given.test_x).T
    return torch.where(given.y[:, None] == given.test_y, cosine, -cosine).numpy()


def grad_dot(case: Case, option: None) -> np.ndarray:
    """Products of gradients of the loss in all parameters."""
    given, model = case.given, case.model()
    return _gram(_factors(model, given.x, given.y, _loss), _factors(model, given.test_x, given.test_y, _loss)).numpy()


def last_layer(case: Case, option: None) -> np.ndarray:
    """Koh and Liang's influence in the last layer alone, its Hessian A ⊗ gI, damping .1 of A's mean diagonal."""
    given, model = case.given, case.model()
    a, e = _factors(model, given.x, given.y, _loss)[-1]
    b, f = _factors(model, given.test_x, given.test_y, _loss)[-1]
    moment = a.T @ a / len(a)
    moment += 0.1 * moment.diagonal().mean() * torch.eye(len(moment))
    return ((a @ torch.linalg.solve(moment, b.T)) * (e @ f.T)).numpy()


def trak_unprojected(case: Case, ridge: float) -> np.ndarray:
    """TRAK's formula (Park et al. 2023) without its projection, through the products of gradients.

    (G Gᵀ + λ)⁻¹ G g(x), which equals G (Gᵀ G + λ)⁻¹ g(x), times 1 − p(z); both averaged over models. λ is in units of the mean
    square of a training gradient; traker's default is 0.
    """
    given = case.given
    similarities, doubts = [], []
    for number in range(len(case.networks)):
        model = case.model(number)
        train = _factors(model, given.x, given.y, _margin)
        test = _factors(model, given.test_x, given.test_y, _margin)
        kernel, across = _gram(train, train), _gram(train, test)
        if ridge == 0:
            kernel, across = kernel.double(), across.double()
        kernel.diagonal().add_((ridge or 1e-9) * kernel.diagonal().mean())
        similarities.append(torch.cholesky_solve(across, torch.linalg.cholesky(kernel)).float())
        with torch.no_grad():
            doubts.append(1 - model(given.x).softmax(1).gather(1, given.y[:, None]))
    return (torch.stack(similarities).mean(0) * torch.stack(doubts).mean(0)).numpy()


def _factors(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor, quantity: Callable[..., torch.Tensor]) -> Factors:
    """The gradient of a quantity of each instance, in the two factors that each linear layer gives."""
    reads, writes = [], []
    value = x
    for layer in model:
        if isinstance(layer, nn.Linear):
            reads.append(torch.cat([value.detach(), torch.ones(len(value), 1)], dim=1))
        value = layer(value)
        if isinstance(layer, nn.Linear):
            writes.append(value)
    return list(zip(reads, torch.autograd.grad(quantity(value, y).sum(), writes), strict=True))


def _gram(first: Factors, second: Factors) -> torch.Tensor:
    """Products of gradients: float32 [N, M]."""
    return sum((a @ b.T) * (e @ f.T) for (a, e), (b, f) in zip(first, second, strict=True))


def _loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits, labels, reduction="none")


def _margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log p − log(1 − p) of the label."""
    others = logits.masked_fill(one_hot(labels, logits.shape[1]).bool(), -torch.inf)
    return logits.gather(1, labels[:, None])[:, 0] - others.logsumexp(1)
