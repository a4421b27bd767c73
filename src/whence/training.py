"""The reference training loop: every step is a pure function of (state, seed, step), so that a killed run resumes exactly.

State of a run directory:

    nothing                              → training begins
    run.json "training"                  → training begins again from the first step
    run.json "training" + checkpoint     → training goes on from the checkpoint's step
    run.json "trained"                   → the run is opened, nothing is trained

A directory whose data, masks or options are others than those asked for is refused.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from tqdm import tqdm

from whence.attachment import attach, attached, placement
from whence.data import Batch, Dataset
from whence.dropout import own
from whence.errors import WhenceError
from whence.fingerprints import digest
from whence.forward import outputs, predict
from whence.masks import philox4x32
from whence.options import TrainingOptions
from whence.quantities import LossFunction, Quantity, accuracy, loss_of
from whence.run import Run, as_splits, open_run, probe
from whence.rundir import RunDirectory

__all__ = ["fit", "kept"]

_CHECKPOINT = "checkpoint.safetensors"
_LOG = logging.getLogger("whence")


def fit(
    model: nn.Module,
    train: Any,
    *,
    dev: Any = None,
    test: Any = None,
    loss: LossFunction | Quantity | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = False,
    source: Any = None,
    **options: Any,
) -> Run:
    """Train a model in which every training instance has its own mask.

    Args:
        model: any module; if it has no turn-over dropout yet, it replaces every ``nn.Dropout``.
        train: a ``Dataset`` (one with splits is divided by them), (ids, inputs, targets), or a torch dataset that
            carries ids.
        dev: instances for validation and early stopping; None for none.
        test: instances to explain later; None for none.
        loss: (outputs [B, C], targets [B]) → [B], minimized; by default cross-entropy (nats) or squared error.
        out: the run directory. If training there was interrupted it is resumed, which is logged; if it was
            finished, opened.
        progress: show a bar.
        source: the ``whence.data.Source`` of the data, so that the directory can reopen it.
        options: fields of ``TrainingOptions``.

    Returns:
        The run, its model in evaluation mode.

    Raises:
        WhenceError: options out of range; the directory holds another run; the model's outputs do not fit the targets.
    """
    chosen = TrainingOptions(**_known(options))
    if not attached(model):
        attach(model, seed=chosen.seed)
    splits = as_splits(train, dev=dev, test=test)
    if chosen.patience is not None and "dev" not in splits:
        raise WhenceError(
            "early stopping without dev instances", where="patience", mend="Give dev instances, or no patience."
        )
    quantity = loss if isinstance(loss, Quantity) else loss_of(splits["train"].task, loss)
    model.to(chosen.torch_device())
    probe(model, splits["train"])
    spec = getattr(model, "whence_spec", None)
    identity = {
        "data": {name: data.fingerprint() for name, data in splits.items()},
        "placement": placement(model),
        "options": {k: v for k, v in chosen.to_json().items() if k not in ("device", "workers", "checkpoint_seconds")},
        # In order: the optimizer's state is kept by position.
        "parameters": [[n, list(p.shape), str(p.dtype), p.requires_grad] for n, p in model.named_parameters()],
        "buffers": {name: list(value.shape) for name, value in model.named_buffers()},
        "architecture": repr(model),
        "loss": quantity.fingerprint(splits["train"].task),
    }
    config = {
        "status": "training",
        "identity": digest(identity),
        "source": None if source is None else source.to_json(),
        "model_spec": None if spec is None else spec.to_json(),
        "options": chosen.to_json(),
        "loss": quantity.name,
        "loss_fingerprint": quantity.fingerprint(splits["train"].task),
    }
    directory = None if out is None else RunDirectory(out)
    if directory is not None and directory.exists():
        before = directory.read_config()
        if before.get("identity") != config["identity"]:
            raise WhenceError("the directory holds another run", where=str(directory.path), got=_difference(before, config),
                              mend="Give another directory, or delete this one.")  # fmt: skip
        if before["status"] == "trained":
            return open_run(
                directory.path,
                model=model,
                train=splits["train"],
                dev=splits.get("dev"),
                test=splits.get("test"),
                loss=loss,
            )
    elif directory is not None and directory.is_foreign():
        raise WhenceError(
            "a directory that is not a run", where=str(directory.path), expected="a new or empty directory, or a run"
        )
    if directory is not None:
        directory.write_config(config)
    loop = _Loop(model, splits, quantity, chosen, directory, progress)
    loop.run()
    model.eval()
    config.update(status="trained", results=loop.result(), seconds=round(loop.seconds, 3))
    others = {name: data for name, data in splits.items() if name != "train"}
    run = Run(
        model,
        splits["train"],
        dev=others.pop("dev", None),
        test=others.pop("test", None),
        loss=loss,
        out=out,
        config=config,
    )
    run.splits.update(others)
    run.history = loop.history
    if run.directory is not None:
        run.directory.remove(_CHECKPOINT)
    return run


def kept(out: str | os.PathLike[str]) -> str:
    """What an interrupted training left in its run directory, in words."""
    directory = RunDirectory(out)
    if not directory.has(_CHECKPOINT):
        return "no epoch was finished, so nothing is kept"
    _, metadata = directory.read_tensors(_CHECKPOINT)
    done = len(json.loads(metadata["state"])["history"])
    return f"training is kept to the end of epoch {done}" if done else "the beginning of epoch 1 is kept"


class _Loop:
    """One training, from its first or its last checkpointed step to the end."""

    def __init__(self, model: nn.Module, splits: dict[str, Dataset], loss: Quantity, options: TrainingOptions,
                 directory: RunDirectory | None, progress: bool) -> None:  # fmt: skip
        self.model, self.train, self.dev, self.loss = model, splits["train"], splits.get("dev"), loss
        self.options, self.directory, self.progress = options, directory, progress
        self.device = next(model.parameters()).device
        self.batches_per_epoch = math.ceil(len(self.train) / options.batch_size)
        self.steps_per_epoch = math.ceil(self.batches_per_epoch / options.accumulate)
        self.step = 0  # optimizer steps done
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0
        self.stopped = False
        self.best_loss, self.best_epoch = math.inf, -1
        self.best: dict[str, torch.Tensor] = {}
        self.optimizer = _optimizer(model, options)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.autocast == "float16")
        self.sample = self.train.select(_sample(self.train.ids, options.exposure_limit))

    def run(self) -> None:
        self._resume()
        first = self.step // self.steps_per_epoch
        bar = tqdm(total=self.options.epochs * self.steps_per_epoch, initial=self.step, desc="fit", unit="step",
                   disable=not self.progress, leave=False)  # fmt: skip
        with bar:
            for epoch in range(first, self.options.epochs):
                if self.stopped:
                    break
                self._epoch(epoch, bar)
        if self.best:
            self.model.load_state_dict(self.best)
        if self.directory is not None:
            self._write_history()

    def result(self) -> dict[str, float]:
        """The measurements of the epoch whose weights the model has."""
        if not self.history:
            return {}
        return self.history[self.best_epoch if self.best else -1]

    def _epoch(self, epoch: int, bar: Any) -> None:
        began = saved = time.perf_counter()
        self.model.train()
        done = self.step - epoch * self.steps_per_epoch
        total, count = 0.0, 0
        for batches in self._steps(epoch, done):
            total += self._step(batches)
            count += sum(len(batch.rows) for batch in batches)
            self.step += 1
            bar.update()
            # Not after an epoch's last step: its measurement would be lost to a resumed run.
            due = time.perf_counter() - saved > self.options.checkpoint_seconds and self.step % self.steps_per_epoch
            if self.directory is not None and due:
                self._checkpoint()
                saved = time.perf_counter()
        self.history.append(self._measure(epoch) | {"seconds": time.perf_counter() - began})
        self.seconds += time.perf_counter() - began
        self._judge(epoch)
        bar.set_postfix(
            {k: f"{self.history[-1][k]:.3f}" for k in ("own_loss", "flipped_loss", "dev_loss") if k in self.history[-1]}
        )
        if self.directory is not None:
            self._checkpoint()

    def _steps(self, epoch: int, skip: int) -> Iterator[list[Batch]]:
        """The batches of each optimizer step of an epoch, from step ``skip`` on."""
        generator = torch.Generator().manual_seed(_derived(self.options.seed, 0, epoch))
        order = torch.randperm(len(self.train), generator=generator).numpy()
        size, accumulate = self.options.batch_size, self.options.accumulate
        rows = [order[start : start + size] for start in range(0, len(order), size)][skip * accumulate :]
        feed = _Feed(self.train, rows, self.options.seed, epoch * self.batches_per_epoch + skip * accumulate)
        source: Any = feed
        if self.options.workers:
            source = torch.utils.data.DataLoader(feed, batch_size=None, num_workers=self.options.workers)
        pending: list[Batch] = []
        for batch in source:
            pending.append(batch)
            if len(pending) == accumulate:
                yield pending
                pending = []
        if pending:
            yield pending

    def _step(self, batches: list[Batch]) -> float:
        """One optimizer step on the mean loss of all instances in its batches; the sum of their losses."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * self._factor()
        self.optimizer.zero_grad(set_to_none=True)
        instances = sum(len(batch.rows) for batch in batches)
        total = 0.0
        # Ordinary dropout beside ours draws from a stream that depends on the step alone, so a resumed run repeats it.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(_derived(self.options.seed, 1, self.step))
            for batch in batches:
                moved = batch.to(self.device)
                with own(moved.mask_ids):
                    with torch.autocast(
                        self.device.type, getattr(torch, self.options.autocast, None), self.options.autocast != "off"
                    ):
                        given = outputs(self.model, moved.inputs)
                    losses = self.loss(given, moved.targets)
                    torch.autograd.backward(self.scaler.scale(losses.sum() / instances))
                total += float(losses.detach().sum())
        if not math.isfinite(total):
            raise WhenceError("the loss is not finite", where=f"training step {self.step}", got=total,
                              mend="Lower the learning rate, or look for extreme values in the inputs.")  # fmt: skip
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return total

    def _factor(self) -> float:
        """The learning rate of this step over the one at the start: a pure function of the step."""
        last = self.options.epochs * self.steps_per_epoch
        rising = self.options.warmup * last
        if self.step < rising:
            return (self.step + 1) / (rising + 1)
        share = (self.step - rising) / max(1.0, last - rising)
        shapes = {"linear": 1 - share, "cosine": 0.5 * (1 + math.cos(math.pi * share)), "constant": 1.0}
        return shapes[self.options.schedule]

    def _measure(self, epoch: int) -> dict[str, float]:
        """The exposure curves (Kobayashi et al. 2020, figure 2): mean losses after an epoch."""
        row: dict[str, float] = {"epoch": epoch + 1, "learning_rate": self.options.learning_rate * self._factor()}
        for mask in ("own", "flipped", "full"):
            row[f"{mask}_loss"], row[f"{mask}_accuracy"] = self._evaluate(self.sample, mask)
        if self.dev is not None:
            row["dev_loss"], row["dev_accuracy"] = self._evaluate(self.dev, "full")
        return {name: value for name, value in row.items() if not math.isnan(value)}

    def _evaluate(self, data: Dataset, mask: Any) -> tuple[float, float]:
        given, targets = torch.from_numpy(predict(self.model, data, mask)), torch.from_numpy(data.targets)
        right = float(accuracy(given, targets).mean()) if data.task.kind == "classification" else math.nan
        return float(self.loss(given, targets).mean()), right

    def _judge(self, epoch: int) -> None:
        """Early stopping: remember the best epoch, and stop when it is ``patience`` epochs ago."""
        if self.options.patience is None:
            return
        now = self.history[-1]["dev_loss"]
        if now < self.best_loss:
            self.best_loss, self.best_epoch = now, epoch
            self.best = copy.deepcopy({name: value.detach() for name, value in self.model.state_dict().items()})
        self.stopped = epoch - self.best_epoch >= self.options.patience

    def _checkpoint(self) -> None:
        assert self.directory is not None
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        for number, entry in self.optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{number}.{name}": torch.as_tensor(value)
                for name, value in entry.items()
                if value is not None
            }
        state = {"step": self.step, "history": self.history, "seconds": self.seconds, "stopped": self.stopped,
                 "best_loss": None if math.isinf(self.best_loss) else self.best_loss, "best_epoch": self.best_epoch,
                 "scaler": self.scaler.state_dict()}  # fmt: skip
        self.directory.write_tensors(_CHECKPOINT, tensors, {"state": json.dumps(state)})

    def _resume(self) -> None:
        if self.directory is None or not self.directory.has(_CHECKPOINT):
            return
        tensors, metadata = self.directory.read_tensors(_CHECKPOINT)
        state = json.loads(metadata["state"])
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        self.model.load_state_dict(parts["model"])
        self.best = parts["best"]
        restored = self.optimizer.state_dict()
        for name, value in parts["optimizer"].items():
            number, _, entry = name.partition(".")
            restored["state"].setdefault(int(number), {})[entry] = value
        self.optimizer.load_state_dict(restored)
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.history, self.seconds, self.stopped = (
            state["step"],
            state["history"],
            state["seconds"],
            state["stopped"],
        )
        self.best_loss = math.inf if state["best_loss"] is None else state["best_loss"]
        self.best_epoch = state["best_epoch"]
        epoch = self.step // self.steps_per_epoch + 1
        if epoch <= self.options.epochs and not self.stopped:
            _LOG.info("resuming at epoch %d of %d", epoch, self.options.epochs)

    def _write_history(self) -> None:
        assert self.directory is not None
        self.directory.write_table("history.parquet", pa.Table.from_pylist(self.history))


class _Feed(torch.utils.data.Dataset[Batch]):
    """Item i is the whole of batch i; loader workers gather it with its ids."""

    def __init__(self, data: Dataset, rows: list[np.ndarray], seed: int, first: int) -> None:
        self.data, self.rows, self.seed, self.first = data, rows, seed, first

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Batch:
        if number >= len(self.rows):
            raise IndexError(number)
        # Random augmentation draws from a stream of its own batch, in whatever process it is gathered.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_derived(self.seed, 2, self.first + number))
            return self.data.batch(self.rows[number])


def _optimizer(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if options.optimizer == "sgd":
        return torch.optim.SGD(weights, lr=options.learning_rate, momentum=0.9, weight_decay=options.weight_decay)
    return torch.optim.AdamW(weights, lr=options.learning_rate, weight_decay=options.weight_decay)


def _derived(seed: int, purpose: int, number: int) -> int:
    """A 63-bit seed for one purpose and one epoch or step, by Philox."""
    words = philox4x32(
        tuple(np.array([word], np.uint64) for word in (number & 0xFFFFFFFF, number >> 32, purpose, 0)),
        (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF),
    )
    return int(words[0][0]) | (int(words[1][0]) & 0x7FFFFFFF) << 32


def _sample(ids: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` rows, chosen by their ids alone, in order."""
    unsigned = ids.view(np.uint64)
    zero = np.zeros(1, np.uint64)
    drawn = philox4x32((zero, zero, unsigned & np.uint64(0xFFFFFFFF), unsigned >> np.uint64(32)), (0, 0))[0]
    return np.sort(np.argsort(drawn, kind="stable")[:most])


def _known(options: dict[str, Any]) -> dict[str, Any]:
    known = TrainingOptions.__dataclass_fields__
    for name in options:
        if name not in known:
            raise WhenceError("unknown option", where="fit", got=repr(name), expected=f"one of {', '.join(known)}")
    return options


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What sets two runs apart, in a few words."""
    names = [name for name, value in now["options"].items() if (before.get("options") or {}).get(name) != value]
    names += [name for name in ("source", "model_spec") if before.get(name) != now[name]]
    return "other " + ", ".join(names) if names else "other data or masks"
