"""What pictures say of each other to a network that has learned nothing.

The features of a trained network have seen the labels, wrong ones too: a regression on them from which an instance is left
out still knows that instance. Features of random convolutions have not. Ridge regression on them, each instance left out in
closed form, predicts less well than a large trained network, but of a small data set often better, and what it says of a
label owes nothing to that label. (Coates & Ng 2012 review learning on such features.)

Three 3×3 convolutions with normal random weights, each followed by normalization of its channels, ReLU and 2×2 pooling; the maps
behind each ReLU averaged over 3 × 3 regions. The ridge is 0.3 of the mean squared length of the features, in units of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from whence.data import Dataset
from whence.estimators.base import cholesky, evenly

__all__ = ["Looks", "RidgeOnLooks", "are_pictures"]

_WIDTHS, _REGIONS = (32, 64, 128), 3
_RIDGE = 0.3
_LARGEST = 64  # pixels of a side; larger pictures are averaged down
_SMALLEST, _MOST_CHANNELS = 8, 4
_BATCH, _KEPT = 256, 2**30  # pictures at a time; bytes of features that are kept instead of being made again
_MAPS_AT_ONCE = 2**20  # numbers in the largest maps; of more, to get memory takes longer than what is done in it


def are_pictures(data: Dataset) -> bool:
    """Whether the inputs are [B, channels, height, width] with few channels and enough pixels."""
    if not len(data):
        return False
    one = data.batch(np.array([0])).inputs
    return (
        isinstance(one, torch.Tensor)
        and one.ndim == 4
        and one.is_floating_point()
        and one.shape[1] <= _MOST_CHANNELS
        and min(one.shape[2:]) >= _SMALLEST
    )


class RidgeOnLooks:
    """Ridge regression on random features, with an unpenalized intercept.

    Args:
        looks: of the training pictures.
        targets: float32 [N, C], what is wanted of them.

    Attributes:
        left_out: float32 [N, C], what the regression without an instance says of it, ŷ₋ᵢ = y − (y − ŷ)/(1 − hᵢ).
    """

    def __init__(self, looks: Looks, targets: torch.Tensor) -> None:
        self.looks, self.mean = looks, targets.mean(0)
        count = len(targets)
        moment, response = torch.zeros(looks.columns, looks.columns), torch.zeros(looks.columns, targets.shape[1])
        for rows, features in looks.blocks():
            moment += features.T @ features
            response += features.T @ (targets[rows] - self.mean)
        moment.diagonal().add_(_RIDGE * float(moment.diagonal().sum()) / count)
        inverse = torch.cholesky_inverse(cholesky(moment.double())).float()
        self.weights = inverse @ response
        self.left_out = torch.empty_like(targets)
        for rows, features in looks.blocks():
            leverage = (((features @ inverse) * features).sum(1) + 1 / count).clamp_max(1 - 1e-6)
            error = targets[rows] - self.mean - features @ self.weights
            self.left_out[rows] = targets[rows] - error / (1 - leverage)[:, None]

    def predict(self, data: Dataset) -> torch.Tensor:
        """What it says of pictures that it was not fitted to: float32 [M, C]."""
        return torch.cat([features @ self.weights + self.mean for _, features in self.looks.blocks(data)])


class Looks:
    """Random features of pictures, standardized as those of the training pictures call for.

    Args:
        data: training pictures (``are_pictures``).

    Attributes:
        columns: D.
    """

    def __init__(self, data: Dataset) -> None:
        self.data = data
        generator = torch.Generator().manual_seed(0)
        some = evenly(len(data), _BATCH)
        maps = _pictures(data, some)
        self.pixels = _scales(maps)
        self.layers: list[tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]] = []
        for width in _WIDTHS:
            channels = maps.shape[1] if not self.layers else self.layers[-1][0].shape[0]
            filters = torch.randn(width, channels, 3, 3, generator=generator) * (2 / (9 * channels)) ** 0.5
            self.layers.append((filters, (torch.zeros(1), torch.ones(1))))
            self.layers[-1] = filters, _scales(self._maps(maps)[-1])
        self.columns = _REGIONS**2 * sum(_WIDTHS)
        self.kept = torch.empty(len(data), self.columns) if 4 * len(data) * self.columns <= _KEPT else None
        total, squares = torch.zeros(self.columns, dtype=torch.float64), torch.zeros(self.columns, dtype=torch.float64)
        for rows in _rows(data):
            features = self._features(data, rows)
            total += features.sum(0).double()
            squares += features.double().square().sum(0)
            if self.kept is not None:
                self.kept[rows] = features
        mean = total / len(data)
        deviation = (squares / len(data) - mean**2).clamp_min(0).sqrt()
        sizes = torch.tensor([width**0.5 * _REGIONS for width in _WIDTHS]).repeat_interleave(
            torch.tensor(_WIDTHS) * _REGIONS**2
        )
        self.mean = mean.float()
        self.scale = torch.where(deviation > 1e-6, 1 / deviation, torch.zeros_like(deviation)).float() / sizes

    def blocks(self, data: Dataset | None = None) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Rows of the training pictures, or of others, and their features [B, D]: mean 0, and each layer of the same weight."""
        kept, data = (self.kept, self.data) if data is None else (None, data)
        for rows in _rows(data):
            features = self._features(data, rows) if kept is None else kept[rows]
            yield rows, (features - self.mean) * self.scale

    @torch.no_grad()
    def _maps(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        """Behind each convolution: normalized, before its ReLU."""
        maps = (pictures - self.pixels[0]) / self.pixels[1]
        found: list[torch.Tensor] = []
        for filters, (mean, deviation) in self.layers:
            if found:
                maps = F.relu(found[-1])
                maps = _pooled(maps) if min(maps.shape[2:]) >= 4 else maps
            found.append((F.conv2d(maps, filters, padding=1) - mean) / deviation)
        return found

    def _features(self, data: Dataset, rows: np.ndarray) -> torch.Tensor:
        pictures = _pictures(data, rows)
        at_once = max(1, _MAPS_AT_ONCE // (_WIDTHS[0] * pictures[0, 0].numel()))
        return torch.cat([_averages(self._maps(some)) for some in torch.split(pictures, at_once)])


def _rows(data: Dataset) -> Iterator[np.ndarray]:
    for start in range(0, len(data), _BATCH):
        yield np.arange(start, min(start + _BATCH, len(data)))


def _pictures(data: Dataset, rows: np.ndarray) -> torch.Tensor:
    pictures = data.batch(rows).inputs
    assert isinstance(pictures, torch.Tensor)
    height, width = (min(side, _LARGEST) for side in pictures.shape[2:])
    return F.adaptive_avg_pool2d(pictures.float(), (height, width))


def _pooled(maps: torch.Tensor) -> torch.Tensor:
    """The largest of every 2 × 2; as ``max_pool2d``, which notes also where they are, and takes longer for it on a CPU."""
    height, width = (side // 2 * 2 for side in maps.shape[2:])
    rows = torch.maximum(maps[:, :, 0:height:2], maps[:, :, 1:height:2])
    return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])


def _averages(maps: list[torch.Tensor]) -> torch.Tensor:
    """Of what ReLUs leave of maps, in each region: [B, D]."""
    return torch.cat([F.adaptive_avg_pool2d(F.relu(one), _REGIONS).flatten(1) for one in maps], dim=1)


def _scales(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each channel: [1, channels, 1, 1]."""
    return maps.mean((0, 2, 3), keepdim=True), maps.std((0, 2, 3), keepdim=True).clamp_min(1e-6)
