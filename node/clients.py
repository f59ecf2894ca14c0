"""Lab systems on other machines: who they are, what they may do, and how they prove it.

A client proves itself by a token of 256 random bits, which is shown once and kept as a hash. A name is never used again, not
even after the client was revoked, because old pushes name it. Whoever opens the node's socket is the administrator.
"""

from __future__ import annotations

import hmac
import os
import threading
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

from node.clock import Clock, milliseconds
from node.core.disclosure import STATEMENT_KINDS
from node.core.kinds import Kinds
from node.core.names import parse_kind
from node.core.token import TOKEN_BYTES, format_token, hash_token, parse_client_name
from node.errors import DeniedError, NotFoundError, UnauthenticatedError, UserError
from node.store.clients import ClientStore, StoredClient

USE_NOTED_MS = 60_000

_NEW_TOKEN_HINT = "ask the node's administrator for a token: labmesh client add NAME --role ROLE"


class Role(StrEnum):
    """What a client is for: append records, read them, or administer the node."""

    PUSH = "push"
    READ = "read"
    ADMIN = "admin"


class Caller(NamedTuple):
    """Who calls the node, and for what. `kinds` is empty for every kind; `name` is empty for the socket."""

    name: str
    role: Role
    kinds: tuple[str, ...] = ()

    def require_kind(self, kind: str) -> None:
        """Refuse a kind that is not this client's.

        Raises:
            DeniedError: it is not.
        """
        if self.kinds and kind not in self.kinds:
            raise DeniedError(
                f"the client {self.name} is for the kinds {', '.join(self.kinds)}, not for {kind[:40]}",
                hint="use one of its kinds, or ask the node's administrator for another client",
            )


SOCKET = Caller("", Role.ADMIN)
"""Whoever may open the node's socket."""


class Clients:
    """The clients of this node. Any thread may call; lookups are in memory and wait for nobody who writes."""

    def __init__(self, store: ClientStore, *, kinds: Kinds, clock: Clock) -> None:
        """Load what is remembered."""
        self._store, self._kinds, self._clock = store, kinds, clock
        self._writing = threading.Lock()
        self._by_name = {client.name: client for client in store.load_all()}
        self._use_noted_ms: dict[str, int] = {}

    def list(self) -> list[StoredClient]:
        """Every client that there ever was, by name."""
        return [client for _, client in sorted(self._by_name.items())]

    def add(self, name: str, role: str, kinds: tuple[str, ...]) -> str:
        """Make a client and return its token, which is kept nowhere.

        Raises:
            FormatError, UserError, NotFoundError: the name, role or a kind is wrong.
            ConflictError: the name was used before.
        """
        parse_client_name(name)
        chosen = _parse_role(role)
        if kinds and chosen is Role.ADMIN:
            raise UserError("a client of the role admin is for every kind", hint="leave out --kinds, or choose push or read")
        for kind in kinds:
            self._require_kind(parse_kind(kind), chosen)
        token = format_token(os.urandom(TOKEN_BYTES))
        now_ms = milliseconds(self._clock())
        client = StoredClient(name, str(chosen), tuple(sorted(set(kinds))), hash_token(token), now_ms)
        with self._writing:
            self._store.save_new(client)
            self._replace(client)
        return token

    def _require_kind(self, kind: str, role: Role) -> None:
        """Refuse a kind that there is not, and for pushing one that is written by a command of its own."""
        named = [name for name in self._kinds.names() if role is not Role.PUSH or name not in STATEMENT_KINDS]
        if kind not in named:
            problem = "records of the kind {} are not pushed" if kind in self._kinds.names() else "there is no kind {}"
            raise NotFoundError(problem.format(kind), hint=f"the kinds are {', '.join(named)}")

    def revoke(self, name: str) -> StoredClient:
        """Take back a client's token. When this has returned, nothing more is appended in its name.

        Raises:
            NotFoundError: there is no such client, or it was revoked before.
        """
        now_ms = milliseconds(self._clock())
        with self._writing:
            client = self._by_name.get(name)
            if client is None:
                raise NotFoundError(f"there is no client {name[:40]!r}", hint="type: labmesh client list")
            if not self._store.save_revocation(name, now_ms=now_ms):
                raise NotFoundError(f"the client {name} was revoked before", hint="type: labmesh client list")
            revoked = replace(self._by_name[name], revoked_ms=now_ms)
            self._replace(revoked)
        return revoked

    def authenticate(self, token: str) -> Caller:
        """Whose token this is. The work does not depend on which client it is, nor on how much of it is right.

        Raises:
            UnauthenticatedError: nobody's, or a revoked client's.
        """
        wanted = hash_token(token)
        found: StoredClient | None = None
        for client in self.list():
            if hmac.compare_digest(client.token_hash, wanted):
                found = client
        if found is None:
            raise UnauthenticatedError("the token is not known to this node", hint=_NEW_TOKEN_HINT)
        if found.revoked_ms is not None:
            raise UnauthenticatedError(f"the client {found.name} was revoked", hint=_NEW_TOKEN_HINT)
        return Caller(found.name, Role(found.role), found.kinds)

    def require_active(self, caller: Caller) -> None:
        """Refuse a caller that was revoked since it was authenticated.

        Raises:
            UnauthenticatedError: it was.
        """
        if caller == SOCKET:
            return
        client = self._by_name.get(caller.name)
        if client is None or client.revoked_ms is not None:
            raise UnauthenticatedError(f"the client {caller.name} was revoked", hint=_NEW_TOKEN_HINT)

    def is_use_due(self, caller: Caller) -> bool:
        """Whether this use is to be noted; true at most once a minute for each client."""
        now_ms, noted_ms = milliseconds(self._clock()), self._use_noted_ms.get(caller.name)
        if noted_ms is not None and 0 <= now_ms - noted_ms < USE_NOTED_MS:
            return False
        self._use_noted_ms[caller.name] = now_ms
        return True

    def note_use(self, caller: Caller) -> None:
        """Remember that a client was here now."""
        now_ms = milliseconds(self._clock())
        with self._writing:
            self._store.save_use(caller.name, now_ms=now_ms)
            self._replace(replace(self._by_name[caller.name], last_used_ms=now_ms))

    def _replace(self, client: StoredClient) -> None:
        # A new dictionary: whoever looks something up in the old one goes on undisturbed.
        self._by_name = {**self._by_name, client.name: client}


def _parse_role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        roles = ", ".join(Role)
        raise UserError(f"{text[:40]!r} is not a role", hint=f"the roles are {roles}") from None
