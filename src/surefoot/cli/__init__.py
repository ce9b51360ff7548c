"""The command line. Commands live one per file and import what they need only when they run, so that ``--help`` is quick."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import click

from surefoot.cli.exit_codes import ASSUMPTION, INTERRUPTED, MENDABLE
from surefoot.cli.printing import UNWRITABLE, printable, silence
from surefoot.version import VERSION

__all__ = ["cli", "main"]

COMMANDS = {
    "calibrate": "Choose the multiplier of a baseline's calibrated preset on training tasks.",
    "plan": "Forecast from a policy set how many real episodes a deployment will need.",
    "deploy": "Operate a durable deployment: open, ask, tell, pause, abort, verify, ...",
    "rehearse": "Certify a whole deployment by running it on fresh simulated plants.",
    "reproduce": "Reproduce a published experiment: logs, figures and a report in a new directory.",
    "serve": "Serve a deployment over HTTP, for controllers in any language.",
    "show": "Describe a policy set in plain words.",
    "train": "Train a policy set on a family of tasks.",
    "validate": "Try an agent's guarantee on tasks and reports that make it hard.",
}


class LazyGroup(click.Group):
    """Knows names and one-line helps; imports a command's module only to run it or to print its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"surefoot.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


def _here() -> str:
    """The current folder, or nothing where that was deleted."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _import(ctx: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> None:
    """Import modules that register controllers; files name kinds of controllers, never modules."""
    for name in names:
        if (here := _here()) and here not in sys.path:
            sys.path.append(here)  # last: a file that happens to lie here must not stand in for a module of the library
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            raise click.BadParameter(
                f"{name!r} is no module that can be imported from here; run from the folder it lies in, and leave out .py",
                ctx,
                parameter,
            ) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="surefoot")
@click.option(
    "--import", "modules", multiple=True, metavar="MODULE", expose_value=False, callback=_import,
    help="Your module that registers the controllers in your policy sets; may be given several times.",
)  # fmt: skip
def cli() -> None:
    """Constrained meta reinforcement learning with provable test-time safety.

    Errors that you can mend exit with status 2 and say how; a refused certificate or assumption exits with status 3.
    """


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``surefoot`` command."""
    try:
        cli.main(args=arguments, prog_name="surefoot", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        from surefoot.errors import AssumptionError, SurefootError

        if isinstance(error, OSError) and not isinstance(error, SurefootError) and error.errno in UNWRITABLE:
            silence()
            text = (
                f"error: the answer could not be written ({error.strerror}); what was recorded stands, see the status"
            )
            click.echo(text, err=True)
            sys.exit(MENDABLE)
        if not isinstance(error, SurefootError):
            raise
        click.echo(printable(f"error {error.code}: {error}"), err=True)
        sys.exit(ASSUMPTION if isinstance(error, AssumptionError) else MENDABLE)
