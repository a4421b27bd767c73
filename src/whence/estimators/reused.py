"""Memory for block after block of scores, since new pages cost time."""

from __future__ import annotations

import sys

import torch

__all__ = ["Reused"]


class Reused:
    """Gives the same memory again when nobody looks at it any longer, and new memory while somebody does.

    Args:
        device: of the memory; on others than the CPU torch keeps it by itself.
        dtype: of what is in it.
    """

    def __init__(self, device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> None:
        self._device, self._dtype = device or torch.device("cpu"), dtype
        # As an array: tensors and arrays that share an array's memory, and what shares theirs, refer to it.
        self._memory = torch.empty(0, dtype=dtype).numpy()
        self._alone = sys.getrefcount(self._memory)

    def empty(self, rows: int, columns: int) -> torch.Tensor:
        """[rows, columns] with anything in it."""
        if self._device.type != "cpu":
            return torch.empty(rows, columns, dtype=self._dtype, device=self._device)
        if len(self._memory) < rows * columns or sys.getrefcount(self._memory) > self._alone:
            self._memory = torch.empty(rows * columns, dtype=self._dtype).numpy()
        return torch.from_numpy(self._memory)[: rows * columns].view(rows, columns)
