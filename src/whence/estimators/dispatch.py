"""``influence``: choose an estimator, choose targets, stream the scores."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from whence.data import Dataset
from whence.errors import WhenceError
from whence.estimators.base import Estimator, at_level
from whence.estimators.first_order import FirstOrder
from whence.estimators.kernel import Kernel
from whence.estimators.kronecker import Kronecker
from whence.estimators.turnover import Turnover
from whence.estimators.views import Views
from whence.fingerprints import digest
from whence.forward import predict
from whence.noise import FEWEST_MASKS
from whence.quantities import LossFunction, Quantity, quantity_named
from whence.run import Run
from whence.scores import Labels, Scores, compute

__all__ = ["METHODS", "influence", "target_instances"]

METHODS: dict[str, Callable[..., Estimator]] = {
    "turnover": Turnover,
    "first_order": FirstOrder,
    "kernel": Kernel,
    "kronecker": Kronecker,
}


def influence(
    run: Run,
    targets: Any = "test",
    *,
    method: str = "auto",
    level: str = "auto",
    quantity: str | Quantity | LossFunction = "loss",
    name: str | None = None,
    keep_matrix: bool = True,
    block_rows: int | None = None,
    null_masks: int = 512,
    target_set: str | None = None,
    progress: bool = False,
    **options: Any,
) -> Scores:
    """The influence of every training instance (or group) on every target.

    Args:
        run: the trained run.
        targets: a split's name, "errors" (wrong predictions of the test split, else of dev), a ``Dataset``, or
            (ids, inputs, targets).
        method: "turnover" (published, exact), "first_order", "kernel" (last layer), "kronecker" (all layers), or "auto":
            kronecker where the quantity has a gradient and the model has trained linear, convolutional or embedding-bag
            layers; turnover otherwise.
        level: what rows are: "instance", "group" (for kernel and kronecker, sums over members), or "auto": groups with
            method auto on a run that has them, else what the method scores by itself.
        quantity: "loss", "accuracy", "probability", "margin" (classification), "absolute_error" (regression), a
            ``Quantity``, or a loss (outputs [B, C], targets [B]) → [B].
        name: of the scores in the run's directory; by default method, targets and quantity.
        keep_matrix: keep all N×M scores; False keeps the 100 most extreme per target and the means.
        block_rows: training rows per block; by default about 16 MiB of scores.
        null_masks: masks that were never trained on, scored alike, for the noise floor.
        target_set: what to call targets that have no name of their own in the default name, such as their file's.
        progress: show a bar.
        options: of the method (kernel: residual, damping, subnetworks; kronecker: damping, share).

    Returns:
        Scores [N, M], positive where the training row helps on the target, in units of the quantity. With a run
        directory they lie in RUN/scores/NAME, and a call that was interrupted goes on where it stopped.

    Raises:
        WhenceError: an unknown method, quantity or split; a level that the run or the method has not; stored scores of that
            name belong to other data or weights.
    """
    wanted = quantity_named(run.loss if quantity == "loss" else quantity, run.task)
    data = target_instances(run, targets)
    if level not in ("auto", "instance", "group"):
        raise WhenceError("unknown level", got=repr(level), expected="auto, instance or group")
    if method == "auto" and level == "auto" and run.train.groups is not None:
        level = "group"
    chosen = choose(run, wanted) if method == "auto" else method
    if chosen not in METHODS:
        raise WhenceError("unknown method", got=repr(method), expected=f"auto, {', '.join(METHODS)}")
    if null_masks < FEWEST_MASKS:
        raise WhenceError("too few null masks", where="null_masks", got=null_masks, expected=f"at least {FEWEST_MASKS}")
    known = [
        option
        for option in inspect.signature(METHODS[chosen]).parameters
        if option not in ("run", "targets", "quantity")
    ]
    for option in options:
        if option not in known:
            raise WhenceError("an option this method does not have", where=f"method {chosen}", got=repr(option),
                              expected=f"one of {', '.join(known) or 'none'}")  # fmt: skip
    estimator = at_level(METHODS[chosen](run, data, wanted, **options), level)
    columns = Labels(data.ids, [data.name_of(row) for row in range(len(data))])
    info = {
        "method": chosen,
        "quantity": wanted.name,
        "quantity_fingerprint": wanted.fingerprint(run.task),
        "unit": estimator.unit,
        "level": estimator.level,
        "options": options,
        "run": run.fingerprint(),
        "targets": data.fingerprint(),
        "target_set": targets if isinstance(targets, str) else target_set or "given",
        "null_masks": null_masks,
    }
    path = None
    if run.directory is not None:
        label = _default_name(info, given=not isinstance(targets, str)) if name is None else name
        path = run.directory.path / "scores" / _safe(label)
    with tqdm(
        total=len(estimator.rows), desc=f"influence ({chosen})", unit="row", disable=not progress, leave=False
    ) as bar:
        return compute(
            estimator.block,
            estimator.rows,
            columns,
            info,
            path=path,
            null=lambda: estimator.null(null_masks, seed=0),
            block_rows=block_rows,
            keep_matrix=keep_matrix,
            width=sum(layer.units for layer in run.layers.values()),
            progress=lambda rows: bar.update(rows),
        )


def _default_name(info: dict[str, Any], *, given: bool) -> str:
    """Method, targets and quantity; what else sets scores apart is told by a few digits of its hash."""
    by_group = ["groups"] if info["method"] in ("kernel", "kronecker") and info["level"] == "group" else []
    parts = [str(info["method"]), *by_group, re.sub(r"[^\w.-]+", "-", str(info["target_set"]))]
    if info["quantity"] != "loss":
        parts.append(str(info["quantity"]))
    if info["options"] or given:
        parts.append(digest(info["options"], info["targets"])[:8])
    return "-".join(parts)


def choose(run: Run, quantity: Quantity) -> str:
    """What "auto" means for a run."""
    if not quantity.differentiable or not Views(run.model, run.train).layers:
        return "turnover"
    return "kronecker"


def target_instances(run: Run, targets: Any) -> Dataset:
    """The dataset that a target's name stands for."""
    if not isinstance(targets, str):
        return Dataset.of(targets, task=run.task)
    if targets != "errors":
        return run.dataset(targets)
    split = next((name for name in ("test", "dev") if name in run.splits), None)
    if split is None:
        raise WhenceError("no instances to look for errors in", where="targets", expected="a test or dev split")
    if run.task.kind != "classification":
        raise WhenceError(
            "errors are defined for classification only", where="targets", mend="Name a split, such as test."
        )
    data = run.dataset(split)
    wrong = predict(run.model, data).argmax(1) != data.targets
    if not wrong.any():
        raise WhenceError(f"no wrong predictions in {split}", where="targets", mend=f"Name the split itself: {split}.")
    return data.select(np.flatnonzero(wrong))


def _safe(label: str) -> str:
    if not label or label in (".", "..") or Path(label).name != label or any(c in label for c in '<>:"\\|?*\0'):
        raise WhenceError("not a name for scores", got=repr(label), expected="letters, digits and hyphens")
    return label
