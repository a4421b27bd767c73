"""The command line: parse, call, print. Results go to standard output, progress and errors to standard error."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from whence.errors import WhenceError
from whence.options import TrainingOptions

__all__ = ["app", "main"]

app = typer.Typer(
    name="whence",
    help="Which training examples made the model predict this, which help or hurt it, and which labels should not be trusted.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip

RunPath = Annotated[str, typer.Argument(metavar="RUN", help="a directory made by `whence fit`")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object in place of text")]
_DATA = "csv, tsv(.gz), jsonl, parquet or npz file, or digits, diabetes"


def _training(name: str) -> Any:
    option = TrainingOptions.__dataclass_fields__[name]
    return typer.Option(f"--{name.replace('_', '-')}", help=option.metadata["help"], rich_help_panel="Training")


@app.command()
def fit(
    data: Annotated[str, typer.Argument(metavar="DATA", help=_DATA)],
    out: Annotated[str, typer.Option(help="the run directory to make, resume or reopen")],
    label: Annotated[str | None, typer.Option(help="column to predict (not needed for npz and built-in sets)")] = None,
    text: Annotated[str | None, typer.Option(help="column of text")] = None,
    features: Annotated[str | None, typer.Option(help="columns of numbers, separated by commas, globs allowed")] = None,
    id: Annotated[str | None, typer.Option("--id", help="column of ids; by default a column named id, else row numbers")] = None,
    group: Annotated[str | None, typer.Option(help="column of sources; all members of a group share one mask")] = None,
    split: Annotated[str | None, typer.Option(help='column of train, dev, test; "none" to divide the rows anew')] = None,
    task: Annotated[str, typer.Option(help="auto, classification or regression")] = "auto",
    limit: Annotated[int | None, typer.Option(help="use at most this many instances of each split")] = None,
    split_seed: Annotated[int, typer.Option(help="of the division into splits and of --limit")] = 0,
    model: Annotated[str, typer.Option(help="mlp:512,512, conv:16,32,256, ngrams:256 or auto")] = "auto",
    masked: Annotated[str, typer.Option(help="hidden layers with turn-over dropout: last, all, or a glob of module names")] = "last",
    keep: Annotated[float, typer.Option(help="share of units that each instance keeps")] = 0.5,
    scheme: Annotated[str, typer.Option(help="independent, or balanced (exactly half of the units)")] = "independent",
    epochs: Annotated[int, _training("epochs")] = 20,
    batch_size: Annotated[int, _training("batch_size")] = 64,
    learning_rate: Annotated[float, _training("learning_rate")] = 1e-3,
    optimizer: Annotated[str, _training("optimizer")] = "adamw",
    weight_decay: Annotated[float, _training("weight_decay")] = 1e-2,
    schedule: Annotated[str, _training("schedule")] = "linear",
    warmup: Annotated[float, _training("warmup")] = 0.0,
    accumulate: Annotated[int, _training("accumulate")] = 1,
    patience: Annotated[int | None, _training("patience")] = None,
    autocast: Annotated[str, _training("autocast")] = "off",
    device: Annotated[str, _training("device")] = "auto",
    workers: Annotated[int, _training("workers")] = 0,
    seed: Annotated[int, typer.Option(help="of masks, weights and the order of instances", rich_help_panel="Training")] = 0,
    as_json: Json = False,
) -> None:
    """Train a model in which every training instance has its own mask."""
    from whence.data.loading import Source
    from whence.models import prepare
    from whence.training import fit as train

    source = Source(data, label=label, text=text, features=features, id=id, group=group, split=split, task=task,
                    limit=limit, seed=split_seed)  # fmt: skip
    options = TrainingOptions(
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, optimizer=optimizer,  # type: ignore[arg-type]
        weight_decay=weight_decay, schedule=schedule, warmup=warmup, accumulate=accumulate, patience=patience,  # type: ignore[arg-type]
        seed=seed, device=device, autocast=autocast, workers=workers,  # type: ignore[arg-type]
    )  # fmt: skip
    module, dataset = prepare(source.load(), model, masked=masked, keep=keep, seed=seed, scheme=scheme)  # type: ignore[arg-type]
    run = train(module, dataset, out=out, progress=_terminal(), source=source, **options.to_json())
    last = run.config.get("results") or {}
    sizes = {name: len(part) for name, part in run.splits.items()}
    record = {"run": _path(out), "splits": sizes, "task": run.task.kind, "results": last}
    lines = [", ".join(f"{count:,} {name}" for name, count in sizes.items()) + f" instances, {_task(run)}"]
    if "dev_accuracy" in last:
        lines.append(f"accuracy on dev {100 * last['dev_accuracy']:.1f} %, loss {last['dev_loss']:.3f}")
    elif "dev_loss" in last:
        lines.append(f"loss on dev {last['dev_loss']:.3f} {run.loss.unit}")
    if last:
        lines.append(f"loss on training instances under their own mask {last['own_loss']:.3f}, flipped {last['flipped_loss']:.3f}")
    lines.append(f"run: {out}   next: whence audit {out}, whence influence {out}, whence report {out}")
    _print(as_json, record, lines)


@app.command()
def influence(
    run: RunPath,
    targets: Annotated[str, typer.Option(help="a split, errors (wrong predictions), or a file of new instances like the data")] = "errors",
    method: Annotated[str, typer.Option(help="auto, turnover, first_order or kernel")] = "auto",
    quantity: Annotated[str, typer.Option(help="loss, accuracy, probability, margin; absolute_error for regression")] = "loss",
    top: Annotated[int, typer.Option(help="helpful and harmful instances to list for each target")] = 5,
    name: Annotated[str | None, typer.Option(help="of the scores inside the run; by default method and targets")] = None,
    matrix: Annotated[bool, typer.Option(help="keep all scores, or only the extremes and means")] = True,
    as_json: Json = False,
) -> None:
    """Score every training instance on every target: positive helps, negative hurts."""
    from whence.estimators import influence as score
    from whence.run import open_run

    if top < 1:
        raise WhenceError("an option out of range", where="--top", got=top, expected="at least 1")
    opened = open_run(run)
    aims: Any = targets
    if targets != "errors" and targets not in opened.splits and Path(targets).suffix:
        aims = opened.more_targets(targets)
        name = name or f"{method}-{Path(targets).stem}"
    scores = score(opened, aims, method=method, quantity=quantity, name=name, keep_matrix=matrix, progress=_terminal())
    assert scores.path is not None
    table = scores.to_parquet(scores.path / "top.parquet", k=top)
    floor = scores.noise_floor() if scores.null is not None and matrix else None
    record = {"scores": _path(scores.path), "top": _path(table), "shape": list(scores.shape), "method": scores.info["method"],
              "quantity": scores.info["quantity"], "unit": scores.info["unit"], "level": scores.info["level"],
              "significant": None if floor is None else floor.significant,
              "verdict": None if floor is None else floor.verdict()}  # fmt: skip
    lines = [f"{scores.shape[0]:,} training {scores.info['level']}s × {scores.shape[1]:,} targets by {scores.info['method']}, "
             f"{scores.info['quantity']} in {scores.info['unit']}; positive helps"]  # fmt: skip
    helpful, harmful = scores.top(top), scores.top(top, harmful=True)
    for column in range(min(3, scores.shape[1])):
        lines.append(f"target {scores.columns.names[column]}")
        for word, best in (("helped by", helpful), ("hurt by", harmful)):
            listed = [f"{scores.rows.names[row]} {value:+.3g}" for row, value in zip(best.rows[column], best.values[column], strict=True)]
            lines.append(f"  {word:<10}{', '.join(listed)}")
    if scores.shape[1] > 3:
        lines.append(f"… and {scores.shape[1] - 3:,} more targets in the table")
    lines.append(floor.verdict() if floor else _unfloored(scores.info["method"]))
    lines += [f"scores: {scores.path}", f"table:  {table}"]
    _print(as_json, record, lines)


@app.command()
def audit(
    run: RunPath,
    method: Annotated[str, typer.Option(help="estimator of the influence on dev: auto, turnover, first_order or kernel")] = "auto",
    show: Annotated[int, typer.Option(help="suspected labels to list")] = 10,
    as_json: Json = False,
) -> None:
    """Rank labels that should not be trusted, suggest others, find memorized instances."""
    from whence.auditing import audit as judge
    from whence.run import open_run

    opened = open_run(run)
    found = judge(opened, method=method, progress=_terminal())
    table = Path(run) / "audit.parquet"
    record = {"audit": _path(table), "counts": found.counts(), "method": found.method}
    counts = found.counts()
    lines = [f"{len(opened.train):,} training instances: {counts['label_issue']:,} suspected label errors, "
             f"{counts['memorized']:,} memorized, {counts['ambiguous']:,} ambiguous"]  # fmt: skip
    rows = found.issues[: max(show, 0)]
    if len(rows):
        lines.append(f"{'id':<20} {'given':<16} {'suggested':<16} p(wrong)")
    for row in rows:
        entry = {name: found.table[name][int(row)].as_py() for name in ("name", "given_label", "suggested_label", "p_wrong")}
        lines.append(f"{entry['name'][:20]:<20} {entry['given_label'][:16]:<16} {entry['suggested_label'][:16]:<16} {entry['p_wrong']:.3f}")
    lines.append(f"audit: {table}")
    _print(as_json, record, lines)


@app.command()
def report(
    run: RunPath,
    out: Annotated[str | None, typer.Option(help="the HTML file; by default RUN/report.html")] = None,
    targets: Annotated[str, typer.Option(help="whose predictions to explain: a split, or errors")] = "errors",
    method: Annotated[str, typer.Option(help="auto, turnover, first_order or kernel")] = "auto",
    top: Annotated[int, typer.Option(help="helpful and harmful instances per prediction")] = 8,
    as_json: Json = False,
) -> None:
    """Write one HTML file that opens offline."""
    from whence.reporting import report as write
    from whence.run import open_run

    path = write(open_run(run), out, targets=targets, method=method, top=top, progress=_terminal())
    _print(as_json, {"report": _path(path)}, [f"report: {path}"])


@app.command()
def demo(
    out: Annotated[str, typer.Option(help="the directory to make")] = "demo",
    seed: Annotated[int, typer.Option(help="of planted errors, masks and weights")] = 0,
    as_json: Json = False,
) -> None:
    """Plant label errors among handwritten digits, train once, find them, explain the mistakes."""
    from whence.demo import demo as play

    result = play(out, seed=seed, progress=_terminal())
    _print(as_json, result.to_json(), result.lines())


def main() -> None:
    """The entry point: exit code 2 and one line for bad input, 130 when interrupted."""
    try:
        app(standalone_mode=False)
    except WhenceError as error:
        _fail(str(error))
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "whence"
        _fail(f"{error.format_message()} Try `{where} --help`.")
    except click.exceptions.Abort:
        sys.exit(130)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))


def _fail(message: str) -> None:
    print("whence: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


def _terminal() -> bool:
    return sys.stderr.isatty()


def _path(path: str | os.PathLike[str]) -> str:
    return Path(path).resolve().as_posix()


def _print(as_json: bool, record: dict[str, Any], lines: list[str]) -> None:
    text = json.dumps(_finite(record), ensure_ascii=False, allow_nan=False) if as_json else "\n".join(lines)
    # A terminal of another encoding must not turn a label into a traceback.
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _task(run: Any) -> str:
    return f"{len(run.task.classes)} classes" if run.task.kind == "classification" else "regression"


def _unfloored(method: str) -> str:
    return f"{method} scores have no mask-based noise floor: to check them, fit again with another --seed and compare"
