"""What the methods of ``peers.py`` are compared on: data, ground truth, networks of one recipe, and the score of scores.

    A   digits, 1,000 training and 300 test instances, MLP 64-512-512-10
    C   Fashion-MNIST, 5,000 and 500, MLP 784-128-64-10

Ground truth (``groundtruth/*.npz``, beside the folder of real data sets): losses after retraining on random halves. The
networks that are scored train 20 epochs: ReLU, weights normal with variance 2/fan-in, biases zero, SGD with momentum .9,
learning rate .05 falling linearly to zero, weight decay 1e-4, batch 50.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import whence
from real_data import shared_data
from whence.evaluation.correlations import spearman

EPOCHS, BATCH, RATE, MOMENTUM, DECAY = 20, 50, 0.05, 0.9, 1e-4
CHECKPOINTS = (2, 6, 10, 14, 18)  # epochs after which TracInCP looks; at the last one the rate is zero
MASKED = "5"  # the dropout after the last hidden activation
FIRST_TARGET_ID = 10_000_000


@dataclass(frozen=True)
class Setting:
    """Data, the shape of the network, and what retraining gave.

    Attributes:
        widths: of the network, from inputs to classes.
        dropout: on both hidden layers of the ordinary network.
        x, y: float32 [N, F] and int64 [N], training instances; test_x, test_y: the M targets.
        members: bool [K, N], rows that each retraining was given; loss: float32 [K, R, M] after it.
    """

    widths: tuple[int, ...]
    dropout: float
    x: torch.Tensor
    y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    members: np.ndarray
    loss: np.ndarray


def setting(name: str) -> Setting:
    """Setting A or C."""
    if name == "A":
        digits = load_digits()
        order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
        x = torch.from_numpy(digits.data / 16).float()[order]
        y = torch.from_numpy(digits.target).long()[order]
        truth = np.load(shared_data().parent / "groundtruth" / "digits_mlp.npz")
        return Setting(
            (64, 512, 512, 10), 0.0, x[:1000], y[:1000], x[1000:1300], y[1000:1300], truth["subsets"], truth["loss"]
        )
    x, y, test_x, test_y = fashion(5000, 500)
    truth = np.load(shared_data().parent / "groundtruth" / "fashion_mnist_mlp.npz")
    return Setting((784, 128, 64, 10), 0.1, x, y, test_x, test_y, truth["subsets"], truth["loss"])


def fashion(train: int, test: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The first training and test rows of Fashion-MNIST: x float32 [N, 784] in 0 … 1 and y int64 [N], twice."""
    with np.load(shared_data() / "fashion_mnist.npz") as file:
        found = [file[key] for key in ("x_train", "y_train", "x_test", "y_test")]
    pictures = [torch.from_numpy(a[:n].reshape(n, -1) / 255).float() for a, n in ((found[0], train), (found[2], test))]
    labels = [torch.from_numpy(a[:n].astype(np.int64)) for a, n in ((found[1], train), (found[3], test))]
    return pictures[0], labels[0], pictures[1], labels[1]


def mlp(widths: tuple[int, ...], dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    """Linear, ReLU, Dropout, Linear, ReLU, Dropout, Linear."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [linear := nn.Linear(fan_in, fan_out), nn.ReLU(), nn.Dropout(dropout)]
        nn.init.normal_(linear.weight, std=(2 / fan_in) ** 0.5, generator=generator)
        nn.init.zeros_(linear.bias)
    return nn.Sequential(*layers[:-2])


def turnover_mlp(widths: tuple[int, ...], seed: int) -> nn.Module:
    """The same network without other dropout than turn-over dropout after the last hidden activation."""
    return whence.attach(mlp(widths, seed=seed), where=[MASKED], keep=0.5, seed=seed)


def train(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, seed: int, mask_ids: torch.Tensor | None = None
) -> list[tuple[float, dict[str, torch.Tensor]]]:
    """Train a network in place; with ``mask_ids`` (int64 [N]), each row under its own mask.

    Returns:
        (learning rate, weights) after each epoch of ``CHECKPOINTS``.
    """
    torch.manual_seed(seed)  # of ordinary dropout
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, EPOCHS * -(-len(x) // BATCH))
    kept = []
    model.train()
    for epoch in range(1, EPOCHS + 1):
        for rows in torch.randperm(len(x), generator=generator).split(BATCH):
            with nullcontext() if mask_ids is None else whence.own(mask_ids[rows]):
                loss = cross_entropy(model(x[rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
            schedule.step()
        if epoch in CHECKPOINTS:
            weights = {name: value.clone() for name, value in model.state_dict().items()}
            kept.append((schedule.get_last_lr()[0], weights))
    model.eval()
    return kept


def make_network(given: Setting, kind: str, seed: int, path: Path) -> None:
    """Train a network of ``kind`` (ordinary or turnover) and keep weights and checkpoints in a file."""
    ordinary = kind == "ordinary"
    model = mlp(given.widths, given.dropout, seed) if ordinary else turnover_mlp(given.widths, seed)
    checkpoints = train(model, given.x, given.y, seed, None if ordinary else torch.arange(len(given.x)))
    torch.save({"weights": model.state_dict(), "checkpoints": checkpoints}, path)


def lds(scores: np.ndarray, given: Setting) -> float:
    """Linear datamodeling score of scores [N, M], positive where the row helps: mean over targets."""
    if not np.isfinite(scores).all():
        raise ValueError("scores that are not finite")
    found = spearman(given.members.astype(np.float64) @ scores.astype(np.float64), -given.loss.mean(axis=1))
    return float(np.nan_to_num(found).mean())
