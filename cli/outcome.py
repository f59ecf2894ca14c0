"""How a command ends: exit codes, and the one place where exceptions become words for a person or a program.

0  done                      2  usage: the command line itself is wrong
1  refused, or not verified  3  the node cannot be reached (stdout stays empty)
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import click

from node.errors import LabmeshError, PeerUnreachableError

REFUSED = 1
USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130
BROKEN_PIPE = 141


DECLINED_HINT = "when you are sure, type the command again and answer y"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed command: its exit code, and what to say."""

    exit_code: int
    reason: str
    message: str
    hint: str = ""


class Declined(Exception):  # noqa: N818 -- nobody is at fault
    """A person was asked, and would rather not."""

    def __init__(self, hint: str = DECLINED_HINT) -> None:
        """Keep what to do next."""
        super().__init__()
        self.hint = hint


class UsageFault(click.UsageError):
    """A wrong command line, with a hint of its own."""

    def __init__(self, message: str, *, hint: str) -> None:
        """Keep the message, and what to type instead."""
        super().__init__(message)
        self.hint = hint


def build_failure(error: Exception) -> Failure:
    """What a command says and returns when it ends with `error`."""
    if isinstance(error, PeerUnreachableError):
        return Failure(UNREACHABLE, error.reason, error.message, error.hint)
    if isinstance(error, LabmeshError):
        return Failure(REFUSED, error.reason, error.message, error.hint)
    if isinstance(error, Declined):
        return Failure(REFUSED, "DECLINED", "not confirmed; nothing was changed", error.hint)
    if isinstance(error, UsageFault):
        return Failure(USAGE, "USAGE", error.format_message(), error.hint)
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "labmesh"
        # click lists choices with tabs and line breaks, which are shown as escapes.
        return Failure(USAGE, "USAGE", " ".join(error.format_message().split()), f"type: {path} --help")
    if isinstance(error, click.ClickException):
        return Failure(USAGE, "USAGE", error.format_message())
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return Failure(REFUSED, "SYSTEM", f"{where}{error.strerror}")
    return Failure(
        REFUSED,
        "INTERNAL",
        f"{type(error).__name__}: a fault of this software, not of what you typed",
        "set LABMESH_DEBUG=1 and repeat the command to see where it happened; please report that",
    )
