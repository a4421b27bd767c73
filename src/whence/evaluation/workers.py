"""Many trainings, in one process or several: each alone, in one thread, with the same bits wherever it is done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from whence.arguments import is_integer
from whence.errors import WhenceError

__all__ = ["alone", "check_jobs", "in_processes"]

T = TypeVar("T")

# The masks of a forward pass belong to the process: where a backend has several threads in one, they take turns.
_ALONE = threading.Lock()


def in_processes(work: Callable[..., T], calls: Sequence[tuple[Any, ...]], *, jobs: int, done: int = 0, what: str = "retrain",
                 progress: bool = False) -> list[T]:  # fmt: skip
    """``work(*call)`` of each call, in their order.

    Args:
        work: picklable by cloudpickle, for more than one job.
        jobs: processes; -1 for as many as there are cores. With 1, ``joblib.parallel_config`` decides.
        done: how many more were done before, for the bar.
        what: the bar's title.
        progress: show it.
    """
    jobs = min(jobs, max(1, len(calls)))  # no process without work
    with tqdm(total=done + len(calls), initial=done, desc=what, unit="model", disable=not progress, leave=False) as bar:
        made: list[T] = _Parallel(bar, jobs)(delayed(work)(*call) for call in calls)
    return made


def check_jobs(jobs: int) -> None:
    """Refuse a number of processes that there cannot be, before anything is begun."""
    if not is_integer(jobs) or jobs == 0:
        expected = "an integer of at least 1, or -1 for one per core"
        raise WhenceError("an option out of range", where="jobs", got=repr(jobs), expected=expected)


@contextmanager
def alone() -> Iterator[None]:
    """No other training in this process, and one thread: sums then have one order, so the bits are the same everywhere."""
    with _ALONE:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


class _Parallel(Parallel):  # type: ignore[misc]
    """joblib's Parallel with a bar, whatever the backend."""

    def __init__(self, bar: Any, jobs: int) -> None:
        # Of one job nothing is said, so that joblib.parallel_config may say more.
        super().__init__(**({} if jobs == 1 else {"n_jobs": jobs}))
        self.bar, self.shown = bar, 0

    def print_progress(self) -> None:
        self.bar.update(self.n_completed_tasks - self.shown)
        self.shown = self.n_completed_tasks
