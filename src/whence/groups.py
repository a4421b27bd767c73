"""Which groups help and which harm: leave-one-group-out effects by two estimates that err in different ways, and where they agree.

    published   Q(x; flipped mask of g) − Q(x; own mask of g), exact turn-over (Kobayashi et al. 2020): any metric, and masks
                never trained on say what chance is
    kernel      the sum of kronecker (or kernel) scores over the members of g: needs a gradient, has no test of its own

A group is said to harm (or help) where its published effect is below (above) that of masks never trained on, its kernel effect
has the same sign, and the false-discovery rate q is at most the level. All of this is about targets that count alike, not about
the mean loss, which the few targets with the largest losses decide. The kernel does not look at masks, so under the hypothesis
that training left no trace of them it may choose the side on which p is counted: p is one-sided.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from whence.arguments import instance_of, share_of, whole
from whence.data import Dataset
from whence.data.tasks import well_formed
from whence.errors import WhenceError
from whence.estimators.base import mask_rows
from whence.estimators.derived import derived
from whence.estimators.dispatch import choose, target_instances
from whence.estimators.head import find_head
from whence.fingerprints import digest
from whence.noise import FEWEST_MASKS
from whence.quantities import LossFunction, Quantity, quantity_named
from whence.run import Run
from whence.scores import Scores
from whence.significance import false_discovery_rates, rows_against_masks

__all__ = ["VERDICTS", "GroupEffects", "group_effects"]

HARMS, UNCLEAR, HELPS = VERDICTS = ("harms", "not distinguishable", "helps")
_PRODUCTS = 2**22  # most masks × targets where exact scores are one product: 16 MiB
_PASSES = 2**19  # and where each costs two passes through the masked part of the network
_FEWEST_TARGETS = 32


@dataclass(frozen=True, eq=False)
class GroupEffects:
    """What the removal of each of G groups would do to the even mean of a quantity over targets. Positive: the group helps.

    Attributes:
        ids: int64 [G], in order of first appearance; names: as the user writes them; members: int64 [G], training instances.
        effect: float64 [G], the published one, less its mean over masks never trained on (zero at keep rate ½), in ``unit``. As
            all means here it is even: every target counts alike (``Scores.mean_over_targets``).
        z: float64 [G], how far the group moves the targets as a whole, in standard deviations of chance: of the mean of
            asinh(s), s being published scores in standard deviations of chance of their target.
        p: float64 [G], of z: one-sided, on the side of the kernel effect; two-sided without one.
        q: float64 [G], the false-discovery rate (Benjamini and Hochberg 1995) of p.
        kernel: float64 [G], the summed kernel effect, of which the sign and the order are meant; None where there is none.
        unit, quantity: of the effects.
        level: the largest q of a verdict.
        target_set: what the targets are called; targets: how many were used, evenly spaced, among so many.
        alone: why there is no kernel effect, in words; None where there is one.
        published: turn-over scores [G, M].
        summed: kernel scores of the same targets, of groups or of instances, or None.
    """

    ids: np.ndarray
    names: list[str]
    members: np.ndarray
    effect: np.ndarray
    z: np.ndarray
    p: np.ndarray
    q: np.ndarray
    kernel: np.ndarray | None
    unit: str
    quantity: str
    level: float
    target_set: str
    targets: int
    among: int
    alone: str | None
    published: Scores = field(repr=False)
    summed: Scores | None = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def verdicts(self) -> list[str]:
        """Of each group: "harms", "helps" or "not distinguishable" (from chance)."""
        sign = np.sign(self.z) * (self.q <= self.level) * (np.sign(self.effect) == np.sign(self.z))
        if self.kernel is not None:
            sign = sign * (np.sign(self.kernel) == sign)
        return [VERDICTS[int(side) + 1] for side in sign]

    def interval(self, share: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends, float64 [G] each, of an interval of the published effect, with so much confidence.

        As wide as the effects of masks never trained on scatter, which is the noise of a group without a trace. One of a large
        effect can vary more from training to training (benchmarks/group_intervals.py), so it says whether there is an
        effect rather than how large it is. Verdicts come from ``z`` and ``q``, for many groups at once.
        """
        share, null = share_of(share, "share"), self.published.null
        assert null is not None
        null = null.astype(np.float64) @ self.published.weights / self.targets
        low, high = np.quantile(null - null.mean(), [(1 - share) / 2, (1 + share) / 2])
        return self.effect - high, self.effect - low

    def counts(self) -> dict[str, int]:
        """How many groups have each verdict."""
        given = self.verdicts
        return {verdict: given.count(verdict) for verdict in VERDICTS}

    def ranking(self) -> np.ndarray:
        """int64 [G]: harmful groups first and helpful ones last, by z among those of one verdict."""
        place = np.array([VERDICTS.index(verdict) for verdict in self.verdicts])
        return np.lexsort((self.z, place))

    def agreed(self) -> Scores:
        """Scores [G, M] of groups on single targets: the kernel score where the published one has its sign, else zero.

        What explains a target by its sources: ``group_effects(run, "test").agreed().top(5)`` names those that both
        estimates say helped it. Kernel scores are taken because they foretell retraining better; signs of single
        published scores are counted from the mean over masks never trained on. There is no test in it: of groups
        without any effect, half agree.

        Raises:
            WhenceError: there are no kernel scores, or only their means were kept.
        """
        if self.summed is None:
            raise WhenceError("only one estimate, so nothing to agree with", where="agreed", got=self.alone,
                              mend="Use effects.published, or ask for a quantity that has a gradient.")  # fmt: skip
        summed = self.summed.for_groups()
        rows, columns = _positions(summed.ids, self.ids), _positions(summed.targets, self.published.targets)
        assert self.published.null is not None
        kernel = np.asarray(summed)[np.ix_(rows, columns)]
        published = np.asarray(self.published) - self.published.null.mean(axis=0)
        both = np.where(np.sign(published) == np.sign(kernel), kernel, 0).astype(np.float32)
        info = {**summed.info, "method": f"{summed.info['method']} where turnover agrees", "block_rows": len(self),
                "shape": list(both.shape), "summary_k": len(self), "matrix": True}  # fmt: skip
        return Scores(self.published.rows, self.published.columns, info, memory={0: both})

    def table(self) -> pa.Table:
        """One row per group: id, name, members, effect, z, p, q, kernel_effect (null without one), verdict, and effect_low and
        effect_high, the 95 % interval of the effect."""
        low, high = self.interval()
        kernel = pa.nulls(len(self), pa.float64()) if self.kernel is None else pa.array(self.kernel)
        names = pa.array([well_formed(name) for name in self.names], pa.string())
        columns = {"id": self.ids, "name": names, "members": self.members, "effect": self.effect, "z": self.z, "p": self.p,
                   "q": self.q, "kernel_effect": kernel, "verdict": self.verdicts,
                   "effect_low": low, "effect_high": high}  # fmt: skip
        return pa.table(columns)

    def __repr__(self) -> str:
        return f"GroupEffects({self.sentence()})"

    def sentence(self) -> str:
        """How many groups harm and help, in plain words."""
        counts = self.counts()
        harm, help, rest = (counts[verdict] for verdict in (HARMS, HELPS, UNCLEAR))
        part = "" if self.targets == self.among else f", {self.targets:,} of {self.among:,} instances"
        where = "the given targets" if self.target_set == "given" else self.target_set
        on = f"({self.quantity} on {where}{part})"
        if not harm + help:
            return f"None of {len(self):,} groups can be told from chance {on}."
        said = f"{_count(harm)} of {len(self):,} groups {_s('harm', harm)} and {_count(help)} {_s('help', help)} beyond chance {on}"
        return f"{said[0].upper()}{said[1:]}{f'; {rest:,} cannot be told from it' if rest else ''}."

    def lines(self, show: int = 10) -> list[str]:
        """What was found, as lines of text: the sentence, the first groups of the ranking, what the verdicts rest on."""
        rows = self.ranking()[:show]
        found = [self.sentence()]
        if len(rows):
            titles = ("members", "effect", "z", "p", "q", "kernel")
            found.append(f"{'group':<20} " + " ".join(f"{title:>9}" for title in titles) + "  verdict")
        for row in rows:
            kernel = "none" if self.kernel is None else f"{self.kernel[row]:+.3g}"
            cells = (f"{self.members[row]:,}", f"{self.effect[row]:+.3g}", f"{self.z[row]:+.1f}", f"{self.p[row]:.2g}",
                     f"{self.q[row]:.2g}", kernel)  # fmt: skip
            found.append(f"{printable(self.names[row])[:20]:<20} " + " ".join(f"{cell:>9}" for cell in cells)
                         + f"  {self.verdicts[row]}")  # fmt: skip
        if 0 < len(rows) < len(self):
            found.append(f"… and {len(self) - len(rows):,} more groups in the table")
        return [*found, f"positive effects help, in {self.unit}; by {self.basis()}"]

    def to_json(self) -> dict[str, Any]:
        """All groups in the order of the ranking, and what the verdicts rest on, as values for JSON."""
        return {"quantity": self.quantity, "unit": self.unit, "target_set": self.target_set, "targets": self.targets,
                "among": self.among, "level": self.level, "basis": self.basis(), "counts": self.counts(),
                "groups": self.table().take(self.ranking()).to_pylist()}  # fmt: skip

    def basis(self) -> str:
        """What the verdicts rest on, in words."""
        assert self.published.null is not None
        chance = f"published turn-over against {len(self.published.null):,} masks never trained on, q ≤ {self.level:g}"
        if self.summed is None:
            return f"{chance}; alone, because {self.alone}"
        return f"{chance}, and summed {self.summed.info['method']} scores of the same sign"


def group_effects(
    run: Run,
    targets: str | Dataset = "dev",
    *,
    quantity: str | Quantity | LossFunction = "loss",
    kernel: Literal["auto", "kronecker", "kernel"] | Scores | None = "auto",
    level: float = 0.05,
    null_masks: int = 1024,
    progress: bool = False,
) -> GroupEffects:
    """Judge each group of a run: does it help or harm the mean of a quantity over targets?

    Both estimates approximate what a network trained without the group would lose. Published scores are exact turn-over,
    two forward passes per mask and target, or one product where the only masked layer feeds the head. Where masks times
    targets are more than half a million (four millions for the product: some 500 and 4,000 targets), an evenly spaced
    sample of targets is used, and ``targets`` of ``among`` says so.

    Args:
        run: trained with groups, so that the members of each share one mask.
        targets: a split's name, "errors", or a ``Dataset``.
        quantity: as for ``influence``.
        kernel: the second estimate: "kronecker", "kernel", "auto" (kronecker where the quantity has a gradient and the model
            has layers for it), None, or scores of this run, quantity and targets, if they are made already.
        level: the false-discovery rate of verdicts.
        null_masks: how many masks never trained on tell what chance is.
        progress: show bars.

    Raises:
        WhenceError: the run has no groups; no such split, quantity or kernel; ``kernel`` scores of something else.
    """
    instance_of(run, Run, "run")
    if run.train.groups is None:
        raise WhenceError("no groups", where="the run", expected="one mask per group", mend="Fit with groups: whence fit "
                          "--group COLUMN, or Dataset(groups=...).")  # fmt: skip
    level, null_masks = share_of(level, "level"), whole(null_masks, "null_masks", low=FEWEST_MASKS)
    by_name = isinstance(kernel, str) and kernel in ("auto", "kronecker", "kernel")
    if not (kernel is None or isinstance(kernel, Scores) or by_name):
        raise WhenceError("unknown kernel", got=f"{kernel!r:.60}", expected="auto, kronecker, kernel, scores or None")
    wanted = quantity_named(quantity, run.task, run.loss)
    data = target_instances(run, targets)
    sample = _affordable(run, data, null_masks)
    label = targets if isinstance(targets, str) else "given"

    def scored(method: str) -> Scores:
        marks = digest(run.fingerprint(), sample.fingerprint(), wanted.fingerprint(run.task), null_masks)
        return derived(run, sample, method=method, level="group", quantity=wanted, null_masks=null_masks, target_set=label,
                       name=f"groups-{method}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', label)}-{marks[:8]}",
                       progress=progress)  # fmt: skip

    published = scored("turnover")
    null = published.null
    assert null is not None
    scores = np.asarray(published)
    effect = (scores - null.mean(axis=0, dtype=np.float64)) @ published.weights / len(sample)
    z, p = rows_against_masks(null, scores)
    alone = _why_alone(run, wanted, kernel)
    summed = None
    if alone is None:
        assert kernel is not None
        if isinstance(kernel, Scores):
            summed = _fitting(kernel, run, wanted, sample)
        else:
            summed = scored(choose(run, wanted) if kernel == "auto" else kernel)
    sizes = dict(zip(*(found.tolist() for found in np.unique(run.train.groups, return_counts=True)), strict=True))
    kernel_effect = None if summed is None else _summed_means(summed, published.ids)
    if kernel_effect is not None:
        side = np.sign(kernel_effect)
        p = np.where(side == 0, 1.0, np.where(side == np.sign(z), p / 2, 1 - p / 2))
    return GroupEffects(
        ids=published.ids,
        names=published.rows.names,
        members=np.array([sizes[group] for group in published.ids.tolist()], np.int64),
        effect=effect,
        z=z,
        p=p,
        q=false_discovery_rates(p),
        kernel=kernel_effect,
        unit=published.info["unit"],
        quantity=wanted.name,
        level=level,
        target_set=label,
        targets=len(sample),
        among=len(data),
        alone=alone,
        published=published,
        summed=summed,
    )


def _affordable(run: Run, data: Dataset, null_masks: int) -> Dataset:
    """The targets, or as many of them, evenly spaced, as the work allows."""
    head = find_head(run.model, data)
    budget = _PRODUCTS if head is not None and head.only else _PASSES
    most = max(_FEWEST_TARGETS, budget // (len(mask_rows(run.train).labels) + null_masks))
    if len(data) <= most:
        return data
    return data.select(np.linspace(0, len(data) - 1, most).round().astype(np.int64))


def _why_alone(run: Run, quantity: Quantity, kernel: str | Scores | None) -> str | None:
    """Why there is no kernel effect; None where there is one."""
    if kernel is None:
        return "no kernel scores were asked for"
    if not quantity.differentiable:
        return f"{quantity.name} has no gradient"
    if kernel == "auto" and choose(run, quantity) == "turnover":
        return "the model has no layers that kronecker scores need"
    return None


def _fitting(scores: Scores, run: Run, quantity: Quantity, targets: Dataset) -> Scores:
    """Given kernel scores, if they are of this run and quantity and have all targets.

    Raises:
        WhenceError: they are not.
    """
    for key, expected in (("run", run.fingerprint()), ("quantity_fingerprint", quantity.fingerprint(run.task))):
        if scores.info.get(key) != expected:
            raise WhenceError("kernel scores of another run or quantity", where="kernel", got=f"{key} {scores.info.get(key)}",
                              expected=expected)  # fmt: skip
    if scores.null is not None:
        raise WhenceError("scores of masks in place of kernel scores", where="kernel", got=scores.info.get("method"),
                          expected="kronecker or kernel")  # fmt: skip
    if not np.isin(targets.ids, scores.targets).all():
        raise WhenceError("kernel scores of other targets", where="kernel", got=repr(scores),
                          expected=f"all {len(targets):,} targets among their columns")  # fmt: skip
    return scores


def _summed_means(scores: Scores, groups: np.ndarray) -> np.ndarray:
    """float64 [G]: even means of scores over targets, summed over the members of each of the groups (ids)."""
    means = scores.mean_over_targets(even=True)
    owners = scores.ids if scores.info["level"] == "group" else scores.rows.groups
    assert owners is not None
    return np.bincount(_positions(groups, owners), means, len(groups))


def printable(name: str) -> str:
    """A name in one line, without characters that a terminal obeys."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(name.split()))


def _count(number: int) -> str:
    return f"{number:,}" if number else "none"


def _s(verb: str, subjects: int) -> str:
    return f"{verb}s" if subjects == 1 else verb


def _positions(among: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """int64 [len(wanted)]: where each wanted id stands among distinct ids."""
    order = np.argsort(among)
    found: np.ndarray = order[np.searchsorted(among, wanted, sorter=order)]
    return found
