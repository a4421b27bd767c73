"""Change what seems to do harm, and see whether it did any good: ``whence cleanse``."""

from __future__ import annotations

from pathlib import Path

import click

from whence.cli.answers import answer, full_path, on_terminal
from whence.cli.failures import interruptible, typed
from whence.cli.options import METHODS, RUN, as_json, run_argument

__all__ = ["cleanse"]

_TYPED = ("drop", "relabel", "groups", "by", "method", "runs", "seeds", "seed", "jobs", "targets")
_AMOUNT = 'a share ("1%"), a number, "significant" (false-discovery rate of at most 5 %), or several with commas'


@click.command(
    epilog=RUN, short_help="Drop or relabel what seems to do harm, retrain, and say whether it did any good."
)
@run_argument
@click.option(
    "--drop", help=f"How much of the training data to drop: {_AMOUNT}.  [default: 1%, if nothing else is asked for]"
)
@click.option("--relabel", is_flag=False, flag_value="all",
              help="Give suspected labels the suggested ones: all, or an amount. RUN comes first.")  # fmt: skip
@click.option("--groups", is_flag=False, flag_value="significant",
              help="Drop whole groups: all whose harm is beyond chance, or an amount as for --drop.")  # fmt: skip
@click.option("--by", type=click.Choice(["influence", "p_wrong"]), default="influence", show_default=True,
              help="What --drop goes by: the lowest mean influence on dev, or the least trusted labels.")  # fmt: skip
@click.option("--method", default="auto", show_default=True, help=f"Estimator of influence: {METHODS}.")
@click.option("--runs", default=1, show_default=True, help="Trainings that influence is averaged over.")
@click.option("--targets", default="test", show_default=True, help="The split that decides.")
@click.option("--seeds", default=5, show_default=True, help="Trainings of each change and each control.")
@click.option("--seed", default=0, show_default=True, help="Seed of trainings and random removals.")
@click.option("--jobs", default=1, show_default=True, help="Processes that train; -1 for one per core.")
@click.option("--table", help="Also write the run's table, marked row by row, to this file: what is dropped gets the split "
              "dropped, so that the same fit goes on with the rest.")  # fmt: skip
@click.option("--name", help="Name of the results, which are kept in RUN/cleanse/NAME.")
@as_json
def cleanse(run: str, drop: str | None, relabel: str | None, groups: str | None, by: str, method: str, runs: int, targets: str,
            seeds: int, seed: int, jobs: int, table: str | None, name: str | None, as_json: bool) -> None:  # fmt: skip
    """Drop or relabel the training data that seem to do harm on dev, retrain from several seeds, and compare on test with no
    change, with random removal and with random removal of the same labels. The verdict may be: no detectable gain. RUN is not
    changed: RUN/cleanse/NAME/cleansed.parquet says of every row what to do with it, and why. Given again, it resumes."""
    from whence.cleansing import cleanse as change
    from whence.cleansing.comparing import GAIN
    from whence.cleansing.tables import check_table, refit, write_table
    from whence.run import open_run

    opened = open_run(run)
    if table is not None:
        check_table(opened, table)
    with (
        interruptible(lambda: "finished trainings are kept"),
        typed(**{option: f"--{option}" for option in _TYPED}),
    ):
        found = change(opened, drop=drop, relabel=True if relabel == "all" else relabel, groups=groups, by=by,
                       method=method, runs=runs, targets=targets, seeds=seeds, seed=seed, jobs=jobs, name=name,
                       progress=on_terminal())  # fmt: skip
    assert found.path is not None
    record = {"cleansed": full_path(found.path / "cleansed.parquet"), **found.to_json()}
    lines = [*found.lines(), f"cleansed: {found.path / 'cleansed.parquet'}"]
    if found.steps and found.best is None:
        lines.append("note: nothing is marked there, as each change does harm")
    elif found.steps and found.verdict != GAIN:
        lines.append(f"note: it says what was asked for, not what was found to help ({found.verdict})")
    if table is not None:
        written, command = write_table(opened, found, Path(table)), refit(opened, table)
        record |= {"table": full_path(written), "refit": command}
        lines += [f"table:    {written}", f"to train on it: {command} --out ANOTHER_RUN"]
    answer(as_json, record, lines)
