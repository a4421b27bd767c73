"""How harmful rows are on dev, and whether that could be chance.

A row's score is its even mean influence over dev instances (``Scores.mean_over_targets``): every one of them counts alike. What
chance is, comes from

    masks            of turnover and first_order: scores of masks never trained on (``significance.py``)
    dev instances    of kernel and kronecker: these are a sample (of groups, where they came in groups that training does not
                     have), and other ones would have given another mean. With K runs of other seeds, also the spread over runs

A row that no chance made harmful on dev is harmful there as far as the estimator can tell, which is not to say that it is without
error: only retraining tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whence.cleansing.intervals import Term, by_cluster, one_sided
from whence.data import Dataset
from whence.errors import WhenceError
from whence.estimators.base import evenly
from whence.estimators.derived import derived
from whence.estimators.dispatch import choose, influence
from whence.run import Run
from whence.scores import Scores

__all__ = ["Harm", "clusters_of", "harm", "means_and_errors", "pooled", "scored"]

_MOST_SCORES = 2**29  # of a matrix that is kept for this: 2 GiB
_FEWEST = 32  # dev instances, where even so few are too many rows' scores


@dataclass(frozen=True, eq=False)
class Harm:
    """Of each of N rows, its mean influence on dev and what chance makes of it.

    Attributes:
        mean: float64 [N]; negative harms.
        p: float64 [N], one-sided: of a mean so low by chance (``intervals.py``).
        basis: what p rests on, in words.
        scores: those of the run itself.
    """

    mean: np.ndarray
    p: np.ndarray
    basis: str
    scores: Scores


def scored(run: Run, method: str, *, keep: bool = True, progress: bool = False) -> Scores:
    """Scores of instances on dev, the matrix with them; of many instances on an evenly spaced sample of dev.

    Args:
        keep: in the run's directory.

    Raises:
        WhenceError: no dev split; rows that are groups.
    """
    if "dev" not in run.splits:
        raise WhenceError("no dev split to score on", where="the run", got=f"only {', '.join(run.splits)}",
                          mend="Fit with a dev split, or choose by p_wrong, which needs none.")  # fmt: skip
    chosen = choose(run, run.loss) if method == "auto" else method
    dev = run.splits["dev"]
    if len(dev) < 2:
        raise WhenceError("too few instances to score on", where="dev", got=len(dev), expected="at least 2")
    most = max(_FEWEST, _MOST_SCORES // len(run.train))
    if len(dev) > most:
        dev = dev.select(evenly(len(dev), most))
    level = "instance" if run.train.groups is None or chosen in ("kernel", "kronecker") else "group"
    if level == "group":
        raise WhenceError("instances whose groups share masks cannot be told apart", where=f"method {chosen}",
                          mend="Take kernel or kronecker, or remove whole groups (--groups).")  # fmt: skip
    if keep and run.directory is not None:
        return derived(
            run, dev, method=chosen, level=level, name=f"cleanse-{chosen}-dev", target_set="dev", progress=progress
        )
    return influence(run, dev, method=chosen, level=level, progress=progress)


def clusters_of(run: Run, data: Dataset) -> np.ndarray | None:
    """int64 [M]: which instances were drawn together, where groups are in one split as a whole; None where they are not."""
    if data.groups is None or run.train.groups is None or np.isin(data.groups, run.train.groups).any():
        return None
    return data.groups if len(np.unique(data.groups)) > 1 else None


def means_and_errors(run: Run, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """float64 [N] each: even means over dev, and their standard errors for dev being a sample."""
    dev = run.splits["dev"]
    clusters = clusters_of(run, dev.select(np.flatnonzero(np.isin(dev.ids, scores.targets))))
    means, errors = np.empty(scores.shape[0]), np.empty(scores.shape[0])
    for start, block in scores.blocks():
        weighted = by_cluster(np.asarray(block, np.float64) * scores.weights, clusters)
        rows = slice(start, start + len(block))
        means[rows] = weighted.mean(axis=1)
        errors[rows] = weighted.std(axis=1, ddof=1) / np.sqrt(weighted.shape[1])
    return means, errors


def harm(run: Run, method: str, more: Sequence[tuple[np.ndarray, np.ndarray]] = (), *, progress: bool = False) -> Harm:
    """Of a run's training instances.

    Args:
        more: ``means_and_errors`` of further runs.
    """
    scores = scored(run, method, progress=progress)
    if scores.null is not None and not more:
        found = scores.significance()
        # Masks never trained on have a mean of their own where the keep rate is not one half.
        center = float(scores.null.mean(axis=0, dtype=np.float64) @ scores.weights) / scores.shape[1]
        return Harm(found.effect - center, np.where(found.z < 0, found.p / 2, 1 - found.p / 2), found.basis, scores)
    pairs = [means_and_errors(run, scores), *more]
    means, errors = (np.stack(column) for column in zip(*pairs, strict=True))
    return pooled(means, errors, scores)


def pooled(means: np.ndarray, errors: np.ndarray, scores: Scores) -> Harm:
    """Of K runs' means and errors, [K, N] each, of which the first is that of ``scores``.

    Runs are scaled to one root mean square over rows before they are averaged; the mean is in the unit of the first.
    """
    runs, targets = len(means), scores.shape[1]
    sizes = np.sqrt(np.square(means).mean(axis=1, keepdims=True))
    scale = np.where(sizes > 0, sizes[:1] / np.where(sizes > 0, sizes, 1), 1.0)
    mean = (means * scale).mean(axis=0)
    terms = [Term(np.square(errors * scale).mean(axis=0), targets - 1)]
    chance = f"{targets:,} dev instances being a sample"
    if runs > 1:
        terms.append(Term((means * scale).var(axis=0, ddof=1) / runs, runs - 1))
        chance += f", and the spread over {runs} runs"
    return Harm(mean, one_sided(terms, mean), chance, scores)
