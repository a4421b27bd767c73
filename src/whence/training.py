"""The reference training loop: every step is a pure function of (state, seed, step), so that a killed run resumes exactly.

State of a run directory:

    nothing                              → training begins
    run.json "training"                  → training begins again from the first step
    run.json "training" + checkpoint     → training goes on from the checkpoint's step
    run.json "trained"                   → the run is opened, nothing is trained
    another process is training here     → this one waits for it

A directory whose data, masks, options or frozen parameters are others than those asked for is refused.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import platform
import time
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from tqdm import tqdm

from whence.arguments import instance_of
from whence.attachment import attach, attached, placement
from whence.checkpoints import CHECKPOINT, Progress, restore, save
from whence.data import Batch, Dataset, Source
from whence.data.inputs import Inputs, TextInputs
from whence.dropout import own
from whence.dynamics import epochs_to_look
from whence.errors import UnwritableError, WhenceError
from whence.fingerprints import digest
from whence.forward import outputs, predict
from whence.masks import philox4x32
from whence.options import WITHOUT_EFFECT, TrainingOptions
from whence.quantities import LossFunction, Quantity, accuracy, loss_of
from whence.run import Run, as_splits, frozen, instance_table, open_run, probe
from whence.rundir import RunDirectory
from whence.schedule import Schedule

__all__ = ["fit"]

_LOG = logging.getLogger("whence")
# A directory that holds the same run but for these is gone on with; by the limit histories differ.
_NOT_ASKED = WITHOUT_EFFECT - {"exposure_limit"}


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
        options: fields of ``TrainingOptions``. Those that are not given are as a ready-made model recommends
            (``model.whence_options``), else the defaults.

    Returns:
        The run, its model in evaluation mode.

    Raises:
        WhenceError: options out of range; the directory holds another run; the model's outputs do not fit the targets.
    """
    if source is not None:
        instance_of(source, Source, "source")
    chosen = TrainingOptions(**{**getattr(model, "whence_options", {}), **_known(options)})
    splits = as_splits(train, dev=dev, test=test)
    if not attached(model):
        attach(model, seed=chosen.seed)
    if chosen.patience is not None and "dev" not in splits:
        raise WhenceError(
            "early stopping without dev instances", where="patience", mend="Give dev instances, or no patience."
        )
    if chosen.augment != "none" and not _are_pictures(splits["train"].inputs):
        raise WhenceError("augmentation of inputs that are no pictures", where="augment", got=repr(chosen.augment),
                          expected="inputs [B, channels, height, width]", mend="Use augment none.")  # fmt: skip
    quantity = loss if isinstance(loss, Quantity) else loss_of(splits["train"].task, loss)
    device = chosen.torch_device()
    model.to(device)
    if chosen.autocast != "off" and device.type == "cpu" and emulates_half():
        _LOG.warning("this processor has no products of %s (AVX-512): training may take many times longer than with autocast off",
                     chosen.autocast)  # fmt: skip
    for data in splits.values():
        probe(model, data)
    spec = getattr(model, "whence_spec", None)
    identity = {
        "data": {name: data.fingerprint() for name, data in splits.items()},
        "placement": placement(model),
        "options": {k: v for k, v in chosen.to_json().items() if k not in _NOT_ASKED},
        # In order: the optimizer's state is kept by position.
        "parameters": [[n, list(p.shape), str(p.dtype), p.requires_grad] for n, p in model.named_parameters()],
        "buffers": {name: list(value.shape) for name, value in model.named_buffers()},
        "architecture": repr(model),
        "loss": quantity.fingerprint(splits["train"].task),
    }
    config: dict[str, Any] = {
        "status": "training",
        "identity": digest(identity),
        "source": None if source is None else source.to_json(),
        "model_spec": None if spec is None else spec.to_json(),
        "options": chosen.to_json(),
        "frozen": frozen(model),
        "loss": quantity.name,
        "loss_fingerprint": quantity.fingerprint(splits["train"].task),
    }
    given: dict[str, Any] = {"dev": splits.get("dev"), "test": splits.get("test"), "loss": loss}
    directory = None if out is None else RunDirectory(out)
    loop = _Loop(model, splits, quantity, chosen, directory, config["identity"], progress)
    if directory is None:
        return _trained(loop, splits, given, config, None, True)
    if not _is_trained(directory, config):
        begins = not directory.exists()
        directory.begin()
        try:
            with directory.locked():
                if not _is_trained(directory, config):  # another process may have trained it while this one waited
                    return _trained(loop, splits, given, config, directory, begins)
        except WhenceError:
            if begins:
                directory.remove_empty()
            raise
    directory.tidy(CHECKPOINT)
    return open_run(directory.path, model=model, train=splits["train"], **given)


def emulates_half() -> bool:
    """Whether numbers of 16 bits are only emulated here, and without wide instructions."""
    narrow = torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2")
    return narrow and platform.machine().lower() in ("x86_64", "amd64")


def _trained(loop: _Loop, splits: dict[str, Dataset], given: dict[str, Any], config: dict[str, Any],
             directory: RunDirectory | None, begins: bool) -> Run:  # fmt: skip
    """Train, from the beginning or the last checkpoint, and keep the run. What cannot be trained leaves nothing behind."""
    if directory is not None:
        directory.write_config(config)
    try:
        loop.run()
    except WhenceError as error:
        # After a full disk the same call goes on; a training that diverges would only do so again.
        if directory is not None and begins and not isinstance(error, UnwritableError):
            directory.abandon()
        raise
    loop.model.eval()
    config |= {"status": "trained", "results": loop.result(), "seconds": round(loop.progress.seconds, 3)}
    run = Run(loop.model, splits["train"], **given, out=None if directory is None else directory.path, config=config,
              dynamics=loop.progress.dynamics)  # fmt: skip
    others = {name: data for name, data in splits.items() if name not in run.splits}
    run.splits.update(others)
    if others and run.directory is not None:
        run.directory.write_table("instances.parquet", instance_table(run.splits))
    run.history = loop.progress.history
    if directory is not None:
        directory.remove(CHECKPOINT)
    return run


def _is_trained(directory: RunDirectory, config: dict[str, Any]) -> bool:
    """Whether the run of this description is finished there.

    Raises:
        WhenceError: the directory holds another run, or something else.
    """
    if not directory.exists():
        if directory.is_foreign():
            raise WhenceError(
                "a directory that is not a run",
                where=str(directory.path),
                expected="a new or empty directory, or a run",
            )
        return False
    before = directory.read_config()
    if before.get("identity") != config["identity"]:
        raise WhenceError("the directory holds another run", where=str(directory.path), got=_difference(before, config),
                          mend="Give another directory, or delete this one.")  # fmt: skip
    return bool(before["status"] == "trained")


class _Loop:
    """One training, from its first or its last checkpointed step to the end."""

    def __init__(self, model: nn.Module, splits: dict[str, Dataset], loss: Quantity, options: TrainingOptions,
                 directory: RunDirectory | None, identity: str, progress: bool) -> None:  # fmt: skip
        self.model, self.dev, self.loss = model, splits.get("dev"), loss
        self.options, self.directory, self.identity, self.show_bar = options, directory, identity, progress
        self.device = next(model.parameters()).device
        self.schedule = Schedule(splits["train"], options)
        self.progress = Progress()
        self.optimizer = _optimizer(model, options)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.autocast == "float16")
        self.train = splits["train"]
        self.sample = self.train.select(_sample(self.train.ids, options.exposure_limit))
        self.looks = epochs_to_look(self.train, loss, options.epochs, options.dynamics)

    def run(self) -> None:
        self._resume()
        first = self.progress.step // self.schedule.steps_per_epoch
        bar = tqdm(total=self.schedule.steps, initial=self.progress.step, desc="fit", unit="step",
                   disable=not self.show_bar, leave=False)  # fmt: skip
        with bar:
            for epoch in range(first, self.options.epochs):
                if self.progress.stopped:
                    break
                self._epoch(epoch, bar)
        if self.progress.best:
            self.model.load_state_dict(self.progress.best)
            self.progress.dynamics = self.progress.before_best
        if self.directory is not None:
            self.directory.write_table("history.parquet", pa.Table.from_pylist(self.progress.history))

    def result(self) -> dict[str, float]:
        """The measurements of the epoch whose weights the model has."""
        progress = self.progress
        if not progress.history:
            return {}
        return progress.history[progress.best_epoch if progress.best else -1]

    def _epoch(self, epoch: int, bar: Any) -> None:
        began = saved = time.perf_counter()
        self.model.train()
        progress, per_epoch = self.progress, self.schedule.steps_per_epoch
        for batches in self.schedule.batches(epoch, skip=progress.step - epoch * per_epoch):
            self._step(batches)
            progress.step += 1
            bar.update()
            # Not after an epoch's last step: its measurement would be lost to a resumed run.
            due = time.perf_counter() - saved > self.options.checkpoint_seconds and progress.step % per_epoch
            if self.directory is not None and due:
                self._checkpoint()
                saved = time.perf_counter()
        measured = self._measure(epoch)
        progress.history.append(measured | {"seconds": time.perf_counter() - began})
        progress.seconds += time.perf_counter() - began
        self._judge(epoch)
        if epoch in self.looks and not progress.stopped:
            began = time.perf_counter()
            progress.dynamics.look(self.model, self.train)
            progress.seconds += time.perf_counter() - began
        bar.set_postfix({k: f"{measured[k]:.3f}" for k in ("own_loss", "flipped_loss", "dev_loss") if k in measured})
        if self.directory is not None:
            self._checkpoint()

    def _step(self, batches: list[Batch]) -> None:
        """One optimizer step on the mean loss of all instances in its batches."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate(self.progress.step)
        self.optimizer.zero_grad(set_to_none=True)
        instances = sum(len(batch.rows) for batch in batches)
        total = 0.0
        # Ordinary dropout beside ours draws from a stream that depends on the step alone, so a resumed run repeats it.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.schedule.seed(self.progress.step))
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
            raise WhenceError("the loss is not finite", where=f"training step {self.progress.step}", got=total,
                              mend="Lower the learning rate, or look for extreme values in the inputs.")  # fmt: skip
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _measure(self, epoch: int) -> dict[str, float]:
        """The exposure curves (Kobayashi et al. 2020, figure 2): mean losses after an epoch."""
        row: dict[str, float] = {"epoch": epoch + 1, "learning_rate": self.schedule.learning_rate(self.progress.step)}
        for mask in ("own", "flipped", "full"):
            row[f"{mask}_loss"], row[f"{mask}_accuracy"] = self._evaluate(self.sample, mask)
        if self.dev is not None:
            row["dev_loss"], row["dev_accuracy"] = self._evaluate(self.dev, "full")
        if diverged := [name for name, value in row.items() if name.endswith("_loss") and not math.isfinite(value)]:
            raise WhenceError("the loss is not finite", where=f"{diverged[0]} after epoch {epoch + 1}", got=row[diverged[0]],
                              mend="Lower the learning rate, or look for extreme values in the inputs.")  # fmt: skip
        return {name: value for name, value in row.items() if not math.isnan(value)}

    def _evaluate(self, data: Dataset, mask: Any) -> tuple[float, float]:
        given, targets = torch.from_numpy(predict(self.model, data, mask)), torch.from_numpy(data.targets)
        right = float(accuracy(given, targets).mean()) if data.task.kind == "classification" else math.nan
        return float(self.loss(given, targets).mean()), right

    def _judge(self, epoch: int) -> None:
        """Early stopping: remember the best epoch, and stop when it is ``patience`` epochs ago."""
        if self.options.patience is None:
            return
        progress, now = self.progress, self.progress.history[-1]["dev_loss"]
        if now < progress.best_loss:
            progress.best_loss, progress.best_epoch = now, epoch
            progress.before_best = copy.copy(progress.dynamics)
            progress.best = copy.deepcopy({name: value.detach() for name, value in self.model.state_dict().items()})
        progress.stopped = epoch - progress.best_epoch >= self.options.patience

    def _checkpoint(self) -> None:
        assert self.directory is not None
        save(self.directory, self.identity, self.progress, self.model, self.optimizer, self.scaler)

    def _resume(self) -> None:
        if self.directory is None:
            return
        shape = len(self.train), self.train.task.outputs
        before = restore(self.directory, self.identity, self.model, self.optimizer, self.scaler, shape)
        if before is None:
            return
        self.progress = before
        epoch = before.step // self.schedule.steps_per_epoch + 1
        if epoch <= self.options.epochs and not before.stopped:
            _LOG.info("resuming at epoch %d of %d", epoch, self.options.epochs)


def _optimizer(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if options.optimizer == "sgd":
        return torch.optim.SGD(weights, lr=options.learning_rate, momentum=0.9, weight_decay=options.weight_decay)
    return torch.optim.AdamW(weights, lr=options.learning_rate, weight_decay=options.weight_decay)


def _are_pictures(inputs: Inputs) -> bool:
    one = inputs.gather(np.array([0])) if len(inputs) and not isinstance(inputs, TextInputs) else None
    return isinstance(one, torch.Tensor) and one.ndim == 4


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
    options = before.get("options")
    options = options if isinstance(options, dict) else {}
    names = [name for name, value in now["options"].items() if options.get(name) != value]
    names += [name for name in ("source", "model_spec") if before.get(name) != now[name]]
    if moved := sorted(set(map(str, _listed(before.get("frozen")))) ^ set(now["frozen"])):
        names.append(f"frozen parameters ({moved[0]}{f' and {len(moved) - 1} more' if moved[1:] else ''})")
    return "other " + ", ".join(names) if names else "other data or masks"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
