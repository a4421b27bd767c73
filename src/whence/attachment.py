"""Put turn-over dropout into any module, and take it out again.

The module tree keeps its parameter names: a replaced ``nn.Dropout`` has none, and an inserted layer hangs on a forward
hook, so checkpoints load with and without turn-over dropout.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from whence.arguments import instance_of
from whence.dropout import TurnOverDropout
from whence.errors import WhenceError
from whence.masks import Scheme, exact_keep

__all__ = ["ACTIVATIONS", "attach", "attached", "detach", "placement", "reattach"]

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_CHANNELS_FIRST = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Conv1d, nn.Conv2d, nn.Conv3d,
                   nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # fmt: skip
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid,
                nn.Hardswish, nn.Softplus)  # fmt: skip

_ENTRIES: dict[str, tuple[type, ...]] = {
    "layer": (str,),
    "keep": (float,),
    "seed": (int,),
    "scheme": (str,),
    "axis": (int, type(None)),
    "units": (int,),
}


def attach(
    model: nn.Module,
    where: str | Sequence[str] | None = None,
    *,
    keep: float = 0.5,
    seed: int = 0,
    scheme: Scheme = "independent",
    axis: int | None = None,
) -> nn.Module:
    """Put turn-over dropout into a model, in place.

    Args:
        model: any module; attach before wrapping it (DDP, torch.compile).
        where: None replaces every ``nn.Dropout``. "last" takes what the last linear layer reads, which suits most
            classifiers: the module before it in the module tree (a VGG's last dropout, a ResNet's pooling, a vision
            transformer's last norm). Otherwise names or globs (``*`` matches dots too) over ``model.named_modules()``: a
            dropout is replaced, after any other module one is inserted. A pattern with wildcards takes the dropouts
            among what it matches; if there are none, the activations; if there are none either, every module it matches.
        keep: share of units kept, 0.05 to 0.95.
        seed: of the masks.
        scheme: "independent" or "balanced" (exactly half of the units).
        axis: the axis of units; None takes channels for 4- and 5-dimensional features and after convolutions,
            the last axis otherwise.

    Returns:
        The model.

    Raises:
        WhenceError: nothing matches, or a place has turn-over dropout already. The model is then unchanged.
    """
    exact_keep(keep, scheme)
    chosen = _places(instance_of(model, nn.Module, "model"), where)
    for name in chosen:
        module = model.get_submodule(name)
        if isinstance(module, TurnOverDropout) or _inserted(module):
            raise WhenceError("turn-over dropout is attached already", where=f"module {name!r}",
                              mend="Call whence.detach(model) first.")  # fmt: skip
    for name in chosen:
        module = model.get_submodule(name)
        wanted = 1 if axis is None and isinstance(module, _CHANNELS_FIRST) else axis
        _put(model, name, TurnOverDropout(name, keep=keep, seed=seed, scheme=scheme, axis=wanted))
    return model


def detach(model: nn.Module) -> nn.Module:
    """Take all turn-over dropout out of a model, in place: replaced modules come back, inserted ones go."""
    # remove_duplicate=False: a dropout that is registered twice is put back twice.
    for path, module in list(instance_of(model, nn.Module, "model").named_modules(remove_duplicate=False)):
        if isinstance(module, TurnOverDropout) and "_replaced" in module.__dict__:
            holder, _, child = path.rpartition(".")
            original: nn.Module = module.__dict__["_replaced"]
            setattr(model.get_submodule(holder), child, original.train(module.training))
        for key in [key for key, _ in _inserted(module)]:
            del module._forward_hooks[key]
    return model


def attached(model: nn.Module) -> dict[str, TurnOverDropout]:
    """The turn-over dropout layers of a model by layer name, in the order of its module tree.

    Raises:
        WhenceError: two layers have one name, and so one mask.
    """
    layers: dict[str, TurnOverDropout] = {}
    for module in instance_of(model, nn.Module, "model").modules():
        found = [module] if isinstance(module, TurnOverDropout) else [layer for _, layer in _inserted(module)]
        for layer in found:
            if layer.layer in layers:
                raise WhenceError("two turn-over dropout layers of one name, and so of one mask", where="the model",
                                  got=repr(layer.layer), mend="Attach once to the whole model, naming the places.")  # fmt: skip
            layers[layer.layer] = layer
    return layers


def placement(model: nn.Module) -> list[dict[str, Any]]:
    """What ``reattach`` needs to put the same layers into another copy of the model: JSON values."""
    return [
        {
            "layer": layer.layer,
            "keep": layer.keep,
            "seed": layer.seed,
            "scheme": layer.scheme,
            "axis": layer.axis,
            "units": layer.units,
        }
        for layer in attached(model).values()
    ]


def reattach(model: nn.Module, record: Sequence[dict[str, Any]]) -> nn.Module:
    """Attach the layers that ``placement`` described, in place.

    Raises:
        WhenceError: the model has no module of that name, or other turn-over dropout.
    """
    if not isinstance(record, list) or not all(_is_layer(entry) for entry in record):
        raise WhenceError(
            "a damaged description of masks", where="the run", expected=f"a list of {', '.join(sorted(_ENTRIES))}"
        )
    if attached(model):
        # A model that was not called yet does not know its widths.
        ours = [
            {**entry, "units": entry["units"] or other["units"]}
            for entry, other in zip(placement(model), record, strict=False)
        ]
        if len(attached(model)) != len(record) or ours != [dict(entry) for entry in record]:
            raise WhenceError("the model has other turn-over dropout than the run", where="the model",
                              got=f"{sorted(attached(model))}", expected=f"{[entry['layer'] for entry in record]}",
                              mend="Give the model as it was before whence.attach.")  # fmt: skip
        return model
    modules = dict(model.named_modules())
    for entry in record:
        if entry["layer"] not in modules:
            raise WhenceError(
                "the model lacks a module that the run masked", where="the model", expected=entry["layer"]
            )
    for entry in record:
        layer = TurnOverDropout(
            entry["layer"], keep=entry["keep"], seed=entry["seed"], scheme=entry["scheme"], axis=entry["axis"]
        )
        layer.units = entry["units"]
        _put(model, entry["layer"], layer)
    return model


def _is_layer(entry: Any) -> bool:
    """Whether a value is of the kind that ``placement`` lists; rates, seeds and schemes are checked where they are used."""
    return (
        isinstance(entry, dict)
        and set(entry) == set(_ENTRIES)
        and all(type(value) in _ENTRIES[name] for name, value in entry.items())
        and 0 <= entry["units"] < 2**31
        and not (entry["axis"] is not None and abs(entry["axis"]) > 8)
    )


def _put(model: nn.Module, name: str, layer: TurnOverDropout) -> None:
    module = model.get_submodule(name)
    layer.train(module.training)
    if isinstance(module, _DROPOUTS):
        layer.__dict__["_replaced"] = module  # not a child: it must not show up among the model's modules
        # One dropout may be registered under several names; each of them must mask.
        for path in [path for path, other in model.named_modules(remove_duplicate=False) if other is module]:
            holder, _, child = path.rpartition(".")
            setattr(model.get_submodule(holder), child, layer)
    else:
        module.register_forward_hook(layer.after)


def _inserted(module: nn.Module) -> list[tuple[int, TurnOverDropout]]:
    """The turn-over dropout layers that hang on a module, with the keys of their hooks.

    They are not its children: a container would call them as one of its own.
    """
    hooks = module._forward_hooks.items()
    layers = ((key, getattr(hook, "__self__", None)) for key, hook in hooks)
    return [(key, layer) for key, layer in layers if isinstance(layer, TurnOverDropout)]


def _places(model: nn.Module, where: str | Sequence[str] | None) -> list[str]:
    modules = {name: module for name, module in model.named_modules() if name}
    if where is None:
        found = [name for name, module in modules.items() if isinstance(module, _DROPOUTS)]
        if not found:
            raise WhenceError("the model has no nn.Dropout to replace", where=type(model).__name__,
                              mend=f"Name modules to insert after, e.g. where={_suggestion(modules)!r}.")  # fmt: skip
        return found
    patterns = [where] if isinstance(where, str) else where
    if not (isinstance(patterns, Sequence) and patterns and all(isinstance(one, str) for one in patterns)):
        raise WhenceError(
            "no names of modules", where="where", got=f"{where!r:.60}", expected="a name, several, or None"
        )
    if where == "last" and where not in modules:
        if (last := _before_last_linear(modules)) is None:
            raise WhenceError('no module that "last" could mean', where=type(model).__name__,
                              expected="a module before the last nn.Linear", mend="Name modules instead.")  # fmt: skip
        return [last]
    chosen: dict[str, None] = {}
    for pattern in patterns:
        matched = {name: module for name, module in modules.items() if fnmatchcase(name, pattern)}
        if not matched:
            raise WhenceError("no module of that name", where="where", got=repr(pattern),
                              expected=f"names such as {', '.join(list(modules)[:12])}")  # fmt: skip
        if pattern not in modules:
            for kinds in (_DROPOUTS, ACTIVATIONS):
                if kept := {
                    name: module for name, module in matched.items() if isinstance(module, (*kinds, TurnOverDropout))
                }:
                    matched = kept
                    break
        chosen.update(dict.fromkeys(matched))
    return list(chosen)


def _before_last_linear(modules: dict[str, nn.Module]) -> str | None:
    """The module without children that stands before the last linear layer."""
    leaves = [name for name, module in modules.items() if not any(True for _ in module.children())]
    linear = [place for place, name in enumerate(leaves) if isinstance(modules[name], nn.Linear)]
    return leaves[linear[-1] - 1] if linear and linear[-1] else None


def _suggestion(modules: dict[str, nn.Module]) -> str:
    return "last" if _before_last_linear(modules) else (list(modules) or ["classifier.*"])[-1]
