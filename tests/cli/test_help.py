"""What help says."""

from __future__ import annotations

from dataclasses import fields

import click

from whence.cli import commands
from whence.options import TrainingOptions


def test_help_names_every_option(whence):
    code, out, _ = whence("fit", "--help")
    assert code == 0
    for option in (
        "--text",
        "--features",
        "--label",
        "--id",
        "--group",
        "--split",
        "--model",
        "--epochs",
        "--limit",
        "--seed",
        "--out",
    ):
        assert option in out
    assert whence("--version")[0] == 0
    commands_shown = whence("--help")[1].partition("Commands:")[2]
    assert "..." not in commands_shown  # each is said whole
    places = [
        commands_shown.index(f"  {name} ")
        for name in ("plan", "fit", "audit", "influence", "report", "cleanse", "evaluate")
    ]
    assert places == sorted(places)
    code, out, err = whence("nonsense")
    assert code == 2
    assert "No such command 'nonsense'" in err


def test_help_says_what_can_be_given_and_what_follows(whence):
    helps = {name: " ".join(whence(name, "--help")[1].split()) for name in commands.commands}
    for option in fields(TrainingOptions):
        said = helps["fit"].partition(f"--{option.name} ")[2].partition("[default")[0]
        assert all(choice in said for choice in option.metadata["choices"]), option.name
    for name, command in commands.commands.items():
        assert "[default: (" not in helps[name]  # how click shows a default that is not the option's
        for option in (parameter for parameter in command.params if isinstance(parameter, click.Option)):
            assert option.help.partition("  [")[0].endswith("."), option.name
    assert all("audit and report say which groups help or harm on dev" in helps[name] for name in ("fit", "plan"))
    assert "of a run with groups (fit --group), say which groups help and which harm on dev" in helps["audit"]
    assert "which groups help and harm on dev (of a run with groups)" in helps["report"]
