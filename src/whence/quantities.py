"""What is measured on a target: a loss or a metric, one number per instance.

A score is signed so that positive means the training instance helps: the quantity without it minus the quantity with
it when lower is better, the other way round when higher is better.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F

from whence.data.tasks import Classification, LanguageModeling, Task
from whence.errors import WhenceError
from whence.fingerprints import digest

__all__ = ["QUANTITIES", "LossFunction", "Quantity", "is_usual", "loss_of", "quantity_named"]

LossFunction: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Quantity:
    """A number per instance.

    Attributes:
        name: what it is called in files and reports.
        function: (outputs [B, C], targets [B]) → [B].
        unit: of the number, and so of the scores.
        higher_is_better: whether a larger number is a better prediction.
        differentiable: whether gradients mean something (accuracy has none).
    """

    name: str
    function: LossFunction
    unit: str
    higher_is_better: bool = False
    differentiable: bool = True

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        values = self.function(outputs, targets)
        if not isinstance(values, torch.Tensor):
            raise WhenceError("not one number per instance", where=f"quantity {self.name!r}", got=type(values).__name__,
                              expected="a tensor [B]")  # fmt: skip
        if values.shape != outputs.shape[:1]:
            raise WhenceError("not one number per instance", where=f"quantity {self.name!r}",
                              got=f"shape {tuple(values.shape)}", expected=f"{tuple(outputs.shape[:1])}",
                              mend='Losses of torch need reduction="none".')  # fmt: skip
        return values

    def fingerprint(self, task: Task) -> str:
        """What the function does, told by its values on fixed outputs: 32 hexadecimal digits. Names do not tell."""
        generator = torch.Generator().manual_seed(0)
        outputs = 3 * torch.randn(16, task.outputs, generator=generator)
        targets = torch.arange(16) % task.outputs if isinstance(task, Classification) else torch.linspace(-2, 2, 16)
        values = self(outputs, targets).detach().double().tolist()
        return digest([f"{value:.3g}" for value in values], self.higher_is_better)

    @property
    def helps(self) -> int:
        """+1 or −1: the sign that turns (without − with) into "positive helps"."""
        return -1 if self.higher_is_better else 1


def cross_entropy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """−log softmax(outputs)[target], in nats: [B]."""
    return -_true_class(F.log_softmax(outputs.float(), dim=-1), targets)


def squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(output − target)²: [B]."""
    return (outputs[:, 0].float() - targets) ** 2


def accuracy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """1.0 where the largest output is the target's: [B]."""
    return (outputs.argmax(dim=-1) == targets).float()


def probability(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """softmax(outputs)[target]: [B]."""
    return _true_class(outputs.float().softmax(dim=-1), targets)


def margin(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log p − log(1 − p) of the target's class: its logit against all others (TRAK's model output function): [B]."""
    outputs = outputs.float()
    true = _true_class(outputs, targets)
    classes = torch.arange(outputs.shape[-1], device=outputs.device)
    others = outputs.masked_fill(classes == targets[:, None], -torch.inf)
    return true - others.logsumexp(dim=-1)


def absolute_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """|output − target|: [B]."""
    return (outputs[:, 0].float() - targets).abs()


def token_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean loss of a text's tokens, in nats: [B]. Outputs are (sum, number of tokens)."""
    return outputs[:, 0].float() / outputs[:, 1].float()


def text_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The summed loss of a text's tokens, in nats: [B]."""
    return outputs[:, 0].float()


def _true_class(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return values.gather(1, targets[:, None])[:, 0]


_CLASSIFICATION = {
    "loss": Quantity("loss", cross_entropy, "nats"),
    "accuracy": Quantity("accuracy", accuracy, "share correct", higher_is_better=True, differentiable=False),
    "probability": Quantity("probability", probability, "probability", higher_is_better=True),
    "margin": Quantity("margin", margin, "logits", higher_is_better=True),
}
_REGRESSION = {
    "loss": Quantity("loss", squared_error, "squared error over the training variance"),
    "absolute_error": Quantity("absolute_error", absolute_error, "absolute error over the training deviation"),
}
_LANGUAGE = {
    "loss": Quantity("loss", token_loss, "nats per token"),
    "text_loss": Quantity("text_loss", text_loss, "nats per text"),
}
QUANTITIES = tuple(dict.fromkeys([*_CLASSIFICATION, *_REGRESSION]))


def is_usual(loss: Quantity, task: Task) -> bool:
    """Whether a loss is what the task is trained with when nothing is said: cross-entropy, squared error, or that of tokens."""
    return loss.fingerprint(task) == loss_of(task).fingerprint(task)


def quantity_named(quantity: str | Quantity | LossFunction, task: Task, loss: Quantity | None = None) -> Quantity:
    """The quantity of that name for a task; a function (outputs, targets) → [B] counts as a loss: lower is better.

    Args:
        loss: what "loss" means where a model was trained on one of its own.
    """
    if loss is not None and isinstance(quantity, str) and quantity == "loss":
        return loss
    if isinstance(quantity, Quantity):
        return quantity
    if callable(quantity):
        name = re.sub(r"[^A-Za-z0-9]+", "_", getattr(quantity, "__name__", type(quantity).__name__)).strip("_")
        return Quantity(name or "loss", quantity, "units of the given loss")
    if isinstance(task, LanguageModeling):
        known = _LANGUAGE
    else:
        known = _CLASSIFICATION if isinstance(task, Classification) else _REGRESSION
    if not isinstance(quantity, str) or quantity not in known:
        raise WhenceError("unknown quantity", got=repr(quantity), expected=f"one of {', '.join(known)} for {task.kind}")
    return known[quantity]


def loss_of(task: Task, loss: LossFunction | None = None) -> Quantity:
    """The training loss, one number per instance: the given one, else cross-entropy, squared error or a text's mean token loss."""
    return quantity_named("loss" if loss is None else loss, task)
