"""``influence``: choose an estimator, choose targets, stream the scores."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from tqdm import tqdm

from whence.arguments import flag, instance_of, one_of, whole
from whence.data import Dataset
from whence.errors import WhenceError
from whence.estimators.base import Estimator, InstanceEstimator, MaskEstimator, Method, at_rows
from whence.estimators.first_order import FirstOrder
from whence.estimators.kernel import Kernel
from whence.estimators.kronecker import Kronecker
from whence.estimators.questions import Question
from whence.estimators.targets import candidates, target_instances
from whence.estimators.turnover import Turnover
from whence.estimators.views import Views
from whence.noise import FEWEST_MASKS
from whence.quantities import LossFunction, Quantity, quantity_named
from whence.run import Run
from whence.score_making import NULL_MASKS, compute
from whence.score_store import begun
from whence.scores import Labels, Scores

__all__ = ["MASKED", "METHODS", "choose", "influence", "method_named", "target_instances"]

METHODS: dict[str, Method] = {
    "turnover": Turnover,
    "first_order": FirstOrder,
    "kernel": Kernel,
    "kronecker": Kronecker,
}
MASKED = ("turnover", "first_order")  # whose scores are those of masks, and so have a null
_BEST = "kronecker"


def influence(
    run: Run,
    targets: Any = "test",
    *,
    method: str = "auto",
    level: str = "auto",
    quantity: str | Quantity | LossFunction = "loss",
    name: str | None = None,
    keep_matrix: bool = True,
    keep_top: int = 100,
    block_rows: int | None = None,
    null_masks: int = NULL_MASKS,
    target_set: str | None = None,
    shard: tuple[int, int] = (0, 1),
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
        keep_matrix: keep all N×M scores; False keeps the most extreme per target and the means.
        keep_top: how many of the most extreme rows per target and block; what ``top`` gives without the matrix. Fewer take less
            time where the scores themselves take little.
        block_rows: training rows per block; by default 16 MiB of scores (kronecker: 64), or up to 4 GiB that are not kept.
        null_masks: masks that were never trained on, scored alike, for the noise floor.
        target_set: what to call targets that have no name of their own in the default name, such as their file's.
        shard: (rank, world), of processes that divide the work: this one makes every world-th block, and waits for none of the
            others. What ``missing()`` then lists is theirs; the same call without ``shard`` reads what all have made, and makes
            what is missing.
        progress: show a bar.
        options: of the method (first_order: softened, precision; kernel: residual, damping, subnetworks; kronecker: damping, share,
            looks; turnover: precision).

    Returns:
        Scores [N, M], positive where the training row helps on the target, in units of the quantity. With a run
        directory they lie in RUN/scores/NAME, and a call that was interrupted goes on where it stopped. Of scores that
        are finished there, nothing is computed and the model is not asked.

    Raises:
        WhenceError: an unknown method, quantity, option or split; a level that the run or the method has not; stored scores of
            that name belong to other data, weights or options, or to another version of the method.
    """
    instance_of(run, Run, "run")
    wanted = quantity_named(quantity, run.task, run.loss)
    one_of(level, ("auto", "instance", "group"), "level")
    method_named(method)
    keep_top, null_masks = whole(keep_top, "keep_top"), whole(null_masks, "null_masks", low=0)
    block_rows = None if block_rows is None else whole(block_rows, "block_rows")
    flag(keep_matrix, "keep_matrix")
    if not _is_shard(shard):
        raise WhenceError("no such shard", where="shard", got=shard, expected="(rank, world) with 0 ≤ rank < world")
    if null_masks < FEWEST_MASKS:
        raise WhenceError("too few null masks", where="null_masks", got=null_masks, expected=f"at least {FEWEST_MASKS}")
    if method == "auto" and level == "auto" and run.train.groups is not None:
        level = "group"
    given = not isinstance(targets, str)
    first = _BEST if method == "auto" else method
    question = Question(
        run=run,
        method=first,
        estimator=METHODS[first],
        quantity=wanted,
        among=candidates(run, targets),
        target_set=(target_set or "given") if given else targets,
        given=given,
        level=level,
        options=options,
        null_masks=null_masks,
    )
    # Scores that were begun by a method show that it can be had: then the model need not be looked at.
    if method == "auto" and begun(question.path(name), question.info) is None:
        chosen = choose(run, wanted)
        question = replace(question, method=chosen, estimator=METHODS[chosen])
    question.check_options()
    path = question.path(name)
    if run.directory is not None:
        run.directory.tidy()
    data = _chosen(question, path)
    prepared = cache(partial(_prepare, question, data))  # the expensive part, done when something is missing

    def of_rows(some: np.ndarray) -> np.ndarray:
        return cast(InstanceEstimator, prepared()).of_rows(some)

    def null() -> np.ndarray | None:
        return cast(MaskEstimator, prepared()).null(null_masks, seed=0) if question.rows.masks else None

    rows = question.rows.labels
    with tqdm(
        total=len(rows), desc=f"influence ({question.method})", unit="row", disable=not progress, leave=False
    ) as bar:
        return compute(
            lambda start, stop: prepared().block(start, stop),
            rows,
            Labels(data.ids, data.all_names()),
            question.info,
            path=path,
            null=null,
            of_rows=of_rows,
            block_rows=block_rows,
            summary_k=keep_top,
            keep_matrix=keep_matrix,
            at_stake=partial(question.estimator.at_stake, run),
            at_once=question.estimator.at_once,
            shard=shard,
            width=sum(layer.units for layer in run.layers.values()),
            while_made=run.in_use,
            progress=bar.update,
        )


def method_named(method: Any) -> str:
    """The name of a method, or "auto".

    Raises:
        WhenceError: it is another.
    """
    return one_of(method, ("auto", *METHODS), "method")


def choose(run: Run, quantity: Quantity) -> str:
    """What "auto" means for a run."""
    if not quantity.differentiable or not Views(run.model, run.train).layers:
        return "turnover"
    return _BEST


def _is_shard(shard: Any) -> bool:
    pair = isinstance(shard, tuple | list) and len(shard) == 2 and all(type(part) is int for part in shard)
    return pair and 0 <= shard[0] < shard[1]


def _chosen(question: Question, path: Path | None) -> Dataset:
    """The targets. Wrong predictions that scores were begun with stay their targets.

    Raises:
        WhenceError: there are none; the stored ones are damaged.
    """
    if question.given or question.target_set != "errors":
        return question.among
    before = begun(path, question.info)
    if before is None:
        return target_instances(question.run, "errors")
    rows = np.flatnonzero(np.isin(question.among.ids, before.ids))
    if not np.array_equal(question.among.ids[rows], before.ids):
        raise WhenceError("a damaged file", where=f"{path}/targets.parquet", expected="instances of the run, in order",
                          mend="Delete the directory to score again.")  # fmt: skip
    return question.among.select(rows)


def _prepare(question: Question, targets: Dataset) -> Estimator:
    estimator = question.estimator(question.run, targets, question.quantity, **question.changed)
    return cast(Estimator, at_rows(estimator, question.members, question.rows))
