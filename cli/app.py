"""What every command knows, and the options that every command takes: which node, `--json`, `--version`.

The node is the one of a home (`--home`), or one on another machine (`--remote`). What stands on the command line wins over
what stands in the environment.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from cli.outcome import UsageFault
from cli.remote import VARIABLES, RemoteOptions

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
    passphrase_file: str | None = None
    home_typed: bool = False
    offline: bool = False
    force: bool = False
    far: RemoteOptions = field(default_factory=RemoteOptions)

    @property
    def is_remote(self) -> bool:
        """Whether a node on another machine is meant.

        Raises:
            UsageFault: the options contradict one another.
        """
        if self.home_typed and "remote" in self.far.typed:
            raise UsageFault("--home and --remote name two nodes", hint="give one of them")
        chosen = bool(self.far.remote) and not self.home_typed
        if not chosen and self.far.typed:
            option = "--" + sorted(self.far.typed)[0].replace("_", "-")
            raise UsageFault(f"{option} is for a node on another machine", hint="give --remote HOST:PORT, too")
        return chosen

    @property
    def home_path(self) -> Path:
        """The folder of the home, absolute; it may not exist.

        Raises:
            UsageFault: a node on another machine is meant, whose home is out of reach.
        """
        if self.is_remote:
            context = click.get_current_context(silent=True)
            raise UsageFault(
                f"{context.command_path if context else 'this command'} works in the home of a node, not over --remote",
                hint=f"type it at the node itself, or leave out --remote (and unset {VARIABLES['remote']})",
            )
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
        """The node of this home, or the one on another machine; to be used as a context manager."""
        from node.rpc.node_client import NodeClient

        return NodeClient(self.far.build_connection() if self.is_remote else self.home_path / SOCKET_NAME)

    def complete(self, text: str) -> str:
        """A sentence that says what to type, with the home or the far node that was typed with this command."""
        from cli.pasting import complete_commands

        if self.home_typed and self.chosen_home is not None:
            return complete_commands(text, f"--home {shlex.quote(self.chosen_home)}", remote=False)
        return complete_commands(text, self.far.typed_options(), remote=True)


pass_app = click.make_pass_decorator(App, ensure=True)


class NodeCommand(click.Command):
    """A command that takes the global options, too: people type `labmesh status --json`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Add the global options, except one that the command has under the same name with a meaning of its own."""
        super().__init__(*args, **kwargs)
        own = {name for parameter in self.params for name in parameter.opts}
        self.params.extend(option for option in global_options() if not own & set(option.opts))


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
        _remote_option("remote", "HOST:PORT", "A node on another machine, instead of a home; needs the next two.", top),
        _remote_option("token_file", "FILE", "The file with the token that `client add` made at that node.", top),
        _remote_option("ca", "FILE", "The certificate to know that node by: remote.crt from its home.", top),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_set_json,
            help="Print one JSON document and nothing else.",
        ),
        click.Option(
            ["--passphrase-file"],
            metavar="FILE",
            hidden=not top,
            expose_value=False,
            is_eager=True,
            callback=_set_passphrase_file,
            help="Opens protected private keys; otherwise LABMESH_PASSPHRASE, or a prompt.",
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


def _remote_option(name: str, metavar: str, text: str, top: bool) -> click.Option:
    return click.Option(
        ["--" + name.replace("_", "-")],
        metavar=metavar,
        envvar=VARIABLES[name] if top else None,
        show_envvar=top,
        expose_value=False,
        is_eager=True,
        callback=_set_remote,
        help=text,
    )


def _is_typed(context: click.Context, parameter: click.Parameter) -> bool:
    return context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE


def _set_remote(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    app = context.ensure_object(App)
    if value is None:
        return
    if not value:
        raise UsageFault(f"{parameter.opts[0]} is empty", hint="give it a value, or leave it out")
    setattr(app.far, str(parameter.name), value)
    if _is_typed(context, parameter):
        app.far.typed.add(str(parameter.name))


def _set_home(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    app = context.ensure_object(App)
    if value is None:
        return
    if not value:
        raise UsageFault("--home is empty", hint="name the folder of the node's home")
    app.chosen_home = value
    app.home_typed = app.home_typed or _is_typed(context, parameter)


def _set_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    app = context.ensure_object(App)
    app.json = app.json or value


def _set_passphrase_file(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    app = context.ensure_object(App)
    if value is not None:
        app.passphrase_file = value


def _print_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from cli.output import print_document, print_lines

    if context.ensure_object(App).json:
        print_document({"version": software_version()})
    else:
        print_lines(f"labmesh {software_version()}")
    context.exit()
