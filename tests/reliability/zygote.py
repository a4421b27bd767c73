"""A process that has imported whence, and forks for each trial: a disturbance then falls into the work, not the imports.

Requests are lines of JSON on standard input, answers lines of JSON on standard output. It runs under LD_PRELOAD of ``faults.c``.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import pkgutil
import signal
import sys
import time
import traceback
from pathlib import Path

LATER = {"integrations"}  # what imports other libraries


def _import_all() -> None:
    import whence

    for found in pkgutil.walk_packages(whence.__path__, "whence."):
        if not LATER & set(found.name.split(".")) and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    import torch._dynamo  # which optimizers import when they are first made
    import torch.func
    import torch.nn.utils  # noqa: F401


def _child(faults: ctypes.CDLL, request: dict) -> None:
    from tests.reliability.commands import COMMANDS

    os.setsid()
    place, code = Path(request["place"]), 0
    for stream, name in ((1, "out"), (2, "err")):
        file = os.open(f"{request['log']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream)
    Path(f"{request['log']}.pid").write_text(str(os.getpid()))
    if limit := request.get("largest_file"):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if fault := request.get("fault"):
        faults.faults_arm(str(place).encode(), *(int(fault[name]) for name in ("action", "number", "error", "kinds")))
    try:
        COMMANDS[request["command"]].perform(place)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException as error:
        from whence import WhenceError

        if isinstance(error, WhenceError):
            print(f"whence: {error}", file=sys.stderr)
            code = 2
        else:
            traceback.print_exc()
            code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    faults = ctypes.CDLL(None)
    faults.faults_counted.restype = ctypes.c_long
    faults.faults_share()
    _import_all()
    print(json.dumps({"ready": os.getpid()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        began = time.monotonic()
        process = os.fork()
        if not process:
            _child(faults, request)
        status = None
        if (kill_after := request.get("kill_after")) is not None:
            while status is None and time.monotonic() - began < kill_after:
                done, found = os.waitpid(process, os.WNOHANG)
                status = found if done else None
                time.sleep(0.001)
            if status is None:
                try:
                    os.killpg(process, signal.SIGKILL)
                except ProcessLookupError:  # before it had a group of its own
                    os.kill(process, signal.SIGKILL)
        if status is None:
            _, status = os.waitpid(process, 0)
        answer = {
            "code": os.waitstatus_to_exitcode(status),
            "counted": faults.faults_counted(),
            "seconds": time.monotonic() - began,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
