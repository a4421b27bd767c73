"""A transformer encoder with a head: what is trained, and where masks can be."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from whence.dropout import in_force
from whence.errors import WhenceError
from whence.models.mlp import hidden_layers, initialize

__all__ = ["Adapter", "EncoderClassifier", "Tuned", "Update", "layers_of", "pooled"]


def pooled(states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """The mean of hidden states [B, L, H] over a text's tokens, padding left out: [B, H]."""
    weights = attention_mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp_min(1)


class Adapter(nn.Module):
    """h + U·relu(D·h): a bottleneck added to hidden states, zero before training (Houlsby et al. 2019, arXiv 1902.00751).

    U has no bias, so that with masks after the ReLU every trained number belongs to a masked unit.

    Args:
        width: H, of hidden states.
        units: of the bottleneck.
    """

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, units)
        self.relu = nn.ReLU()
        self.up = nn.Linear(units, width, bias=False)
        initialize(self)
        nn.init.zeros_(self.up.weight)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[B, L, H] → [B, L, H]."""
        moved: torch.Tensor = states + self.up(self.relu(self.down(states)))
        return moved

    def after(self, layer: nn.Module, given: Any, output: Any) -> Any:
        """A forward hook of a transformer layer, which gives hidden states or a tuple that begins with them."""
        return (self(output[0]), *output[1:]) if isinstance(output, tuple) else self(output)


class Update(nn.Linear):
    """ΔW·x + Δb, added to what a frozen linear layer W·x + b gives; zero before training.

    With masks behind it, an output unit of the layer is the tuned one for the instances that keep it and the pretrained one for
    the others, and every trained number belongs to a masked unit.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features)

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, states: torch.Tensor, weight: Any = None, bias: Any = None) -> torch.Tensor:
        """ΔW·x + Δb, or with the frozen layer's W and b what both give, by one product in place of two."""
        weight = self.weight if weight is None else self.weight + weight
        return F.linear(states, weight, self.bias if bias is None else self.bias + bias)


class Tuned(nn.Linear):
    """A frozen linear layer with its ``Update``, in the layer's place and with its weights under their own names."""

    def __init__(self, linear: nn.Linear, update: Update) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._update = (update,)  # in a tuple, since it is registered elsewhere

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[..., D] → [..., H]."""
        (update,) = self._update
        masks = in_force()
        if masks is None or masks.mode == "full":
            together: torch.Tensor = update(states, self.weight, self.bias)
            return together
        apart: torch.Tensor = super().forward(states) + update(states)
        return apart


class EncoderClassifier(nn.Module):
    """The mean of an encoder's last hidden states, then a head.

    Args:
        base: of transformers' ``AutoModel``.
        width: H, of its hidden states.
        outputs: C.
        hidden: units of the head's hidden layer; 0 for dropout and a linear head, as transformers' own classifiers have.
        frozen: the base is not trained; it then stays in evaluation mode, without its own dropout, and outputs have no bias,
            which would learn every instance.
        bottleneck: units of an adapter after each of the base's layers; 0 for none.
        updated: whether each of the base's linear layers has an ``Update``.
    """

    def __init__(
        self,
        base: nn.Module,
        width: int,
        outputs: int,
        *,
        hidden: int,
        frozen: bool = False,
        bottleneck: int = 0,
        updated: bool = False,
    ) -> None:
        super().__init__()
        self.base, self.frozen = base, frozen
        if frozen:
            base.requires_grad_(False)
        self.adapters = nn.ModuleList()
        for layer in layers_of(base) if bottleneck else []:
            adapter = Adapter(width, bottleneck)
            layer.register_forward_hook(adapter.after)
            self.adapters.append(adapter)
        self.updates = nn.ModuleList()
        for name, linear in (
            [pair for pair in base.named_modules() if isinstance(pair[1], nn.Linear)] if updated else []
        ):
            self.updates.append(update := Update(linear))
            parent, _, last = name.rpartition(".")
            setattr(base.get_submodule(parent), last, Tuned(linear, update))
        self.norm = nn.LayerNorm(width, elementwise_affine=False) if hidden else nn.Identity()
        self.body = hidden_layers([width, hidden]) if hidden else nn.Sequential()
        if not hidden:
            self.body.add_module("dropout", nn.Dropout(0.1))
        self.head = nn.Linear(hidden or width, outputs, bias=not frozen)
        initialize(self.body)
        nn.init.normal_(self.head.weight, std=0.02)
        if self.head.bias is not None:
            nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> EncoderClassifier:
        super().train(mode)
        if self.frozen:
            self.base.eval()
        return self

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        """[B, L] each → [B, C]."""
        states = self.base(input_ids=input_ids, attention_mask=attention_mask, **more).last_hidden_state  # (B, L, H)
        logits: torch.Tensor = self.head(self.body(self.norm(pooled(states, attention_mask))))
        return logits


def layers_of(base: nn.Module) -> nn.ModuleList:
    """The transformer layers of an encoder, first to last.

    Raises:
        WhenceError: they are not a list of as many modules as its configuration says.
    """
    count = getattr(getattr(base, "config", None), "num_hidden_layers", None)
    for module in base.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise WhenceError("an encoder whose layers are not found", where=type(base).__name__, expected=f"a list of {count} modules",
                      mend="Choose --masked updates, lora, frozen or head.")  # fmt: skip
