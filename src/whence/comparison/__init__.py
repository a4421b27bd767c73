"""Two runs beside each other: which predicts better, what changed, and whether both say the same of their data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whence import auditing
from whence.arguments import instance_of, whole
from whence.auditing import Audit
from whence.comparison.issues import Issues, compare_issues
from whence.comparison.paired import Paired, compare_predictions
from whence.comparison.rankings import Rankings, compare_rankings
from whence.comparison.settings import Setting, compare_settings, only_seeds_differ
from whence.comparison.shared import Shared, shared_instances
from whence.errors import WhenceError
from whence.estimators.dispatch import method_named
from whence.run import Run

__all__ = ["Comparison", "Issues", "Paired", "Rankings", "Setting", "Shared", "compare"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What separates two runs. Differences are this run's minus the other's.

    Attributes:
        run, other: the two.
        shared: their instances in common.
        paired: accuracy and loss on the same held-out instances, and what changed.
        issues: label issues of training instances that both have; audits the two audits.
        rankings: agreement of scores on ``targets``.
        targets: int64, positions among the shared held-out instances: those whose scores were compared.
        settings: what differs in data, model and training.
        only_seeds: whether nothing differs but seeds.
    """

    run: Run
    other: Run
    shared: Shared
    paired: Paired
    audits: tuple[Audit, Audit]
    issues: Issues
    targets: np.ndarray
    rankings: Rankings
    settings: list[Setting]
    only_seeds: bool

    def __repr__(self) -> str:
        return f"Comparison({self.sentence()})"

    def sentence(self) -> str:
        """Which predicts better, in plain words."""
        return self.paired.sentence(self.shared.split)


def compare(
    run: Run,
    other: Run,
    *,
    audits: tuple[Audit | None, Audit | None] = (None, None),
    method: str = "auto",
    top: int = 8,
    limit: int = 50,
    progress: bool = False,
) -> Comparison:
    """Compare a run with another on what they have in common: the other seed, model, or data before they were cleansed.

    Held-out instances meet by id, in test, else in dev; those whose label, text or picture differs are left out. Training
    instances meet by id too. ``limit`` held-out instances are those whose scores are compared: predictions that
    changed, then those wrong in both, the most confident first, then the least confident.

    Args:
        run, other: of one task; the other is the one compared against.
        audits: of the two, where they are made already.
        method: of the scores that are compared: "auto", "kronecker", "kernel", "turnover" or "first_order".
        top: how many most helpful and most harmful rows of a target are looked for in the other run.
        limit: how many targets' scores are compared.
        progress: show bars.

    Raises:
        WhenceError: they are the same run; their tasks or classes differ; they share no held-out instances.
    """
    instance_of(run, Run, "run")
    instance_of(other, Run, "other")
    top, limit = whole(top, "top"), whole(limit, "limit")
    method_named(method)
    if not (
        isinstance(audits, tuple | list) and len(audits) == 2 and all(isinstance(one, Audit | None) for one in audits)
    ):
        raise WhenceError(
            "an argument of the wrong type",
            where="audits",
            got=f"{audits!r:.60}",
            expected="two audits, or None for them",
        )
    for one, audit in zip((run, other), audits, strict=True):
        if audit is not None:
            audit.check_is_of(one.train, "audits")
    shared = shared_instances(run, other)
    paired = compare_predictions(run, other, shared)
    targets = paired.most_telling(limit)
    rankings = compare_rankings(run, other, shared, targets, method=method, top=top, progress=progress)
    judged = tuple(
        auditing.audit(one, method=method, progress=progress) if found is None else found
        for one, found in zip((run, other), audits, strict=True)
    )
    settings = compare_settings(run, other)
    return Comparison(
        run=run,
        other=other,
        shared=shared,
        paired=paired,
        audits=(judged[0], judged[1]),
        issues=compare_issues(judged[0], judged[1], shared),
        targets=targets,
        rankings=rankings,
        settings=settings,
        only_seeds=only_seeds_differ(settings, shared),
    )
