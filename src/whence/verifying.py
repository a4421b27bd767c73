"""Is what lies in a run's directory what it says it is? Masks, weights, data, a sample of every set of scores, what came of them.

    masks         random bits are Random123's, and NumPy and torch draw the same ones for the run's layers
    run           data, weights, model and loss are those that the run was made with
    instances     the table of instances has the ids, labels and groups of the data
    dynamics      what was said while training lasted is of this run, and probabilities (where there is such)
    review        what was drawn is of the run's labels, and answers are classes (where labels are reviewed)
    scores/NAME   belong to this run and to this version of their method; all blocks are there; summaries say what the matrix says;
                  a sample of rows, scored anew, gives the stored scores
    cleanse/NAME  numbers, verdicts and table agree with each other, and are of this run
    truth/NAME    retrainings are whole

Nothing is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from whence.arguments import whole
from whence.cleansing.kept import kept
from whence.cleansing.retrained import sound
from whence.data import Dataset
from whence.dynamics import FILE as DYNAMICS
from whence.errors import NotGivenError, WhenceError
from whence.estimators.base import at_level, at_rows, evenly
from whence.estimators.dispatch import METHODS
from whence.estimators.targets import candidates
from whence.evaluation.ground_truth import load_truth
from whence.masks import philox4x32
from whence.quantities import quantity_named
from whence.review_files import DRAWN, read_review
from whence.run import Run, instance_table, open_run
from whence.rundir import RunDirectory, as_path
from whence.score_store import StoredScores, load_scores
from whence.summaries import Summary, typical_sizes

__all__ = ["Check", "verify"]

# Known answers of Random123 (Salmon et al. 2011): counter, key, output.
_KNOWN = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
)  # fmt: skip
_ROUNDING = 1e-3  # of a target's typical score: what another order of sums may change
_SUMS = 1e-5  # of the sum of absolute scores, likewise
_NULLS = 16  # masks never trained on that are scored anew


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        what: masks, run, instances, dynamics, review, scores/NAME, cleanse/NAME (cleanse, of one that is refused),
            cleanse/models or truth/NAME.
        state: "ok", "differs", or "skipped" where it could not be told.
        detail: what was found, as a phrase.
    """

    what: str
    state: str
    detail: str

    def line(self) -> str:
        return f"{self.state:<8} {self.what}: {self.detail}"


def verify(path: str | os.PathLike[str], *, rows: int = 16, **given: Any) -> list[Check]:
    """Look at a run's directory.

    Args:
        path: the run directory.
        rows: how many rows of each set of scores are scored anew.
        given: what ``open_run`` needs of a run of your own model or data: model, train, dev, test, loss.

    Returns:
        The checks in order. If the run itself is not what it says, no scores are looked at.

    Raises:
        WhenceError: no run there, data or a model of your own that are not given, or fewer than one row.
    """
    rows = whole(rows, "rows")
    directory = as_path(path)
    if not (directory / "run.json").is_file():
        open_run(path)  # says what is missing
    checks: list[Check] = []
    try:
        run = open_run(path, **given)
    except NotGivenError:
        raise
    except WhenceError as error:
        return [_masks({}), Check("run", "differs", str(error))]
    checks += [
        _masks(run.layers),
        Check("run", "ok", f"data, weights, model and loss of fingerprint {run.fingerprint()[:8]}"),
    ]
    checks.append(_caught("instances", lambda: _instances(run)))
    assert run.directory is not None
    if run.directory.has(DYNAMICS):
        checks.append(_caught("dynamics", lambda: _dynamics(run)))
    if run.directory.has(DRAWN):
        checks.append(_caught("review", lambda: _review(run)))
    for name in _within(directory, "scores"):
        checks.append(_caught(name, partial(_scores, run, run.directory, name, rows)))
    checks += _cleansings(run)
    for name in _within(directory, "truth"):
        checks.append(_caught(name, partial(_truth, run, run.directory.place(name))))
    return checks


def _within(directory: Path, name: str) -> list[str]:
    return [
        f"{name}/{folder.name}" for folder in sorted((directory / name).glob("*/")) if not folder.name.startswith(".")
    ]


def _caught(what: str, check: Callable[[], tuple[str, str]]) -> Check:
    try:
        return Check(what, *check())
    except WhenceError as error:
        return Check(what, "differs", str(error))
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        RuntimeError,
        ArithmeticError,
        EOFError,
        MemoryError,
    ) as error:
        return Check(what, "differs", f"files that cannot be made sense of ({type(error).__name__}: {error})")


def _masks(layers: dict[str, Any]) -> Check:
    for counter, key, expected in _KNOWN:
        for made in (np.uint64, torch.tensor):
            drawn = philox4x32(tuple(made(word) for word in counter), key)
            if tuple(int(word) for word in drawn) != expected:
                return Check(
                    "masks", "differs", "random numbers are not Philox4x32-10's: torch or NumPy miscalculates here"
                )
    ids = np.array([0, 1, 2**31, -1, 2**62 + 12345])
    for name, layer in layers.items():
        on_device = torch.from_numpy(ids)
        if not np.array_equal(layer.bits(ids), layer.bits(on_device).cpu().numpy()):
            return Check("masks", "differs", f"NumPy and torch draw other bits for layer {name!r}")
    return Check(
        "masks",
        "ok",
        f"Random123's known answers; NumPy and torch agree on {len(layers)} layer{'s' if len(layers) != 1 else ''}",
    )


def _instances(run: Run) -> tuple[str, str]:
    assert run.directory is not None
    stored, wanted = run.directory.read_table("instances.parquet"), instance_table(run.splits)
    missing = [name for name in wanted.column_names if name not in stored.column_names]
    if missing or len(stored) != len(wanted):
        return (
            "differs",
            f"the table has {len(stored):,} rows for {len(wanted):,}, and lacks {', '.join(missing) or 'no column'}",
        )
    for name in wanted.column_names:
        column = wanted[name]
        if not stored[name].equals(column.cast(pa.large_string()) if pa.types.is_string(column.type) else column):
            return "differs", f"column {name} is not that of the data"
    return "ok", f"{len(wanted):,} ids, labels and groups"


def _review(run: Run) -> tuple[str, str]:
    assert run.directory is not None
    review = read_review(run.directory, run.train)
    assert review is not None
    return "ok", f"{review.looked_at.sum():,} of {len(review):,} labels looked at"


def _dynamics(run: Run) -> tuple[str, str]:
    moments = run.dynamics.moments
    return "ok", f"predictions under flipped masks at {moments} moment{'s' if moments > 1 else ''} of training"


def _scores(run: Run, directory: RunDirectory, name: str, rows: int) -> tuple[str, str]:
    scores = load_scores(directory.place(name))
    if scores.info.get("run") != run.fingerprint():
        return "differs", "they are of other weights, masks or training data"
    method = METHODS.get(str(scores.info.get("method")))
    if method is None:
        return "skipped", f"no method {scores.info.get('method')!r} here"
    if scores.info.get("version") != method.version:
        return (
            "differs",
            f"made by version {scores.info.get('version')} of {scores.info['method']}, which is {method.version} now",
        )
    if (wrong := _summaries(scores)) is not None:
        return "differs", wrong
    targets = _targets(run, scores)
    if targets is None:
        return (
            "skipped",
            "summaries are whole; not scored anew, as the targets are new instances, or predictions in place of labels",
        )
    return _scored_anew(run, scores, targets, rows)


def _cleansings(run: Run) -> list[Check]:
    found, refused = kept(run)
    checks = [Check(f"cleanse/{one.name}", "ok", f"{one.verdict}; {len(one.steps)} of its amounts were trained")
              for one in found]  # fmt: skip
    checks += [Check("cleanse", "differs", str(error)) for error in refused]
    assert run.directory is not None
    names = sorted(file.name for file in run.directory.path.glob("cleanse/models/*.safetensors"))
    return [*checks, *([_caught("cleanse/models", partial(_models, run.directory, names))] if names else [])]


def _models(directory: RunDirectory, names: list[str]) -> tuple[str, str]:
    for name in names:
        if not sound(directory.read_tensors(f"cleanse/models/{name}")[0]):
            return "differs", f"{name} has other than finite float64 numbers"
    return "ok", f"{len(names):,} retrainings, whole"


def _truth(run: Run, path: Path) -> tuple[str, str]:
    truth = load_truth(path)
    if truth.settings.get("train") != run.train.fingerprint():
        return "differs", "they are of other training data"
    kind = truth.kind.replace("_", "-")
    return "ok", f"{len(truth.members):,} × {truth.seeds} {kind} retrainings; {len(truth.targets):,} targets"


def _summaries(scores: StoredScores) -> str | None:
    """What is wrong with the blocks, or None."""
    weights = np.stack([np.ones(scores.shape[1]), scores.weights], axis=1)
    for number, start, stop in scores.ranges():
        stored = scores._summary(number, start, stop)
        for sign, word in ((-1, "helpful"), (1, "harmful")):
            rows, values = stored[f"{word}_rows"], stored[f"{word}_values"]
            if not (values.isfinite().all() and (values.diff(dim=0) * sign >= 0).all()):
                return f"the {word} extremes of block {number} are not in order"
            if (rows.sort(dim=0).values.diff(dim=0) == 0).any():
                return f"the {word} extremes of block {number} name a row twice"
        if not scores.info["matrix"]:
            continue
        block = np.array(scores._read(number, start, stop))
        made = Summary(start, stop - start, scores.info["summary_k"], scores.weights)
        if not made.fold(block):
            return f"block {number} has scores that are not finite"
        near = torch.from_numpy(
            _SUMS * np.abs(block).astype(np.float64) @ weights
        )  # what another order of sums may change
        for name, value in made.entries().items():
            same = torch.equal(value, stored[name])
            if name.endswith("sum"):
                same = bool(((value - stored[name]).abs() <= near[:, int(name == "even_sum")]).all())
            if not same:
                return f"the summary of block {number} is not that of its scores ({name})"
    return None


def _targets(run: Run, scores: StoredScores) -> Dataset | None:
    """Of scores on a split, on wrong predictions in one, or on some of one's instances, as audits and reports choose them."""
    name = str(scores.info.get("target_set"))
    if name == "errors" or name in run.splits:
        among = candidates(run, name)
        if among.fingerprint() != scores.info.get("targets"):
            return None
        found = among.select(np.flatnonzero(np.isin(among.ids, scores.targets)))
        return found if np.array_equal(found.ids, scores.targets) else None
    for split in run.splits.values():
        place = {int(id): row for row, id in enumerate(split.ids)}
        rows = [place.get(int(id)) for id in scores.targets]
        if None not in rows:
            some = split.select(np.array(rows, np.int64))
            if some.fingerprint() == scores.info.get("targets"):
                return some
    return None


def _scored_anew(run: Run, scores: StoredScores, targets: Dataset, rows: int) -> tuple[str, str]:
    info, kind = scores.info, METHODS[str(scores.info["method"])]
    try:
        quantity = quantity_named(run.loss if info["quantity"] == run.loss.name else info["quantity"], run.task)
    except WhenceError:
        return "skipped", f"quantity {info['quantity']!r} came from outside the run"
    if quantity.fingerprint(run.task) != info.get("quantity_fingerprint"):
        return "skipped", f"quantity {info['quantity']!r} was another function"
    members = kind.rows_of(run.train)
    level = at_level(members, str(info["level"]))
    if not np.array_equal(level.labels.ids, scores.ids) or level.labels.names != scores.rows.names:
        return "differs", "their rows are not those of the training data"
    if targets.all_names() != scores.columns.names:
        return "differs", "their targets are called otherwise in the data"
    if info.get("unit") != quantity.unit:
        return "differs", f"they are said to be in {info.get('unit')}, and are in {quantity.unit}"
    estimator = at_rows(kind(run, targets, quantity, **info["options"]), members, level)
    if (wrong := _noise(scores, estimator, level.masks)) is not None:
        return "differs", wrong
    some = evenly(len(scores.rows), rows)
    made = np.concatenate([estimator.block(row, row + 1) for row in some.tolist()]).astype(np.float64)
    size = np.sqrt(np.square(made).mean(0))
    near = _ROUNDING * (size + 0.01 * size.max() + 1e-30)  # of each target
    if info["matrix"]:
        off = np.abs(made - scores.at(some))
        if not (off <= near).all():
            worst = float((off / near).max() * _ROUNDING)
            return (
                "differs",
                f"scores of {len(some)} rows, made anew, are off by up to {worst:.2g} of a target's typical score",
            )
    for word, weights, even in (("means", np.ones(len(near)), False), ("even means", scores.weights, True)):
        off = np.abs(made @ weights / len(near) - scores.mean_over_targets(even=even)[some])
        if not (off <= near @ weights / len(near)).all():
            return "differs", f"{word} of {len(some)} rows, made anew, are off by up to {off.max():.2g}"
    if not info["matrix"] and not _extremes_hold(scores, some, made, near):
        return "differs", f"the extremes that were kept are not those of {len(some)} rows, made anew"
    what = "scores" if info["matrix"] else "means and extremes"
    return (
        "ok",
        f"{scores.shape[0]:,} × {scores.shape[1]:,} by {info['method']}; {what} of {len(some)} rows made anew are the same",
    )


def _noise(scores: StoredScores, estimator: Any, masks: bool) -> str | None:
    """What is wrong with null scores and typical sizes, or None."""
    if (scores.null is not None) != masks:
        return "scores of masks never trained on are missing" if masks else "scores of masks, by a method without masks"
    if scores.null is not None:
        few = min(_NULLS, len(scores.null))
        made = estimator.null(few, seed=0)
        if scores.null.shape != (scores.info["null_masks"], scores.shape[1]):
            return f"scores of masks never trained on have the shape {scores.null.shape}"
        if not np.allclose(scores.null[:few], made, rtol=_ROUNDING, atol=_ROUNDING * float(np.abs(made).max())):
            return "scores of masks never trained on are not those that are made anew"
    sizes = typical_sizes(scores.null, getattr(estimator, "of_rows", scores.at), len(scores.rows))
    if not np.allclose(scores.sizes, sizes, rtol=10 * _ROUNDING, atol=_ROUNDING * float(sizes.max())):
        return "typical sizes of scores are not those that are made anew"
    return None


def _extremes_hold(scores: StoredScores, some: np.ndarray, made: np.ndarray, near: np.ndarray) -> bool:
    """Whether sampled rows are among their block's extremes exactly where their scores say so, with these scores."""
    for number, start, stop in scores.ranges():
        stored = scores._summary(number, start, stop)
        for place in np.flatnonzero((some >= start) & (some < stop)):
            for sign, word in ((1, "helpful"), (-1, "harmful")):
                rows, values = stored[f"{word}_rows"].numpy(), stored[f"{word}_values"].numpy()
                listed = rows == some[place]
                kept = np.where(listed, values, 0).sum(0)
                if (listed.any(0) & (np.abs(kept - made[place]) > near)).any():
                    return False
                if (~listed.any(0) & (sign * (made[place] - values[-1]) > near) & (len(rows) < stop - start)).any():
                    return False
    return True
