"""A training loop of one's own: two lines are whence's, then a run explains the model.

python examples/plain_loop.py --out runs/plain
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

import whence


def digits(rows: np.ndarray) -> list[tuple[str, torch.Tensor, int]]:
    """(id, picture [64], label) of some of scikit-learn's digits; ids stay with their pictures through any shuffling."""
    data = load_digits()
    return [(f"digit-{row}", torch.tensor(data.data[row] / 16).float(), int(data.target[row])) for row in rows]


def train(model: nn.Module, rows: list[tuple[str, torch.Tensor, int]], *, epochs: int, seed: int = 0) -> None:
    loader = DataLoader(rows, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(seed))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(epochs):
        for ids, pictures, labels in loader:
            with whence.own(ids):  # each example trains its own half of the units
                nn.functional.cross_entropy(model(pictures), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
    model.eval()


def main(arguments: list[str] | None = None) -> whence.Run:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/plain", help="run directory")
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args(arguments)
    order = np.random.default_rng(0).permutation(1797)
    rows, dev = digits(order[:1400]), digits(order[1400:])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 10))
    whence.attach(model)  # its nn.Dropout becomes turn-over dropout
    train(model, rows, epochs=given.epochs)

    run = whence.Run(model, rows, dev=dev, out=given.out, replace=True)
    scores = whence.influence(run, "errors")
    helpful = [scores.rows.names[row] for row in scores.top(3).rows[0]]
    print(
        f"of the wrong prediction {scores.columns.names[0]}, the training digits that help most: {', '.join(helpful)}"
    )
    print(f"{len(whence.audit(run).issues)} labels are suspected; report: {whence.report(run)}")
    return run


if __name__ == "__main__":
    main()
