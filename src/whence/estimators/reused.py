"""Memory for block after block of scores: a new page costs about as much as filling it."""

from __future__ import annotations

import sys

import numpy as np
import torch

__all__ = ["Reused"]


class Reused:
    """Gives the same memory again when nobody looks at it any longer, and new memory while somebody does.

    Args:
        device: of the memory; on others than the CPU torch keeps it by itself.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._memory = device, np.empty(0, np.float32)
        self._alone = sys.getrefcount(self._memory)  # all arrays and tensors that share memory refer to the one that has it

    def empty(self, rows: int, columns: int) -> torch.Tensor:
        """float32 [rows, columns] with anything in it."""
        if self._device.type != "cpu":
            return torch.empty(rows, columns, device=self._device)
        if len(self._memory) < rows * columns or sys.getrefcount(self._memory) > self._alone:
            self._memory = np.empty(rows * columns, np.float32)
        return torch.from_numpy(self._memory)[: rows * columns].view(rows, columns)
