"""Training dynamics: what flipped sub-networks said of the training instances while training lasted."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import nn

from whence.arguments import instance_of
from whence.data import Classification, Dataset
from whence.errors import WhenceError
from whence.forward import predict
from whence.rundir import RunDirectory

__all__ = ["FILE", "Dynamics", "epochs_to_look", "read_dynamics", "write_dynamics"]

FILE = "dynamics.safetensors"
_MOST = 2**27  # numbers [N, C] that are kept: 512 MiB
_LOG = logging.getLogger("whence")


@dataclass(eq=False)
class Dynamics:
    """Predictions of training instances under their flipped masks at moments of training, averaged.

    A sub-network that never learned an instance changes its mind about it from epoch to epoch; the mean over some of them is the
    better prediction, and ``out_of_sample`` and ``audit`` use it where a run has it. ``fit`` keeps it by itself. In a loop of your
    own, or a callback of a trainer, look at the end of some epochs, and give it to the run, which adds the end of training itself:

        dynamics = whence.Dynamics()
        for epoch in range(epochs):
            ...
            if epoch < epochs - 1:
                dynamics.look(model, data)
        run = whence.Run(model, data, dynamics=dynamics)

    Attributes:
        moments: how often it was looked.
        flipped: float32 [N, C], mean probabilities over these moments, rows in the order of the data; None before the first.
    """

    moments: int = 0
    flipped: torch.Tensor | None = None

    def look(self, model: nn.Module, data: Dataset) -> None:
        """Ask the model, as it is now, about all training instances: one pass over them, without gradients.

        Args:
            model: a classifier with turn-over dropout.
            data: the training instances, the same each time.

        Raises:
            WhenceError: the task is no classification; other data than before.
        """
        if not isinstance(instance_of(data, Dataset, "data").task, Classification):
            raise WhenceError("predictions of something else than classes", where="Dynamics.look", got=data.task.kind,
                              expected="a classification", mend="Leave dynamics out: nothing would use them.")  # fmt: skip
        said = torch.from_numpy(predict(instance_of(model, nn.Module, "model"), data, "flipped")).softmax(dim=1)
        if self.flipped is not None and self.flipped.shape != said.shape:
            raise WhenceError("other data than before", where="Dynamics.look", got=f"predictions {tuple(said.shape)}",
                              expected=f"{tuple(self.flipped.shape)}",
                              mend="Look at the same training instances each time.")  # fmt: skip
        self.moments += 1
        self.flipped = said if self.flipped is None else self.flipped + (said - self.flipped) / self.moments

    def and_end(self, said: torch.Tensor) -> torch.Tensor:
        """The mean over these moments and the end of training, of which ``said`` [N, C] are the probabilities."""
        return said if self.flipped is None else self.flipped + (said - self.flipped) / (self.moments + 1)


def epochs_to_look(data: Dataset, epochs: int, moments: int) -> frozenset[int]:
    """The epochs, from 0, at whose end is looked: so many moments, spread evenly between beginning and end of training."""
    if not isinstance(data.task, Classification):
        return frozenset()
    if len(data) * data.task.outputs > _MOST:
        if moments and epochs > 1:
            _LOG.info("no training dynamics are kept of %d instances and %d classes", len(data), data.task.outputs)
        return frozenset()
    moments = min(moments, epochs - 1)
    ends = (int(epochs * moment / (moments + 1) + 0.5) for moment in range(1, moments + 1))
    return frozenset(end - 1 for end in ends)


def write_dynamics(directory: RunDirectory, dynamics: Dynamics, fingerprint: str) -> None:
    """Write what was seen, if anything was.

    Args:
        fingerprint: of the run.
    """
    if dynamics.flipped is not None:
        metadata = {"moments": str(dynamics.moments), "fingerprint": fingerprint}
        directory.write_tensors(FILE, {"flipped": dynamics.flipped}, metadata)


def read_dynamics(directory: RunDirectory, fingerprint: str | None, shape: tuple[int, int]) -> Dynamics:
    """What ``write_dynamics`` wrote; nothing seen where it wrote none.

    Args:
        fingerprint: of the run; shape: (N, C), of its training instances.

    Raises:
        WhenceError: the file is damaged, or of another run.
    """
    if not directory.has(FILE):
        return Dynamics()
    tensors, metadata = directory.read_tensors(FILE)
    flipped, moments = tensors.get("flipped"), metadata.get("moments", "")
    if metadata.get("fingerprint") != fingerprint:
        raise directory.damaged(
            FILE, f"fingerprint {metadata.get('fingerprint')!r:.40}", f"that of the run, {fingerprint}"
        )
    if not (moments.isascii() and moments.isdigit() and 0 < int(moments[:10]) < 2**31):
        raise directory.damaged(FILE, f"moments {moments!r:.40}", "how often it was looked")
    if flipped is None or flipped.dtype != torch.float32 or tuple(flipped.shape) != shape:
        got = "nothing" if flipped is None else f"{flipped.dtype} {tuple(flipped.shape)}"
        raise directory.damaged(FILE, got, f"flipped, float32 {shape}")
    if not bool(((flipped >= 0) & (flipped <= 1.001)).all() and ((flipped.sum(1) - 1).abs() < 1e-2).all()):
        raise directory.damaged(FILE, "numbers that are none", "probabilities")
    return Dynamics(int(moments), flipped)
