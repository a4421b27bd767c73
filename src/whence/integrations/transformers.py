"""Hugging Face ``Trainer``: a collator that keeps ids, a callback that turns them into masks, and its rows as a ``Dataset``.

    whence.attach(model, where=...)
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=IdCollator(collate), callbacks=[MaskCallback()])
    trainer.train()
    run = whence.Run(model, as_dataset(rows, collate), ...)

How an id travels: a column of the rows → the collator, as int64 [B] under the column's name → device and processes with the
rest of the batch → the callback, which takes it out of the arguments of the model's forward pass and holds the masks open
until the backward pass is over. The Trainer removes columns that the model's ``forward`` does not name
(``remove_unused_columns``), so until training begins ``forward`` claims to take the column.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from whence.attachment import attached
from whence.data import Classification, Dataset, Regression
from whence.data.inputs import ItemInputs, ModelInputs
from whence.data.tasks import LanguageModeling, Task
from whence.dropout import in_force
from whence.dynamics import Dynamics
from whence.errors import WhenceError
from whence.integrations.open_masks import OpenMasks
from whence.masks import as_ids

try:
    import transformers
except ImportError as error:
    raise WhenceError("transformers is not installed", where="whence.integrations.transformers",
                      mend="pip install 'whence[text]'") from error  # fmt: skip

__all__ = ["DynamicsCallback", "IdCollator", "MaskCallback", "as_dataset"]

Rows = Sequence[Mapping[str, Any]]
Collate = Callable[[list[dict[str, Any]]], Mapping[str, Any]]


class IdCollator:
    """A collator that keeps ids: another one collates the rest of the row.

    Args:
        collate: what would be given to the Trainer as ``data_collator``, such as ``DataCollatorWithPadding(tokenizer)``.
        column: of the ids, integers or strings; where several rows share a mask, of their groups.
    """

    def __init__(self, collate: Collate | None = None, *, column: str = "id") -> None:
        self.collate = transformers.default_data_collator if collate is None else collate
        self.column = column

    def __call__(self, rows: Rows) -> dict[str, Any]:
        """The batch, with its ids (int64 [B]) under the column's name. Rows for evaluation need none.

        Raises:
            WhenceError: some rows of the batch have an id and others have none; a value that cannot be an id.
        """
        given = [row[self.column] for row in rows if self.column in row]
        batch = dict(self.collate([_without(row, self.column) for row in rows]))
        if not given:
            return batch
        if len(given) != len(rows):
            raise WhenceError("rows without an id among others that have one", where=f"column {self.column!r}",
                              got=f"{len(given)} ids", expected=f"{len(rows)}")  # fmt: skip
        batch[self.column] = torch.from_numpy(as_ids([_plain(value) for value in given]))
        return batch


class MaskCallback(transformers.TrainerCallback):
    """Own masks while the Trainer trains, all units while it evaluates.

    Give it to ``Trainer(callbacks=[...])``: one that is added later comes after the Trainer has looked at ``forward``. It leaves a
    hook on the model, which takes ids out of batches and does nothing else where there are none; the next Trainer's replaces it.

    Args:
        column: of the ids, the same as ``IdCollator``'s.

    Raises:
        WhenceError: when training begins, of a model without turn-over dropout, or on several GPUs in one process; in a
            training step whose batch has no ids.
    """

    def __init__(self, *, column: str = "id") -> None:
        self.column = column
        self._masks = OpenMasks()
        self._model: nn.Module | None = None

    def on_init_end(self, args: Any, state: Any, control: Any, *, model: Any = None, **more: Any) -> None:
        self._masks.close()
        self._join(model)
        looked_at = _looked_at(model)
        _give_back_forward(looked_at)  # of a Trainer that never began
        if self.column in inspect.signature(looked_at.forward).parameters:
            raise WhenceError("the column of ids is an argument of the model", where=type(looked_at).__name__, got=self.column,
                              mend="Give the column another name.")  # fmt: skip
        looked_at.forward = _Accepting(looked_at.forward, self.column)

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any = None, **more: Any) -> None:
        _give_back_forward(_looked_at(model))  # the Trainer has looked at it by now
        if not attached(model):
            raise WhenceError("no turn-over dropout in the model", where=type(model).__name__,
                              mend="Call whence.attach(model) before the Trainer is made.")  # fmt: skip
        if args.n_gpu > 1:
            raise WhenceError("several GPUs in one process", where="the Trainer", got=f"{args.n_gpu} GPUs",
                              expected="one process per GPU, since masks in force are those of the process",
                              mend="Start it with torchrun or accelerate launch, or show it one GPU.")  # fmt: skip
        self._join(model)

    def on_substep_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._masks.close()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._masks.close()

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._masks.close()

    def _join(self, model: nn.Module) -> None:
        if model is not self._model:
            _forget_callbacks(model)
            model.register_forward_pre_hook(self._before, with_kwargs=True, prepend=True)
            self._model = model

    def _before(
        self, model: nn.Module, given: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A forward pre-hook: own masks for a training step, none of ours for anything else."""
        ids = named.get(self.column)
        if not (model.training and torch.is_grad_enabled()):
            self._masks.close()  # a step that failed may have left them open
        elif ids is not None:
            self._masks.open(ids)
        elif self._masks.is_open or in_force() is None:
            raise WhenceError("a training batch without ids", where="the Trainer", got=f"a batch of {', '.join(named)}",
                              expected=f"also {self.column}", mend="Give the rows that column, data_collator=IdCollator(...) and "
                              "Trainer(callbacks=[MaskCallback()]); with model_init also remove_unused_columns=False.")  # fmt: skip
        return given, _without(named, self.column)


class DynamicsCallback(transformers.TrainerCallback):
    """Training dynamics of a classifier, from which audits gain most where an encoder is fine-tuned.

    Between epochs one process asks the flipped sub-networks about all training instances::

        watching = DynamicsCallback(data)
        trainer = Trainer(..., callbacks=[MaskCallback(), watching])
        trainer.train()
        run = whence.Run(model, data, dynamics=watching.dynamics)

    Each training begins anew; one that is resumed looks at what is left of it alone. With ``load_best_model_at_end`` looks after
    the best epoch count too.

    Args:
        data: the training instances, as ``as_dataset`` makes them.

    Raises:
        WhenceError: when training begins, with FSDP or DeepSpeed, where no process has the whole model.
    """

    def __init__(self, data: Dataset) -> None:
        self.data, self.dynamics, self._first = data, Dynamics(), True

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if divided := [name for name in ("fsdp", "deepspeed") if getattr(args, name, None)]:
            raise WhenceError("a model in pieces", where="DynamicsCallback", got=divided[0],
                              expected="a whole model in each process",
                              mend="Leave the callback out: audits then know the end of training alone.")  # fmt: skip
        self.dynamics = Dynamics()
        self._first = True

    def on_epoch_begin(self, args: Any, state: Any, control: Any, *, model: Any = None, **more: Any) -> None:
        # When an epoch begins it is certain that the one before it was not the last.
        if not self._first and state.is_world_process_zero:
            self.dynamics.look(model, self.data)
        self._first = False


class _Accepting:
    """A model's ``forward`` whose signature has one more name: that of the column that the Trainer is to keep."""

    def __init__(self, forward: Callable[..., Any], column: str) -> None:
        self._forward = forward
        signature = inspect.signature(forward)
        more = inspect.Parameter(column, inspect.Parameter.KEYWORD_ONLY, default=None)
        parameters = list(signature.parameters.values())
        last = len(parameters) - any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
        self.__signature__ = signature.replace(parameters=[*parameters[:last], more, *parameters[last:]])

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._forward(*given, **named)


class CollatedInputs(ItemInputs):
    """Rows that the Trainer's collator turns into the keyword arguments of a model."""

    def __init__(self, items: Rows, collate: Collate, rows: np.ndarray | None = None) -> None:
        super().__init__(items, rows=rows)
        self.collate = collate

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N], tokens of each row; ones where rows are no texts."""
        return np.array([len(self.item(row).get("input_ids", [0])) for row in range(len(self))], np.int64)

    def gather(self, rows: np.ndarray) -> dict[str, ModelInputs]:
        return dict(self.collate([dict(self.item(row)) for row in rows]))

    def select(self, rows: np.ndarray) -> CollatedInputs:
        return CollatedInputs(self.items, self.collate, self.rows[rows])


def as_dataset(
    rows: Rows,
    collate: Collate | None = None,
    *,
    ids: str = "id",
    groups: str | None = None,
    labels: str | None = "labels",
    texts: str | None = None,
    classes: Sequence[str] | None = None,
) -> Dataset:
    """The rows of a Trainer as what ``whence.Run`` takes: the model sees exactly what it was trained on.

    Args:
        rows: dicts, or a ``datasets.Dataset``. Columns of strings are not given to the model.
        collate: the collator of the Trainer, without its ``IdCollator``.
        ids: the column of ids, one per row.
        groups: the column whose values share a mask; None where each row has its own.
        labels: the column of labels, integers for classes and floats for a regression; None for language modeling, where
            the model must be a ``whence.integrations.texts.TextLoss``.
        texts: the column that a person reads in reports.
        classes: names of the classes in the order of their numbers.

    Raises:
        WhenceError: a column is missing, ids repeat, or labels are neither classes nor numbers.
    """
    items = [dict(rows[row]) for row in range(len(rows))]

    def column(name: str) -> list[Any]:
        if lacking := [row for row, item in enumerate(items) if name not in item]:
            raise WhenceError("a row without a column that is needed", where=f"row {lacking[0]}", got=", ".join(items[lacking[0]]),
                              expected=f"also {name}")  # fmt: skip
        return [_plain(item[name]) for item in items]

    names = column(ids)
    grouped = None if groups is None else column(groups)
    dropped = {name for name in (ids, groups, labels, texts) if name is not None}
    features = [
        {name: value for name, value in item.items() if name not in dropped and not isinstance(value, str)}
        for item in items
    ]
    targets, task = _targets(None if labels is None else column(labels), len(items), classes)
    return Dataset(
        as_ids(names),
        CollatedInputs(features, transformers.default_data_collator if collate is None else collate),
        targets,
        task,
        groups=None if grouped is None else as_ids(grouped),
        names=np.array([str(name) for name in names], object),
        group_names=None if grouped is None else np.array([str(name) for name in grouped], object),
        texts=None if texts is None else np.array([str(text) for text in column(texts)], object),
    )


def _targets(labels: list[Any] | None, count: int, classes: Sequence[str] | None) -> tuple[np.ndarray, Task]:
    if labels is None:
        return np.zeros(count, np.float32), LanguageModeling()
    array = np.asarray(labels)
    if np.issubdtype(array.dtype, np.floating) and array.ndim == 1:
        return array.astype(np.float32), Regression()
    if not np.issubdtype(array.dtype, np.integer) or array.ndim != 1 or array.min(initial=0) < 0:
        raise WhenceError("labels that are neither classes nor numbers", where="as_dataset", got=f"{labels[0]!r:.40}",
                          expected="integers from 0, or floats", mend="For language modeling give labels=None.")  # fmt: skip
    known = tuple(classes) if classes is not None else tuple(map(str, range(max(2, int(array.max(initial=0)) + 1))))
    if array.max(initial=0) >= len(known):
        raise WhenceError(
            "a label without a class", where="classes", got=int(array.max()), expected=f"below {len(known)}"
        )
    return array.astype(np.int64), Classification(known)


def _looked_at(model: Any) -> Any:
    """The module whose ``forward`` tells the Trainer which columns to keep: of a PEFT model the one inside."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _give_back_forward(module: Any) -> None:
    if isinstance(module.__dict__.get("forward"), _Accepting):
        del module.forward


def _forget_callbacks(model: nn.Module) -> None:
    """Take away the hook that an earlier Trainer's callback left on the model, which would miss the ids that ours takes out."""
    for number, hook in list(model._forward_pre_hooks.items()):
        if isinstance(getattr(hook, "__self__", None), MaskCallback):
            del model._forward_pre_hooks[number]
            model._forward_pre_hooks_with_kwargs.pop(number, None)


def _without(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != column}


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
