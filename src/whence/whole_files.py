"""Files and directories that are whole or absent: they are written aside, then renamed; and what killed processes left aside goes.

A place ``NAME`` is prepared in ``.NAME.HOST.PID.TOKEN.tmp`` beside it. Of those that are left over, the ones whose process has
ended on this machine are removed when the same place is written again; ones of other machines after a day.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from whence.errors import UnwritableError

__all__ = ["aside_of", "clear_left", "is_alive", "remove_whole", "replaceable", "this_host", "write_aside", "writing"]

_UMASK = os.umask(0)
os.umask(_UMASK)
_FORGOTTEN = 86_400  # seconds after which what nothing is known of is nobody's
_LONGEST = 100  # letters of a name that are kept in that of its aside: names are limited to 255
_MINE: set[str] = set()  # asides of this process that are in use
_AGAIN = "Give the same command again: what is finished is kept."
_REASONS = {
    errno.ENOSPC: ("no space left on the disk", f"Free some. {_AGAIN}"),
    errno.EDQUOT: ("the quota of the disk is used up", f"Free some. {_AGAIN}"),
    errno.EFBIG: ("a file larger than this process may write", f"Raise the limit (ulimit -f). {_AGAIN}"),
    errno.EIO: ("the disk does not take what is written", f"Look after the disk. {_AGAIN}"),
    errno.EROFS: ("a disk that can only be read", "Name a place that can be written to."),
    errno.EACCES: ("no permission to write", "Name a place that can be written to, or change its permissions."),
    errno.EPERM: ("no permission to write", "Name a place that can be written to, or change its permissions."),
    errno.ENOENT: ("a directory that is gone", f"It was removed or moved while it was written to. {_AGAIN}"),
    errno.EEXIST: ("a file where a directory should be", "Name another place, or move the file."),
    errno.EISDIR: ("a directory where a file should be", "Name another place, or move the directory."),
    errno.ENOTDIR: ("a file where a directory should be", "Name another place, or move the file."),
    errno.ENAMETOOLONG: ("a name that is too long", "Give a shorter one."),
}
_OF_ANY_FILE = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR}  # what reading another file can say too


@contextmanager
def write_aside(path: Path, *, parents: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path``; when the block ends without an error it becomes ``path``, else it is removed.

    Args:
        parents: make the directories above that are missing; False where one that is gone was removed by somebody.

    Raises:
        WhenceError: the disk is full, or cannot be written to; something else than a file is in the place.
    """
    replaceable(path)
    with writing(path):
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        clear_left(path.parent, path.name)
        # A directory of its own, since a writer may have temporary files too: safetensors does.
        with _aside(path) as folder:
            folder.mkdir()
            inner = folder / path.name
            yield inner
            with open(inner, "rb+") as file:
                os.fsync(file.fileno())
            inner.chmod(0o666 & ~_UMASK)  # some writers make files that only their owner can read
            os.replace(inner, path)


def replaceable(path: Path) -> None:
    """Refuse a place where something else than a file is: a pipe or a device, such as /dev/null, would be replaced for all.

    Raises:
        WhenceError: so it is.
    """
    if path.exists() and not path.is_file():
        raise UnwritableError("a file that cannot be written", where=str(path), got="something else than a file in its place",
                          expected="a new name, or a file to replace")  # fmt: skip


@contextmanager
def aside_of(path: Path) -> Iterator[Path]:
    """A new directory beside ``path``, to be filled and renamed; what is left of it when the block ends is removed."""
    with writing(path), _aside(path) as folder:
        folder.mkdir()
        yield folder


def remove_whole(path: Path) -> None:
    """Delete a directory that must not be seen half deleted. One that is not there is deleted already."""
    with writing(path), _aside(path) as away, suppress(FileNotFoundError):
        os.rename(path, away)


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A name beside ``path`` that nobody else has; what bears it when the block ends is removed."""
    aside = path.with_name(f".{path.name[:_LONGEST]}.{this_host()}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    _MINE.add(aside.name)
    try:
        yield aside
    finally:
        _remove(aside)
        _MINE.discard(aside.name)


def clear_left(folder: Path, name: str | None = None) -> None:
    """Remove from a directory what killed processes were about to put in a place of that name, or in any place."""
    start = "." if name is None else f".{name[:_LONGEST]}."
    with suppress(FileNotFoundError):
        with os.scandir(folder) as found:
            left = [Path(entry.path) for entry in found if entry.name.startswith(start) and entry.name.endswith(".tmp")]
        for aside in left:
            if _is_left(aside):
                _remove(aside)


def _remove(aside: Path) -> None:
    """As far as it can be: what stays is found again."""
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def _is_left(aside: Path) -> bool:
    """Whether nobody will rename it."""
    if (found := re.fullmatch(r".*\.([^.]+)\.(\d+)\.[^.]+\.tmp", aside.name)) and found[1] == this_host():
        process = int(found[2])
        return aside.name not in _MINE if process == os.getpid() else not is_alive(process)
    try:
        return time.time() - aside.stat().st_mtime > _FORGOTTEN
    except FileNotFoundError:  # it is in its place by now
        return False


def this_host() -> str:
    """The name of this machine, as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", platform.node())[:40] or "host"


def is_alive(process: int) -> bool:
    """Whether a process of this machine may still run; where that cannot be told, it does."""
    if sys.platform == "win32":  # where os.kill ends the process, whatever the signal
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What a disk has against writing in a place, said as what it is, where, and how to go on.

    Raises:
        WhenceError: an operation failed for such a reason; errors of other kinds are passed on.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        told = _number(error)
        elsewhere = isinstance(error, OSError) and error.filename is not None and not _concerns(error.filename, path)
        if told not in _REASONS or (told in _OF_ANY_FILE and elsewhere):
            raise
        what, mend = _REASONS[told]
        raise UnwritableError(
            what, where=str(path), got=_free(path) if told == errno.ENOSPC else None, mend=mend
        ) from error


def _number(error: Exception) -> int | None:
    """The system's number of an error; safetensors has it in words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else None


def _concerns(name: object, path: Path) -> bool:
    """Whether a file is in the directory of ``path``, or above it."""
    if not isinstance(name, str | bytes | os.PathLike):
        return True
    file, folder = os.path.abspath(os.fsdecode(name)), os.path.abspath(path.parent)
    return file.startswith(folder) or folder.startswith(file)


def _free(path: Path) -> str | None:
    for folder in path.absolute().parents:
        with suppress(OSError):
            return f"{shutil.disk_usage(folder).free:,} bytes free"
    return None
