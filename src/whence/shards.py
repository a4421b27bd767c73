"""Which part of the work is this process's, where several divide it: (rank, world), as launchers tell it.

No process talks to another. Each makes its blocks of scores in the common directory, so one that is lost costs its own blocks
only, and whoever comes later makes them.
"""

from __future__ import annotations

import os
import re

from whence.errors import WhenceError

__all__ = ["local_rank", "shard_named", "shard_of_environment"]

_LAUNCHERS = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
)
"""torchrun and accelerate, Slurm's srun, Open MPI's mpirun."""


def shard_of_environment() -> tuple[int, int]:
    """What torchrun, accelerate, srun or mpirun say.

    Raises:
        WhenceError: none of them started this process.
    """
    for names in _LAUNCHERS:
        rank, world = (os.environ.get(name, "") for name in names)
        if rank.isdecimal() and world.isdecimal():
            return _checked(int(rank), int(world), f"{names[0]} and {names[1]}")
    raise WhenceError("no launcher started this process", where="shard auto",
                      expected=", or ".join(" and ".join(names) for names in _LAUNCHERS) + " in the environment",
                      mend="Start it with torchrun or srun, or say which part to do: RANK/WORLD, such as 0/4.")  # fmt: skip


def shard_named(text: str) -> tuple[int, int]:
    """ "auto", or RANK/WORLD, such as 0/4 to 3/4.

    Raises:
        WhenceError: neither.
    """
    if text == "auto":
        return shard_of_environment()
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if found is None:
        raise WhenceError("not a shard", got=repr(text), expected="RANK/WORLD, such as 0/4, or auto")
    return _checked(int(found[1]), int(found[2]), "shard")


def local_rank() -> int | None:
    """Which of a machine's processes this is, if a launcher says so: it takes the GPU of that number."""
    found = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", ""))
    return int(found) if found.isdecimal() else None


def _checked(rank: int, world: int, where: str) -> tuple[int, int]:
    if rank >= world:
        raise WhenceError(
            "no such shard", where=where, got=f"{rank}/{world}", expected="a rank below the number of processes"
        )
    return rank, world
