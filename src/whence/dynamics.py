"""Training dynamics: what flipped sub-networks said of the training instances while training lasted."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from whence.arguments import instance_of
from whence.attachment import attached
from whence.data import Classification, Dataset
from whence.errors import WhenceError
from whence.fingerprints import digest_tensors
from whence.forward import predict
from whence.quantities import Quantity, is_usual
from whence.rundir import RunDirectory

__all__ = ["FILE", "Dynamics", "epochs_to_look", "fault", "of_instances", "put_dynamics", "read_dynamics"]

FILE = "dynamics.safetensors"
_MOST = 2**27  # numbers [N, C] that are kept: 512 MiB
_LOG = logging.getLogger("whence")


@dataclass(eq=False)
class Dynamics:
    """Predictions of training instances under their flipped masks at moments of training, averaged.

    A sub-network that never learned an instance changes its mind about it from epoch to epoch; the mean over some of them is the
    better prediction. ``out_of_sample`` and ``audit`` use it where a run has it and was trained with cross-entropy. ``fit`` keeps
    it by itself. In a loop of your own look at the end of some epochs, and give it to the run, which adds the end of training::

        dynamics = whence.Dynamics()
        for epoch in range(epochs):
            ...
            if epoch < epochs - 1:
                dynamics.look(model, data)
        run = whence.Run(model, data, dynamics=dynamics)

    Attributes:
        moments: how often it was looked.
        flipped: float32 [N, C], mean probabilities over these moments, rows in the order of the data; None before the first.
        instances: a hash of the ids of the data in their order; empty before the first, and where nobody knows.
    """

    moments: int = 0
    flipped: torch.Tensor | None = None
    instances: str = ""

    def look(self, model: nn.Module, data: Dataset) -> None:
        """Ask the model, as it is now, about all training instances: one pass over them, without gradients.

        What is not finite is not kept, and logged.

        Args:
            model: a classifier with turn-over dropout.
            data: the training instances, the same each time.

        Raises:
            WhenceError: the task is no classification; a model without turn-over dropout, or of other classes; other data than
                before.
        """
        if not isinstance(instance_of(data, Dataset, "data").task, Classification):
            raise WhenceError("predictions of something else than classes", where="Dynamics.look", got=data.task.kind,
                              expected="a classification", mend="Leave dynamics out: nothing would use them.")  # fmt: skip
        if not attached(instance_of(model, nn.Module, "model")):
            raise WhenceError("no turn-over dropout in the model", where="Dynamics.look", got=type(model).__name__,
                              mend="Call whence.attach(model) before training.")  # fmt: skip
        if self.instances not in ("", of_instances(data)):
            raise WhenceError("other data than before", where="Dynamics.look", got=f"{len(data)} instances of other ids",
                              expected="those of the first look, in the same order",
                              mend="Look at the same training instances each time.")  # fmt: skip
        said = torch.from_numpy(predict(model, data, "flipped")).softmax(dim=1)
        if said.shape[1] != data.task.outputs:
            raise WhenceError("the model's outputs do not fit the targets", where="Dynamics.look", got=f"{said.shape[1]} outputs",
                              expected=f"{data.task.outputs}")  # fmt: skip
        if not bool(torch.isfinite(said).all()):
            _LOG.warning("predictions under flipped masks that are not finite: they are not kept for audits")
            return
        self.moments, self.instances = self.moments + 1, of_instances(data)
        self.flipped = said if self.flipped is None else self.flipped.lerp(said, 1 / self.moments)

    def and_end(self, said: torch.Tensor) -> torch.Tensor:
        """The mean over these moments and the end of training, of which ``said`` [N, C] are the probabilities."""
        return said if self.flipped is None else self.flipped.lerp(said, 1 / (self.moments + 1))


def of_instances(data: Dataset) -> str:
    """A hash of ids in their order: 32 hexadecimal digits."""
    return digest_tensors({"ids": torch.from_numpy(np.ascontiguousarray(data.ids))})


def epochs_to_look(data: Dataset, loss: Quantity, epochs: int, moments: int) -> frozenset[int]:
    """The epochs, from 0, at whose end is looked: so many moments, spread evenly between beginning and end of training.

    None where nothing would use them, which is of other tasks and losses than classes and cross-entropy, and where there is too
    much to keep.
    """
    if not isinstance(data.task, Classification) or not is_usual(loss, data.task):
        return frozenset()
    moments = min(moments, epochs - 1)
    if moments and len(data) * data.task.outputs > _MOST:
        _LOG.info("no training dynamics are kept of %d instances and %d classes", len(data), data.task.outputs)
        return frozenset()
    ends = (int(epochs * moment / (moments + 1) + 0.5) for moment in range(1, moments + 1))
    return frozenset(end - 1 for end in ends)


def fault(dynamics: Dynamics, shape: tuple[int, int]) -> str | None:
    """What is wrong with dynamics that somebody gives or a file holds, in words.

    Args:
        shape: (N, C), of the training instances.
    """
    moments, flipped = dynamics.moments, dynamics.flipped
    if type(moments) is not int or not 0 <= moments < 2**31 or (moments > 0) != (flipped is not None):
        return f"moments {moments!r:.40}" + ("" if flipped is not None else " without predictions")
    if flipped is None:
        return None
    if not isinstance(flipped, torch.Tensor) or flipped.dtype != torch.float32 or tuple(flipped.shape) != shape:
        what = (
            f"{flipped.dtype} {tuple(flipped.shape)}" if isinstance(flipped, torch.Tensor) else type(flipped).__name__
        )
        return f"predictions {what} where float32 {shape} are wanted"
    if not bool(((flipped >= 0) & (flipped <= 1.001)).all() and ((flipped.sum(1) - 1).abs() < 1e-2).all()):
        return "predictions that are no probabilities"
    return None


def put_dynamics(directory: RunDirectory, dynamics: Dynamics | None, fingerprint: str) -> None:
    """Write what was seen in a run's directory, or remove what is of another run or was not seen in this one.

    What an audit said without it, or with other dynamics, goes too.

    Args:
        dynamics: None where nobody said anything of them: those of the run stay.
        fingerprint: of the run.
    """
    said, about = _there(directory)
    ours = about.get("fingerprint") == fingerprint
    if dynamics is None and (ours or not directory.has(FILE)):
        return
    if dynamics is not None and dynamics.flipped is not None:
        wanted = {"moments": str(dynamics.moments), "fingerprint": fingerprint}
        if about == wanted and said is not None and torch.equal(said, dynamics.flipped):
            return
        directory.write_tensors(FILE, {"flipped": dynamics.flipped}, wanted)
    elif directory.has(FILE):
        directory.remove(FILE)
    else:
        return
    for name in ("audit.parquet", "report.html"):
        directory.remove(name)


def _there(directory: RunDirectory) -> tuple[torch.Tensor | None, dict[str, str]]:
    """What a file holds that may be damaged, or not be there."""
    try:
        tensors, about = directory.read_tensors(FILE) if directory.has(FILE) else ({}, {})
    except WhenceError:
        return None, {}
    return tensors.get("flipped"), about


def read_dynamics(directory: RunDirectory, fingerprint: str | None, shape: tuple[int, int]) -> Dynamics:
    """What ``put_dynamics`` wrote; nothing seen where it wrote none.

    Args:
        fingerprint: of the run; shape: (N, C), of its training instances.

    Raises:
        WhenceError: the file is damaged, or of another run.
    """
    if not directory.has(FILE):
        return Dynamics()
    tensors, about = directory.read_tensors(FILE)
    moments = about.get("moments", "")
    number = int(moments) if moments.isascii() and moments.isdigit() and len(moments) < 12 else -1
    found = Dynamics(number, tensors.get("flipped"))
    wrong = fault(found, shape)
    if about.get("fingerprint") != fingerprint:
        wrong = f"predictions of another run, {about.get('fingerprint')!r:.40}"
    if wrong is not None or not found.moments:
        raise WhenceError("a damaged file", where=str(directory.path / FILE), got=wrong or "no moment",
                          expected=f"probabilities of run {fingerprint}",
                          mend="Put it back as it was, or delete it: audits then know the end of training alone.")  # fmt: skip
    return found
