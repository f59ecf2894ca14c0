"""Lab systems on other machines, and which of them made each push into the own log.

| table | may it be lost? | is it trusted? |
| --- | --- | --- |
| client | no: every lab system would need a new token | written by this node only; a token cannot be found from its hash |
| push | yes: who pushed what is then not known, the records are whole | written with the entries, in one transaction |
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Row, insert, select, update

from node.errors import ConflictError, UnauthenticatedError
from node.store.database import Database
from node.store.tables import ClientRow, PushRow, index_of, position_of, table_of

_CLIENT, _PUSH = table_of(ClientRow), table_of(PushRow)


@dataclass(frozen=True, slots=True)
class StoredClient:
    """A lab system as it is remembered. `kinds` is empty for all; `token_hash` has 32 bytes; times are milliseconds."""

    name: str
    role: str
    kinds: tuple[str, ...]
    token_hash: bytes
    created_ms: int
    revoked_ms: int | None = None
    last_used_ms: int | None = None


@dataclass(frozen=True, slots=True)
class StoredPush:
    """One push into the own log. `client` is empty when it came through the socket."""

    index: int
    entries: int
    client: str
    pushed_ms: int


class ClientStore:
    """Clients and pushes; every write is one transaction."""

    def __init__(self, database: Database) -> None:
        """Use an open database."""
        self._database = database

    def load_all(self) -> list[StoredClient]:
        """Every client that there ever was, by name."""
        with self._database.read() as connection:
            return [_client(row) for row in connection.execute(select(_CLIENT).order_by(_CLIENT.c.name))]

    def save_new(self, client: StoredClient) -> None:
        """Write a new client.

        Raises:
            ConflictError: one of this name was there before, revoked or not; nothing was changed.
        """
        row = {
            "name": client.name,
            "role": client.role,
            "kinds": ",".join(client.kinds),
            "token_hash": client.token_hash,
            "created_ms": client.created_ms,
            "revoked_ms": client.revoked_ms,
            "last_used_ms": client.last_used_ms,
        }
        with self._database.write() as connection:
            if connection.execute(select(_CLIENT.c.name).where(_CLIENT.c.name == client.name)).first() is not None:
                raise ConflictError(
                    f"there is a client {client.name} already, or there was one",
                    hint="choose another name: the names in old pushes must stay clear",
                )
            connection.execute(insert(_CLIENT), row)

    def save_revocation(self, name: str, *, now_ms: int) -> bool:
        """Revoke a client; False when there is none of this name that is not revoked yet."""
        statement = update(_CLIENT).where(_CLIENT.c.name == name, _CLIENT.c.revoked_ms.is_(None)).values(revoked_ms=now_ms)
        with self._database.write() as connection:
            return connection.execute(statement).rowcount == 1

    def save_use(self, name: str, *, now_ms: int) -> None:
        """Note when a client was last here."""
        with self._database.write() as connection:
            connection.execute(update(_CLIENT).where(_CLIENT.c.name == name).values(last_used_ms=now_ms))

    def find_push(self, log_id: int, index: int) -> StoredPush | None:
        """The push that an entry of the own log came with; None when it is not known."""
        statement = (
            select(_PUSH)
            .where(_PUSH.c.position <= position_of(log_id, index), _PUSH.c.position >= position_of(log_id, 0))
            .order_by(_PUSH.c.position.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(statement).one_or_none()
        if row is None or index_of(row.position) + row.entries <= index:
            return None
        return _push(row)


def note_push(connection: Connection, position: int, entries: int, *, client: str, now_ms: int) -> None:
    """Note a push in the transaction that appends its entries.

    Raises:
        UnauthenticatedError: the client was revoked in the meantime, so nothing may be appended.
    """
    if client:
        revoked = select(_CLIENT.c.name).where(_CLIENT.c.name == client, _CLIENT.c.revoked_ms.is_(None))
        if connection.execute(revoked).first() is None:
            raise UnauthenticatedError(
                f"the client {client} was revoked; nothing was appended", hint="ask the node's administrator for a new token"
            )
    row = {"position": position, "entries": entries, "client": client, "pushed_ms": now_ms}
    connection.execute(insert(_PUSH), row)


def _client(row: Row[tuple[object, ...]]) -> StoredClient:
    kinds = tuple(row.kinds.split(",")) if row.kinds else ()
    return StoredClient(row.name, row.role, kinds, row.token_hash, row.created_ms, row.revoked_ms, row.last_used_ms)


def _push(row: Row[tuple[object, ...]]) -> StoredPush:
    return StoredPush(index_of(row.position), row.entries, row.client, row.pushed_ms)
