"""Pictures from files and from bytes: decoded within limits, brought to one size, in color or gray.

Pillow decodes PNG, JPEG, WebP, BMP and GIF (its first frame); nothing else is tried. A header is looked at before anything
is decoded, so that a picture which claims to be huge costs nothing.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Condition
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from whence.data.arrays import MAX_BYTES
from whence.data.splits import split_name
from whence.errors import WhenceError
from whence.guarded import regular

__all__ = ["ENDINGS", "Folder", "Pictures", "read_folder", "read_pictures", "unpack_sheet"]

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
_MOST_PIXELS = 2**26  # of one picture, as it is stored
# Pixels that a picture, and all of them, may have for a byte of their files, beyond so many that are free: photographs have 5 and
# drawings 100; a blank page at 400 dots an inch is free, and so are 64 of them.
_DENSEST, _FREE_PIXELS, _FREE_TOTAL = 200, 2**24, 2**30
_AT_ONCE, _MOST_THREADS = (
    2**26,
    16,
)  # pixels, of one picture or several, that are decoded at the same time; some 10 bytes each
_LARGEST_SIDE, _DEFAULT_SIDE = (
    256,
    64,
)  # pictures of one size up to here are left as they are; others are brought to this
_GRAY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_SPLITS = ("train", "dev", "test")
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # of EXIF: those that swap height and width
# What Pillow meets damage with.
_DAMAGE = (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError, EOFError, TypeError,
           IndexError, KeyError, AttributeError, OverflowError, MemoryError)  # fmt: skip

Stored: TypeAlias = "bytes | Path"


@dataclass(frozen=True)
class Pictures:
    """N pictures of one size.

    Attributes:
        array: uint8 [N, H, W] if all are gray, else [N, H, W, 3].
        notes: what was done to them, a sentence each.
    """

    array: np.ndarray
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Folder:
    """The pictures of a directory, in order of their names.

    Attributes:
        pictures: all of them.
        names: their paths below the directory, with forward slashes: str [N].
        labels: the folder of each, which is its class: str [N].
        splits: the folder above, where these are train, dev or test (or another name of one of them): str [N]; else None.
    """

    pictures: Pictures
    names: np.ndarray
    labels: np.ndarray
    splits: np.ndarray | None


def read_pictures(
    stored: Sequence[Stored], place: Callable[[int], str], *, side: int | None = None, like: np.ndarray | None = None
) -> Pictures:
    """Decode pictures.

    Args:
        stored: the content of each, or the path of its file.
        place: where a person finds a picture (its position from 0).
        side: of the square that pictures are brought to, pixels: scaled by the shorter side, and cut at the center. None: as
            they are, if they have one size of at most 256 × 256, and else 64 × 64.
        like: pictures whose size and colors these are to have.

    Raises:
        WhenceError: one is missing, damaged, of another format, too large or far larger than its file; all together are larger than
            ``MAX_BYTES``, or than their files let expect.
    """
    headers = [_header(one, partial(place, row)) for row, one in enumerate(stored)]
    _refuse_bombs(stored, headers, place)
    sizes = {header.size for header in headers}
    notes: tuple[str, ...] = ()
    width, height = next(iter(sizes))
    if like is not None:
        height, width = like.shape[1:3]
    elif side is not None or len(sizes) > 1 or max(width, height) > _LARGEST_SIDE:
        width = height = _DEFAULT_SIDE if side is None else side
        if side is None:
            what = f"pictures are of {len(sizes):,} sizes" if len(sizes) > 1 else "pictures are large"
            notes = (f"{what}, and are brought to {width} × {height} pixels (--image-size sets another size)",)
    gray = all(header.gray for header in headers) if like is None else like.ndim == 3
    shape = (len(headers), height, width) if gray else (len(headers), height, width, 3)
    if (total := int(np.prod(shape, dtype=np.float64))) > MAX_BYTES:
        raise WhenceError("more pictures than fit in memory", where=place(0).partition(",")[0], got=f"{total >> 30:,} GiB",
                          expected=f"at most {MAX_BYTES >> 30} GiB", mend="Ask for smaller ones with --image-size.")  # fmt: skip
    array = np.empty(shape, np.uint8)

    room = _Room(_AT_ONCE)

    def fill(row: int) -> None:
        with room.of(headers[row].pixels):
            array[row] = _decoded(stored[row], (width, height), gray, partial(place, row))

    # Pillow decodes without the interpreter's lock.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as pool:
        for _ in pool.map(fill, range(len(headers)), chunksize=16):
            pass
    return Pictures(array, notes)


def read_folder(path: Path, *, side: int | None = None) -> Folder:
    """The pictures of a directory with one folder per class, or one per split with one per class in each.

    Hidden files and folders and files of other endings are left out; links to directories are not followed.

    Raises:
        WhenceError: there are no such folders or no pictures in them; as ``read_pictures``.
    """
    tops = _folders(path)
    if not tops:
        raise WhenceError("a directory without a dataset", where=path, expected="a folder of pictures for each class, or "
                          "train, dev and test with such folders in each", mend=_mend(path))  # fmt: skip
    found: list[tuple[str, str, Path]] = []  # split, class, file
    divided = all(split_name(top) in _SPLITS and _folders(path / top) for top in tops)
    for top in tops:
        for label in _folders(path / top) if divided else [top]:
            folder = path / top / label if divided else path / top
            found += [(top, label, file) for file in _files(folder)]
    if not found:
        raise WhenceError("a directory without pictures", where=path, got=f"folders {', '.join(tops[:5])}",
                          expected=f"files ending in {', '.join(ENDINGS)}")  # fmt: skip
    names = [file.relative_to(path).as_posix() for _, _, file in found]
    files: list[Stored] = [file for _, _, file in found]
    pictures = read_pictures(files, lambda row: f"{path}, {names[row]}", side=side)
    splits, labels = (np.array([one[part] for one in found], dtype=object) for part in (0, 1))
    return Folder(pictures, np.array(names, dtype=object), labels, splits if divided else None)


def unpack_sheet(path: str | os.PathLike[str], height: int, width: int) -> np.ndarray:
    """The tiles of a contact sheet, one large picture in which small ones of equal size stand row by row.

    Args:
        path: of a PNG or lossless WebP, so that every pixel is what it was.
        height, width: of a tile, pixels.

    Returns:
        uint8 [N, height, width], or [N, height, width, 3] for a sheet in color. With ids and labels that is a dataset:
        ``whence.Dataset.of((ids, pictures, labels))``.

    Raises:
        WhenceError: the sheet cannot be read, or holds no whole number of tiles.
    """
    file = Path(path)
    header = _header(file, lambda: str(file), most=2**27)
    sheet = _decoded(file, header.size, header.gray, lambda: str(file))
    rows, columns = sheet.shape[0] / height, sheet.shape[1] / width
    if rows != int(rows) or columns != int(columns):
        raise WhenceError("a sheet that holds no whole number of tiles", where=file,
                          got=f"{sheet.shape[0]} × {sheet.shape[1]} pixels",
                          expected=f"multiples of {height} × {width}")  # fmt: skip
    tiles = sheet.reshape(int(rows), height, int(columns), width, *sheet.shape[2:]).swapaxes(1, 2)
    return tiles.reshape(-1, height, width, *sheet.shape[2:])


@dataclass(frozen=True)
class _Header:
    size: tuple[int, int]  # width and height, once turned upright
    gray: bool
    weight: int  # bytes of the file

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]


class _Room:
    """Lets threads in with so many pixels together, or one of them with more."""

    def __init__(self, most: int) -> None:
        self._most, self._taken, self._changed = most, 0, Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + pixels <= self._most)
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()


def _refuse_bombs(stored: Sequence[Stored], headers: Sequence[_Header], place: Callable[[int], str]) -> None:
    """Raise where all pictures have more pixels than their files let expect; one that stands in many rows is one file."""
    if (pixels := sum(header.pixels for header in headers)) <= _FREE_TOTAL:
        return
    weight = sum({one: header.weight for one, header in zip(stored, headers, strict=True)}.values())
    if pixels > _DENSEST * weight:
        raise WhenceError("pictures that are far larger than their files", where=place(0).partition(",")[0],
                          got=f"{pixels:,} pixels in {weight:,} bytes",
                          expected=f"at most {max(_FREE_TOTAL, _DENSEST * weight):,} pixels",
                          mend="Scale them down first.")  # fmt: skip


def _header(stored: Stored, where: Callable[[], str], most: int = _MOST_PIXELS) -> _Header:
    """What a picture says of itself, which is not decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # _MOST_PIXELS is a stricter limit
            with Image.open(_file(stored), formats=_FORMATS) as image:
                width, height = image.size
                if width * height > most:
                    raise WhenceError("a picture that is too large", where=where(), got=f"{width:,} × {height:,} pixels",
                                      expected=f"at most {most:,} pixels", mend="Scale it down first.")  # fmt: skip
                weight = len(stored) if isinstance(stored, bytes) else stored.stat().st_size
                if width * height > max(_FREE_PIXELS, _DENSEST * weight):
                    raise WhenceError("a picture that is far larger than its file", where=where(),
                                      got=f"{width:,} × {height:,} pixels in {weight:,} bytes",
                                      expected=f"at most {max(_FREE_PIXELS, _DENSEST * weight):,} pixels",
                                      mend="Scale it down first.")  # fmt: skip
                turned = _exif(image).get(_ORIENTATION) in _TURNED
                gray = image.mode in _GRAY
    except WhenceError:
        raise
    except _DAMAGE as error:
        raise _unreadable(stored, error, where()) from error
    return _Header((height, width) if turned else (width, height), gray, weight)


def _exif(image: Image.Image) -> Image.Exif:
    if image.format != "PNG":
        return image.getexif()
    found = Image.Exif()  # getexif() of a PNG decodes it
    found.load(image.info.get("exif", b""))
    return found


def _decoded(stored: Stored, size: tuple[int, int], gray: bool, where: Callable[[], str]) -> np.ndarray:
    """uint8 [height, width] or [height, width, 3]."""
    try:
        with Image.open(_file(stored), formats=_FORMATS) as image:
            image.draft(None, size)  # a JPEG much larger than that is decoded at a fraction of its size
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith(("I", "F")):  # 16 bits a pixel
                upright = Image.fromarray((np.asarray(upright).astype(np.float64) / 256).clip(0, 255).astype(np.uint8))
            upright = upright.convert("L" if gray else "RGB")
            if upright.size != size:
                upright = ImageOps.fit(upright, size, Image.Resampling.LANCZOS)
            return np.asarray(upright)
    except _DAMAGE as error:
        raise _unreadable(stored, error, where()) from error


def _file(stored: Stored) -> Path | io.BytesIO:
    if isinstance(stored, bytes):
        return io.BytesIO(stored)
    regular(stored)
    return stored


def _unreadable(stored: Stored, error: BaseException, where: str) -> WhenceError:
    if isinstance(error, FileNotFoundError):
        return WhenceError(
            "no such picture", where=where, got=str(stored), mend="Paths are taken from where the table lies."
        )
    reason = "no picture" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
    return WhenceError("a picture that cannot be read", where=where, got=reason, expected=", ".join(_FORMATS),
                       mend="Replace it, or leave it out.")  # fmt: skip


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _files(folder: Path) -> Iterator[Path]:
    """Pictures in a folder and the folders within, in order of their names."""
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                yield Path(where) / name


def _mend(path: Path) -> str:
    return "This is a run: open it with whence audit, influence or report." if (path / "run.json").exists() else ""
