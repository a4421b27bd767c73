"""Options that several commands share."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from whence.options import TrainingOptions

__all__ = ["DATA", "METHODS", "RUN", "as_json", "data_options", "model_options", "run_argument", "training_options"]

DATA = "DATA: a csv, tsv(.gz), jsonl, parquet or npz file, a directory of pictures, or the built-in digits or diabetes."
METHODS = "auto (kronecker, where model and quantity allow it), turnover, first_order, kernel or kronecker"
RUN = "RUN: a directory that whence fit has made."

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object in place of text.")
run_argument = click.argument("run", metavar="RUN")

_DATA_OPTIONS = [
    click.option(
        "--label", help="Column to predict; needed for tables, not for npz, directories of pictures and built-in sets."
    ),
    click.option("--text", help="Column of text that the model reads."),
    click.option("--text-pair", help="Column of a second text, for pairs of sentences."),
    click.option("--image", help="Column of pictures: bytes, or paths from where the table lies."),
    click.option(
        "--image-size",
        type=int,
        help="Side of the square that pictures are brought to, pixels; by default as they are, or 64 if they differ in size.",
    ),
    click.option(
        "--features",
        help="Columns of numbers that the model reads, separated by commas, globs allowed; without --text, --image and --features "
        "all other columns.",
    ),
    click.option(
        "--id", "id", help="Column of ids; by default a column named id, else row numbers; none for row numbers."
    ),
    click.option(
        "--group",
        help="Column of sources, authors, annotators: all members of a group share one mask, and audit and "
        "report say which groups help or harm on dev.",
    ),
    click.option(
        "--split-by",
        default="auto",
        show_default=True,
        help="What drawn splits keep together: group, instance (nothing), or auto (groups, if none holds more than "
        "2 % of the rows).",
    ),
    click.option(
        "--split",
        help="Column of train, dev, test; by default a column named split; none, or no such column, draws 80:10:10.",
    ),
    click.option(
        "--task",
        default="auto",
        show_default=True,
        help="What is predicted: classification, regression, or auto, which looks at the labels.",
    ),
    click.option("--limit", type=int, help="Use at most this many instances of each split."),
    click.option("--drop-missing", is_flag=True, help="Leave out rows whose label, text or any feature is missing."),
    click.option("--split-seed", default=0, show_default=True, help="Seed of the division into splits and of --limit."),
]
_MODEL_OPTIONS = [
    click.option(
        "--model",
        default="auto",
        show_default=True,
        help="mlp:512,512 for features or pictures; conv:16,32,256, vgg:32,64,128,256, vgg16 or resnet18:64 for pictures; "
        "ngrams:256 for texts (widths are yours), or the folder or hub name of a transformer encoder; auto is mlp or ngrams.",
    ),
    click.option(
        "--masked",
        default="auto",
        show_default=True,
        help="Hidden layers with turn-over dropout: last, all, or a glob of module names; of an encoder updates, adapter, "
        "lora, frozen, head or dropouts; auto is last, or updates.",
    ),
    click.option(
        "--max-length",
        default=256,
        show_default=True,
        help="Tokens of a text that an encoder reads; longer texts are cut.",
    ),
    click.option(
        "--keep",
        type=float,
        help="Share of the masked units that each instance keeps.  [default: 0.5; of an encoder's updates 0.75]",
    ),
    click.option(
        "--scheme",
        default="independent",
        show_default=True,
        help="How an instance's units are drawn: independent of each other, or balanced, exactly half of them.",
    ),
    click.option("--seed", default=0, show_default=True, help="Seed of masks, weights and the order of instances."),
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
    """The fields of ``TrainingOptions`` as options, None where not given, except the seed, which has further uses."""
    for option in reversed(fields(TrainingOptions)):
        if option.name not in ("seed", "exposure_limit"):
            kind: Any = int if option.default is None else type(option.default)
            help = option.metadata["help"]
            default = "" if option.default is None else f"  [default: {option.default}]"
            command = click.option(
                f"--{option.name.replace('_', '-')}",
                option.name,
                type=kind,
                default=None,
                help=f"{help[0].upper()}{help[1:]}.{default}",
            )(command)
    return command
