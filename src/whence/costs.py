"""What training and scores will cost, told by a trial on a sample: seconds, memory, bytes on disk.

A copy of the model is trained on a sample for three epochs, and scored on samples of several sizes. Making an estimator, and
what it holds in memory, are of the form a + b·n + c·m in training rows n and targets m, the scores themselves, null scores
among them, d + e·n + f·(n + nulls)·m; with these found by (non-negative) least squares, they are foretold for N and M. The copy
is trained because some methods do less for a model that is sure. Bytes on disk are added up.
"""

from __future__ import annotations

import copy
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import nn
from tqdm import tqdm

from whence.data import Dataset
from whence.dynamics import epochs_to_look
from whence.estimators.base import at_level, at_rows, evenly
from whence.estimators.dispatch import METHODS, choose
from whence.forward import predict
from whence.options import TrainingOptions
from whence.run import Run, instance_table
from whence.score_making import NULL_MASKS, bytes_of_scores, compute
from whence.scores import Labels
from whence.training import fit

__all__ = ["Costs", "costs"]

_ENOUGH, _TOO_MUCH = 1.0, 4.0  # seconds that a trial should take, and that one of many rows and targets may
_SEEN = 1.5  # where a trial takes so many times the smallest, its rows or targets are seen to matter
_MOST_ROWS, _MOST_TARGETS = 4096, 2048  # of samples
_FEWEST_ROWS, _FEWEST_TARGETS = 64, 16
_OVERHEAD, _LIBRARIES = 1.2, 128 * 2**20  # what allocators hold back, and libraries that are loaded later
_BARE_BYTES = 400 * 2**20  # of a process that has loaded torch, where the system does not say


@dataclass(frozen=True)
class Costs:
    """What a run will cost on this machine, within a factor of about two.

    Attributes:
        targets: M; method: of scores.
        fit_seconds, score_seconds: of training, and of scores on all targets.
        memory: bytes, the most that the process will hold at a time, data and libraries included.
        run_bytes, checkpoint_bytes: on disk, of the run, and more while it trains.
        score_bytes, summary_bytes: on disk, of all scores, or of their summaries alone (``keep_matrix=False``).
        free_bytes: of the disk that they will lie on.
    """

    targets: int
    method: str
    fit_seconds: float
    score_seconds: float
    memory: int
    run_bytes: int
    checkpoint_bytes: int
    score_bytes: int
    summary_bytes: int
    free_bytes: int

    @property
    def fits(self) -> bool:
        """Whether the run and all scores fit on the disk."""
        return self._fits(self.score_bytes)

    def _fits(self, scores: int) -> bool:
        return self.run_bytes + max(self.checkpoint_bytes, scores) <= self.free_bytes

    def lines(self) -> list[str]:
        """The same in plain words."""
        lines = [
            f"training takes about {_time(self.fit_seconds)}, scores on {self.targets:,} targets by {self.method} about "
            f"{_time(self.score_seconds)} on this machine; up to {_size(self.memory)} of memory",
            f"on disk: the run {_size(self.run_bytes)} and while it trains {_size(self.checkpoint_bytes)}, scores "
            f"{_size(self.score_bytes)}, or {_size(self.summary_bytes)} without the matrix (--no-matrix); "
            f"{_size(self.free_bytes)} are free",
        ]
        if not self.fits:
            small = self._fits(self.summary_bytes)
            mend = (
                "score with --no-matrix, or on fewer targets" if small else "free some, or name another disk with --out"
            )
            lines.append(f"warning: the disk will not do: {mend}")
        return lines

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "fits": self.fits}


def costs(
    run: Run,
    options: Mapping[str, Any] | None = None,
    *,
    targets: int | None = None,
    out: str | os.PathLike[str] = ".",
    progress: bool = False,
) -> Costs:
    """Try on a sample what training and scores by method "auto" cost. Neither the model nor the run's data are changed.

    Args:
        run: the data, and a model with its masks in place, trained or not.
        options: fields of ``TrainingOptions`` that are given; others are as the model recommends, or the defaults.
        targets: M; by default the test split's, else dev's.
        out: a path on the disk on which the run will lie; it need not be there.
        progress: show how many trials were made.
    """
    chosen = TrainingOptions(**{**getattr(run.model, "whence_options", {}), **(options or {})})
    among = run.splits.get("test") or run.splits.get("dev") or run.train
    wanted = len(among) if targets is None else targets
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(desc="plan: trying samples", unit="trial", disable=not progress, leave=False) as bar,
    ):
        before = _resident()
        starting, training_seconds, model = _trained_copy(run, chosen, bar)
        sample = Run(model, run.train, loss=run.loss)
        level = "instance" if run.train.groups is None else "group"
        method = choose(sample, run.loss)
        masks = METHODS[method].rows_of(sample.train).masks
        score_seconds, held = _score(
            partial(_scored, sample, among, method, level, Path(folder)),
            (len(sample.train), len(among)),
            (len(run.train), wanted),
            null=NULL_MASKS if masks else 0,
            tried=bar.update,
        )
    rows = len(run.train) if level == "instance" else len(np.unique(run.train.mask_ids))
    parameters = sum(tensor.numel() * tensor.element_size() for tensor in run.model.state_dict().values())
    learned = sum(tensor.numel() * 4 for tensor in run.model.parameters() if tensor.requires_grad)
    looks = epochs_to_look(run.train, run.loss, chosen.epochs, chosen.dynamics)
    watched = 4 * len(run.train) * run.task.outputs if looks else 0
    tiles = 3 * 4 * min(METHODS[method].at_once, rows * wanted)
    training = 3 * learned + 2 * 4 * chosen.batch_size * _activations(run)
    size = partial(bytes_of_scores, rows, wanted, width=_width(run), masks=masks, at_once=METHODS[method].at_once,
                   at_stake=METHODS[method].at_stake(run))  # fmt: skip
    return Costs(
        targets=wanted,
        method=method,
        fit_seconds=starting + training_seconds,
        score_seconds=score_seconds,
        memory=int(_OVERHEAD * (before + parameters + max(training + 3 * watched, held + tiles)) + _LIBRARIES),
        run_bytes=int(parameters + _table_bytes(run) + watched),
        checkpoint_bytes=int((parameters + watched) * (1 if chosen.patience is None else 2) + 2 * learned),
        score_bytes=size(keep_matrix=True),
        summary_bytes=size(keep_matrix=False),
        free_bytes=shutil.disk_usage(_existing(Path(out))).free,
    )


def _trained_copy(run: Run, options: TrainingOptions, bar: Any) -> tuple[float, float, nn.Module]:
    """Seconds before the first epoch, of all epochs on all training instances, and a copy of the model, trained on a sample."""
    count, limit = _FEWEST_ROWS, options.exposure_limit
    starting = 0.0
    while True:
        count = min(4 * count, len(run.train))
        data = run.train.select(evenly(len(run.train), count))
        began = time.perf_counter()
        some = TrainingOptions(**{**options.to_json(), "epochs": 3, "patience": None, "dynamics": 0})
        sample = fit(copy.deepcopy(run.model), data, loss=run.loss, **some.to_json())
        bar.update()
        seconds = time.perf_counter() - began
        starting = starting or seconds - sum(
            row["seconds"] for row in sample.history
        )  # the first time, as in any process
        if seconds > _ENOUGH or count in (len(run.train), _MOST_ROWS):
            break
    epoch = min(row["seconds"] for row in sample.history[1:])
    began = time.perf_counter()
    predict(sample.model, data)
    passing = (time.perf_counter() - began) / count  # per instance
    held_out = len(run.splits["dev"]) if "dev" in run.splits else 0
    measured = 3 * min(len(run.train), limit) + held_out
    step = max(epoch - 3 * min(count, limit) * passing, epoch / 4) / count
    looks = len(epochs_to_look(run.train, run.loss, options.epochs, options.dynamics)) * len(run.train)
    return starting, options.epochs * (step * len(run.train) + measured * passing) + looks * passing, sample.model


def _score(
    trial: Callable[[int, int], _Tried],
    most: tuple[int, int],
    wanted: tuple[int, int],
    *,
    null: int,
    tried: Callable[[], Any] = lambda: None,
) -> tuple[float, float]:
    """Seconds of scores, and bytes that an estimator holds, for the wanted numbers of rows and targets.

    What each row costs, and each target, must be seen beside what all of them share: of one, then of the other, more are
    tried until it is.

    Args:
        trial: scores some rows and targets, at most as many as there are of both.
        null: masks never trained on that are scored too.
        tried: told of each trial.
    """
    found: dict[tuple[int, int], _Tried] = {}

    def seconds(n: int, m: int) -> float:
        if (n, m) not in found:
            tries = [trial(n, m)]
            if tries[0].seconds < _ENOUGH / 2:
                tries += [trial(n, m) for _ in range(2)]
            tried()
            found[n, m] = _Tried(min(one.preparing for one in tries), min(one.scoring for one in tries), tries[0].held)
        return found[n, m].seconds

    def foretold(n: int, m: int) -> tuple[float, float]:
        """Seconds, and bytes that are held."""
        shapes, trials = list(found), list(found.values())
        preparing = _foretold(shapes, [one.preparing for one in trials], (n, m), lambda n, m: [1, n, m])
        scoring = _foretold(shapes, [one.scoring for one in trials], (n, m), lambda n, m: [1, n, (n + null) * m])
        held = _foretold(shapes, [one.held for one in trials], (n, m), lambda n, m: [1, n, m])
        return preparing + scoring, held

    most_rows, most_targets = min(most[0], _MOST_ROWS), min(most[1], _MOST_TARGETS)
    fewest = n, m = min(_FEWEST_ROWS, max(2, most_rows // 2)), min(_FEWEST_TARGETS, max(1, most_targets // 2))
    seen = max(_ENOUGH, _SEEN * seconds(*fewest))
    while seconds(n, fewest[1]) < seen and n < most_rows:
        n = min(4 * n, most_rows)
    while seconds(fewest[0], m) < seen and m < most_targets:
        m = min(4 * m, most_targets)
    while n > 3 and m > 1 and foretold(n, m)[0] > max(_TOO_MUCH, 2 * seen):
        n, m = n // 2, m // 2
    seconds(n, m)  # many of both, as these take less than one by one
    return foretold(*wanted)


def _foretold(
    shapes: list[tuple[int, int]],
    values: list[float],
    wanted: tuple[int, int],
    terms: Callable[[int, int], list[float]],
) -> float:
    """A sum of terms in rows and targets, none of them negative, that is fitted to some shapes, at another."""
    known = np.array([terms(*shape) for shape in shapes], np.float64)
    scale = known.max(axis=0)
    found, _ = nnls(known / scale, np.array(values, np.float64))
    return float(found / scale @ np.array(terms(*wanted), np.float64))


@dataclass(frozen=True)
class _Tried:
    """Seconds of making an estimator, and of its scores, files and all; bytes that it holds."""

    preparing: float
    scoring: float
    held: int

    @property
    def seconds(self) -> float:
        return self.preparing + self.scoring


def _scored(sample: Run, among: Dataset, method: str, level: str, folder: Path, n: int, m: int) -> _Tried:
    """n × m scores."""
    run = Run(sample.model, sample.train.select(evenly(len(sample.train), n)), loss=sample.loss)
    targets = among.select(evenly(len(among), m))
    kind, path = METHODS[method], Path(tempfile.mkdtemp(dir=folder)) / "scores"
    began = time.perf_counter()
    members = kind.rows_of(run.train)
    rows = at_level(members, level)
    single = kind(run, targets, run.loss)
    made = time.perf_counter()
    estimator = at_rows(single, members, rows)
    compute(
        estimator.block,
        rows.labels,
        Labels(targets.ids, targets.all_names()),
        {"method": method},
        path=path,
        null=lambda: estimator.null(NULL_MASKS, seed=0) if rows.masks else None,
        of_rows=None if rows.masks else estimator.of_rows,
        width=_width(run),
        at_once=kind.at_once,
        at_stake=partial(kind.at_stake, run),
    )
    ended = time.perf_counter()
    shutil.rmtree(path.parent)
    return _Tried(made - began, ended - made, _held(single))


def _held(thing: Any, seen: set[int] | None = None) -> int:
    """Bytes of the tensors and arrays that an estimator holds, other than data and model."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, Run | Dataset | nn.Module | str | bytes | int | float):
        return 0
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        return thing.numel() * thing.element_size()
    if isinstance(thing, np.ndarray):
        return thing.nbytes
    if isinstance(thing, dict):
        return sum(_held(value, seen) for value in thing.values())
    if isinstance(thing, list | tuple | set):
        return sum(_held(value, seen) for value in thing)
    return sum(_held(value, seen) for value in vars(thing).values()) if hasattr(thing, "__dict__") else 0


def _activations(run: Run) -> int:
    """Numbers that all modules write for one instance, at most: what a training step keeps of it."""
    written = 0

    def measure(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal written
        written += output.numel() if isinstance(output, torch.Tensor) else 0

    hooks = [module.register_forward_hook(measure) for module in run.model.modules() if not list(module.children())]
    try:
        predict(run.model, run.train.select(np.arange(1)))
    finally:
        for hook in hooks:
            hook.remove()
    return written


def _table_bytes(run: Run) -> int:
    """Of the table of instances, by the size of a sample of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    total = 0
    for data in run.splits.values():
        some = data.select(evenly(len(data), 2000))
        buffer = pa.BufferOutputStream()
        pq.write_table(instance_table({"train": some}), buffer, compression="zstd")
        total += buffer.getvalue().size * len(data) // len(some)
    return total


def _width(run: Run) -> int:
    return sum(layer.units for layer in run.layers.values())


def _existing(path: Path) -> Path:
    """The path, or the nearest directory above it that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def _resident() -> int:
    """Bytes of memory that this process has now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return _BARE_BYTES
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _time(seconds: float) -> str:
    for size, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds" if seconds >= 2 else f"{max(seconds, 0.1):.1f} seconds"


def _size(count: float) -> str:
    for size, name in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return f"{count / 2**10:.0f} KiB"
