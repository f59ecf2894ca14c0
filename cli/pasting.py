"""Make the commands in a sentence work when they are pasted: with the home, or the far node, that this command was given."""

from __future__ import annotations

import re

# `verify` needs no node, and help none either.
_COMMAND = re.compile(r"\blabmesh (?=[a-z])(?!(?:evidence )?verify\b)(?!(?:\S+ ){1,2}--help)")
# What another person is to type, on a machine of their own, goes without our options.
_OTHERS = re.compile(
    r"\b(?:ask|let (?:a|the|each)|who type|types|who gets|council members add|a member's file|"
    r"the token is what|the member whose|name the file that|at (?:one of them|a peer))\b"
)
_CLAUSE_END = re.compile(r"[;.](?=\s)")
REMOTE = frozenset(
    {"push", "list", "show", "search", "status", "peers", "prove", "audit", "grant", "erase", "confirm"}
    | {"client list", "client revoke", "evidence list", "evidence export", "roster show", "roster export"}
)
"""Commands that a client on another machine may type, too."""


def complete_commands(text: str, options: str, *, remote: bool) -> str:
    """`text` with `options` in each command that this person would type; on another machine only where they can be used."""
    if not options:
        return text

    def complete(found: re.Match[str]) -> str:
        before = text[: found.start()]
        clause = _CLAUSE_END.split(before)[-1]
        words = [word.strip(",;.:)`") for word in text[found.end() :].split(maxsplit=2)[:2]]
        if _OTHERS.search(clause) or (remote and not {words[0], " ".join(words)} & REMOTE):
            return found.group()
        return f"labmesh {options} "

    return _COMMAND.sub(complete, text)
