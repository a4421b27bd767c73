"""Which labels should not be trusted, which instances the model knows by heart, which instances and groups help or harm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from whence.arguments import instance_of
from whence.data import Classification, Dataset
from whence.data.tasks import LanguageModeling, well_formed
from whence.errors import WhenceError
from whence.estimators.derived import derived
from whence.estimators.dispatch import choose, method_named
from whence.estimators.memorization import Memories, memories
from whence.forward import predict
from whence.groups import GroupEffects, group_effects
from whence.held_out import HeldOut, held_out, out_of_sample
from whence.label_noise import NoiseModel, fit_noise
from whence.review_files import read_review
from whence.reviewing import NONE, Review, Reviewed, drawn, of_labels, reviewed
from whence.run import Run
from whence.subnetworks import probabilities

__all__ = ["KINDS", "Audit", "audit", "label_noise", "suspicions"]

KINDS = ("label_issue", "memorized", "ambiguous", "ok")


@dataclass(frozen=True)
class Audit:
    """What an audit found, one row per training instance in the order of the data.

    Attributes:
        table: id, name, given_label, suggested_label, p_wrong, memorization, influence_on_dev, kind, and the
            probabilities of the given label: p_own, p_flipped, p_full (classification) or prediction (regression).
        method: the estimator behind influence_on_dev; None without a dev split.
        dev_error: the share of dev instances that the model predicts wrongly; None for a regression or without dev.
        noise: the fitted model of label noise (``label_noise.py``): its rate, which classes are mistaken for which, and for each
            instance how likely each class is the true one. None for a regression.
        groups: which groups help and harm on dev; None for a run without groups or without a dev split.
        sources: of a run with groups, a row for each, that with the largest share of expected errors first: id, name, members,
            suspected (labels that are an issue), expected_errors (sum of p_wrong); None without groups.
        train: the training instances.
        review: which labels somebody looks at, and what was found; reviewed: what that says of all. None where nobody has looked,
            and reviewed where few labels were looked at (less than ten).
    """

    table: pa.Table
    method: str | None
    dev_error: float | None = None
    groups: GroupEffects | None = None
    noise: NoiseModel | None = None
    sources: pa.Table | None = None
    train: Dataset | None = None
    review: Review | None = None
    reviewed: Reviewed | None = None

    def __repr__(self) -> str:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.counts().items())
        return f"Audit({len(self.table):,} training instances: {kinds})"

    def check_is_of(self, train: Dataset, where: str) -> None:
        """Refuse an audit of other instances than ``train``.

        Raises:
            WhenceError: so it is.
        """
        if self.table["id"].to_pylist() != train.ids.tolist():
            raise WhenceError("an audit of other data", where=where, got=f"{self.table.num_rows} rows",
                              expected=f"the {len(train)} training ids of the run, in their order")  # fmt: skip

    def column(self, name: str) -> np.ndarray:
        """One column as an array [N]."""
        values: np.ndarray = self.table[name].to_numpy(zero_copy_only=False)
        return values

    def ranking(self) -> np.ndarray:
        """int64 [N]: rows by p_wrong, the least trusted label first."""
        return np.argsort(-self.column("p_wrong"), kind="stable")

    @property
    def issues(self) -> np.ndarray:
        """int64: rows whose label is an issue, the least trusted first."""
        order = self.ranking()
        found: np.ndarray = order[self.column("kind")[order] == "label_issue"]
        return found

    @property
    def expected_errors(self) -> float:
        """How many labels are wrong, as far as the audit can tell: the sum of p_wrong. ``reviewed`` has limits of it."""
        return float(self.column("p_wrong").sum())

    def to_review(self, count: int = 100, *, seed: int = 0) -> Review:
        """Labels for somebody to look at, so that these few tell how many of all are wrong (``reviewing.py``).

        Args:
            count: how many, at least ten; from the front as many as one likes, so ask for many.
            seed: of the draw. A review that was begun keeps its own: more labels are added to it.

        Raises:
            WhenceError: the task is no classification.
        """
        if self.review is not None:
            return self.review.extended(count)
        if self.noise is None or self.train is None:
            raise WhenceError("a review of something else than an audit of classes", where="Audit.to_review",
                              expected="what whence.audit says of a classifier")  # fmt: skip
        return drawn(self.train, self.noise.p_wrong, count, seed)

    @property
    def caveat(self) -> str | None:
        """What to know before believing the suspicions as a whole, or None.

        Where instances are hard, some labels look wrong that are right: fewer than a third of the model's errors on dev are
        not told from none (docs/label_errors.md), but by a review.
        """
        share = self.expected_errors / self.table.num_rows
        if self.reviewed is not None or self.dev_error is None or not len(self.issues) or share >= self.dev_error / 3:
            return None
        return (f"The model errs on {_percent(self.dev_error)} of unseen instances (dev). Where that is so, {_percent(share)} of "
                "the training labels can look wrong even if all of them are right.")  # fmt: skip

    def group_table(self) -> pa.Table | None:
        """What is known of each group: of judged ones ``GroupEffects.table``, most harmful first, with columns of ``sources``."""
        if self.groups is None or self.sources is None:
            return self.sources
        judged = self.groups.table().take(self.groups.ranking())
        place = {group: row for row, group in enumerate(self.sources["id"].to_pylist())}
        rows = self.sources.take([place[group] for group in judged["id"].to_pylist()])
        for name in ("suspected", "expected_errors"):
            judged = judged.append_column(name, rows[name])
        return judged

    def counts(self) -> dict[str, int]:
        """How many instances are of each kind."""
        kinds = self.column("kind")
        return {kind: int((kinds == kind).sum()) for kind in KINDS}


def audit(run: Run, *, method: str = "auto", review: Review | None = None, progress: bool = False) -> Audit:
    """Judge every training instance from one run.

    For a classifier everything begins with what the model would say of the instance unseen (``whence.out_of_sample``: p̄). A
    model of label noise is fitted to that and the given labels (``label_noise.py``); docs/label_errors.md has how well it does.

    - ``p_wrong``: how likely the label is wrong, by the noise model; groups, such as annotators, may err more or less often.
    - ``suggested_label``: the given one; where p_wrong is above one half, the likeliest of the others, or the class that somebody
      found to be right (of a label that a review found to be wrong without a right one, the given one).
    - ``memorization``: how much more often a model gets the label right when trained on it (``whence.memorization``).
    - ``influence_on_dev``: mean influence on the loss of dev instances; positive helps. NaN without a dev split.
    - ``kind``: label_issue (p_wrong above one half), memorized (the network gets it right, and would not if it had not been
      trained on it), ambiguous (the noise model believes no class more likely than not), ok.

    For a regression, the suggested value is the flipped sub-network's prediction, p_wrong the posterior of the wider of
    two zero-mean normal distributions fitted to its errors, and a label issue one with p_wrong above one half.

    Args:
        method: the estimator of influence_on_dev.
        review: labels that somebody has looked at (``Audit.to_review``), by default those of the run's directory. From ten on
            p_wrong is calibrated by them (``reviewing.py``), and 0 or 1 of what was looked at.
        progress: show a bar.

    In a run with groups and a dev split, ``groups`` judges each of them by ``whence.group_effects``; where influence_on_dev is that
    of kronecker or kernel, its sums over members are the second estimate there.

    Returns:
        The audit; with a run directory it is also written to RUN/audit.parquet and, of a run with groups, RUN/groups.parquet.
    """
    method_named(method)
    if isinstance(instance_of(run, Run, "run").task, LanguageModeling):
        raise _without_labels(run)
    with run.in_use():
        return _audited(run, method, _review_of(run, review), progress)


def _review_of(run: Run, given: Review | None) -> Review | None:
    """The review that is given, else that of the run's directory.

    Raises:
        WhenceError: it is of other labels, or what lies in the directory is damaged.
    """
    if given is None:
        return None if run.directory is None else read_review(run.directory, run.train)
    if of_labels(instance_of(given, Review, "review").train) != of_labels(run.train):
        raise WhenceError("a review of other labels", where="review", got="other instances, or labels",
                          expected="those that the run was trained on")  # fmt: skip
    return given


def _audited(run: Run, method: str, review: Review | None, progress: bool) -> Audit:
    memory, noise, told = memories(run), None, None
    if isinstance(run.task, Classification):
        judged, noise, told = _classification(run, memory, review)
    else:
        judged = _regression(run)
    train = run.train
    influence_on_dev, used, groups = np.full(len(train), np.nan), None, None
    if "dev" in run.splits:
        chosen = choose(run, run.loss) if method == "auto" else method
        # Only means are wanted, so the matrix, which can be large, is not kept: scores of a name of their own.
        scores = derived(run, "dev", method=chosen, name=f"audit-{chosen}-dev", keep_matrix=False, progress=progress)
        means, used = scores.mean_over_targets(), str(scores.info["method"])
        position = {int(mask_id): row for row, mask_id in enumerate(scores.ids)}
        owners = train.mask_ids if scores.info["level"] == "group" else train.ids
        influence_on_dev = means[[position[int(owner)] for owner in owners]]
        if train.groups is not None:
            groups = group_effects(run, "dev", kernel="auto" if scores.null is not None else scores, progress=progress)
    columns: dict[str, Any] = {
        "id": train.ids,
        "name": train.all_names(),
        "given_label": train.task.show(train.targets),
        "suggested_label": judged.pop("suggested"),
        "p_wrong": judged.pop("p_wrong"),
        "memorization": memory.memorization,
        "influence_on_dev": influence_on_dev,
        "kind": judged.pop("kind"),
        **judged,
    }
    result = Audit(pa.table(columns), used, _dev_error(run), groups, noise,
                   _sources(train, columns["p_wrong"], columns["kind"] == "label_issue"), train, review, told)  # fmt: skip
    if run.directory is not None:
        run.directory.write_table("audit.parquet", result.table)
        of_groups = result.group_table()
        if of_groups is not None:
            run.directory.write_table("groups.parquet", of_groups)
    return result


def label_noise(run: Run) -> NoiseModel:
    """The model of label noise of a classifier's training labels; each group has an error rate of its own."""
    return _noise(run, held_out(run))


def _noise(run: Run, unseen: HeldOut) -> NoiseModel:
    groups = run.train.groups
    sources = None if groups is None else np.unique(groups, return_inverse=True)[1]
    return fit_noise(unseen.pooled, run.train.targets, unseen.witnesses, sources)


def suspicions(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """What an audit says of labels, and nothing else of it: p_wrong, float64 [N], and the suggestions as targets of the task, [N].

    Raises:
        WhenceError: texts without labels; a review in the run's directory that is of other labels, or damaged.
    """
    if isinstance(run.task, Classification):
        p_wrong, suggested, _ = _told(label_noise(run), run.train.targets, _review_of(run, None))
        return p_wrong, suggested
    if isinstance(run.task, LanguageModeling):
        raise _without_labels(run)
    predicted = out_of_sample(run)[:, 0]
    return _outlier_posterior(run.train.targets - predicted), predicted


def _without_labels(run: Run) -> WhenceError:
    return WhenceError("an audit of texts without labels", where="the run", got=run.task.kind, expected="a task with labels",
                       mend="Ask for whence.influence, whence.group_effects or whence.memorization.")  # fmt: skip


def _told(
    noise: NoiseModel, given: np.ndarray, review: Review | None
) -> tuple[np.ndarray, np.ndarray, Reviewed | None]:
    """p_wrong, float64 [N]; int64 [N], the given class, of a label that is an issue the likeliest of the others, of what somebody
    looked at the right one (if none is, the given one); and what a review says, where there is one."""
    told = None if review is None else reviewed(noise.p_wrong, review)
    p_wrong = noise.p_wrong if told is None else told.p_wrong
    true, rows = noise.posterior.copy(), np.arange(len(given))
    true[rows, given] = 0
    suggested = np.where(p_wrong > 0.5, true.argmax(1), given)
    if told is not None:
        suggested = np.where(told.right >= 0, told.right, np.where(told.right == NONE, given, suggested))
    return p_wrong, suggested, told


def _sources(train: Dataset, p_wrong: np.ndarray, suspected: np.ndarray) -> pa.Table | None:
    if train.groups is None:
        return None
    ids, first, member = np.unique(train.groups, return_index=True, return_inverse=True)
    names = train.groups if train.group_names is None else train.group_names
    members, expected = np.bincount(member), np.bincount(member, p_wrong)
    order = np.argsort(-expected / members, kind="stable")
    columns = {"id": ids, "name": [well_formed(str(name)) for name in names[first]], "members": members,
               "suspected": np.bincount(member[suspected], minlength=len(ids)), "expected_errors": expected}  # fmt: skip
    return pa.table(columns).take(order)


def _dev_error(run: Run) -> float | None:
    if "dev" not in run.splits or not isinstance(run.task, Classification):
        return None
    dev = run.splits["dev"]
    return float((predict(run.model, dev).argmax(1) != dev.targets).mean())


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _classification(
    run: Run, memory: Memories, review: Review | None
) -> tuple[dict[str, Any], NoiseModel, Reviewed | None]:
    rows, given = np.arange(len(run.train)), run.train.targets
    unseen = held_out(run)
    noise, flipped = _noise(run, unseen), unseen.flipped
    own, full = (probabilities(run, mask=mask) for mask in ("own", "full"))
    p_wrong, suggested, told = _told(noise, given, review)
    kind = np.full(len(rows), "ok", dtype=object)
    kind[noise.belief.max(1) <= 0.5] = "ambiguous"
    kind[memory.by_heart & (full.argmax(1) == given)] = "memorized"
    kind[p_wrong > 0.5] = "label_issue"
    judged = {"suggested": run.task.show(suggested), "p_wrong": p_wrong, "kind": kind,
              "p_own": own[rows, given], "p_flipped": flipped[rows, given], "p_full": full[rows, given]}  # fmt: skip
    return judged, noise, told


def _regression(run: Run) -> dict[str, Any]:
    p_wrong, predicted = suspicions(run)
    kind = np.where(p_wrong > 0.5, "label_issue", "ok").astype(object)
    return {
        "suggested": run.task.show(predicted),
        "p_wrong": p_wrong,
        "kind": kind,
        "prediction": run.task.show(predicted),
    }


def _outlier_posterior(errors: np.ndarray, rounds: int = 100) -> np.ndarray:
    """The posterior of the wide component of two zero-mean normals, by expectation maximization: float64 [N].

    The wide one has at least three times the deviation of the narrow one, so that mere tails are not outliers.
    """
    squares = np.square(errors, dtype=np.float64)
    narrow = max(float(np.median(squares)) / 0.4549, 1e-12)  # the median of χ²₁ is 0.4549
    wide, share = 9 * max(narrow, float(squares.mean())), 0.05
    posterior = np.zeros(len(errors))
    for _ in range(rounds):
        log_odds = np.log(share / (1 - share)) + 0.5 * (np.log(narrow / wide) + squares / narrow - squares / wide)
        posterior = 1 / (1 + np.exp(-np.clip(log_odds, -500, 500)))
        share = float(np.clip(posterior.mean(), 1e-6, 0.5))
        narrow = max(float(((1 - posterior) * squares).sum() / max((1 - posterior).sum(), 1e-9)), 1e-12)
        wide = max(float((posterior * squares).sum() / max(posterior.sum(), 1e-9)), 9 * narrow)
    return posterior
