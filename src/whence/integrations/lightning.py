"""Lightning: a callback that turns the ids of a batch into masks.

    whence.attach(module, where=...)
    trainer = lightning.pytorch.Trainer(callbacks=[MaskCallback()])
    trainer.fit(module, loader)
    run = whence.Run(module, train, ...)

``on_train_batch_start`` and ``on_train_batch_end`` enclose forward pass, backward pass and optimizer step, so masks are open
between them and never while Lightning validates, tests or predicts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from whence.attachment import attached
from whence.errors import WhenceError
from whence.integrations.open_masks import OpenMasks

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback  # type: ignore[assignment,unused-ignore]  # the same class under another name
    except ImportError as error:
        raise WhenceError("Lightning is not installed", where="whence.integrations.lightning",
                          mend="pip install 'whence[lightning]'") from error  # fmt: skip

__all__ = ["MaskCallback"]


class MaskCallback(Callback):  # type: ignore[misc,unused-ignore]  # of Any where Lightning is absent
    """Own masks while Lightning trains, all units while it evaluates.

    Args:
        ids: where a batch has its ids: a key, a position, or a function of the batch. By default "id" of a dict, else the first
            element.

    Raises:
        WhenceError: when training begins, of a module without turn-over dropout; in a training step whose batch has no ids.
    """

    def __init__(self, ids: str | int | Callable[[Any], Any] | None = None) -> None:
        self.ids = ids
        self._masks = OpenMasks()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if not attached(pl_module):
            raise WhenceError("no turn-over dropout in the module", where=type(pl_module).__name__,
                              mend="Call whence.attach(module) before trainer.fit.")  # fmt: skip

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._masks.open(self._ids_of(batch))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._masks.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._masks.close()

    def _ids_of(self, batch: Any) -> Any:
        where = ("id" if isinstance(batch, Mapping) else 0) if self.ids is None else self.ids
        if callable(where):
            return where(batch)
        try:
            return batch[where]
        except (KeyError, IndexError, TypeError) as error:
            got = ", ".join(map(str, batch)) if isinstance(batch, Mapping) else type(batch).__name__
            raise WhenceError("a training batch without ids", where="Lightning", got=f"a batch of {got}",
                              expected=f"also {where!r}", mend="Say where ids are: MaskCallback(ids=...).") from error  # fmt: skip
