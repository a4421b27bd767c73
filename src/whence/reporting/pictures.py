"""Pictures of a report: only those shown, as thumbnails on a few sheets of equal tiles."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["Album"]

_SMALLEST_SIDE = 28  # pixels of a thumbnail
_LOSSLESS_SIDE = 32  # up to here PNG, every pixel as it is; above, or for many in color, JPEG
_LOSSLESS_PIXELS = 1_000_000
_TILES_A_SHEET = 256
_DIM = 64  # pictures that never get brighter are stored on a scale of their own, such as 0 to 16


@dataclass
class Album:
    """Collects pictures and gives each a number; ``sheets`` packs them.

    Attributes:
        pictures: uint8 [H, W] or [H, W, C], in order of their numbers.
        largest_side: of a thumbnail, in pixels.
        most_pixels: of all thumbnails together, unless they would be too small to be seen.
    """

    pictures: list[np.ndarray] = field(default_factory=list)
    largest_side: int = 96
    most_pixels: int = 6_000_000

    def add(self, picture: np.ndarray) -> int:
        """The number of a picture."""
        self.pictures.append(picture)
        return len(self.pictures) - 1

    def sheets(self) -> dict[str, Any] | None:
        """The sheets, and how to find picture k: sheet k // tiles, then row by row of ``columns`` tiles.

        Returns:
            tiles (per sheet), columns, width and height (of a tile, pixels), sources (data URIs); None
            without pictures.
        """
        if not self.pictures:
            return None
        height = max(picture.shape[0] for picture in self.pictures)
        width = max(picture.shape[1] for picture in self.pictures)
        side = min(self.largest_side, max(_SMALLEST_SIDE, math.isqrt(self.most_pixels // len(self.pictures))))
        shrink = min(1.0, side / max(height, width))
        tile_height, tile_width = max(1, round(height * shrink)), max(1, round(width * shrink))
        gain = self._gain()
        small = max(tile_height, tile_width) <= _LOSSLESS_SIDE
        few = len(self.pictures) * tile_height * tile_width <= _LOSSLESS_PIXELS
        columns = math.isqrt(_TILES_A_SHEET)
        sources = []
        for start in range(0, len(self.pictures), _TILES_A_SHEET):
            part = self.pictures[start : start + _TILES_A_SHEET]
            sheet = np.zeros(
                (math.ceil(len(part) / columns) * tile_height, min(columns, len(part)) * tile_width, 3),
                np.uint8,
            )
            for number, picture in enumerate(part):
                thumbnail = _thumbnail(picture, gain, shrink)
                top, left = number // columns * tile_height, number % columns * tile_width
                sheet[top : top + thumbnail.shape[0], left : left + thumbnail.shape[1]] = thumbnail
            sources.append(_data_uri(sheet, lossless=small and (few or _is_gray(sheet))))
        return {
            "tiles": _TILES_A_SHEET,
            "columns": columns,
            "width": tile_width,
            "height": tile_height,
            "sources": sources,
        }

    def _gain(self) -> float:
        brightest = max(int(picture.max(initial=0)) for picture in self.pictures)
        return 255 / brightest if 0 < brightest < _DIM else 1.0


def _thumbnail(picture: np.ndarray, gain: float, shrink: float) -> np.ndarray:
    """uint8 [h, w, 3]."""
    pixels = np.asarray(picture, dtype=np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] < 3:
        pixels = pixels[..., :1].repeat(3, axis=2)
    pixels = pixels[..., :3]
    if gain != 1.0:
        pixels = np.clip(pixels * gain, 0, 255).round().astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if shrink < 1:
        size = max(1, round(image.width * shrink)), max(1, round(image.height * shrink))
        image = image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image)


def _is_gray(sheet: np.ndarray) -> bool:
    return bool((sheet == sheet[..., :1]).all())


def _data_uri(sheet: np.ndarray, *, lossless: bool) -> str:
    image, buffer = Image.fromarray(sheet[..., 0] if _is_gray(sheet) else sheet), io.BytesIO()
    if lossless:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=85)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
