"""``with whence.own(ids)`` for loops that call back at the beginning and at the end of a step."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from whence.dropout import MaskContext, own
from whence.masks import as_ids

__all__ = ["OpenMasks"]


class OpenMasks:
    """At most one context of own masks in this process, held open from a forward pass until its backward pass is over.

    A loop that fails in between closes nothing; the next one that opens or closes masks does.
    """

    _context: ClassVar[MaskContext | None] = None

    @property
    def is_open(self) -> bool:
        return self._context is not None

    def open(self, ids: Any) -> None:
        """Each row under its own mask from now on. A further pass of the same batch goes on in the same context."""
        wanted = ids.reshape(-1) if isinstance(ids, torch.Tensor) else torch.from_numpy(as_ids(ids))
        if self._context is not None:
            held = self._context.ids
            if held is not None and held.device == wanted.device and torch.equal(held, wanted):
                return
        self.close()
        context = own(wanted)
        context.__enter__()
        OpenMasks._context = context

    def close(self) -> None:
        """No masks from now on, or those of the context around. Nothing happens where none is open."""
        context, OpenMasks._context = self._context, None
        if context is not None:
            context.__exit__(None, None, None)
