"""Fewer columns for what layers read and move: principal components, taken from a sample of instances."""

from __future__ import annotations

import torch

__all__ = ["leading", "principal", "project", "width_after"]

_NARROW = 160  # columns below which nothing is gained
_MOST = 384
_HELD = 0.985  # share of the mean square that components must hold, of rows they were not taken from
_STEP = 32


def leading(rows: torch.Tensor, most: int) -> torch.Tensor | None:
    """Orthonormal columns that hold what rows hold, or None to leave them as they are.

    Few components are taken where they lose next to nothing, as on pictures; on sparse texts no few of them do. Where there
    are more than ``most`` columns, as many components are taken, whatever they lose.

    Args:
        rows: float32 [n, d], a sample.
        most: columns that may be kept.

    Returns:
        float32 [d, k] on the CPU, the component that holds most first, or None.
    """
    rows = rows.detach().cpu().float()
    found = _nearly_all(rows)
    if found is not None and found.shape[1] <= most:
        return found
    return principal(rows, most)


def project(rows: torch.Tensor, basis: torch.Tensor | None) -> torch.Tensor:
    """Rows [..., d] in the components' coordinates [..., k]."""
    return rows if basis is None else rows @ basis.to(rows)


def width_after(width: int, basis: torch.Tensor | None) -> int:
    """How many columns ``project`` leaves."""
    return width if basis is None else basis.shape[1]


def _nearly_all(rows: torch.Tensor) -> torch.Tensor | None:
    """The fewest leading components, in steps of 32, that hold 98.5 % of the mean square of other rows.

    A randomized range finder (Halko, Martinsson, Tropp 2011), and the spectrum within it.
    """
    count, width = rows.shape
    size = min(_MOST, 2 * width // 3, count // 3)
    if width < _NARROW or size < _STEP:
        return None
    generator = torch.Generator().manual_seed(0)  # not in strides, which could meet the same position of every picture
    order = torch.randperm(count, generator=generator)[: 4 * _MOST]
    others, taken = rows[order[: len(order) // 4]], rows[order[len(order) // 4 :]]
    square = float(others.square().sum())
    if not square > 0:
        return None
    start = torch.randn(width, size, generator=generator)
    start = torch.linalg.qr(taken.T @ (taken @ start))[0]
    held = torch.linalg.eigh((inside := taken @ start).T @ inside)[1].flip(1)  # the largest first
    basis = start @ held
    shares = (others @ basis).square().sum(0).cumsum(0) / square
    enough = int((shares < _HELD).sum()) + 1
    return None if enough > size else basis[:, : min(size, -(-enough // _STEP) * _STEP)]


def principal(rows: torch.Tensor, most: int) -> torch.Tensor | None:
    """The leading right singular vectors of [n, d] as columns [d, most], the largest first; None where d is not above ``most``."""
    if rows.shape[1] <= most:
        return None
    rows = rows.detach().cpu()
    generator = torch.Generator().manual_seed(0)
    rows = rows[torch.randperm(len(rows), generator=generator)[: 4 * most]].double()
    if len(rows) < rows.shape[1]:
        values, vectors = torch.linalg.eigh(rows @ rows.T)  # in ascending order
        found = vectors[:, values > 1e-6 * values[-1]][:, -most:].flip(1)
        return torch.linalg.qr(rows.T @ found)[0].float()
    return torch.linalg.eigh(rows.T @ rows)[1][:, -most:].flip(1).float()
