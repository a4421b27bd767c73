"""Who writes where: a lock is a file that the system locks for a process, so it ends with the process, however that ends.

Whoever makes a place holds its lock alone. Who makes something from it, or divides the making with others, shares it. Whoever
only reads needs none. A second process waits, and is told for whom. Within one process locks nest.

On Windows, which has no shared locks of this kind, those who share hold one byte each out of a range; whoever is alone holds
them all. Where a file system has no locks (some of clusters), there are none, and a warning says so.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from whence.errors import WhenceError
from whence.whole_files import is_alive, this_host, writing

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["has_left", "locked", "writer"]

_LOG = logging.getLogger("whence")
_FIRST_WAIT, _LONGEST_WAIT = 0.02, 1.0  # seconds between two looks
_SILENT = 0.5  # seconds of waiting of which nothing is said
_RANGE, _SHARERS = 2**30, 64  # the bytes that Windows locks, which are beyond what the file says
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


@dataclass
class _Held:
    file: int
    shared: bool
    times: int = 1


_HELD: dict[str, _Held] = {}  # by path, of this process
_ONE = threading.RLock()


@contextmanager
def locked(path: Path, place: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock while the block lasts. Whoever else holds it is waited for, which is logged.

    Args:
        path: the lock's file, which is made, and removed by the last who holds it.
        place: what it stands for, as messages call it.
        shared: with others who share it; else alone.

    Raises:
        WhenceError: the file cannot be written; this process shares the lock already, and now wants to be alone.
    """
    key = os.path.abspath(path)
    with _ONE:
        if (held := _HELD.get(key)) is not None:
            if held.shared and not shared:
                raise WhenceError("a directory that this process is using", where=str(place),
                                  mend="Finish what is made from it before it is replaced.")  # fmt: skip
            held.times += 1
        else:
            held = _HELD[key] = _Held(_acquired(path, place, shared), shared)
    try:
        yield
    finally:
        with _ONE:
            held.times -= 1
            if not held.times and _HELD.get(key) is held:  # a forked process holds nothing
                del _HELD[key]
                _release(held, path)


def has_left(folder: Path, lock: Path) -> bool:
    """Whether killed processes left a lock or temporary files in a directory; False while somebody is alone with it."""
    with suppress(FileNotFoundError), os.scandir(folder) as found:
        temporary = any(entry.name.startswith(".") and entry.name.endswith(".tmp") for entry in found)
        return (temporary or lock.exists()) and writer(lock) is None
    return False


def writer(path: Path) -> str | None:
    """Who holds a lock alone, in words; None where nobody does."""
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        return None if _tried(file, True) else _holder(file)
    finally:
        os.close(file)


def _acquired(path: Path, place: Path, shared: bool) -> int:
    began, wait, told = time.monotonic(), _FIRST_WAIT, False
    while True:
        with writing(path):
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _tried(file, shared):
                if not _lies_at(file, path):  # who held it before has removed it
                    os.close(file)
                    continue
                _sign(file)
                return file
            if not told and time.monotonic() - began > _SILENT:
                _LOG.warning("%s is in use by %s; waiting for it", place, _holder(file))
                told = True
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        time.sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT)


def _release(held: _Held, path: Path) -> None:
    # Only who is alone may remove the file: another would hold a lock that nobody can find.
    if (not held.shared or _tried(held.file, False)) and _lies_at(held.file, path):
        with suppress(OSError):  # Windows removes no open file: it stays, and is used again
            os.unlink(path)
    os.close(held.file)


def _lies_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _sign(file: int) -> None:
    """Say in the file who holds it, for those who wait; where the disk is full, they are not told."""
    record = {"process": os.getpid(), "host": this_host(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with suppress(OSError):
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)
        os.write(file, json.dumps(record).encode())


def _holder(file: int) -> str:
    """Who signed last, in words. Of several who share, the one who came last."""
    os.lseek(file, 0, os.SEEK_SET)
    try:
        record = json.loads(os.read(file, 4096))
        process, host, since = int(record["process"]), str(record["host"]), str(record["since"])
    except (ValueError, KeyError, TypeError, OSError):
        return "another process"
    if host == this_host() and not is_alive(process):
        return "another process"
    return f"process {process} on {host} since {since}"


def _tried(file: int, shared: bool) -> bool:
    """Whether the lock could be had at once."""
    if sys.platform == "win32":
        return _tried_bytes(file, shared, msvcrt.locking, msvcrt.LK_NBLCK)
    else:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                return False
            _LOG.warning("the file system has no locks: let no two commands write in one directory")
        return True


def _tried_bytes(file: int, shared: bool, locking: Callable[[int, int, int], None], at_once: int) -> bool:
    """The same by locks of bytes, which are never shared: one of a range, or all of them."""
    for first in range(_SHARERS) if shared else (0,):
        os.lseek(file, _RANGE + first, os.SEEK_SET)
        with suppress(OSError):
            locking(file, at_once, 1 if shared else _SHARERS)
            return True
    return False


def _forget() -> None:
    """In a forked process, which must not hold on to what its parent holds."""
    global _ONE
    for held in _HELD.values():
        with suppress(OSError):
            os.close(held.file)
    _HELD.clear()
    _ONE = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
