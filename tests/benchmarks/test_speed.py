"""The benchmarks of speed run and say what they are asked; how fast anything is is none of a test's business."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

import whence
from benchmarks import full_size, gpu, speed
from whence.estimators.kronecker import Kronecker
from whence.models import prepare


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module, name, value in [
        (speed, "SAMPLE", 50), (speed, "TRAIN", 100), (speed, "TARGETS", 5), (speed, "STEPS", 3), (speed, "COUNTS", (100, 5000)),
        (full_size, "TILE", 64), (gpu, "WIDTHS", [8, 32, 32, 10]),
        *((module, "RESULTS", tmp_path) for module in (speed, gpu, full_size)),
    ]:  # fmt: skip
        monkeypatch.setattr(module, name, value)


def written(main: object, monkeypatch: pytest.MonkeyPatch, file: Path, *arguments: str) -> dict[str, float]:
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
    main()  # type: ignore[operator]
    torch.set_num_threads(threads)
    return json.loads(file.read_text(encoding="utf-8"))


def test_speed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arguments = ("--threads", "1", "--repeats", "2")
    found = written(speed.main, monkeypatch, tmp_path / "speed.json", "--sections", "demo,step,masks", *arguments)
    assert {"exact_vs_reference", "first_order_vs_reference", "step_vs_dropout", "head_step_vs_dropout"} < set(found)
    assert all(value > 0 for name, value in found.items() if name != "torch")
    assert found["exact_error"] < 1e-4 < found["first_order_error"]


@pytest.mark.long
def test_speed_in_processes_and_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(speed, "NETWORKS", [("small", [4, 8, 2], 4, "")])
    sections = "scale,compiled" if shutil.which("g++") else "scale"
    found = written(speed.main, monkeypatch, tmp_path / "speed.json", "--sections", sections, "--threads", "1")
    assert {"first_order_vs_product_5000", "peak_gib"} < set(found)
    assert ("compiled_step_vs_dropout" in found) == ("compiled" in sections)


def test_scores_on_a_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    few = ("--device", "cpu", "--sections", "scores", "--rows", "1000", "--targets", "10")
    found = written(gpu.main, monkeypatch, tmp_path / "gpu.json", *few)["a CPU"]
    assert set(found) == {
        f"{method}_{what}" for method in ("first_order", "kernel", "kronecker") for what in ("seconds", "gib")
    }


def test_full_size(tmp_path: Path) -> None:
    """Of each method there is a product as large as the scores; kronecker's are of the instances that matter to each class."""
    source = whence.data.Source("digits", limit=300)
    model, data = prepare(source.load(), "mlp:32,16", masked="last")
    path = tmp_path / "run"
    run = whence.fit(model, data, out=path, source=source, epochs=1)
    n, m = len(run.train), len(run.splits["test"])
    for method in full_size.METHODS:
        found = full_size.measure(path, method, torch.get_num_threads())
        assert 0 < found["best"] <= found["bare"] * (1 + 1e-9) and found["seconds"] > 0 and found["peak_gib"] > 0
        made = full_size.products(run, method)
        if method != "kronecker":
            assert (n, m) in {(rows, columns) for rows, _, columns in made}
            continue
        estimator = Kronecker(run, run.splits["test"], run.loss)
        assert len(made) >= 2 * len(estimator.reading.parts) * len(estimator.comparison.asking)
        assert max(rows for rows, _, _ in made) <= n
