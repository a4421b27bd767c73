"""``cleanse``: change what seems to do harm, train again, and see whether it did any good."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from whence.arguments import instance_of, one_of, seed_of, share_of, whole
from whence.cleansing.amounts import SIGNIFICANT, Amount, amounts_of
from whence.cleansing.choosing import (
    Ranking,
    groups_by_effect,
    labels_to_mend,
    rows_by_harm,
    rows_by_suspicion,
    rows_given,
)
from whence.cleansing.comparing import Difference, compare, verdict_of
from whence.cleansing.harm import clusters_of
from whence.cleansing.intervals import by_cluster
from whence.cleansing.kept import keep
from whence.cleansing.measures import Measure, measures_of
from whence.cleansing.results import Cleansing, Step
from whence.cleansing.retrained import Trainings
from whence.cleansing.treatments import NONE, OTHER_GROUPS, RANDOM, SAME_LABELS, Treatment, controls, treated
from whence.errors import WhenceError
from whence.estimators.dispatch import choose, method_named, target_instances
from whence.evaluation.recipes import OwnLoop, recipe_of
from whence.evaluation.subsets import MOST
from whence.evaluation.workers import check_jobs
from whence.run import Run
from whence.rundir import RunDirectory, folder_name
from whence.score_store import making
from whence.whole_files import clear_left

__all__ = ["cleanse"]

BY = ("influence", "p_wrong")


def cleanse(
    run: Run,
    *,
    drop: str | float | Sequence[str | float] | None = None,
    relabel: str | float | Sequence[str | float] | bool | None = None,
    groups: str | int | Sequence[str | int] | bool | None = None,
    rows: ArrayLike | None = None,
    by: str = "influence",
    method: str = "auto",
    runs: int = 1,
    targets: Any = "test",
    seeds: int = 5,
    seed: int = 0,
    level: float = 0.05,
    jobs: int = 1,
    name: str | None = None,
    fit: OwnLoop | None = None,
    progress: bool = False,
) -> Cleansing:
    """Drop or relabel what seems to do harm, retrain from several seeds, and compare on test with no change and with chance.

    Rows are chosen on dev and judged on test, so the verdict is not of what they were chosen by. It may well be "no detectable
    gain". Every amount is trained beside three others of the same seeds: no change, as many instances removed at random, and as
    many at random with the same labels. A change is a gain only where a measure that knows no threshold (loss, AUC) is better than
    with all three, in intervals for seeds and test instances both being samples (``comparing.py``), widened for the number of
    amounts and measures (Bonferroni).

    Args:
        run: with a test split and, by influence or groups, a dev split.
        drop: how much to drop: "1%" (the default, if nothing else is asked for), a number of rows, "significant" (all whose
            false-discovery rate is at most 5 %), or several of these.
        relabel: how many labels to change to the suggested ones: an amount as for ``drop``, or True for all that are more likely
            wrong than right.
        groups: how many whole groups to drop: an amount, or True for all whose harm is beyond chance.
        rows: ids of instances to drop, a choice of your own.
        by: of ``drop``: "influence", the lowest mean influence on dev; "p_wrong", the least trusted labels.
        method: the estimator of influence (of groups: the second estimate).
        runs: how many trainings influence is averaged over, the run itself and others of other seeds.
        targets: what is judged on: a split or a ``Dataset``.
        seeds: R, trainings of each treatment; at least 2.
        seed: of trainings and random draws.
        level: how often a choice without effect may be called a gain; each interval has the confidence 1 − level / (amounts ·
            measures that know no threshold).
        jobs, fit: as for ``whence.evaluation.retrain``.
        name: of the directory in RUN/cleanse; by default of action and choice.
        progress: show bars.

    Returns:
        The cleansing. With a run directory, RUN/cleanse/NAME/cleansed.parquet has a row for each training instance with action and
        reason, cleanse.json all numbers; each finished training is kept, and the same call resumes.

    Raises:
        WhenceError: more than one of drop, relabel, groups and rows; an amount that is none; no such split; a training that cannot
            be repeated; instances to drop whose groups share masks and a method that scores groups; targets that rows are chosen
            by.
    """
    instance_of(run, Run, "run")
    check_jobs(jobs)
    seeds, runs = whole(seeds, "seeds", low=2, high=MOST), whole(runs, "runs", high=MOST)
    seed, level = seed_of(seed), share_of(level, "level")
    by, method = one_of(by, BY, "by"), method_named(method)
    action, amounts = _asked(drop, relabel, groups, rows)
    _refuse_idle(action, by, method, runs)
    judged_by_its_choice = ("train", "errors") + (
        ("dev",) if action in ("groups", "drop") and by == "influence" else ()
    )
    if isinstance(targets, str) and targets in judged_by_its_choice:
        raise WhenceError("targets that the change is chosen by, or that were chosen by the run's errors", where="targets",
                          got=repr(targets), expected="a split of its own, such as test")  # fmt: skip
    if isinstance(targets, str) and targets == "test" and targets not in run.splits:
        raise WhenceError("no test split to judge by", where="the run", got=f"only {', '.join(run.splits)}",
                          expected="instances that the change is not chosen by",
                          mend="Fit on data with a test split.")  # fmt: skip
    data = target_instances(run, targets)
    if len(data) < 2:
        raise WhenceError("too few instances to judge by", where="targets", got=len(data), expected="at least 2")
    title = _named(name, action, by, method)
    path = None if run.directory is None else run.directory.place(f"cleanse/{title}").parent
    trainings = Trainings(recipe_of(run, fit), run.train, run.splits.get("dev"), data, seed, jobs,
                          None if path is None else RunDirectory(path / "models"), progress)  # fmt: skip
    with run.in_use(), nullcontext() if path is None else making(path):
        if path is not None:
            clear_left(path / "models")
        ranking = _ranked(run, action, by, method, rows, trainings, runs, progress)
        found = _tried(run, ranking, amounts, trainings, seeds, level, targets if isinstance(targets, str) else "given",
                       None if path is None else path / title)  # fmt: skip
        if found.path is not None:
            keep(run, found, data, seed=seed, seeds=seeds, runs=runs)
    return found


def _asked(drop: Any, relabel: Any, groups: Any, rows: Any) -> tuple[str, tuple[Amount, ...]]:
    """What is to be changed, and how much of it."""
    given = [name for name, value in (("drop", drop), ("relabel", relabel), ("groups", groups), ("rows", rows))
             if value is not None and value is not False]  # fmt: skip
    if len(given) > 1:
        raise WhenceError("changes that cannot be told apart", where="cleanse", got=" and ".join(given), expected="one of them",
                          mend="Give one at a time: what was trained before is used again.")  # fmt: skip
    what = given[0] if given else "drop"
    if what == "rows":
        return what, (Amount("given", share=1.0),)
    amount = {"drop": "1%" if drop is None else drop, "relabel": relabel, "groups": groups}[what]
    if amount is True:
        return what, (Amount("all", share=1.0) if what == "relabel" else Amount(SIGNIFICANT),)
    return what, amounts_of(amount, what)


def _refuse_idle(action: str, by: str, method: str, runs: int) -> None:
    """Refuse options that a change does not ask."""
    asks = {"drop": ("by",) if by == "p_wrong" else ("by", "method", "runs"), "groups": ("method",)}.get(action, ())
    given = [("by", by, "influence"), ("method", method, "auto"), ("runs", runs, 1)]
    if idle := [name for name, value, default in given if value != default and name not in asks]:
        raise WhenceError("an option without effect on this change", where=idle[0], got=f"{action} by {by}",
                          mend="Leave it out.")  # fmt: skip


def _named(name: str | None, action: str, by: str, method: str) -> str:
    if name is None:
        special = by if by != "influence" else method if method != "auto" else ""
        name = f"{action}-{special}" if special and action in ("drop", "groups") else action
    if folder_name(name, "a cleansing") == "models":  # which are kept there
        raise WhenceError("not a name for a cleansing", got=repr(name), expected="another")
    return name


def _ranked(
    run: Run, action: str, by: str, method: str, rows: Any, trainings: Trainings, runs: int, progress: bool
) -> Ranking:
    if action == "rows":
        return rows_given(run, rows)
    if action == "groups":
        return groups_by_effect(run, method, progress=progress)
    if action == "relabel":
        return labels_to_mend(run)
    if by == "p_wrong":
        return rows_by_suspicion(run)
    chosen = choose(run, run.loss) if method == "auto" else method
    more = trainings.scored(chosen, runs - 1) if runs > 1 else []
    return rows_by_harm(run, chosen, more, progress=progress)


def _tried(run: Run, ranking: Ranking, amounts: Sequence[Amount], trainings: Trainings, seeds: int, level: float,
           target_set: str, path: Path | None) -> Cleansing:  # fmt: skip
    """Train every amount with its controls, and compare."""
    train = run.train
    found = [(amount, ranking.first(amount)) for amount in amounts]
    chosen = {len(units): (amount, units) for amount, units in found if len(units)}
    changes = [(amount, units, treated(ranking, units, train)) for _, (amount, units) in sorted(chosen.items())]
    for amount, units, _ in changes:
        if ranking.targets is None and 2 * ranking.rows(units).sum() > len(train):
            raise WhenceError("a removal of more than half of the data", where=amount.written,
                              got=f"{len(units):,} {ranking.level}s",
                              mend="Give a smaller amount: what is left should still be the data.")  # fmt: skip
    references = [controls(ranking, units, train, seeds=seeds, seed=trainings.seed) for _, units, _ in changes]
    unchanged = Treatment(NONE, np.ones((1, len(train)), bool))
    wanted = [unchanged] if changes else []
    for (_, _, change), others in zip(changes, references, strict=True):
        wanted += [change, *others]
    values = iter(trainings.measured(wanted, seeds))
    before = next(values) if changes else {}
    measures = [one for one in measures_of(run.task, run.loss) if changes and np.isfinite(before[one.name]).all()]
    each = level / max(1, len(changes) * sum(one.ranks for one in measures))
    clusters, steps = clusters_of(run, trainings.targets), []
    for (amount, units, _), others in zip(changes, references, strict=True):
        after, held = next(values), [before, *(next(values) for _ in others)]
        names = [NONE, *(one.name for one in others)]
        differences = _differences(measures, after, dict(zip(names, held, strict=True)), clusters, each)
        steps.append(Step(amount, units, int(ranking.rows(units).sum()), ranking.sure(units), ranking.false_share(units),
                          differences, verdict_of(differences)))  # fmt: skip
    return Cleansing(ranking, steps, {one.name: before[one.name].mean(axis=1) for one in measures}, train,
                     [change for _, _, change in changes], len(trainings.targets), target_set, path,
                     [(amount, len(units)) for amount, units in found])  # fmt: skip


def _differences(measures: Sequence[Measure], after: dict[str, np.ndarray], references: dict[str, dict[str, np.ndarray]],
                 clusters: np.ndarray | None, level: float) -> list[Difference]:  # fmt: skip
    found = []
    for against, values in references.items():
        for measure in measures:
            changed, reference, unchanged = (
                by_cluster(one[measure.name], clusters) for one in (after, values, references[NONE])
            )
            drawn = against in (RANDOM, OTHER_GROUPS, SAME_LABELS)
            found.append(compare(measure, against, changed, reference, level, unchanged if drawn else None))
    return found
