"""From data to a run: ``whence plan``, ``whence fit``, and ``whence demo``, which does all."""

from __future__ import annotations

from typing import Any

import click

from whence.cli.answers import answer, full_path, on_terminal
from whence.cli.failures import interruptible, typed
from whence.cli.options import DATA, as_json, data_options, model_options, training_options
from whence.options import TrainingOptions

__all__ = ["demo", "fit", "plan"]

_ENCODERS = "A transformer encoder brings its own defaults of epochs, batch size, learning rate and warmup."


@click.command(epilog=DATA, short_help="Before training: what it will cost and tell apart.")
@click.argument("data", metavar="DATA")
@data_options
@model_options
@training_options
@click.option(
    "--runs", default=1, show_default=True, help="How many runs, each of another seed, whose scores will be averaged."
)
@click.option("--targets", type=click.IntRange(1), help="How many targets will be scored.  [default: the test split]")
@click.option("--out", default=".", help="Where the run will lie: whose disk is looked at.  [default: here]")
@click.option(
    "--trial/--no-trial",
    default=True,
    show_default=True,
    help="Train and score a sample, to tell time and memory: some seconds.",
)
@as_json
def plan(data: str, model: str, masked: str, max_length: int, keep: float | None, scheme: Any, seed: int, split_seed: int,
         runs: int, targets: int | None, out: str, trial: bool, as_json: bool, **given: Any) -> None:  # fmt: skip
    """Say, before training, what it will cost, and what published scores can tell apart. Nothing is written."""
    from whence.data.loading import Source
    from whence.models import prepare
    from whence.planning import plan as foresee
    from whence.run import Run

    options = _training(given, seed)
    with typed(seed="--split-seed"):
        source = Source(data, seed=split_seed, **given)
    shape = {"masked": masked, "keep": keep, "seed": seed, "scheme": scheme, "max_length": max_length}
    module, dataset = prepare(source.load(), model, **shape)
    found = foresee(
        Run(module, dataset), runs, trial=trial, options=options, targets=targets, out=out, progress=on_terminal()
    )
    lines = [found.lines()[0], *(f"note: {note}" for note in dataset.notes), *found.lines()[1:]]
    answer(as_json, {**found.to_json(), "notes": list(dataset.notes)}, lines)


@click.command(epilog=f"{DATA} {_ENCODERS}", short_help="Train a model with a mask for every training instance.")
@click.argument("data", metavar="DATA")
@click.option("--out", required=True, help="The run directory to make; one that an interrupted fit left is resumed.")
@data_options
@model_options
@training_options
@as_json
def fit(
    data: str,
    out: str,
    model: str,
    masked: str,
    max_length: int,
    keep: float | None,
    scheme: Any,
    seed: int,
    split_seed: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Train a model in which every training instance has its own mask."""
    from whence.checkpoints import kept
    from whence.data.loading import Source
    from whence.models import prepare
    from whence.training import fit as train

    options = _training(given, seed)
    with typed(seed="--split-seed"):
        source = Source(data, seed=split_seed, **given)
    shape = {"masked": masked, "keep": keep, "seed": seed, "scheme": scheme, "max_length": max_length}
    module, dataset = prepare(source.load(), model, **shape)
    with interruptible(lambda: kept(out)):
        run = train(module, dataset, out=out, progress=on_terminal(), source=source, **options)
    last = run.config.get("results") or {}
    sizes = {name: len(part) for name, part in run.splits.items()}
    record = {"run": full_path(out), "splits": sizes, "task": run.task.kind, "results": last,
              "notes": list(dataset.notes)}  # fmt: skip
    lines = [", ".join(f"{count:,} {name}" for name, count in sizes.items()) + f" instances, {_task(run)}"]
    lines += [f"note: {note}" for note in dataset.notes]
    if "dev_accuracy" in last:
        lines.append(f"accuracy on dev {100 * last['dev_accuracy']:.1f} %, loss {last['dev_loss']:.3f}")
    elif "dev_loss" in last:
        lines.append(f"loss on dev {last['dev_loss']:.3f} {run.loss.unit}")
    if last:
        lines.append(
            f"loss on training instances under their own mask {last['own_loss']:.3f}, flipped {last['flipped_loss']:.3f}"
        )
    lines.append(f"run: {out}   next: whence audit {out}, whence influence {out}, whence report {out}")
    answer(as_json, record, lines)


@click.command(short_help="Plant label errors among digits, train, find them, write a report.")
@click.option("--out", default="demo", show_default=True, help="The directory to make.")
@click.option("--seed", default=0, show_default=True, help="Seed of planted errors, masks and weights.")
@as_json
def demo(out: str, seed: int, as_json: bool) -> None:
    """Plant label errors among handwritten digits, train once, find them, explain the mistakes."""
    from whence.demo import demo as play

    with interruptible(lambda: "finished epochs and blocks of scores are kept"):
        result = play(out, seed=seed, progress=on_terminal())
    answer(as_json, result.to_json(), result.lines())


def _training(given: dict[str, Any], seed: int) -> dict[str, Any]:
    """Taken from what was given, the options of training, which are refused before anything is read."""
    options = {name: given.pop(name) for name in TrainingOptions.__dataclass_fields__ if name in given}
    options = {"seed": seed, **{name: value for name, value in options.items() if value is not None}}
    TrainingOptions(**options)
    return options


def _task(run: Any) -> str:
    return f"{len(run.task.classes)} classes" if run.task.kind == "classification" else "regression"
