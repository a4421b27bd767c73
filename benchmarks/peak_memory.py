"""How much memory a process took."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["peak_bytes"]


def peak_bytes() -> int:
    """The largest resident memory of this process so far, in bytes (not on Windows).

    Where the system says it of the program that runs now: what ``getrusage`` tells begins with the memory of the process that
    started this one.
    """
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
