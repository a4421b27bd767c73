"""Train again without some of the rows: the only thing that tells what they really did."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from whence.arguments import instance_of, one_of, seed_of, share_of, whole
from whence.data import Classification, Dataset
from whence.errors import WhenceError
from whence.estimators.dispatch import target_instances
from whence.evaluation.ground_truth import GroundTruth, assemble, begin, read_retraining, record_name, write_retraining
from whence.evaluation.recipes import OwnLoop, Recipe, recipe_of
from whence.evaluation.subsets import MOST, left_out, random_subsets, training_seed
from whence.evaluation.workers import alone, check_jobs, in_processes
from whence.fingerprints import digest
from whence.forward import predict
from whence.quantities import quantity_named
from whence.run import Run
from whence.rundir import RunDirectory, as_path
from whence.score_store import making
from whence.scores import Labels

__all__ = ["Kind", "Level", "check_retraining", "retrain"]

Kind = Literal["random", "leave_one_out", "removal"]
Level = Literal["instance", "group"]


def retrain(
    run: Run,
    targets: Any = "test",
    *,
    kind: Kind = "random",
    level: Level = "instance",
    subsets: int = 50,
    fraction: float = 0.5,
    seeds: int = 2,
    rows: Sequence[Any] | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    fit: OwnLoop | None = None,
    progress: bool = False,
) -> GroundTruth:
    """Train the run's model again on parts of its data, and measure the targets.

    The recipe is the run's own when ``whence.fit`` trained it: a ready-made model is built again, one of your own drawn
    anew by its modules' ``reset_parameters`` (which forgets pretrained weights: give ``fit``). Scaling and n-grams
    stay those of all training instances.

    Args:
        run: the trained run; its weights do not matter.
        targets: as for ``whence.influence``.
        kind: "random" subsets; "leave_one_out", all rows and then all but each of ``rows``; "removal", all rows and then all
            but each list in ``rows``.
        level: leave out "instance"s or whole "group"s.
        subsets: K of "random". More extend fewer, with the same seed.
        fraction: share of rows that a random subset keeps.
        seeds: R, trainings of each subset. They differ in initialization, masks and order; seed number r is the same for
            every subset, so that subsets differ in data alone.
        rows: ids (of groups at level "group"), or lists of them for "removal". By default "leave_one_out" takes each group;
            of instances they must be given.
        seed: of subsets and trainings.
        out: a directory that keeps each finished retraining; the same call resumes. A second process that would fill it waits.
        jobs: processes; -1 for as many as there are cores. With 1, ``joblib.parallel_config`` decides, so its Dask and Ray
            backends spread the work (``out`` must then be a directory that all machines share).
        fit: your own training loop, (instances, seed) → module. For ``jobs`` it must be picklable by cloudpickle.
        progress: show a bar.

    Returns:
        The ground truth. The same in every process and for any ``jobs``; each model trains in one thread.

    Raises:
        WhenceError: an unknown kind, level or row; the run's training cannot be repeated; ``out`` holds other retrainings.
    """
    check_retraining(kind, subsets=subsets, fraction=fraction, seeds=seeds, seed=seed, jobs=jobs)
    out = None if out is None else as_path(out, "out")
    if out is not None and out.exists() and not out.is_dir():
        raise WhenceError("not a directory", where=str(out), mend="Name a directory for the retrainings.")
    if rows is not None and not isinstance(rows, list | tuple | np.ndarray):
        raise WhenceError("no list of rows", where="rows", got=f"{rows!r:.60}", expected="ids, or lists of them")
    recipe = recipe_of(instance_of(run, Run, "run"), fit)
    seeds, seed = int(seeds), int(seed)
    data = target_instances(run, targets)
    axis, instances, owners = rows_of(run.train, level)
    members = _members(axis, kind, level, subsets, fraction, rows, seed)
    settings = {
        "kind": kind,
        "level": level,
        "fraction": fraction if kind == "random" else None,
        "left_out": None if kind == "random" else digest([np.flatnonzero(~kept).tolist() for kept in members]),
        "seed": seed,
        "subsets": len(members),
        "seeds": seeds,
        "recipe": recipe.fingerprint(),
        "train": run.train.fingerprint(),
        "targets": data.fingerprint(),
    }
    labels = Labels(data.ids, data.all_names())
    pairs = [(subset, number) for subset in range(len(members)) for number in range(seeds)]
    with nullcontext() if out is None else making(Path(out)):
        directory = None if out is None else begin(out, axis, labels, instances, owners, settings)
        work = _Work(
            recipe, run.train, data, owners, kind == "random", seed, None if directory is None else directory.path
        )
        todo = [pair for pair in pairs if directory is None or not directory.has(record_name(*pair))]
        made = in_processes(work, [(members[subset], subset, number) for subset, number in todo], jobs=jobs,
                            done=len(pairs) - len(todo), progress=progress)  # fmt: skip
        fresh = dict(zip(todo, made, strict=True))
        records = [fresh[pair] if pair in fresh else _read(directory, members[pair[0]], pair) for pair in pairs]
    return assemble(axis, labels, instances, owners, settings, records)


def check_retraining(kind: str, *, subsets: int, fraction: float, seeds: int, seed: int, jobs: int) -> None:
    """Refuse what makes no retrainings, before anything is begun.

    Raises:
        WhenceError: an unknown kind, or a number out of its range.
    """
    one_of(kind, ("random", "leave_one_out", "removal"), "kind")
    whole(subsets, "subsets", low=2 if kind == "random" else 1, high=MOST)
    whole(seeds, "seeds", high=MOST)
    share_of(fraction, "fraction")
    seed_of(seed)
    check_jobs(jobs)


def rows_of(train: Dataset, level: str) -> tuple[Labels, Labels, np.ndarray]:
    """The rows that can be left out, the training instances, and the row of each: int64 [I]."""
    instances = Labels(train.ids, train.all_names())
    one_of(level, ("instance", "group"), "level")
    if level == "instance":
        return instances, instances, np.arange(len(train))
    if train.groups is None:
        raise WhenceError("no groups in the training data", where="level", got="'group'",
                          mend="Name a group column when the run is made, or leave out instances.")  # fmt: skip
    ids, first, owners = np.unique(train.groups, return_index=True, return_inverse=True)
    written = train.groups if train.group_names is None else train.group_names
    return Labels(ids, [str(written[row]) for row in first]), instances, owners


@dataclass(frozen=True, eq=False)
class _Work:
    """One retraining, in whatever process."""

    recipe: Recipe
    train: Dataset
    targets: Dataset
    owners: np.ndarray
    judge_training: bool
    seed: int
    path: Path | None

    def __call__(self, members: np.ndarray, subset: int, number: int) -> dict[str, np.ndarray]:
        with alone():
            model = self.recipe.train(self.train.select(members[self.owners]), training_seed(self.seed, number))
            record = {"members": members, **self._measure(model)}
        if self.path is not None:
            write_retraining(RunDirectory(self.path, begun=True), subset, number, record)
        return record

    def _measure(self, model: torch.nn.Module) -> dict[str, np.ndarray]:
        task = self.targets.task
        given, aims = torch.from_numpy(predict(model, self.targets)), torch.from_numpy(self.targets.targets.copy())
        if given.shape[1] != task.outputs:
            raise WhenceError("a retrained model's outputs do not fit the targets", where=type(model).__name__,
                              got=f"shape {tuple(given.shape)}", expected=f"{(len(aims), task.outputs)}")  # fmt: skip
        measured = {"loss": self.recipe.loss(given, aims)}
        if isinstance(task, Classification):
            measured["margin"] = quantity_named("margin", task)(given, aims)
            measured["correct"] = quantity_named("accuracy", task)(given, aims)
            measured["prediction"] = given.argmax(dim=1).float()
        record = {name: values.detach().float().numpy() for name, values in measured.items()}
        if not all(np.isfinite(values).all() for values in record.values()):
            raise WhenceError("a retrained model whose outputs are not finite", where=type(model).__name__)
        if self.judge_training and isinstance(task, Classification):
            record["train_correct"] = predict(model, self.train).argmax(axis=1) == self.train.targets
        return record


def _members(axis: Labels, kind: str, level: str, subsets: int, fraction: float, rows: Sequence[Any] | None,
             seed: int) -> np.ndarray:  # fmt: skip
    if kind == "random":
        return random_subsets(axis.ids, subsets, fraction, seed)
    if kind == "leave_one_out":
        if rows is None and level == "instance":
            raise WhenceError("no rows to leave out", where="rows", expected="ids of training instances",
                              mend="Each costs as many trainings as there are seeds.")  # fmt: skip
        return left_out(axis.ids, [[row] for row in (axis.ids if rows is None else rows)])
    if rows is None or not len(rows):
        raise WhenceError("no rows to leave out", where="rows", expected="lists of ids")
    return left_out(axis.ids, rows)


def _read(directory: RunDirectory | None, members: np.ndarray, pair: tuple[int, int]) -> dict[str, np.ndarray]:
    assert directory is not None
    record = read_retraining(directory, *pair)
    if not np.array_equal(record["members"], members):
        raise WhenceError("a retraining of other rows", where=str(directory.path / record_name(*pair)),
                          mend="Delete the directory and retrain.")  # fmt: skip
    return record
