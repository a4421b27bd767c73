"""A LightningModule with one callback more, then a run explains the model.

pip install '.[lightning]'
python examples/lightning_module.py --out runs/lightning
"""

from __future__ import annotations

import argparse

import lightning.pytorch as pl
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

import whence
from whence.integrations.lightning import MaskCallback


class Classifier(pl.LightningModule):
    """A perceptron on pictures [B, 64]. Batches are (ids, pictures, labels); training takes no notice of the ids."""

    def __init__(self, hidden: int = 512) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, 10))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.body(pictures)

    def training_step(self, batch: tuple, number: int) -> torch.Tensor:
        _, pictures, labels = batch
        return nn.functional.cross_entropy(self(pictures), labels)

    def validation_step(self, batch: tuple, number: int) -> None:
        _, pictures, labels = batch
        self.log("dev_loss", nn.functional.cross_entropy(self(pictures), labels), batch_size=len(labels))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def digits(rows: np.ndarray) -> list[tuple[int, torch.Tensor, int]]:
    """(id, picture [64], label) of some of scikit-learn's digits."""
    data = load_digits()
    return [(int(row), torch.tensor(data.data[row] / 16).float(), int(data.target[row])) for row in rows]


def main(arguments: list[str] | None = None) -> whence.Run:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/lightning", help="run directory")
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args(arguments)
    order = np.random.default_rng(0).permutation(1797)
    rows, dev = digits(order[:1400]), digits(order[1400:])
    pl.seed_everything(0)
    module = Classifier()
    whence.attach(module)  # its nn.Dropout becomes turn-over dropout
    trainer = pl.Trainer(
        max_epochs=given.epochs, callbacks=[MaskCallback()], accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(rows, batch_size=32, shuffle=True), DataLoader(dev, batch_size=100))

    run = whence.Run(module, rows, dev=dev, out=given.out, replace=True)
    scores = whence.influence(run, "errors")
    helpful = [scores.rows.names[row] for row in scores.top(3).rows[0]]
    print(
        f"of the wrong prediction {scores.columns.names[0]}, the training digits that help most: {', '.join(helpful)}"
    )
    print(f"{len(whence.audit(run).issues)} labels are suspected; report: {whence.report(run)}")
    return run


if __name__ == "__main__":
    main()
