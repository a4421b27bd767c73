"""The command line: parse, call, print. Results go to standard output, progress and errors to standard error.

One file for each family of commands; what they need of the library is imported when a command is given.
"""

from __future__ import annotations

import logging
import sys

import click

from whence import __version__
from whence.cli.cleansing import cleanse
from whence.cli.failures import Notes, fail, stopped, typed
from whence.cli.judging import audit, report, verify
from whence.cli.scoring import evaluate, influence
from whence.cli.training import demo, fit, plan
from whence.errors import WhenceError

__all__ = ["commands", "main"]


class Workflow(click.Group):
    """Commands in the order in which they are given, in place of the alphabet's."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Workflow, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="whence")
def commands() -> None:
    """Which training examples made the model predict this, which help or hurt it, which labels should not be trusted."""


for command in (demo, plan, fit, audit, influence, report, cleanse, evaluate, verify):
    commands.add_command(command)


def main() -> None:
    """The entry point: exit code 2 and one line for bad input, 130 when interrupted."""
    notes = Notes()
    log = logging.getLogger("whence")
    log.addHandler(notes)
    before, log.level = log.level, logging.INFO
    try:
        # A word that was typed as it is, such as a directory called runs, means itself and no option.
        options = _options() - set(sys.argv)
        with typed(**{name: f"--{name.replace('_', '-')}" for name in options}):
            commands(standalone_mode=False)
    except WhenceError as error:
        fail(str(error))
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "whence"
        fail(f"{error.format_message()} Try `{where} --help`.")
    except (click.Abort, KeyboardInterrupt):
        stopped()
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except MemoryError:
        fail("out of memory. Take fewer instances with --limit, or a smaller model.")
    except OSError as error:
        fail(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
    finally:
        log.removeHandler(notes)
        log.setLevel(before)


def _options() -> set[str]:
    parameters = (parameter for command in commands.commands.values() for parameter in command.params)
    return {parameter.name for parameter in parameters if isinstance(parameter, click.Option) and parameter.name}
