"""A run: a trained model with the data it was trained on. Everything after training asks it for both."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from whence.arguments import instance_of
from whence.attachment import attached, placement, reattach
from whence.data import Dataset
from whence.data.loading import Source
from whence.data.tasks import well_formed
from whence.dropout import full
from whence.dynamics import Dynamics, fault, of_instances, put_dynamics, read_dynamics
from whence.errors import NotGivenError, WhenceError
from whence.fingerprints import digest, digest_tensors
from whence.forward import device_of, evaluating, outputs
from whence.models import ModelSpec, build, encode_more
from whence.options import TrainingOptions
from whence.quantities import LossFunction, Quantity, loss_of
from whence.rundir import RunDirectory

__all__ = ["Run", "open_run"]


class Run:
    """One trained model, its data, its masks and, with ``out``, its directory.

    Args:
        model: trained with turn-over dropout attached, under ``whence.own(ids)``.
        train: what it was trained on: a ``Dataset``, (ids, inputs, targets), or a torch dataset that carries ids.
        dev: instances for validation, or None.
        test: instances to explain, or None.
        loss: (outputs [B, C], targets [B]) → [B]; by default cross-entropy (nats) or squared error.
        out: a run directory to keep results in; None keeps everything in memory.
        config: further description for run.json.
        replace: if the directory holds another run, put this one in its place: its scores, audit, report and history
            are deleted.
        dynamics: what flipped sub-networks said while training lasted, or None: audits are the surer for it.

    Raises:
        WhenceError: no turn-over dropout is attached; the directory holds another run and replace is False; dynamics are of
            other data.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Any,
        *,
        dev: Any = None,
        test: Any = None,
        loss: LossFunction | Quantity | None = None,
        out: str | os.PathLike[str] | None = None,
        config: dict[str, Any] | None = None,
        replace: bool = False,
        dynamics: Dynamics | None = None,
    ) -> None:
        self.model = instance_of(model, nn.Module, "model")
        self.splits = as_splits(train, dev=dev, test=test)
        self.train = self.splits["train"]
        self.task = self.train.task
        self.loss = loss if isinstance(loss, Quantity) else loss_of(self.task, loss)
        self.config: dict[str, Any] = dict(instance_of({} if config is None else config, dict, "config"))
        if not attached(model):
            raise WhenceError("no turn-over dropout in the model", where=type(model).__name__,
                              mend="Call whence.attach(model) before training.")  # fmt: skip
        for data in self.splits.values():
            probe(model, data)
        self.directory = None if out is None else RunDirectory(out)
        self.history: list[dict[str, float]] = []
        self._dynamics = None if dynamics is None else self._fitting(instance_of(dynamics, Dynamics, "dynamics"))
        self._kept: str | None = self.config.get("fingerprint") if self.config.get("opened") else None
        if self.directory is not None and self.directory.has("history.parquet"):
            self.history = _history(self.directory)
        if self.directory is not None and not self.config.get("opened"):
            self.save(replace=replace)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(data):,} {name}" for name, data in self.splits.items())
        place = "" if self.directory is None else f", {self.directory.path}"
        return f"Run({sizes} instances, {self.task.kind}{place})"

    @property
    def device(self) -> torch.device:
        return device_of(self.model)

    @property
    def layers(self) -> dict[str, Any]:
        """The masked layers by name."""
        return attached(self.model)

    @property
    def dynamics(self) -> Dynamics:
        """What flipped sub-networks said while training lasted; without any moment where nobody looked.

        Raises:
            WhenceError: the run's file of it is damaged.
        """
        if self._dynamics is None:
            if self.directory is None:
                return Dynamics()
            self._refuse_another()
            self._dynamics = read_dynamics(self.directory, self._kept, (len(self.train), self.task.outputs))
        return self._dynamics

    def _fitting(self, dynamics: Dynamics) -> Dynamics:
        """A copy of dynamics that are given.

        Raises:
            WhenceError: they are of other data, or none.
        """
        wrong = fault(dynamics, (len(self.train), self.task.outputs))
        if wrong is None and dynamics.instances not in ("", of_instances(self.train)):
            wrong = "predictions of instances of other ids, or in another order"
        if wrong is not None:
            raise WhenceError("dynamics of other data", where="dynamics", got=wrong,
                              expected="what was seen of the training instances",
                              mend="Look at the training instances that the run is given.")  # fmt: skip
        return copy.copy(dynamics)

    def dataset(self, name: str) -> Dataset:
        """One split by name."""
        if not isinstance(name, str) or name not in self.splits:
            raise WhenceError(f"no split named {name!r}", where="the run", got=f"only {', '.join(self.splits)}",
                              mend="Name one of these.")  # fmt: skip
        return self.splits[name]

    def more_targets(self, path: str | os.PathLike[str]) -> Dataset:
        """New instances to explain, from a table with the columns of the run's data.

        Raises:
            WhenceError: the run's data came from Python, or the table does not fit them.
        """
        if not self.config.get("source") or not self.config.get("model_spec"):
            raise WhenceError("a file of new instances for a run whose data came from Python", where=str(path),
                              mend="Give the instances themselves: whence.influence(run, (ids, inputs, targets)).")  # fmt: skip
        source = Source.from_json(self.config["source"])
        data = source.load()
        return encode_more(ModelSpec.from_json(self.config["model_spec"]), data, source.load_more(path, data))

    def fingerprint(self) -> str:
        """A hash of training data, weights, masks and which weights were trained: what scores belong to. 32 hexadecimal digits."""
        model = self.model
        return digest(self.train.fingerprint(), digest_tensors(model.state_dict()), placement(model), frozen(model))

    def save(self, *, replace: bool = False) -> None:
        """Write the run's description, weights and table of instances.

        Args:
            replace: another run that the directory holds, with all that was made from it.

        Raises:
            WhenceError: the directory holds another run and replace is False.
        """
        assert self.directory is not None
        if self.directory.is_foreign():
            raise WhenceError("a directory that is not a run", where=str(self.directory.path),
                              expected="a new or empty directory, or a run")  # fmt: skip
        now = {"fingerprint": self.fingerprint(), "loss_fingerprint": self.loss.fingerprint(self.task)}
        self.directory.begin()
        # Beside others who make something from it, if it is there; else alone.
        shared = self._lies_there(now)
        with self.directory.locked(shared=shared):
            if self._lies_there(now) or not shared:
                return self._write(now, replace)
        return self.save(replace=replace)  # it was another's turn in between

    def _lies_there(self, now: Mapping[str, str]) -> bool:
        assert self.directory is not None
        before = self.directory.read_config() if self.directory.exists() else {}
        return all(before.get(key) == value for key, value in now.items())

    def _write(self, now: Mapping[str, str], replace: bool) -> None:
        assert self.directory is not None
        if self.directory.exists():
            before = self.directory.read_config()
            if any(before.get(key) not in (None, value) for key, value in now.items()):
                if not replace:
                    raise WhenceError("the directory holds another run", where=str(self.directory.path),
                                      mend="Give another directory, or pass replace=True to put this run in its place "
                                           "and delete the scores, audit and report of the other.")  # fmt: skip
                self.directory.write_config({**before, "status": "replaced"})  # a killed process leaves parts of both
                self.directory.clear()
                self.history = []
            elif before.get("status") == "trained":
                self.config = {**before, **self.config}
        self.directory.write_tensors("model.safetensors", self.model.state_dict())
        self.directory.write_table("instances.parquet", instance_table(self.splits))
        put_dynamics(self.directory, self._dynamics, now["fingerprint"])
        self.directory.write_config(
            {
                **self.config,
                "status": "trained",
                **now,
                "loss": self.loss.name,
                "architecture": digest(repr(self.model)),
                "task": self.task.to_json(),
                "placement": placement(self.model),
                "frozen": frozen(self.model),
            }
        )
        self._kept = now["fingerprint"]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While something is made from the run: nobody puts another in its place meanwhile. One in memory is nobody else's.

        Raises:
            WhenceError: another one was put in its place since this one was opened.
        """
        if self.directory is None:
            yield
            return
        with self.directory.locked(shared=True):
            self._refuse_another()
            yield

    def _refuse_another(self) -> None:
        if self.directory is not None and self.directory.read_config().get("fingerprint") != self._kept:
            raise WhenceError("another run was put in the place of this one", where=str(self.directory.path),
                              mend="Open it again: whence.open_run(path).")  # fmt: skip


def _history(directory: RunDirectory) -> list[dict[str, float]]:
    table = directory.read_table("history.parquet")
    for name in table.column_names:
        if not pa.types.is_floating(table[name].type) and not pa.types.is_integer(table[name].type):
            raise directory.damaged("history.parquet", f"column {name} of type {table[name].type}", "numbers")
    rows: list[dict[str, float]] = table.to_pylist()
    return rows


def as_splits(train: Any, *, dev: Any = None, test: Any = None) -> dict[str, Dataset]:
    """Datasets by split name, "train" first. A dataset that names its splits is divided by them."""
    data = Dataset.of(train)
    splits = {"train": data}
    if data.has_split("train") and not np.all(data.splits == "train"):
        names = dict.fromkeys(["train", "dev", "test", *map(str, data.splits if data.splits is not None else [])])
        splits = {name: data.split(name) for name in names if data.has_split(name)}
    for name, given in (("dev", dev), ("test", test)):
        if given is not None:
            splits[name] = Dataset.of(given, task=data.task)
    return splits


def probe(model: nn.Module, data: Dataset) -> None:
    """Call the model on two instances, so that every masked layer knows its width.

    Raises:
        WhenceError: the model cannot be called on such inputs, its outputs do not fit the task, or a masked layer was not reached.
    """
    layers = attached(model)
    with evaluating(model), full() as context, torch.no_grad():
        batch = data.batch(np.arange(min(2, len(data)))).to(device_of(model))
        try:
            given = outputs(model, batch.inputs)
        except WhenceError:
            raise
        except Exception as error:  # whatever a module of the user's raises
            raise WhenceError("the model cannot be called on these inputs", where=type(model).__name__,
                              got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                              mend="Give inputs of the shape and type that its forward pass takes.") from error  # fmt: skip
    if given.shape != (len(batch.targets), data.task.outputs):
        raise WhenceError("the model's outputs do not fit the targets", where=type(model).__name__,
                          got=f"shape {tuple(given.shape)}", expected=f"{(len(batch.targets), data.task.outputs)}")  # fmt: skip
    if idle := [name for name in layers if not context.calls(name)]:
        raise WhenceError("a masked layer that is not called in evaluation mode", where="the model", got=", ".join(idle),
                          mend="Attach to modules that the forward pass calls whether it trains or not.")  # fmt: skip


def instance_table(splits: Mapping[str, Dataset]) -> pa.Table:
    """id, name, split, label (group, group_name, text) of every instance, the training split first."""
    tables = []
    for split, data in splits.items():
        columns: dict[str, Any] = {
            "id": data.ids,
            "name": data.all_names(),
            "split": [split] * len(data),
            "label": data.task.show(data.targets),
        }
        if data.groups is not None:
            columns["group"] = data.groups
            columns["group_name"] = [
                str(name) for name in (data.groups if data.group_names is None else data.group_names)
            ]
        if data.texts is not None:
            columns["text"] = [well_formed(text) for text in data.texts]
        tables.append(pa.table(columns))
    return pa.concat_tables(tables, promote_options="default")


def frozen(model: nn.Module) -> list[str]:
    """Names of the parameters that are not trained, which scores leave out, in the order of the model."""
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


def open_run(path: str | os.PathLike[str], *, model: nn.Module | None = None, train: Any = None, dev: Any = None,
             test: Any = None, loss: LossFunction | None = None, device: str | None = None) -> Run:  # fmt: skip
    """The run of a directory.

    A run that ``whence fit`` made reopens its data and model by itself. One of your own model or data needs them again.

    Args:
        path: the run directory.
        model: the module, of any weights; its weights are loaded from the run.
        train, dev, test, loss: as for ``Run``.
        device: where the model will be asked: cpu, cuda, cuda:1, mps, or auto, which takes a GPU where there is one; None
            leaves it where it is.

    Raises:
        WhenceError: no run there; no such device; the model or data were your own and are not given; the data are not those of
            the run.
    """
    directory = RunDirectory(path)
    config = directory.read_config()
    if model is not None:
        instance_of(model, nn.Module, "model")
    if config.get("status") != "trained":
        if config.get("status") == "replaced":
            raise WhenceError("a run that is not whole", where=str(directory.path), got="another in its place, in part",
                              mend="Give what put it there again.")  # fmt: skip
        busy = directory.writer()
        raise WhenceError("the run is not trained yet", where=str(directory.path), got=busy and f"training by {busy}",
                          mend="Wait for it." if busy else "Give the same `whence fit` again to resume it.")  # fmt: skip
    for key, kind in (("fingerprint", str), ("placement", list), ("frozen", list), ("task", dict)):
        if not isinstance(config.get(key), kind):
            raise WhenceError("a damaged file", where=str(directory.config_path), got=f"{key} {config.get(key)!r:.40}",
                              expected=f"a {kind.__name__}")  # fmt: skip
    if train is None:
        if not config.get("source"):
            raise NotGivenError("the run was trained on data given from Python", where=str(directory.path),
                                mend="Give them again: whence.open_run(path, model=..., train=...).")  # fmt: skip
        train = Source.from_json(config["source"]).load()
    if config.get("model_spec"):
        spec = ModelSpec.from_json(config["model_spec"])
        # A description may promise any width; the weights have to be there.
        most = directory.count_numbers("model.safetensors")
        built, train = build(spec, train, seed=0, most_weights=most)
        model = built if model is None else model
    if model is None:
        raise NotGivenError("the run was trained with a model of your own", where=str(directory.path),
                            mend="Give it again: whence.open_run(path, model=...).")  # fmt: skip
    reattach(model, config["placement"])
    weights, _ = directory.read_tensors("model.safetensors")
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise WhenceError(
            "the weights do not fit the model", where=str(Path(path) / "model.safetensors"), got=str(error)
        ) from error
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(name not in config["frozen"])
    if device is not None:
        model.to(TrainingOptions(device=device).torch_device())
    run = Run(model, train, dev=dev, test=test, loss=loss, out=path, config={**config, "opened": True})
    if config.get("loss_fingerprint") != run.loss.fingerprint(run.task):
        raise WhenceError("another loss than the run's", where=str(directory.path), got=run.loss.name, expected=config.get("loss"),
                          mend="Give the loss that it was trained with: whence.open_run(path, loss=...).")  # fmt: skip
    if config.get("architecture") != digest(repr(model)):
        raise WhenceError("another model than the run's", where=str(directory.path), got=type(model).__name__,
                          mend="Give a model of the same modules.")  # fmt: skip
    if run.fingerprint() != config["fingerprint"]:
        source = (config.get("source") or {}).get("path", "the data given")
        raise WhenceError("the data or weights are not those of the run", where=str(directory.path), got=f"{source} as it is now",
                          expected=f"fingerprint {config['fingerprint']}", mend="Restore the data, or fit again.")  # fmt: skip
    return run
