"""The demonstration: plant label errors, train once, find them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from whence.auditing import audit
from whence.data import Dataset
from whence.data.loading import Source
from whence.forward import predict
from whence.models import prepare
from whence.reporting import report
from whence.training import fit
from whence.whole_files import write_aside

__all__ = ["Demo", "demo", "plant_label_errors"]

PLANTED_SHARE = 0.05


@dataclass(frozen=True)
class Demo:
    """What the demonstration did.

    Attributes:
        report, run, data: the files made.
        planted: how many wrong labels were planted; found: how many of them are among the suspected ones.
        suspected: how many labels are suspected in all.
        auc: area under the ROC curve of p_wrong for planted against other labels.
        accuracy: on the test split.
    """

    report: Path
    run: Path
    data: Path
    instances: int
    planted: int
    suspected: int
    found: int
    auc: float
    accuracy: float

    def to_json(self) -> dict[str, Any]:
        return {
            name: value.resolve().as_posix() if isinstance(value, Path) else value for name, value in vars(self).items()
        }

    def lines(self) -> list[str]:
        return [
            f"Planted {self.planted} wrong labels among {self.instances:,} handwritten digits and trained once: "
            f"{self.suspected} labels suspected, {self.found} of them planted (AUC {self.auc:.3f}); "
            f"accuracy on test {100 * self.accuracy:.1f} %.",
            f"report: {self.report}",
        ]


def demo(out: str | os.PathLike[str] = "demo", *, seed: int = 0, progress: bool = False) -> Demo:
    """Run the whole way on scikit-learn's digits with planted label errors.

    Args:
        out: the directory for the data, the run and the report.
        seed: of planted errors, masks and weights.
    """
    folder = Path(out)
    path = folder / "digits.npz"
    clean = Source("digits").load()
    noisy, planted = plant_label_errors(clean, PLANTED_SHARE, seed=seed)
    _write_npz(path, noisy)
    source = Source(str(path))
    model, data = prepare(source.load(), "mlp:512,512", seed=seed)
    run = fit(model, data, out=folder / "digits", source=source, seed=seed, progress=progress)
    found = audit(run, progress=progress)
    page = report(run, audit=found, progress=progress)
    wrong = planted[noisy.splits == "train"]
    test = run.splits["test"]
    return Demo(
        report=page, run=folder / "digits", data=path, instances=len(run.train), planted=int(wrong.sum()),
        suspected=len(found.issues), found=int(wrong[found.issues].sum()),
        auc=float(roc_auc_score(wrong, found.column("p_wrong"))),
        accuracy=float((predict(run.model, test).argmax(1) == test.targets).mean()),
    )  # fmt: skip


def plant_label_errors(data: Dataset, share: float, *, seed: int) -> tuple[Dataset, np.ndarray]:
    """Give a share of the training instances another class, chosen uniformly.

    Returns:
        The dataset, and bool [N]: which labels are wrong now.
    """
    generator = np.random.default_rng(seed)
    rows = np.flatnonzero(data.splits == "train") if data.has_split("train") else np.arange(len(data))
    chosen = generator.choice(rows, max(1, round(share * len(rows))), replace=False)
    targets, classes = data.targets.copy(), data.task.outputs
    targets[chosen] = (targets[chosen] + generator.integers(1, classes, len(chosen))) % classes
    planted = np.zeros(len(data), bool)
    planted[chosen] = True
    return replace(data, targets=targets), planted


def _write_npz(path: Path, data: Dataset) -> None:
    arrays: dict[str, np.ndarray] = {}
    for name in ("train", "dev", "test"):
        part = data.split(name)
        assert part.images is not None
        arrays |= {f"x_{name}": part.images, f"y_{name}": part.targets}
    with write_aside(path) as aside, open(aside, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
