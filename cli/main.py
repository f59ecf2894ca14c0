"""The command `labmesh`: knows the commands by name, and imports only the one that is typed."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import click

from cli.app import App, global_options
from cli.outcome import BROKEN_PIPE, INTERRUPTED, USAGE, build_failure
from cli.output import prepare_streams, print_failure

COMMANDS = {
    "init": "Make this node's home: keys, certificate, database, settings.",
    "card": "Print this member's signed card.",
    "roster": "Found the alliance, and say who belongs to it.",
    "join": "Join an alliance, or take newer rosters and cards.",
    "run": "Run the node in the foreground.",
    "keys": "Show, rotate, revoke and protect this member's keys.",
    "confirm": "Publish although too few peers have answered; with --lost, end the alarm of lost entries.",
    "upgrade": "Back up and migrate a home made by an older version.",
    "backup": "Write database and settings into one file.",
    "restore": "Make a home from a backup.",
    "push": "Append records to this member's log.",
    "list": "List the newest revisions of records.",
    "show": "Show one record.",
    "grant": "Open one record of this member to further members.",
    "erase": "Delete one record of this member for good, here and at every peer that holds it.",
    "search": "Find records by words, standard numbers or Chinese text.",
    "status": "Show the state of this node.",
    "peers": "Show the state of each peer.",
    "doctor": "Say what is wrong with this node, and what to type.",
    "client": "Let lab systems on other machines use this node.",
    "audit": "Recompute everything that is held here of a member's log.",
    "prove": "Write the bundle that proves one record offline.",
    "verify": "Verify bundles offline; needs no node.",
    "evidence": "Show, export and check proof that a member signed two things that cannot both be honest.",
}
"""Every command with its short help, in the order of `labmesh --help`; a test compares it with the commands themselves."""


class LabmeshGroup(click.Group):
    """The top of the command line: imports commands late, and maps every failure to an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"cli.commands.{cmd_name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may have been meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(  # type: ignore[override]  # the arguments that matter here
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run one command and end the process with its exit code."""
        arguments = sys.argv[1:] if args is None else list(args)
        extra.pop("standalone_mode", None)
        prepare_streams()
        self._main_shell_completion(extra, prog_name or "labmesh", "_LABMESH_COMPLETE")
        sys.exit(self._run(arguments, prog_name or "labmesh", extra))

    def _run(self, arguments: list[str], name: str, extra: dict[str, Any]) -> int:
        app = App()
        try:
            return self._run_command(arguments, name, app, extra)
        except BrokenPipeError:
            # Whoever read our output has gone. Nothing more can be said there, also not when Python flushes at the end.
            _silence_stdout()
            return BROKEN_PIPE
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            return INTERRUPTED
        except Exception as error:  # the one place where failures become words
            if os.environ.get("LABMESH_DEBUG") == "1":
                import traceback

                traceback.print_exception(error)
            failure = build_failure(error)
            # A wrong option may stand before --json, which then was not read yet.
            as_json = app.json or "--json" in arguments
            if not as_json:  # a program gets the bare words, and knows itself how it calls us
                failure = replace(failure, hint=app.complete(failure.hint))
            print_failure(failure, as_json=as_json)
            return failure.exit_code

    def _run_command(self, arguments: list[str], name: str, app: App, extra: dict[str, Any]) -> int:
        try:
            with self.make_context(name, list(arguments), obj=app, **extra) as context:
                _silence_log()
                self.invoke(context)
        except click.exceptions.Exit as error:
            return error.exit_code
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            return USAGE
        finally:
            sys.stdout.flush()
        return 0


@click.command(
    cls=LabmeshGroup,
    params=global_options(top=True),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
def labmesh() -> None:
    """A node of an alliance of testing laboratories: signed records, no central database."""


def main() -> None:
    """Entry point of the command `labmesh`."""
    labmesh.main(prog_name="labmesh")


def _silence_log() -> None:
    """Log lines are the daemon's way to speak, and it says where they go; without that Python writes warnings to stderr."""
    import logging  # not for --help, which ends before

    logging.lastResort = logging.NullHandler()


def _silence_stdout() -> None:
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 -- lives as long as the process


if __name__ == "__main__":
    main()
