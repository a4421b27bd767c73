"""Pictures as a training step sees them: mirrored, moved, or as they are. Ids stay with their pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["AUGMENTATIONS", "augmented"]

AUGMENTATIONS = ("none", "flip", "crop", "crop+flip")


def augmented(pictures: torch.Tensor, how: str) -> torch.Tensor:
    """Pictures changed at random, each on its own, by torch's generator.

    Args:
        pictures: [B, C, H, W].
        how: "flip" mirrors half of them, left to right; "crop" moves each by up to an eighth of its height and width, with
            zeros where nothing was (He et al. 2016); "crop+flip" does both; "none" nothing.

    Returns:
        Of the same shape; row i is still picture i.
    """
    if "crop" in how:
        pictures = _moved(pictures)
    if "flip" in how:
        mirrored = torch.rand(len(pictures), device=pictures.device) < 0.5
        pictures = torch.where(mirrored[:, None, None, None], pictures.flip(-1), pictures)
    return pictures


def _moved(pictures: torch.Tensor) -> torch.Tensor:
    count, _, height, width = pictures.shape
    most = (height // 8, width // 8)
    padded = F.pad(pictures, (most[1], most[1], most[0], most[0]))
    rows = torch.randint(0, 2 * most[0] + 1, (count, 1)) + torch.arange(height)  # (B, H)
    columns = torch.randint(0, 2 * most[1] + 1, (count, 1)) + torch.arange(width)  # (B, W)
    each = torch.arange(count)[:, None, None]
    return padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
