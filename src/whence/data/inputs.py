"""What a model is fed: anything that turns row numbers into tensors.

``Inputs`` is the seam between storage and training. An implementation holds N rows in whatever form is
compact (uint8 pictures, sparse n-gram counts, files on disk) and gathers any rows of them as tensors whose
first axis is the batch: one tensor, a tuple (positional arguments of the model) or a dict (keyword arguments).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import scipy.sparse
import torch

from whence.errors import WhenceError

__all__ = ["ArrayInputs", "Inputs", "ItemInputs", "ModelInputs", "NgramInputs", "TextInputs", "leaves", "to_device"]

ModelInputs: TypeAlias = "torch.Tensor | tuple[ModelInputs, ...] | dict[str, ModelInputs]"


@runtime_checkable
class Inputs(Protocol):
    """N rows that can be gathered as tensors."""

    def __len__(self) -> int: ...

    def gather(self, rows: np.ndarray) -> ModelInputs:
        """The tensors of ``rows`` (int64 [B]), each with B on its first axis."""
        ...

    def select(self, rows: np.ndarray) -> Inputs:
        """The inputs of ``rows`` only, in that order."""
        ...

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The content as bytes, row by row, for the data fingerprint."""
        ...


def leaves(inputs: ModelInputs) -> Iterator[torch.Tensor]:
    """Every tensor in a batch's inputs."""
    if isinstance(inputs, torch.Tensor):
        yield inputs
    else:
        for value in inputs.values() if isinstance(inputs, dict) else inputs:
            yield from leaves(value)


def to_device(inputs: ModelInputs, device: torch.device) -> ModelInputs:
    """The same inputs on ``device``."""
    if isinstance(inputs, torch.Tensor):
        return inputs.to(device, non_blocking=True)
    if isinstance(inputs, dict):
        return {name: to_device(value, device) for name, value in inputs.items()}
    return tuple(to_device(value, device) for value in inputs)


class ArrayInputs:
    """Rows of one array: features [N, F], or pictures [N, H, W] or [N, H, W, C] of uint8.

    Pictures are gathered channels first, as float32 in [0, 1]: [B, C, H, W]. Other arrays are gathered as
    they are, floating ones as float32.
    """

    def __init__(self, array: np.ndarray) -> None:
        if array.dtype == object:
            raise WhenceError("inputs are an array of objects", got="dtype object", expected="numbers")
        self.array = array

    @property
    def is_image(self) -> bool:
        return self.array.dtype == np.uint8 and self.array.ndim in (3, 4)

    def __len__(self) -> int:
        return len(self.array)

    def gather(self, rows: np.ndarray) -> torch.Tensor:
        block = self.array[rows]
        if self.is_image:
            pictures = torch.from_numpy(np.ascontiguousarray(block)).to(torch.float32).div_(255)
            return pictures[:, None] if pictures.ndim == 3 else pictures.permute(0, 3, 1, 2).contiguous()
        if np.issubdtype(block.dtype, np.floating):
            block = block.astype(np.float32, copy=False)
        return torch.from_numpy(np.ascontiguousarray(block))

    def select(self, rows: np.ndarray) -> ArrayInputs:
        return ArrayInputs(self.array[rows])

    def chunks(self) -> Iterator[bytes | memoryview]:
        yield f"{self.array.dtype.str}{self.array.shape[1:]}".encode()
        for start in range(0, len(self.array), 4096):
            yield np.ascontiguousarray(self.array[start : start + 4096]).tobytes()


class NgramInputs:
    """Rows of a sparse matrix [N, V] as embedding-bag inputs: (columns int64 [B, L], weights float32 [B, L]).

    L is the largest number of entries in the batch; shorter rows are padded with column 0 and weight 0.
    """

    def __init__(self, matrix: scipy.sparse.csr_matrix) -> None:
        self.matrix = matrix

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def gather(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        starts, ends = self.matrix.indptr[rows], self.matrix.indptr[rows + 1]
        lengths = (ends - starts).astype(np.int64)
        width = max(int(lengths.max(initial=0)), 1)
        columns = np.zeros((len(rows), width), np.int64)
        weights = np.zeros((len(rows), width), np.float32)
        filled = np.arange(width) < lengths[:, None]  # [B, L]
        source = (starts[:, None] + np.arange(width))[filled]
        columns[filled] = self.matrix.indices[source]
        weights[filled] = self.matrix.data[source]
        return torch.from_numpy(columns), torch.from_numpy(weights)

    def select(self, rows: np.ndarray) -> NgramInputs:
        return NgramInputs(self.matrix[rows])

    def chunks(self) -> Iterator[bytes | memoryview]:
        yield str(self.matrix.shape[1]).encode()
        for part in (np.diff(self.matrix.indptr), self.matrix.indices, self.matrix.data):
            yield np.ascontiguousarray(part).tobytes()


class TextInputs:
    """Raw texts: what a loader gives before the model's encoder has turned them into tensors.

    Args:
        texts: str [N].
        pairs: str [N], a second text of each instance, for tasks on pairs of sentences; None without.
    """

    def __init__(self, texts: np.ndarray, pairs: np.ndarray | None = None) -> None:
        self.texts, self.pairs = texts, pairs

    def __len__(self) -> int:
        return len(self.texts)

    def gather(self, rows: np.ndarray) -> ModelInputs:
        raise WhenceError("texts that no encoder has turned into numbers", where="the inputs",
                          mend="Build the model with whence.models.prepare, or give the dataset encoded inputs.")  # fmt: skip

    def select(self, rows: np.ndarray) -> TextInputs:
        return TextInputs(self.texts[rows], None if self.pairs is None else self.pairs[rows])

    def chunks(self) -> Iterator[bytes | memoryview]:
        for column in (self.texts, self.pairs):
            for text in () if column is None else column:
                yield str(text).encode("utf-8", "surrogatepass") + b"\0"


class ItemInputs:
    """Rows of anything indexable that gives one instance's inputs: a list of tensors or dicts, a torch ``Dataset``.

    Args:
        items: ``items[i]`` gives the inputs of row i (or a tuple that holds them, see ``part``).
        part: the position (or key) of the inputs inside an item; None when the item is the inputs.
    """

    def __init__(self, items: Any, part: int | str | None = None, rows: np.ndarray | None = None) -> None:
        self.items, self.part = items, part
        self.rows = np.arange(len(items), dtype=np.int64) if rows is None else rows
        self._digest: bytes | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def item(self, row: int) -> Any:
        item = self.items[int(self.rows[row])]
        return item if self.part is None else item[self.part]

    def gather(self, rows: np.ndarray) -> ModelInputs:
        items = [self.item(row) for row in rows]
        try:
            collated: Any = torch.utils.data.default_collate(items)
        except (TypeError, ValueError, RuntimeError, KeyError, AttributeError) as error:
            raise WhenceError("inputs that do not make a batch", where=f"rows {', '.join(map(str, rows[:3].tolist()))} …",
                              got=str(error).split("\n")[0][:200], expected="tensors, arrays or numbers of one shape",
                              mend="Give all instances inputs of one shape and kind.") from error  # fmt: skip
        return tuple(collated) if isinstance(collated, list) else collated

    def select(self, rows: np.ndarray) -> ItemInputs:
        return ItemInputs(self.items, self.part, self.rows[rows])

    def chunks(self) -> Iterator[bytes | memoryview]:
        # Hashed once, under a fixed seed: items may be augmented at random.
        if self._digest is None:
            digest = hashlib.blake2b(digest_size=16)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                for row in range(len(self)):
                    for leaf in leaves(self.gather(np.array([row]))):
                        digest.update(f"{leaf.dtype}{tuple(leaf.shape)}".encode())
                        digest.update(leaf.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
            self._digest = digest.digest()
        yield self._digest
