"""What every command knows, and the options that every command takes: `--home`, `--json`, `--version`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.outcome import UsageFault

if TYPE_CHECKING:
    from node.home import Home
    from node.rpc.node_client import NodeClient

SOCKET_NAME = "labmesh.sock"
HOME_VARIABLE = "LABMESH_HOME"

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(slots=True)
class App:
    """The global options."""

    chosen_home: str | None = None
    json: bool = False

    @property
    def home_path(self) -> Path:
        """The folder of the home, absolute; it may not exist."""
        try:
            chosen = Path(self.chosen_home or "~/.labmesh").expanduser()
        except RuntimeError as error:
            raise UsageFault(f"--home: {error}", hint="give the whole path of the home") from error
        return chosen.absolute()

    @property
    def home(self) -> Home:
        """The home."""
        from node.home import Home

        return Home(self.home_path)

    @property
    def node(self) -> NodeClient:
        """The node of this home, to be used as a context manager."""
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own log lines would stand beside our messages
        from node.rpc.node_client import NodeClient

        return NodeClient(self.home_path / SOCKET_NAME)


pass_app = click.make_pass_decorator(App, ensure=True)


class NodeCommand(click.Command):
    """A command that takes the global options, too: people type `labmesh status --json`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Add the global options."""
        super().__init__(*args, **kwargs)
        self.params.extend(global_options())


class NodeGroup(click.Group):
    """A group of commands that takes the global options, too."""

    command_class = NodeCommand

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Add the global options."""
        super().__init__(*args, **kwargs)
        self.params.extend(global_options())


def node_command() -> Callable[[Callable[..., Any]], NodeCommand]:
    """Decorator: the function is a command, and takes `app` first."""
    return click.command(cls=NodeCommand)


def global_options(*, top: bool = False) -> list[click.Parameter]:
    """The global options; at the top level the home may also come from the environment."""
    return [
        click.Option(
            ["--home"],
            metavar="DIR",
            envvar=HOME_VARIABLE if top else None,
            show_envvar=top,
            expose_value=False,
            is_eager=True,
            callback=_set_home,
            help="The node's home; ~/.labmesh unless given.",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_set_json,
            help="Print one JSON document and nothing else.",
        ),
        click.Option(
            ["--version"],
            is_flag=True,
            hidden=not top,
            expose_value=False,
            is_eager=True,
            callback=_print_version,
            help="Print the version.",
        ),
    ]


def software_version() -> str:
    """The installed version of the software."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("labmesh")
    except PackageNotFoundError:
        return "0+unknown"


def _set_home(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    app = context.ensure_object(App)
    if value is None:
        return
    if not value:
        raise UsageFault("--home is empty", hint="name the folder of the node's home")
    app.chosen_home = value


def _set_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    app = context.ensure_object(App)
    app.json = app.json or value


def _print_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from cli.output import print_document, print_lines

    if context.ensure_object(App).json:
        print_document({"version": software_version()})
    else:
        print_lines(f"labmesh {software_version()}")
    context.exit()
