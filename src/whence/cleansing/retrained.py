"""Models trained on treated data, and what they are worth on test; each is kept under a name that says what it is of.

    RUN/cleanse/models/DIGEST.safetensors    of one model each measure per test instance (float64 [M]); or of one further run
                                             that scores were made of, means and errors (float64 [N])

DIGEST is a hash of recipe, data, targets, seed and treatment. So whatever is asked of one run, nothing is trained twice, an
interrupted call goes on where it stopped, and a file that was made of something else is never read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from whence.cleansing.harm import means_and_errors, scored
from whence.cleansing.measures import measures_of, per_instance
from whence.cleansing.treatments import Treatment
from whence.data import Dataset
from whence.errors import WhenceError
from whence.estimators.dispatch import METHODS
from whence.evaluation.recipes import Recipe
from whence.evaluation.subsets import training_seed
from whence.evaluation.workers import alone, in_processes
from whence.fingerprints import digest
from whence.forward import predict
from whence.run import Run
from whence.rundir import RunDirectory

__all__ = ["Trainings", "sound"]

FORMAT = 1
_LARGEST = torch.finfo(torch.float32).max
_FURTHER = 2**20  # seeds of runs that scores are made of are none of those that changes are judged by


@dataclass(frozen=True, eq=False)
class Trainings:
    """Trains and measures, or reads what was measured before.

    Attributes:
        recipe: how the run trains; train, dev, targets: its data, and what models are measured on.
        seed: of all trainings; jobs: processes.
        directory: of RUN/cleanse/models; None keeps nothing.
        progress: show bars.
    """

    recipe: Recipe
    train: Dataset
    dev: Dataset | None
    targets: Dataset
    seed: int
    jobs: int
    directory: RunDirectory | None
    progress: bool

    def measured(self, treatments: Sequence[Treatment], seeds: int) -> list[dict[str, np.ndarray]]:
        """Of each treatment, each measure of R models on M instances: float64 [R, M]."""
        calls = [(treatment, number) for treatment in treatments for number in range(seeds)]
        common = self._common(self.targets.fingerprint())
        names = [digest(common, training_seed(self.seed, n), t.fingerprint(n)) for t, n in calls]
        keys = [one.name for one in measures_of(self.targets.task, self.recipe.loss)]
        made = self._made(_Measured(self), names, calls, dict.fromkeys(keys, len(self.targets)), "retrain")
        found = [made[place : place + seeds] for place in range(0, len(made), seeds)]
        return [{name: np.stack([one[name] for one in models]) for name in models[0]} for models in found]

    def scored(self, method: str, runs: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of so many further runs, trained on all of the data, means and errors of scores on dev: float64 [N] each."""
        dev = self._dev()
        common = self._common(dev.fingerprint())
        version = METHODS[method].version
        calls = [(method, number) for number in range(runs)]
        names = [digest(common, "scores", method, version, training_seed(self.seed, _FURTHER + n)) for _, n in calls]
        made = self._made(
            _Scored(self), names, calls, dict.fromkeys(("means", "errors"), len(self.train)), "retrain to score"
        )
        return [(one["means"], one["errors"]) for one in made]

    def _common(self, targets: str) -> str:
        return digest(FORMAT, self.recipe.fingerprint(), self.train.fingerprint(), targets)

    def _dev(self) -> Dataset:
        if self.dev is None:
            raise WhenceError("no dev split to score on", where="the run", mend="Fit with a dev split.")
        return self.dev

    def _made(self, work: Callable[..., dict[str, np.ndarray]], names: list[str], calls: list[tuple[Any, ...]],
              sizes: dict[str, int], what: str) -> list[dict[str, np.ndarray]]:  # fmt: skip
        """Records of calls, read where they are kept under their names."""
        missing = [
            place for place, name in enumerate(names) if self.directory is None or not self.directory.has(_file(name))
        ]
        fresh = in_processes(work, [(names[place], *calls[place]) for place in missing], jobs=self.jobs,
                             done=len(names) - len(missing), what=what, progress=self.progress)  # fmt: skip
        made = dict(zip(missing, fresh, strict=True))
        return [made[place] if place in made else self._read(name, sizes) for place, name in enumerate(names)]

    def _read(self, name: str, sizes: dict[str, int]) -> dict[str, np.ndarray]:
        assert self.directory is not None
        tensors, _ = self.directory.read_tensors(_file(name))
        if any(key not in tensors or len(tensors[key]) != size for key, size in sizes.items()) or not sound(tensors):
            expected = f"finite float64 numbers: {sizes}"
            raise WhenceError("a damaged file", where=str(self.directory.path / _file(name)), expected=expected,
                              mend="Delete it, and give the same call again.")  # fmt: skip
        return {key: tensor.numpy() for key, tensor in tensors.items()}

    def keep(self, name: str, record: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Write what one training gave; the file is whole or absent."""
        if self.directory is not None:
            self.directory.write_tensors(_file(name), {key: torch.from_numpy(values) for key, values in record.items()})
        return record


@dataclass(frozen=True, eq=False)
class _Measured:
    """One model of one treatment, in whatever process."""

    trainings: Trainings

    def __call__(self, name: str, treatment: Treatment, number: int) -> dict[str, np.ndarray]:
        own = self.trainings
        with alone():
            model = own.recipe.train(treatment.data(own.train, number), training_seed(own.seed, number))
            outputs = torch.from_numpy(predict(model, own.targets))
            if outputs.shape[1] != own.targets.task.outputs:
                raise WhenceError("a retrained model's outputs do not fit the targets", where=type(model).__name__,
                                  got=f"{outputs.shape[1]} outputs", expected=own.targets.task.outputs)  # fmt: skip
            if not outputs.isfinite().all():
                raise WhenceError("a retrained model whose outputs are not finite", where=type(model).__name__)
            aims = torch.from_numpy(own.targets.targets.copy())
            record = per_instance(own.targets.task, own.recipe.loss, outputs, aims)
            if not np.isfinite(record["loss"]).all():
                raise WhenceError("a retrained model whose loss is not finite", where="the targets",
                                  got=f"{int((~np.isfinite(record['loss'])).sum())} of {len(aims):,}",
                                  mend="Give a loss that is finite for wrong predictions too.")  # fmt: skip
        return own.keep(name, record)


@dataclass(frozen=True, eq=False)
class _Scored:
    """Scores of one further run, in whatever process."""

    trainings: Trainings

    def __call__(self, name: str, method: str, number: int) -> dict[str, np.ndarray]:
        own = self.trainings
        with alone():
            model = own.recipe.train(own.train, training_seed(own.seed, _FURTHER + number))
            run = Run(model, own.train, dev=own.dev, loss=own.recipe.loss)
            means, errors = means_and_errors(run, scored(run, method))
        return own.keep(name, {"means": means, "errors": errors})


def sound(record: Mapping[str, torch.Tensor]) -> bool:
    """Whether a record can be of one training: float64 [K] each, as large as outputs in float32 give. There may be no AUC."""
    return all(
        values.dtype == torch.float64
        and values.ndim == 1
        and (bool((values.abs() <= _LARGEST).all()) or (name == "AUC" and bool(values.isnan().all())))
        for name, values in record.items()
    )


def _file(name: str) -> str:
    return f"{name}.safetensors"
