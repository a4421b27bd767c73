"""What two runs have in common: instances that meet by id, with the same label and the same content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whence.data import Classification, Dataset, Regression
from whence.errors import WhenceError
from whence.run import Run

__all__ = ["Pairs", "Shared", "shared_instances"]


@dataclass(frozen=True)
class Pairs:
    """Rows of two datasets that have one id.

    Attributes:
        first, second: int64 [K], positions in each, in the order of the first.
        labels: bool [K], whether their labels are the same.
        contents: bool [K], whether texts or pictures are the same; True where there are none to compare.
    """

    first: np.ndarray
    second: np.ndarray
    labels: np.ndarray
    contents: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def keep(self, which: np.ndarray) -> Pairs:
        return Pairs(self.first[which], self.second[which], self.labels[which], self.contents[which])


@dataclass(frozen=True)
class Shared:
    """Attributes:
    split: of the held-out instances: "test", else "dev".
    held_out: those with the same label and content in both.
    changed: how many held-out ids are shared but for their label or content.
    train: training instances that both have, with the same content.
    only_first, only_second: int64, training rows that the other run has not, or has with another content.
    classes: int64 [C], where each class of the first run is among those of the second; empty for a regression.
    """

    split: str
    held_out: Pairs
    changed: int
    train: Pairs
    only_first: np.ndarray
    only_second: np.ndarray
    classes: np.ndarray


def shared_instances(run: Run, other: Run) -> Shared:
    """What two runs have in common.

    Raises:
        WhenceError: they are the same run, of different tasks or classes, or share no held-out instances.
    """
    if run is other or run.fingerprint() == other.fingerprint():
        raise WhenceError("a run compared with itself", where="against", got=f"fingerprint {run.fingerprint()} twice",
                          expected="a run of another seed, model or data")  # fmt: skip
    classes = _classes(run, other)
    splits = [name for name in ("test", "dev") if name in run.splits and name in other.splits]
    if not splits:
        raise WhenceError("no held-out instances to compare on", where="against", got="no test or dev split that both runs have",
                          expected="a test or dev split in both", mend="Fit both on data with the same test split.")  # fmt: skip
    found = {name: pairs_of(run.splits[name], other.splits[name]) for name in splits}
    split = next((name for name in splits if (found[name].labels & found[name].contents).any()), None)
    if split is None:
        ids = sum(map(len, found.values()))
        got = f"{ids:,} ids in both, all of them with another label or content" if ids else "no id in both"
        raise WhenceError(f"no {splits[0]} instances in common", where="against", got=got,
                          expected="the same held-out instances, under the same ids",
                          mend="Fit both on one file, or on files with an id column (--id) and one split.")  # fmt: skip
    same = found[split].labels & found[split].contents
    train = pairs_of(run.train, other.train)
    train = train.keep(train.contents)
    return Shared(
        split=split,
        held_out=found[split].keep(same),
        changed=int((~same).sum()),
        train=train,
        only_first=np.setdiff1d(np.arange(len(run.train)), train.first),
        only_second=np.setdiff1d(np.arange(len(other.train)), train.second),
        classes=classes,
    )


def pairs_of(first: Dataset, second: Dataset) -> Pairs:
    """The rows of two datasets with the same id."""
    _, rows, others = np.intersect1d(first.ids, second.ids, assume_unique=True, return_indices=True)
    order = np.argsort(rows)
    rows, others = rows[order], others[order]
    if isinstance(first.task, Regression) and isinstance(second.task, Regression):
        ours = first.targets[rows].astype(np.float64) * first.task.scale + first.task.mean
        theirs = second.targets[others].astype(np.float64) * second.task.scale + second.task.mean
        labels = np.isclose(ours, theirs, rtol=1e-4, atol=1e-5 * first.task.scale)  # standardized in single precision
    else:
        named = [
            np.array(data.task.show(data.targets[which]), object) for data, which in ((first, rows), (second, others))
        ]
        labels = (named[0] == named[1]).astype(bool)
    contents = np.ones(len(rows), bool)
    if first.texts is not None and second.texts is not None:
        contents &= (first.texts[rows] == second.texts[others]).astype(bool)
    if first.images is not None and second.images is not None and first.images.shape[1:] == second.images.shape[1:]:
        contents &= np.array(
            [np.array_equal(first.images[a], second.images[b]) for a, b in zip(rows, others, strict=True)], bool
        )
    return Pairs(rows, others, labels, contents)


def _classes(run: Run, other: Run) -> np.ndarray:
    """Where each class of the run is among those of the other."""
    if run.task.kind != other.task.kind or not isinstance(run.task, Classification | Regression):
        raise WhenceError("runs of tasks that do not compare", where="against", got=f"{run.task.kind} and {other.task.kind}",
                          expected="two classifications of the same classes, or two regressions")  # fmt: skip
    if isinstance(run.task, Regression) or not isinstance(other.task, Classification):
        return np.zeros(0, np.int64)
    place = {name: number for number, name in enumerate(other.task.classes)}
    if set(place) != set(run.task.classes):
        alone = sorted(set(place) ^ set(run.task.classes))
        raise WhenceError("runs of different classes", where="against", got=f"only one has {', '.join(alone[:5])}",
                          expected="the same classes in both", mend="Fit both on data with the same labels.")  # fmt: skip
    return np.array([place[name] for name in run.task.classes], np.int64)
