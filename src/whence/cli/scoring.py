"""Scores of a run, and whether they are right: ``whence influence`` and ``whence evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from whence.cli.answers import answer, counted, finite, full_path, on_terminal
from whence.cli.failures import interruptible, typed
from whence.cli.options import METHODS, RUN, as_json, run_argument
from whence.errors import WhenceError

__all__ = ["evaluate", "influence"]

_MOST_NAMES = 10  # in one printed line


@click.command(epilog=RUN, short_help="Score who helped and who hurt each prediction.")
@run_argument
@click.option("--targets",
              help="A split, errors (wrong predictions), or a file of new instances with the columns of the data, the label "
                   "too.  [default: errors; for a regression test]")  # fmt: skip
@click.option("--method", default="auto", show_default=True, help=f"Estimator: {METHODS}.")
@click.option(
    "--quantity",
    default="loss",
    show_default=True,
    help="What of a target is scored: loss, accuracy, probability or margin; of a regression loss or absolute_error.",
)
@click.option(
    "--top",
    default=5,
    show_default=True,
    help="Helpful and harmful instances for each target in the table that is written; the first few are printed.",
)
@click.option(
    "--level",
    default="auto",
    show_default=True,
    help="Whose influence is scored: instance, group, or auto (groups where the run has them).",
)
@click.option(
    "--name", help="Name of the scores, which are kept in RUN/scores/NAME; by default of method, targets and quantity."
)
@click.option(
    "--matrix/--no-matrix", default=True, show_default=True, help="Keep all scores, or only the extremes and means."
)
@click.option(
    "--shard",
    help="Of several processes that divide the work, which this is: RANK/WORLD, such as 0/4, or auto under torchrun, srun or "
    "mpirun. The same command without it reads, and finishes, what they made.",
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Where the model is asked: cpu, cuda, cuda:1, mps or auto. Under --shard auto, cuda is the process's own GPU.",
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
    shard: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Score every training instance on every target: positive helps, negative hurts."""
    from whence.estimators import influence as score
    from whence.resolution import resolution
    from whence.run import open_run
    from whence.score_store import StoredScores
    from whence.shards import local_rank, shard_named

    with typed(shard="--shard"):
        part = (0, 1) if shard is None else shard_named(shard)
    if device == "cuda" and shard == "auto" and local_rank() is not None:
        device = f"cuda:{local_rank()}"
    if top < 1:
        raise WhenceError("an option out of range", where="--top", got=top, expected="at least 1")
    with typed(device="--device"):
        opened = open_run(run, device=device)
    if targets is None:
        held_out = next((split for split in ("test", "dev") if split in opened.splits), "test")
        targets = "errors" if opened.task.kind == "classification" else held_out
    aims: Any = targets
    if targets != "errors" and targets not in opened.splits and Path(targets).suffix:
        aims = opened.more_targets(targets)
    with interruptible(lambda: "finished blocks of scores are kept"):
        scores = score(opened, aims, method=method, level=level, quantity=quantity, name=name, keep_matrix=matrix,
                       keep_top=max(top, 100), shard=part, target_set=Path(targets).name.partition(".")[0],
                       progress=on_terminal())  # fmt: skip
    assert isinstance(scores, StoredScores) and scores.path is not None
    if shard is not None:
        _say_what_is_made(as_json, scores, part)
        return
    table = scores.to_parquet(scores.path / "top.parquet", k=top)
    floor = scores.noise_floor() if scores.null is not None and matrix else None
    record = {"scores": full_path(scores.path), "top": full_path(table), "shape": list(scores.shape),
              **{key: scores.info[key] for key in ("method", "quantity", "unit", "level")},
              "significant": None if floor is None else floor.significant,
              "verdict": None if floor is None else floor.verdict()}  # fmt: skip
    lines = _described(scores, top)
    lines.append(floor.verdict() if floor else _unfloored(scores))
    if scores.null is not None and not (floor and floor.is_mostly_noise) and scores.info["level"] == "instance":
        foretold = resolution(opened)
        lines += [] if foretold.is_enough else [foretold.sentence()]
    lines += [f"scores: {scores.path}", f"table:  {table}"]
    answer(as_json, record, lines)


@click.command(epilog=RUN, short_help="Retrain without parts of the data: did scores foretell it?")
@run_argument
@click.option("--targets", help="A split, or errors (wrong predictions).  [default: test; without one, dev]")
@click.option("--method", "methods", multiple=True, default=("auto",), show_default=True,
              help=f"Estimator to judge: {METHODS}; may be given several times.")  # fmt: skip
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
@click.option("--seed", default=0, show_default=True, help="Seed of subsets and trainings.")
@click.option("--jobs", default=1, show_default=True, help="Processes that train; -1 for one per core.")
@click.option(
    "--name", help="Name of the retrainings, which are kept in RUN/truth/NAME; by default of kind, level and targets."
)
@as_json
def evaluate(run: str, targets: str | None, methods: tuple[str, ...], kind: str, level: str | None, subsets: int, fraction: float,
             seeds: int, seed: int, jobs: int, name: str | None, as_json: bool) -> None:  # fmt: skip
    """Retrain without parts of the data, and see whether scores foretold what happens. Given again, it resumes."""
    from whence.estimators import influence as score
    from whence.estimators.dispatch import method_named
    from whence.evaluation.judging import check
    from whence.evaluation.judging import evaluate as judge
    from whence.run import open_run
    from whence.rundir import EVALUATION, RunDirectory, folder_name

    if name is not None:
        folder_name(name, "retrainings")  # before scores are made
    opened, kind = open_run(run), kind.replace("-", "_")
    numbers: dict[str, Any] = {"subsets": subsets, "fraction": fraction, "seeds": seeds, "seed": seed, "jobs": jobs}
    targets = targets or next((split for split in ("test", "dev") if split in opened.splits), "test")
    with interruptible(lambda: "finished retrainings are kept"), opened.in_use():
        with typed(**{option: f"--{option}" for option in (*numbers, "level", "method")}):
            for method in methods:
                method_named(method)
            check(opened, kind, level, **numbers)
        made = [score(opened, targets, method=method, progress=on_terminal()) for method in methods]
        found = judge(opened, {str(one.info["method"]): one for one in made}, targets, kind=kind, level=level, name=name,
                      progress=on_terminal(), **numbers)  # fmt: skip
        record = finite({"run": opened.fingerprint(), **found.to_json(), "truth": full_path(found.path)})
        RunDirectory(found.path).write_json(EVALUATION, record)  # beside what it was judged by: each kind has its own
    answer(as_json, record, [*found.lines(), f"truth: {found.path}   evaluation: {found.path / EVALUATION}"])


def _say_what_is_made(as_json: bool, scores: Any, part: tuple[int, int]) -> None:
    """Of scores that several processes make."""
    blocks, missing, (rank, world) = len(list(scores.ranges())), scores.missing(), part
    mine = len(range(rank, blocks, world))
    record = {
        "scores": full_path(scores.path),
        "shard": list(part),
        "blocks": blocks,
        "made_here": mine,
        "missing": missing,
    }
    left = "all are done" if not missing else f"{len(missing)} of {blocks} are still to be made by others"
    lines = [
        f"shard {rank}/{world}: {mine} of {blocks} blocks of scores; {left}",
        f"scores: {scores.path}   the same command without --shard reads them, and makes what is missing",
    ]
    answer(as_json, record, lines)


def _described(scores: Any, top: int) -> list[str]:
    """What the scores are, and who helped and hurt the first targets."""
    info, (rows, targets) = scores.info, scores.shape
    lines = [f"{counted(rows, 'training ' + info['level'])} × {counted(targets, 'target')} by {info['method']}, "
             f"{info['quantity']} in {info['unit']}; positive helps"]  # fmt: skip
    helpful, harmful = scores.top(top), scores.top(top, harmful=True)
    for column in range(min(3, scores.shape[1])):
        lines.append(f"target {scores.columns.names[column]}")
        for word, best, sign in (("helped by", helpful, 1), ("hurt by", harmful, -1)):
            lines.append(f"  {word:<10}{_listed(scores, best, column, sign)}")
    if scores.shape[1] > 3:
        lines.append(f"… and {counted(scores.shape[1] - 3, 'more target')} in the table")
    return lines


def _listed(scores: Any, best: Any, column: int, sign: int) -> str:
    """The rows that do help (sign 1) or hurt (−1) a target, with their scores; of many the first."""
    pairs = [(scores.rows.names[row], value) for row, value in zip(best.rows[column], best.values[column], strict=True)
             if sign * value > 0]  # fmt: skip
    shown = ", ".join(f"{name} {value:+.3g}" for name, value in pairs[:_MOST_NAMES])
    return f"{shown}, and {len(pairs) - _MOST_NAMES:,} more" if len(pairs) > _MOST_NAMES else shown or "none"


def _unfloored(scores: Any) -> str:
    if scores.null is not None:
        called = f"{len(scores.significance().called()):,} of {len(scores.ids):,} rows"
        return (f"by their mean over targets, {called} are beyond chance (q ≤ 0.05); scores as a whole were not compared: that "
                "takes the matrix of scores, which was not kept (to compare: --matrix --name NAME)")  # fmt: skip
    method = scores.info["method"]
    return f"{method} scores have no mask-based noise floor: to check them, fit again with another --seed, then report --against"
