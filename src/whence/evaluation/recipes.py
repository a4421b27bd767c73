"""How a run trains, so that it can be done again on other instances and from another seed."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import nn

from whence.attachment import detach, placement, reattach
from whence.data import Dataset
from whence.errors import WhenceError
from whence.fingerprints import digest
from whence.models import ModelSpec, build
from whence.options import WITHOUT_EFFECT, TrainingOptions
from whence.quantities import Quantity
from whence.run import Run
from whence.training import fit as train_model

__all__ = ["OwnLoop", "Recipe", "recipe_of"]

OwnLoop: TypeAlias = Callable[[Dataset, int], nn.Module]
_IDLE = WITHOUT_EFFECT | {"seed"}


@dataclass(frozen=True, eq=False)
class Recipe:
    """A training that can be repeated, in another process too.

    Attributes:
        loss: minimized in training, and measured on targets.
        whole: all training instances: scaling and n-grams are taken from them, as the run did, whatever is left out.
        dev: for early stopping; None where the recipe has none.
        options: of ``whence.fit``.
        spec: of a ready-made model.
        model: a module of your own, to be initialized anew.
        fit: your own loop, in place of all of these.
    """

    loss: Quantity
    whole: Dataset
    dev: Dataset | None = None
    options: dict[str, Any] | None = None
    spec: ModelSpec | None = None
    model: nn.Module | None = None
    fit: OwnLoop | None = None

    def train(self, instances: Dataset, seed: int) -> nn.Module:
        """A model trained on ``instances``; the seed decides on initialization, masks and order."""
        if self.fit is not None:
            model = self.fit(instances, seed)
            if not isinstance(model, nn.Module):
                raise WhenceError(
                    "a fit that gives no model", where="fit", got=type(model).__name__, expected="a module"
                )
            return model
        if self.spec is not None:
            model, _ = build(replace(self.spec, seed=seed), self.whole, seed=seed)
        else:
            assert self.model is not None
            model = anew(self.model, seed)
        assert self.options is not None
        options = {**self.options, "seed": seed, "workers": 0, "exposure_limit": 1, "dynamics": 0}
        return train_model(model, instances, dev=self.dev, loss=self.loss, **options).model

    def fingerprint(self) -> str:
        """What sets recipes apart, seeds aside: 32 hexadecimal digits. Of your own loop name, source and what is bound to it."""
        if self.fit is not None:
            return digest("own loop", _source(self.fit))
        spec = None if self.spec is None else {**self.spec.to_json(), "seed": 0}
        model = None if self.model is None else [repr(self.model), [{**p, "seed": 0} for p in placement(self.model)]]
        options = {name: value for name, value in (self.options or {}).items() if name not in _IDLE}
        dev = None if self.dev is None else self.dev.fingerprint()
        return digest(spec, model, options, dev, self.loss.fingerprint(self.whole.task))


def recipe_of(run: Run, fit: OwnLoop | None = None) -> Recipe:
    """The recipe of a run, or ``fit`` in its place.

    Raises:
        WhenceError: the run was trained in a loop of your own, or its model holds weights that cannot be drawn anew.
    """
    if fit is not None:
        if not callable(fit):
            raise WhenceError("an argument of the wrong type", where="fit", got=f"{fit!r:.60}",
                              expected="a function (instances, seed) → module")  # fmt: skip
        return Recipe(run.loss, run.train, fit=fit)
    options = run.config.get("options")
    if not isinstance(options, dict):
        raise WhenceError("a run that was trained in a loop of your own", where="the run",
                          mend="Give the loop: fit=f, where f(instances, seed) gives a trained model.")  # fmt: skip
    if unknown := sorted(set(options) - set(TrainingOptions.__dataclass_fields__)):
        raise WhenceError("an option of training that does not exist", where="the run", got=repr(unknown[0]),
                          mend="Open it with the version of whence that wrote it.")  # fmt: skip
    options = {**TrainingOptions(**options).to_json(), "device": str(run.device)}
    dev = run.splits.get("dev") if options["patience"] is not None else None
    if run.config.get("model_spec"):
        return Recipe(run.loss, run.train, dev, options, spec=ModelSpec.from_json(run.config["model_spec"]))
    stuck = [name for name, module in run.model.named_modules()
             if _reset_of(module) is None and next(module.parameters(recurse=False), None) is not None]  # fmt: skip
    if stuck:
        raise WhenceError("weights that cannot be drawn anew", where=type(run.model).__name__,
                          got=f"no reset_parameters in module {stuck[0]!r}",
                          mend="Give the loop: fit=f, where f(instances, seed) gives a trained model.")  # fmt: skip
    return Recipe(run.loss, run.train, dev, options, model=copy.deepcopy(run.model).cpu())


def anew(model: nn.Module, seed: int) -> nn.Module:
    """A copy with weights and masks drawn from ``seed``: every module's own ``reset_parameters``, children first."""
    masks = [{**entry, "seed": seed} for entry in placement(model)]
    fresh = detach(copy.deepcopy(model))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in _children_first(fresh):
            if (reset := _reset_of(module)) is not None:
                reset()
    return reattach(fresh, masks)


def _children_first(model: nn.Module) -> list[nn.Module]:
    return list(model.modules())[::-1]


def _reset_of(module: nn.Module) -> Callable[[], None] | None:
    found = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    return found if callable(found) else None


def _source(function: Any) -> list[str]:
    """The name of a function, what it was bound to, and, where Python still has it, its text."""
    if isinstance(function, functools.partial):
        return [*_source(function.func), repr(function.args), repr(function.keywords)]
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    bound = [repr(getattr(function, "__defaults__", None)), repr(getattr(function, "__kwdefaults__", None))]
    bound += [repr(cell.cell_contents) for cell in getattr(function, "__closure__", None) or ()]
    if (owner := getattr(function, "__self__", None)) is not None or not hasattr(function, "__code__"):
        bound.append(repr(vars(function if owner is None else owner)))
    try:
        return [name, *bound, inspect.getsource(function)]
    except (OSError, TypeError):
        return [name, *bound]
