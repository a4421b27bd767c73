"""Random arguments of the Python functions: a right result, or exactly one WhenceError and nothing left behind.

Seeds are fixed (``derandomize``), so that what fails fails again.
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import whence
from tests.hostile.conftest import network
from whence import WhenceError
from whence.data import Classification
from whence.fingerprints import digest_tensors

QUICK = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
MANY = settings(QUICK, max_examples=2000)


def tried(call: Callable[[], Any]) -> Any:
    """What a call gives; None where it raises a WhenceError. Warnings of NumPy about hostile numbers are no concern."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return call()
    except WhenceError as error:
        message = str(error)
    assert message and "\n" not in message
    return None


WORDS = st.text(max_size=5)
INTEGERS = st.one_of(
    st.integers(-5, 40), st.integers(-(2**63), 2**64), st.sampled_from([2**63, 2**64 - 1, 2**64, -(2**63), 2**70])
)


def mostly(good: st.SearchStrategy[Any], bad: st.SearchStrategy[Any], often: int = 6) -> st.SearchStrategy[Any]:
    """The one, or once in so many times the other."""
    return st.integers(0, often).flatmap(lambda drawn: good if drawn else bad)


@st.composite
def ids(draw: st.DrawFn, count: int) -> Any:
    kind = draw(
        st.sampled_from(
            ["range", "far", "words", "any", "mixed", "floats", "bools", "tensor", "unsigned", "short", "none"]
        )
    )
    unique = draw(st.integers(0, 4)) > 0
    match kind:
        case "range":
            return np.arange(count)
        case "far":
            return [int(one) for one in draw(st.lists(INTEGERS, min_size=count, max_size=count, unique=unique))]
        case "words":
            return draw(st.lists(WORDS, min_size=count, max_size=count, unique=unique))
        case "any":
            return np.array(draw(st.lists(INTEGERS, min_size=count, max_size=count, unique=unique)), dtype=object)
        case "mixed":
            return draw(st.lists(st.one_of(INTEGERS, WORDS, st.none(), st.floats()), min_size=count, max_size=count))
        case "floats":
            return np.arange(count) / 2
        case "bools":
            return np.arange(count) % 2 == 0
        case "tensor":
            return torch.arange(count) - 3
        case "unsigned":
            return np.arange(count, dtype=np.uint64) + np.uint64(2**63)
        case "short":
            return np.arange(max(0, count - draw(st.integers(1, 3))))
        case _:
            return draw(st.sampled_from([None, 7, "a", [], {}, np.zeros((count, 2), int), [[1]] * count]))


@st.composite
def features(draw: st.DrawFn, count: int) -> Any:
    generator = np.random.default_rng(draw(st.integers(0, 3)))
    plain = generator.normal(size=(count, 3)).astype(np.float32)
    kind = draw(st.sampled_from(["plain", "double", "tensor", "rows", "half", "integers", "holes", "infinite", "huge", "flat", "objects",
                                 "short", "words", "wide", "bools", "complex", "none"]))  # fmt: skip
    made: dict[str, Any] = {
        "plain": plain, "double": plain.astype(np.float64), "tensor": torch.from_numpy(plain), "rows": list(torch.from_numpy(plain)),
        "half": plain.astype(np.float16), "integers": (10 * plain).astype(np.int64), "holes": np.where(plain > 1, np.nan, plain),
        "infinite": np.where(plain > 1, np.inf, plain), "huge": plain * np.float32(1e30), "flat": plain[:, 0], "objects": plain.astype(object),
        "short": plain[: count - 1], "words": np.full((count, 3), "a"), "wide": plain[:, [0, 1, 2, 0]], "bools": plain > 0,
        "complex": plain.astype(complex), "none": draw(st.sampled_from([None, 3, "x", [], [None] * count, [{}] * count])),
    }  # fmt: skip
    return made[kind]


@st.composite
def labels(draw: st.DrawFn, count: int) -> Any:
    kind = draw(st.sampled_from(["classes", "classes32", "bytes", "tensor", "list", "floats", "holes", "infinite", "far", "negative", "bools",
                                 "words", "one", "column", "matrix", "short", "objects", "unsigned", "huge", "none"]))  # fmt: skip
    plain = np.arange(count) % 2
    made: dict[str, Any] = {
        "classes": plain, "classes32": plain.astype(np.int32), "bytes": plain.astype(np.uint8), "tensor": torch.from_numpy(plain),
        "list": plain.tolist(), "floats": np.linspace(-1, 1, count), "holes": np.where(plain, np.nan, 1.0), "huge": plain * 1e300,
        "infinite": np.where(plain, np.inf, 1.0), "far": plain * 10**12, "negative": plain - 1, "bools": plain > 0,
        "words": np.where(plain, "a", "b"), "one": 0 * plain, "column": plain[:, None], "matrix": np.stack([plain, plain], 1),
        "short": plain[1:], "objects": plain.astype(object), "unsigned": plain.astype(np.uint64) + np.uint64(2**63),
        "none": draw(st.sampled_from([None, 3, "ab", [None] * count, [[0]] * count])),
    }  # fmt: skip
    return made[kind]


@st.composite
def triples(draw: st.DrawFn) -> Any:
    """(ids, inputs, targets), one or two of which may be no such thing."""
    count = draw(st.integers(2, 16))
    which = draw(st.sampled_from(["ids", "inputs", "targets", "none", "all", "other"]))
    plain = np.random.default_rng(count).normal(size=(count, 3)).astype(np.float32)
    given = (
        draw(ids(count)) if which in ("ids", "all") else np.arange(count) * 3 - 5,
        draw(features(count)) if which in ("inputs", "all") else plain,
        draw(labels(count)) if which in ("targets", "all") else np.arange(count) % 2,
    )
    if which == "other":
        return draw(st.sampled_from([None, 3, "train", [], (), given[:2], {"id": 1}, [given], [(1, plain[0], 0), (2, plain[1], 1)],
                                     [{"id": 1, "inputs": torch.zeros(3), "target": 0}, {"id": 2, "inputs": torch.ones(3), "target": 1}],
                                     [(1, 2)], [{"id": 1}], [None, None]]))  # fmt: skip
    return given


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "batch_size": mostly(st.integers(1, 20), st.sampled_from([0, -1, 2.5, "8", None, True, 10**12, float("nan")])),
        "learning_rate": mostly(st.floats(0, 1e-2), st.sampled_from([-1, "x", None, float("nan"), float("inf"), 1e300])),
        "optimizer": mostly(st.sampled_from(["adamw", "sgd"]), st.sampled_from(["lion", None, 3])),
        "schedule": mostly(st.sampled_from(["linear", "cosine", "constant"]), st.sampled_from(["", None])),
        "warmup": mostly(st.floats(0, 1), st.sampled_from([-1, 2, "x", float("nan")])),
        "weight_decay": mostly(st.floats(0, 1), st.sampled_from([-1, float("inf"), None])),
        "accumulate": mostly(st.integers(1, 3), st.sampled_from([0, -1, "x", 10**9])),
        "patience": mostly(st.sampled_from([None, 1]), st.sampled_from([0, -1, "x", 1.5])),
        "seed": mostly(st.integers(0, 9), st.sampled_from([-(2**63), 2**63, 2**63 - 1, 1.5, "x", None])),
        "augment": mostly(st.just("none"), st.sampled_from(["flip", "crop", "x", None])),
        "autocast": mostly(st.just("off"), st.sampled_from(["bfloat16", "float8", None])),
        "dynamics": mostly(st.integers(0, 9), st.sampled_from([-1, None, 2.5])),
        "exposure_limit": mostly(st.integers(1, 9), st.sampled_from([0, -1, None])),
        "device": mostly(st.just("cpu"), st.sampled_from(["", "gpu", "cuda:99", 3, None, "meta"])),
        "workers": mostly(st.just(0), st.sampled_from([-1, "x", 1.5])),
        "unknown": st.just(1),
    },
)  # fmt: skip


def fitted(data: Any, options: dict[str, Any], dev: Any, keep: Any) -> None:
    """Train on whatever is given, and hold what comes of it against what was given."""
    before = copy.deepcopy(data)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        outputs = (
            1
            if isinstance(data, tuple)
            and len(data) == 3
            and getattr(data[2], "dtype", None) in (np.float64, np.float32)
            else 2
        )

        def fit() -> Any:
            model = whence.attach(network(3, outputs), keep=keep)
            return whence.fit(model, data, dev=dev, out=out, **{"epochs": 1, "device": "cpu", **options})

        run = tried(fit)
        left = sorted(path.name for path in Path(folder).rglob("*"))
        if run is None:
            assert left == [], left
        else:
            assert {"run.json", "model.safetensors", "instances.parquet", "history.parquet"} <= set(left)
            assert not any(name.endswith(".tmp") for name in left)
            assert len(run.train) == len(data if isinstance(data, list) else data[0])
            if isinstance(data, tuple):
                assert np.array_equal(run.train.ids, whence.masks.as_ids(data[0]))
            unseen = tried(lambda: whence.out_of_sample(run))
            if unseen is not None:
                assert np.isfinite(unseen).all()
                if isinstance(run.task, Classification):
                    assert np.allclose(unseen.sum(1), 1, atol=1e-4)
    _same(before, data)


def _same(before: Any, now: Any) -> None:
    assert type(before) is type(now)
    if isinstance(now, torch.Tensor):
        assert torch.equal(before, now) or now.is_floating_point()
    elif isinstance(now, np.ndarray):
        np.testing.assert_array_equal(before, now)
    elif isinstance(now, tuple | list):
        for one, other in zip(before, now, strict=True):
            _same(one, other)


KEEP = mostly(
    st.sampled_from([0.5, 0.25, 0.75]),
    st.sampled_from([0, 1, -1, 2, float("nan"), "x", None, True, np.float32(0.5)]),
    9,
)


@given(data=triples(), options=st.one_of(st.just({}), OPTIONS), dev=st.one_of(st.none(), triples()), keep=KEEP)
@QUICK
def test_training(data: Any, options: Any, dev: Any, keep: Any) -> None:
    """150 cases."""
    fitted(data, options, dev, keep)


@pytest.mark.long
@pytest.mark.timeout(3000)
@given(data=triples(), options=st.one_of(st.just({}), OPTIONS), dev=st.one_of(st.none(), triples()), keep=KEEP)
@MANY
def test_much_training(data: Any, options: Any, dev: Any, keep: Any) -> None:
    """2,000 cases."""
    fitted(data, options, dev, keep)


TARGETS = mostly(
    st.sampled_from(["test", "dev", "train", "errors"]),
    st.one_of(triples(), st.sampled_from(["", "x", None, 3, b"test"])),
    4,
)
METHODS = {
    "turnover": {"precision": ["float32", "bfloat16", "float8", None, 3], "path": ["loop", "vmap", "x", None]},
    "first_order": {"precision": ["float32", "bfloat16", "", 3], "softened": [True, False, None, "x"]},
    "kernel": {"residual": ["full", "flipped", "random", "x", None], "subnetworks": [2, 0, -1, "x", None, 1.5, 10**30],
               "damping": [0.1, 0, -1, "x", None, float("nan"), float("inf"), 2**70, 10**400]},
    "kronecker": {"damping": [0.1, 0, -1, "x", None, float("nan"), (0.3, 10.0), 2**70, 1e-300],
                  "share": [0.5, 0, 1, -1, 2, None, "x", float("nan")], "looks": [1, 4.5, 0, -1, None, "x", float("inf")]},
    "auto": {"damping": [0.5]},
}  # fmt: skip
EXTRAS: dict[str, st.SearchStrategy[Any]] = {
    "level": mostly(st.sampled_from(["auto", "instance", "group"]), st.sampled_from(["", None, 2])),
    "quantity": mostly(st.sampled_from(["loss", "accuracy", "probability", "margin", "absolute_error"]),
                       st.sampled_from(["", None, 3, lambda outputs, targets: outputs.sum(), lambda outputs, targets: outputs[:, 0],
                                        lambda outputs, targets: None])),
    "name": st.sampled_from(["", ".", "..", "a/b", "/etc", "\0", "a\\b", "ok", 3, "x" * 300, "é", "\ud800", "a\nb", None]),
    "keep_matrix": mostly(st.booleans(), st.sampled_from([None, "no", 3])),
    "keep_top": mostly(st.integers(1, 30), st.sampled_from([0, -1, "x", None, 1.5, 10**30, True])),
    "block_rows": mostly(st.one_of(st.none(), st.integers(1, 30)), st.sampled_from([0, -1, "x", 1.5, 10**30, True])),
    "null_masks": mostly(st.integers(100, 120), st.sampled_from([0, -1, 99, "x", None, 1.5, True])),
    "shard": st.sampled_from([(0, 1), (0, 2), (1, 2), (1, 1), (-1, 1), 3, None, (0,), ("a", "b"), (0.0, 1.0)]),
    "target_set": st.sampled_from([None, "mine", "../x", "", "\ud800", 3]),
    "bogus": st.just(1),
}  # fmt: skip


@st.composite
def questions(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of ``influence``: a method, and up to two others."""
    method = draw(mostly(st.sampled_from(sorted(METHODS)), st.sampled_from(["", None, 3, "lissa"]), 19))
    asked = {
        name: draw(EXTRAS[name]) for name in draw(st.lists(st.sampled_from(sorted(EXTRAS)), max_size=2, unique=True))
    }
    options = METHODS.get(method, {})
    if options and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(options)))
        asked[name] = draw(st.sampled_from(options[name]))
    return {"method": method, **asked}


NUMBERS = st.one_of(st.integers(-3, 30), st.sampled_from([None, "x", 1.5, 10**30, True, np.int64(3), float("nan")]))
GROUPS = st.one_of(
    st.none(), st.lists(st.integers(0, 3), min_size=12, max_size=12), st.lists(WORDS, min_size=12, max_size=12),
    st.sampled_from([[], [1], 3, "a", [None] * 12, np.zeros((12, 2), int), np.zeros(12), np.arange(12) % 2 == 0, [[1]] * 12, {}]),
)  # fmt: skip


def scored(run: whence.Run, targets: Any, asked: dict[str, Any], k: Any, groups: Any) -> None:
    """Score whatever is asked for, and ask the scores."""
    assert run.directory is not None
    weights = digest_tensors(run.model.state_dict())
    scores_before = set((run.directory.path / "scores").glob("*"))
    scores = tried(lambda: whence.influence(run, targets, **asked))
    made = set((run.directory.path / "scores").glob("*")) - scores_before
    if scores is None:
        assert not made, made
    else:
        assert np.array_equal(scores.ids, run.train.ids) or scores.info["level"] == "group"
        best = tried(lambda: scores.top(k))
        if best is not None:
            assert best.rows.shape == (scores.shape[1], min(int(k), scores.shape[0]))
            assert np.isfinite(best.values).all() and set(best.ids.ravel().tolist()) <= set(scores.ids.tolist())
            assert (np.diff(best.values, axis=1) <= 0).all()
        summed = tried(lambda: scores.for_groups(groups))
        if summed is not None:
            sums = tried(lambda: np.asarray(summed))
            assert sums is None or np.isfinite(sums).all()
        tried(lambda: scores.mean_over_targets(groups=groups))
        tried(lambda: scores.noise_floor())
        tried(lambda: scores.significance("groups", groups=groups))
        tried(lambda: scores.to_parquet(run.directory.path / "pairs.parquet", k=k))  # type: ignore[union-attr]
        whole = tried(lambda: np.asarray(scores))
        assert whole is None or np.isfinite(whole).all()
    for folder in made:
        shutil.rmtree(folder)
    assert digest_tensors(run.model.state_dict()) == weights


@given(number=st.integers(0, 2), targets=TARGETS, asked=questions(), k=NUMBERS, groups=GROUPS)
@QUICK
def test_scoring(small: list[whence.Run], number: int, targets: Any, asked: Any, k: Any, groups: Any) -> None:
    """150 cases."""
    scored(small[number], targets, asked, k, groups)


@pytest.mark.long
@pytest.mark.timeout(3000)
@given(number=st.integers(0, 2), targets=TARGETS, asked=questions(), k=NUMBERS, groups=GROUPS)
@settings(MANY, max_examples=2500)
def test_much_scoring(small: list[whence.Run], number: int, targets: Any, asked: Any, k: Any, groups: Any) -> None:
    """2,500 cases."""
    scored(small[number], targets, asked, k, groups)


PATHS = ["", "\0", "a\0b", "\ud800", "x" * 300, None, 3, [], b"x", "/proc/nothing/x"]


@pytest.mark.parametrize("path", PATHS, ids=[repr(path)[:12] for path in PATHS])
def test_paths_that_are_none(small: list[whence.Run], path: Any) -> None:
    """Nothing is made anywhere, and each call raises a WhenceError."""
    run = small[0]
    calls: list[Callable[[], Any]] = [
        lambda: whence.open_run(path),
        lambda: whence.load_scores(path),
        lambda: whence.verify(path),
        lambda: whence.evaluation.load_truth(path),
        lambda: whence.data.load(path, label="y"),
    ]
    if path is not None:
        calls += [
            lambda: whence.report(run, path),
            lambda: whence.fit(run.model, run.train, out=path, epochs=1),
            lambda: whence.Run(run.model, run.train, out=path),
        ]
    for call in calls:
        with pytest.raises(WhenceError):
            call()


@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "below a file"])
def test_what_is_no_file_is_not_replaced(small: list[whence.Run], tmp_path: Path, kind: str) -> None:
    """Not by somebody either who may: a report to /dev/null would be the last."""
    place = tmp_path / "place"
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "device":
            place.symlink_to("/dev/zero")
        case "directory":
            place.mkdir()
        case _:
            place.write_text("mine")
    before = place.lstat()
    target = place / "x" if kind == "below a file" else place
    scores = whence.influence(small[0], "test", method="turnover")
    for call in (lambda: whence.report(small[0], target), lambda: scores.to_parquet(target)):
        with pytest.raises(WhenceError, match="cannot be written|not a file|a file where a directory should be"):
            call()
    assert (place.lstat().st_mode, place.lstat().st_ino) == (before.st_mode, before.st_ino)
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
