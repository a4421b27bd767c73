"""What rankings and means need of a block of scores: the extremes of each target, and the sums of rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["ENTRIES", "extreme", "merge", "summarize"]

ENTRIES = {"row_sum", "helpful_rows", "helpful_values", "harmful_rows", "harmful_values"}


def summarize(block: np.ndarray, start: int, k: int) -> dict[str, torch.Tensor]:
    """The summary of a block float32 [R, M] whose first row is ``start``.

    Returns:
        row_sum: float64 [R]; helpful_rows, harmful_rows: int64 [k, M], k at most R; helpful_values, harmful_values: float32,
        alike.
    """
    values = torch.from_numpy(np.ascontiguousarray(block))
    helpful, harmful = extreme(values, start, k, 1), extreme(values, start, k, -1)
    return {"row_sum": values.sum(dim=1, dtype=torch.float64), "helpful_rows": helpful[0], "helpful_values": helpful[1],
            "harmful_rows": harmful[0], "harmful_values": harmful[1]}  # fmt: skip


def extreme(block: torch.Tensor, start: int, k: int, sign: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows int64 [k, M] and values float32 [k, M] of the largest (sign 1) or smallest (−1) entries of each column.

    Of equal ones the first rows are taken.
    """
    signed, k = block * sign, min(k, len(block))
    values, rows = signed.topk(k, dim=0)
    tied = ((signed >= values[-1:]).sum(dim=0) > k) | (values[1:] == values[:-1]).any(dim=0)
    if tied.any():
        best = signed[:, tied].sort(dim=0, descending=True, stable=True)
        values[:, tied], rows[:, tied] = best.values[:k], best.indices[:k]
    return rows + start, values * sign


def merge(parts: Sequence[tuple[torch.Tensor, torch.Tensor]], k: int, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows int64 [M, k] and values float32 [M, k]: the extremes of what ``extreme`` found in blocks, given in order."""
    rows, values = torch.cat([r for r, _ in parts]), torch.cat([v for _, v in parts])
    best = (values * sign).sort(dim=0, descending=True, stable=True).indices[:k]
    return rows.gather(0, best).T.contiguous().numpy(), values.gather(0, best).T.contiguous().numpy()
