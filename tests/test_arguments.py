"""Bad arguments of the public functions, one at a time: a result or one WhenceError, and of what is refused nothing is left.

``CALLS`` has a right and cheap call of each function. Each of its arguments in turn is given each of ``BAD``, all else being right.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import whence
from tests.toys import blobs, network
from whence import WhenceError
from whence.planning import plan

BAD: list[Any] = [None, "x", b"x", -1, 0, 2.5, 2**64, math.nan, math.inf, True, [], [1], {}, object(), np.zeros((2, 2))]
FLAGS = ("progress", "replace", "harmful", "even", "trial", "drop_missing")  # any truth value
QUICK = {"epochs": 1, "device": "cpu", "batch_size": 16}


class World:
    """What calls are made of: two small runs of one table with groups, scores and retrainings of the first."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.run, self.other = self.fitted("run", 0), self.fitted("other", 1)
        self.alone = self.fitted(None, 0)
        self.scores = [whence.influence(run, "test", method="kernel") for run in (self.run, self.other)]
        self.masked = whence.influence(self.run, "test", method="turnover", level="group", null_masks=100)
        few = {"subsets": 3, "seeds": 1}
        self.truth = whence.evaluation.retrain(self.run, out=home / "truth", **few)
        rows = self.run.train.ids[:3].tolist()
        self.without = whence.evaluation.retrain(self.run, kind="leave_one_out", rows=rows, seeds=1)
        self.text = home / "table.csv"
        lines = [f"{row},{row % 7},{'ab'[row % 2]},{('train', 'train', 'dev', 'test')[row % 4]}" for row in range(24)]
        self.text.write_text("\n".join(["id,x,label,split", *lines]))

    def fitted(self, name: str | None, seed: int) -> whence.Run:
        model = network(6, 8, 3, seed=seed)
        return whence.fit(model, self.data(), dev=blobs(8, seed=1, start=1000), test=blobs(6, seed=2, start=2000),
                          out=None if name is None else self.home / name, seed=seed, **QUICK)  # fmt: skip

    @staticmethod
    def data() -> whence.Dataset:
        return blobs(24, groups=4)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


Call = Callable[[World], tuple[Callable[..., Any], dict[str, Any]]]

# Function → (it, right arguments by name). Those that the signature names and that are not here are tried too.
CALLS: dict[str, Call] = {
    "attach": lambda w: (whence.attach, {"model": bare(), "where": "1"}),
    "attached": lambda w: (whence.attached, {"model": network(6, 8, 3)}),
    "detach": lambda w: (whence.detach, {"model": network(6, 8, 3)}),
    "own": lambda w: (whence.own, {"ids": [1]}),
    "flipped": lambda w: (whence.flipped, {"ids": [1]}),
    "random": lambda w: (whence.random, {"seeds": 1}),
    "TurnOverDropout": lambda w: (whence.TurnOverDropout, {"layer": "x"}),
    "SharedWords": lambda w: (whence.SharedWords, {"texts": ["a dull plot", "a film"]}),
    "Dynamics": lambda w: (whence.Dynamics().look, {"model": network(6, 8, 3), "data": w.data()}),
    "Run": lambda w: (whence.Run, {"model": network(6, 8, 3), "train": w.data()}),
    "fit": lambda w: (whence.fit, {"model": network(6, 8, 3), "train": w.data(), "out": w.home / "fitted", **DEFAULTS, **QUICK}),
    "open_run": lambda w: (
        whence.open_run,
        {"path": w.home / "run", "model": network(6, 8, 3), "train": w.data(), "dev": w.run.splits["dev"], "test": w.run.splits["test"]},
    ),
    "verify": lambda w: (
        whence.verify,
        {"path": w.home / "run", "rows": 1, "model": network(6, 8, 3), "train": w.data(), "dev": w.run.splits["dev"],
         "test": w.run.splits["test"]},
    ),
    "load": lambda w: (whence.load, {"source": w.text, "label": "label"}),
    "prepare": lambda w: (whence.prepare, {"data": w.data(), "name": "mlp:4"}),
    "influence": lambda w: (whence.influence, {"run": w.run, "method": "kernel", "damping": 0.1, "residual": "full"}),
    "influence by kronecker": lambda w: (whence.influence, {"run": w.run, "method": "kronecker", "damping": 0.1, "share": 0.5, "looks": 1}),
    "influence by turnover": lambda w: (whence.influence, {"run": w.run, "method": "turnover", "precision": "float32", "null_masks": 100}),
    "load_scores": lambda w: (whence.load_scores, {"path": w.scores[0].path}),
    "ensemble": lambda w: (whence.ensemble, {"scores": w.scores}),
    "audit": lambda w: (whence.audit, {"run": w.run, "method": "kernel"}),
    "Audit.to_review": lambda w: (whence.audit(w.alone, method="kernel").to_review, {}),
    "Review": lambda w: (whence.audit(w.alone, method="kernel").to_review(10).answered, {"right": {}}),
    "compare": lambda w: (whence.compare, {"run": w.run, "other": w.other, "method": "kernel", "limit": 2}),
    "report": lambda w: (whence.report, {"run": w.run, "targets": "test", "method": "kernel", "limit": 2}),
    "report against": lambda w: (whence.report, {"run": w.run, "against": w.other, "method": "kernel", "limit": 2}),
    "cleanse": lambda w: (whence.cleanse, {"run": w.run, "drop": 1, "method": "kernel", "seeds": 2}),
    "cleanse rows": lambda w: (whence.cleanse, {"run": w.run, "rows": w.run.train.ids[:1], "seeds": 2}),
    "cleanse labels": lambda w: (whence.cleanse, {"run": w.run, "relabel": 1, "seeds": 2}),
    "cleanse groups": lambda w: (whence.cleanse, {"run": w.run, "groups": 1, "seeds": 2}),
    "group_effects": lambda w: (whence.group_effects, {"run": w.run, "kernel": "kernel", "null_masks": 100}),
    "memorization": lambda w: (whence.memorization, {"run": w.run}),
    "out_of_sample": lambda w: (whence.out_of_sample, {"run": w.run}),
    "subnetwork_average": lambda w: (whence.subnetwork_average, {"run": w.run, "count": 2}),
    "subnetworks.exposure": lambda w: (whence.subnetworks.exposure, {"run": w.run}),
    "subnetworks.probabilities": lambda w: (whence.subnetworks.probabilities, {"run": w.run}),
    "subnetworks.losses": lambda w: (whence.subnetworks.losses, {"run": w.run}),
    "subnetworks.turnover_memorization": lambda w: (whence.subnetworks.turnover_memorization, {"run": w.run}),
    "resolution": lambda w: (whence.resolution, {"ids": 24, "units": 8}),
    "resolution of a run": lambda w: (whence.resolution, {"ids": w.run}),
    "Resolution.needed": lambda w: (whence.resolution(24, 8).needed, {}),
    "Resolution.advice": lambda w: (whence.resolution(24, 8).advice, {}),
    "plan": lambda w: (plan, {"run": w.run}),
    "masks.keep_bits": lambda w: (whence.masks.keep_bits, {"ids": [1], "units": 4, "seed": 0, "layer": "x"}),
    "masks.as_ids": lambda w: (whence.masks.as_ids, {"ids": [1]}),
    "masks.hash_id": lambda w: (whence.masks.hash_id, {"name": "x"}),
    "masks.mask_key": lambda w: (whence.masks.mask_key, {"seed": 0, "layer": "x"}),
    "masks.exact_keep": lambda w: (whence.masks.exact_keep, {"keep": 0.5}),
    "Run.dataset": lambda w: (w.run.dataset, {"name": "test"}),
    "Run.more_targets": lambda w: (w.run.more_targets, {"path": w.text}),
    "Scores.top": lambda w: (w.scores[0].top, {}),
    "Scores.for_target": lambda w: (w.scores[0].for_target, {"column": 0}),
    "Scores.for_groups": lambda w: (w.scores[0].for_groups, {"groups": w.run.train.groups}),
    "Scores.mean_over_targets": lambda w: (w.scores[0].mean_over_targets, {"groups": w.run.train.groups}),
    "Scores.significance": lambda w: (w.masked.significance, {}),
    "Scores.at": lambda w: (w.scores[0].at, {"rows": np.array([0])}),
    "Scores.to_parquet": lambda w: (w.scores[0].to_parquet, {"path": w.home / "pairs.parquet"}),
    "evaluation.retrain": lambda w: (whence.evaluation.retrain, {"run": w.run, "subsets": 2, "seeds": 1, "out": w.home / "again"}),
    "evaluation.retrain without rows": lambda w: (
        whence.evaluation.retrain, {"run": w.run, "kind": "removal", "rows": [w.run.train.ids[:2]], "seeds": 1, "out": w.home / "rows"}),
    "evaluation.retrain by groups": lambda w: (
        whence.evaluation.retrain, {"run": w.run, "kind": "leave_one_out", "level": "group", "seeds": 1, "out": w.home / "groups"}),
    "evaluation.load_truth": lambda w: (whence.evaluation.load_truth, {"path": w.home / "truth"}),
    "evaluation.lds": lambda w: (whence.evaluation.lds, {"scores": w.scores[0], "truth": w.truth, "rounds": 2}),
    "evaluation.leave_one_out": lambda w: (whence.evaluation.leave_one_out, {"scores": w.scores[0], "truth": w.without}),
    "evaluation.brittleness": lambda w: (
        whence.evaluation.brittleness,
        {"run": w.run, "scores": w.scores[0], "targets": w.run.splits["test"].select(np.array([0])), "ks": [2], "seeds": 1, "controls": 1,
         "out": w.home / "brittle"},
    ),
    "evaluation.agreement": lambda w: (whence.evaluation.agreement, {"first": w.scores[0], "second": w.scores[1]}),
    "evaluation.memorization_agreement": lambda w: (
        whence.evaluation.memorization_agreement, {"estimate": np.linspace(0, 1, 24), "truth": w.truth, "halves": 2}),
    "evaluation.mislabel_auc": lambda w: (whence.evaluation.mislabel_auc, {"suspicion": [0.1, 0.9, 0.4], "wrong": [False, True, False]}),
    "evaluation.dattri_arguments": lambda w: (whence.evaluation.dattri_arguments, {"scores": w.scores[0], "truth": w.truth}),
    "evaluation.quanda_arguments": lambda w: (whence.evaluation.quanda_arguments, {"scores": w.scores[0], "truth": w.truth}),
    "GroundTruth.goodness": lambda w: (w.truth.goodness, {}),
    "GroundTruth.save": lambda w: (w.truth.save, {"path": w.home / "saved"}),
}  # fmt: skip
# Further calls, for the sake of some arguments.
ONLY = {"cleanse rows": ("rows",), "cleanse labels": ("relabel", "by"), "cleanse groups": ("groups", "method"),
        "report against": ("path", "audit", "against", "top"), "resolution of a run": ("units", "runs", "groups", "rows"),
        "influence by kronecker": ("damping", "share", "looks"), "influence by turnover": ("precision", "null_masks", "keep_top"),
        "evaluation.retrain without rows": ("rows", "level"), "evaluation.retrain by groups": ("rows", "subsets")}  # fmt: skip
SEEDED = ("attach", "TurnOverDropout", "fit", "load", "prepare", "cleanse", "Audit.to_review", "masks.keep_bits", "evaluation.retrain", "evaluation.lds",
          "evaluation.brittleness", "evaluation.memorization_agreement")  # fmt: skip
DEFAULTS = {name: field.default for name, field in whence.options.TrainingOptions.__dataclass_fields__.items()}
# Results, a module, what takes no argument, and what is said of data of its own (tests/data).
OTHERS = {"Audit", "Cleansing", "Comparison", "Dataset", "Ensemble", "GroupEffects", "Scores", "WhenceError", "checkpoint_contexts", "full",
          "evaluation", "masks", *(f"evaluation.{name}" for name in ("LDS", "Agreement", "Brittleness", "GroundTruth", "LeaveOneOut",
          "MemorizationAgreement", "MislabelAUC", "QuandaArguments"))}  # fmt: skip


def bare() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))


def files(home: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(home)): path.read_bytes() if path.is_file() else None
        for path in sorted(home.rglob("*"))
        if not path.name.endswith(".lock")
    }


@pytest.mark.parametrize("name", CALLS)
def test_bad_arguments(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.home)
    function, right = CALLS[name](world)
    signature = inspect.signature(function)
    names = [one for one, parameter in signature.parameters.items() if parameter.kind is not parameter.VAR_KEYWORD]
    wrong: dict[str, list[str]] = {}
    before = files(world.home)
    for argument in ONLY.get(name, dict.fromkeys([*names, *right])):
        if argument in FLAGS:
            continue
        for bad in BAD:
            function, right = CALLS[name](world)
            try:
                with torch.random.fork_rng(devices=[]):
                    function(**{**right, argument: copy.copy(bad)})
            except WhenceError as error:
                now = files(world.home)
                if "\n" in str(error) or now != before:
                    said = f"left {sorted(set(now) ^ set(before))[:4]} after {error}"
                    wrong.setdefault(f"{argument}: {said:.200}", []).append(f"{bad!r:.20}")
                before = now
            except Exception as error:
                wrong.setdefault(f"{argument}: {type(error).__name__}: {error!s:.110}", []).append(f"{bad!r:.20}")
                before = files(world.home)
            else:
                before = files(world.home)
    if wrong:
        pytest.fail("\n".join(f"{said} ({', '.join(given)})" for said, given in wrong.items()), pytrace=False)


def test_all_of_the_public_functions_are_called() -> None:
    public = {*whence.__all__, *(f"evaluation.{name}" for name in whence.evaluation.__all__)}
    assert public <= {*CALLS, *OTHERS}


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 2**64 - 1])
def test_a_seed_is_an_integer_of_64_bits_wherever_one_is_asked_for(world: World, seed: int) -> None:
    for name in SEEDED:
        function, right = CALLS[name](world)
        places = {argument: world.home / f"{name} {seed}" for argument in ("out",) if argument in right}
        with torch.random.fork_rng(devices=[]):
            function(**{**right, **places, "seed": seed})


@pytest.mark.parametrize("seed", [-(2**63) - 1, 2**64, 0.5, math.nan, "0", None, True])
def test_another_seed_is_refused_in_the_same_words(world: World, seed: Any) -> None:
    for name in SEEDED:
        function, right = CALLS[name](world)
        with pytest.raises(WhenceError, match="in seed: got .*, expected an integer"):
            function(**{**right, "seed": seed})
