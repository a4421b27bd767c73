"""The command line: parse, call, print. Results go to standard output, progress and errors to standard error."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from whence import __version__
from whence.errors import WhenceError
from whence.options import TrainingOptions

__all__ = ["commands", "main"]

_DATA = "DATA: a csv, tsv(.gz), jsonl, parquet or npz file, or the built-in digits or diabetes."
_METHODS = "auto, turnover, first_order, kernel or kronecker"
_MOST_NAMES = 10  # in one printed line


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="whence")
def commands() -> None:
    """Which training examples made the model predict this, which help or hurt it, which labels should not be trusted."""


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object in place of text.")
run_argument = click.argument("run", metavar="RUN")


_DATA_OPTIONS = [
    click.option("--label", help="Column to predict (not needed for npz and built-in sets)."),
    click.option("--text", help="Column of text."),
    click.option("--features", help="Columns of numbers, separated by commas, globs allowed."),
    click.option("--id", "id", help="Column of ids; by default a column named id, else row numbers."),
    click.option("--group", help="Column of sources; all members of a group share one mask."),
    click.option(
        "--split-by",
        default="auto",
        show_default=True,
        help="What drawn splits keep together: group, instance (nothing), or auto (groups, if none holds more than "
        "2 % of the rows).",
    ),
    click.option("--split", help='Column of train, dev, test; "none" to divide the rows anew.'),
    click.option("--task", default="auto", show_default=True, help="auto, classification or regression."),
    click.option("--limit", type=int, help="Use at most this many instances of each split."),
    click.option("--drop-missing", is_flag=True, help="Leave out rows whose label, text or any feature is missing."),
    click.option("--split-seed", default=0, show_default=True, help="Of the division into splits and of --limit."),
]
_MODEL_OPTIONS = [
    click.option(
        "--model",
        default="auto",
        show_default=True,
        help="mlp:512,512, conv:16,32,256, ngrams:256 (widths are yours) or auto.",
    ),
    click.option(
        "--masked",
        default="last",
        show_default=True,
        help="Hidden layers with turn-over dropout: last, all, or a glob of module names.",
    ),
    click.option("--keep", default=0.5, show_default=True, help="Share of units that each instance keeps."),
    click.option(
        "--scheme",
        default="independent",
        show_default=True,
        help="independent, or balanced (exactly half of the units).",
    ),
    click.option("--seed", default=0, show_default=True, help="Of masks, weights and the order of instances."),
]


def data_options(command: Any) -> Any:
    """How to read DATA: what ``Source`` takes."""
    return _with(_DATA_OPTIONS, command)


def model_options(command: Any) -> Any:
    """Which model, and where its masks are."""
    return _with(_MODEL_OPTIONS, command)


def _with(options: list[Any], command: Any) -> Any:
    for option in reversed(options):
        command = option(command)
    return command


def training_options(command: Any) -> Any:
    """The fields of ``TrainingOptions`` as options, except the seed, which has further uses."""
    for option in reversed(fields(TrainingOptions)):
        if option.name not in ("seed", "exposure_limit"):
            kind: Any = int if option.default is None else type(option.default)
            help = option.metadata["help"]
            command = click.option(
                f"--{option.name.replace('_', '-')}",
                option.name,
                type=kind,
                default=option.default,
                show_default=option.default is not None,
                help=help[0].upper() + help[1:] + ".",
            )(command)
    return command


@commands.command(epilog=_DATA)
@click.argument("data", metavar="DATA")
@data_options
@model_options
@click.option("--runs", default=1, show_default=True, help="Runs of other seeds whose scores will be averaged.")
@as_json
def plan(data: str, model: str, masked: str, keep: float, scheme: Any, seed: int, split_seed: int, runs: int,
         as_json: bool, **given: Any) -> None:  # fmt: skip
    """Say, before training, what published scores of these data and this model can tell apart."""
    from whence.data.loading import Source
    from whence.models import prepare
    from whence.planning import plan as foresee
    from whence.run import Run

    with _typed(seed="--split-seed"):
        source = Source(data, seed=split_seed, **given)
    module, dataset = prepare(source.load(), model, masked=masked, keep=keep, seed=seed, scheme=scheme)
    found = foresee(Run(module, dataset), runs)
    lines = [found.lines()[0], *(f"note: {note}" for note in dataset.notes), *found.lines()[1:]]
    _print(as_json, {**found.to_json(), "notes": list(dataset.notes)}, lines)


@commands.command(epilog=_DATA)
@click.argument("data", metavar="DATA")
@click.option("--out", required=True, help="The run directory to make, resume or reopen.")
@data_options
@model_options
@training_options
@as_json
def fit(
    data: str,
    out: str,
    model: str,
    masked: str,
    keep: float,
    scheme: Any,
    seed: int,
    split_seed: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Train a model in which every training instance has its own mask."""
    from whence.data.loading import Source
    from whence.models import prepare
    from whence.training import fit as train
    from whence.training import kept

    options = TrainingOptions(
        seed=seed, **{name: given.pop(name) for name in TrainingOptions.__dataclass_fields__ if name in given}
    )
    with _typed(seed="--split-seed"):
        source = Source(data, seed=split_seed, **given)
    module, dataset = prepare(source.load(), model, masked=masked, keep=keep, seed=seed, scheme=scheme)
    with _interruptible(lambda: kept(out)):
        run = train(module, dataset, out=out, progress=_terminal(), source=source, **options.to_json())
    last = run.config.get("results") or {}
    sizes = {name: len(part) for name, part in run.splits.items()}
    record = {"run": _path(out), "splits": sizes, "task": run.task.kind, "results": last,
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
    _print(as_json, record, lines)


@commands.command()
@run_argument
@click.option("--targets",
              help="A split, errors (wrong predictions), or a file of new instances with the columns of the data, the label "
                   "too.  [default: errors; for a regression test]")  # fmt: skip
@click.option("--method", default="auto", show_default=True, help=_METHODS)
@click.option(
    "--quantity",
    default="loss",
    show_default=True,
    help="loss, accuracy, probability, margin; absolute_error for regression.",
)
@click.option(
    "--top",
    default=5,
    show_default=True,
    help="Helpful and harmful instances to list for each target, in the table; a few are printed.",
)
@click.option(
    "--level",
    default="auto",
    show_default=True,
    help="What is scored: instance, group, or auto (groups where the run has them).",
)
@click.option("--name", help="Of the scores inside the run; by default method, targets and quantity.")
@click.option(
    "--matrix/--no-matrix", default=True, show_default=True, help="Keep all scores, or only the extremes and means."
)
@as_json
def influence(
    run: str,
    targets: str | None,
    method: str,
    quantity: str,
    top: int,
    level: str,
    name: str | None,
    matrix: bool,
    as_json: bool,
) -> None:
    """Score every training instance on every target: positive helps, negative hurts."""
    from whence.estimators import influence as score
    from whence.resolution import resolution
    from whence.run import open_run

    if top < 1:
        raise WhenceError("an option out of range", where="--top", got=top, expected="at least 1")
    opened = open_run(run)
    if targets is None:
        held_out = next((split for split in ("test", "dev") if split in opened.splits), "test")
        targets = "errors" if opened.task.kind == "classification" else held_out
    aims: Any = targets
    if targets != "errors" and targets not in opened.splits and Path(targets).suffix:
        aims = opened.more_targets(targets)
    with _interruptible(lambda: "finished blocks of scores are kept"):
        scores = score(opened, aims, method=method, level=level, quantity=quantity, name=name, keep_matrix=matrix,
                       target_set=Path(targets).name.partition(".")[0], progress=_terminal())  # fmt: skip
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
        for word, best, sign in (("helped by", helpful, 1), ("hurt by", harmful, -1)):
            lines.append(f"  {word:<10}{_listed(scores, best, column, sign)}")
    if scores.shape[1] > 3:
        lines.append(f"… and {scores.shape[1] - 3:,} more targets in the table")
    lines.append(floor.verdict() if floor else _unfloored(scores))
    if scores.null is not None and not (floor and floor.is_mostly_noise) and scores.info["level"] == "instance":
        foretold = resolution(opened)
        lines += [] if foretold.is_enough else [foretold.sentence()]
    lines += [f"scores: {scores.path}", f"table:  {table}"]
    _print(as_json, record, lines)


@commands.command()
@run_argument
@click.option("--method", default="auto", show_default=True, help=f"Estimator of the influence on dev: {_METHODS}.")
@click.option("--show", default=10, show_default=True, help="Suspected labels, and groups, to list; --json lists all.")
@as_json
def audit(run: str, method: str, show: int, as_json: bool) -> None:
    """Rank labels that should not be trusted, suggest others, find memorized instances; of a run with groups, say which
    groups harm and which help on dev."""
    from whence.auditing import audit as judge
    from whence.run import open_run

    if show < 0:
        raise WhenceError("an option out of range", where="--show", got=show, expected="at least 0")
    opened = open_run(run)
    with _interruptible(lambda: "finished blocks of scores are kept"):
        found = judge(opened, method=method, progress=_terminal())
    table = Path(run) / "audit.parquet"
    names = {"id": "name", "given": "given_label", "suggested": "suggested_label", "p_wrong": "p_wrong"}
    suspected = [
        {key: entry[name] for key, name in names.items()} for entry in found.table.take(found.issues).to_pylist()
    ]
    record = {"audit": _path(table), "counts": found.counts(), "method": found.method, "caveat": found.caveat,
              "suspected": suspected, "groups": None}  # fmt: skip
    counts = found.counts()
    lines = [f"{len(opened.train):,} training instances: {counts['label_issue']:,} suspected label errors, "
             f"{counts['memorized']:,} memorized, {counts['ambiguous']:,} ambiguous"]  # fmt: skip
    lines += [f"caution: {found.caveat}"] if found.caveat else []
    if suspected[:show]:
        lines.append(f"{'id':<20} {'given':<16} {'suggested':<16} p(wrong)")
    for entry in suspected[:show]:
        lines.append(
            f"{entry['id'][:20]:<20} {entry['given'][:16]:<16} {entry['suggested'][:16]:<16} {entry['p_wrong']:.3f}"
        )
    lines.append(f"audit: {table}")
    if found.groups is not None:
        record |= {"groups": found.groups.to_json(), "groups_table": _path(Path(run) / "groups.parquet")}
        lines += [*found.groups.lines(show), f"groups: {Path(run) / 'groups.parquet'}"]
    elif opened.train.groups is not None:
        lines.append("groups: not judged, which takes a dev split")
    _print(as_json, record, lines)


@commands.command()
@run_argument
@click.option("--out", help="The HTML file; by default RUN/report.html.")
@click.option(
    "--targets", default="errors", show_default=True, help="Whose predictions to explain: a split, or errors."
)
@click.option("--method", default="auto", show_default=True, help=_METHODS)
@click.option("--top", default=8, show_default=True, help="Helpful and harmful instances per prediction.")
@as_json
def report(run: str, out: str | None, targets: str, method: str, top: int, as_json: bool) -> None:
    """Write one HTML file that opens offline."""
    from whence.reporting import report as write
    from whence.run import open_run

    opened = open_run(run)
    with _interruptible(lambda: "finished blocks of scores are kept"):
        path = write(opened, out, targets=targets, method=method, top=top, progress=_terminal())
    _print(as_json, {"report": _path(path)}, [f"report: {path}"])


@commands.command()
@run_argument
@click.option("--targets", help="A split, or errors (wrong predictions).  [default: test; without one, dev]")
@click.option("--method", "methods", multiple=True, default=("auto",), show_default=True,
              help=f"{_METHODS[0].upper()}{_METHODS[1:]}; may be given several times.")  # fmt: skip
@click.option("--kind", type=click.Choice(["random", "leave-one-out"]), default="random", show_default=True,
              help="Retrain on random subsets, or without one row at a time.")  # fmt: skip
@click.option(
    "--level",
    type=click.Choice(["instance", "group"]),
    help="What to leave out; by default groups where the run has them.",
)
@click.option(
    "--subsets",
    default=50,
    show_default=True,
    help="Random subsets, or rows that are left out in turn (of groups: all).",
)
@click.option("--fraction", default=0.5, show_default=True, help="Share of rows that a random subset keeps.")
@click.option("--seeds", default=2, show_default=True, help="Models trained on each subset.")
@click.option("--seed", default=0, show_default=True, help="Of subsets and trainings.")
@click.option("--jobs", default=1, show_default=True, help="Processes that train; -1 for one per core.")
@click.option("--name", help="Of the retrainings inside the run; by default kind, level and targets.")
@as_json
def evaluate(run: str, targets: str | None, methods: tuple[str, ...], kind: str, level: str | None, subsets: int, fraction: float,
             seeds: int, seed: int, jobs: int, name: str | None, as_json: bool) -> None:  # fmt: skip
    """Retrain without parts of the data, and see whether scores foretold what happens. Given again, it resumes."""
    from whence.estimators import influence as score
    from whence.evaluation.judging import evaluate as judge
    from whence.run import open_run

    opened = open_run(run)
    targets = targets or next((split for split in ("test", "dev") if split in opened.splits), "test")
    with _interruptible(lambda: "finished retrainings are kept"):
        made = [score(opened, targets, method=method, progress=_terminal()) for method in methods]
        with _typed(**{option: f"--{option}" for option in ("subsets", "fraction", "seeds", "jobs", "level")}):
            found = judge(opened, {str(one.info["method"]): one for one in made}, targets, kind=kind.replace("-", "_"),
                          level=level, subsets=subsets, fraction=fraction, seeds=seeds, seed=seed, jobs=jobs, name=name,
                          progress=_terminal())  # fmt: skip
    lines = [*found.lines(), f"truth: {found.path}   evaluation: {Path(run) / 'evaluation.json'}"]
    record = _finite({**found.to_json(), "truth": _path(found.path)})
    opened.directory.write_json("evaluation.json", record)  # type: ignore[union-attr]
    _print(as_json, record, lines)


@commands.command()
@click.option("--out", default="demo", show_default=True, help="The directory to make.")
@click.option("--seed", default=0, show_default=True, help="Of planted errors, masks and weights.")
@as_json
def demo(out: str, seed: int, as_json: bool) -> None:
    """Plant label errors among handwritten digits, train once, find them, explain the mistakes."""
    from whence.demo import demo as play

    with _interruptible(lambda: "finished epochs and blocks of scores are kept"):
        result = play(out, seed=seed, progress=_terminal())
    _print(as_json, result.to_json(), result.lines())


def main() -> None:
    """The entry point: exit code 2 and one line for bad input, 130 when interrupted."""
    notes = _Notes()
    log = logging.getLogger("whence")
    log.addHandler(notes)
    before, log.level = log.level, logging.INFO
    try:
        with _typed(**{name: f"--{name.replace('_', '-')}" for name in _options()}):
            commands(standalone_mode=False)
    except WhenceError as error:
        _fail(str(error))
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "whence"
        _fail(f"{error.format_message()} Try `{where} --help`.")
    except (click.Abort, KeyboardInterrupt):
        _stopped()
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
    finally:
        log.removeHandler(notes)
        log.setLevel(before)


class _Notes(logging.Handler):
    """What the library logs, a line each on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"whence: {record.getMessage()}", file=sys.stderr)


def _options() -> set[str]:
    parameters = (parameter for command in commands.commands.values() for parameter in command.params)
    return {parameter.name for parameter in parameters if isinstance(parameter, click.Option) and parameter.name}


@contextmanager
def _typed(**options: str) -> Iterator[None]:
    """Errors about an option name it as it is typed."""
    try:
        yield
    except WhenceError as error:
        if error.where not in options:
            raise
        raise WhenceError(error.what, where=options[error.where], got=error.got, expected=error.expected,
                          mend=error.mend) from error  # fmt: skip


@contextmanager
def _interruptible(kept: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C ends the program with a word on what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        _stopped(f"; {kept()}")


def _stopped(kept: str = "") -> None:
    print(f"\nwhence: interrupted{kept}; give the same command again to resume", file=sys.stderr)
    sys.exit(130)


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


def _listed(scores: Any, best: Any, column: int, sign: int) -> str:
    """The rows that do help (sign 1) or hurt (−1) a target, with their scores; of many the first."""
    pairs = [(scores.rows.names[row], value) for row, value in zip(best.rows[column], best.values[column], strict=True)
             if sign * value > 0]  # fmt: skip
    shown = ", ".join(f"{name} {value:+.3g}" for name, value in pairs[:_MOST_NAMES])
    return f"{shown}, and {len(pairs) - _MOST_NAMES:,} more" if len(pairs) > _MOST_NAMES else shown or "none"


def _unfloored(scores: Any) -> str:
    if scores.null is not None:
        return "not compared with chance: that takes the matrix of scores, which was not kept (to compare: --matrix --name NAME)"
    method = scores.info["method"]
    return f"{method} scores have no mask-based noise floor: to check them, fit again with another --seed and compare"
