"""Products too small to share among cores are done side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["a_core_each"]


@contextmanager
def a_core_each(device: torch.device) -> Iterator[Callable[..., Iterable[Any]]]:
    """A ``map`` that gives each of torch's threads calls of its own; the plain one on other devices than the CPU."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield map
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)
