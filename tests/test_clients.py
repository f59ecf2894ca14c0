"""Clients: tokens shown once, roles, kinds, and a revocation that takes effect at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.backup import create_backup, restore_backup
from node.clients import SOCKET, Caller, Clients, Role
from node.core.kinds import Kinds
from node.core.token import format_token, hash_token, parse_token
from node.errors import (
    ConflictError,
    DeniedError,
    FormatError,
    LabmeshError,
    NotFoundError,
    UnauthenticatedError,
    UserError,
)
from node.home import Home, create_home
from node.push import PushOptions
from node.schemas import load_schemas
from node.store import Store, open_store
from node.store.snapshot import RevokedClient
from tests.alliance import NOON, SimulatedMember, TurnedClock, draft, examples
from tests.builders import build_labs, kinds
from tests.new_stores import new_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = new_store(tmp_path / "home")
    yield store
    store.close()


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def clients(store: Store, clock: TurnedClock) -> Clients:
    return Clients(store.clients, kinds=Kinds(load_schemas()), clock=clock)


class TestKinds:
    """A client for some kinds names kinds that it can use."""

    @pytest.mark.parametrize(("role", "offered"), [("push", "capability, result"), ("read", "capability, erasure, grant")])
    def test_the_kinds_that_are_offered(self, clients: Clients, role: str, offered: str) -> None:
        with pytest.raises(NotFoundError, match="there is no kind zork") as caught:
            clients.add("lims", role, ("result", "zork"))
        assert offered in caught.value.hint
        assert ("grant" in caught.value.hint) == (role == "read")
        assert clients.list() == []

    @pytest.mark.parametrize("kind", ["grant", "erasure"])
    def test_statements_are_read_but_not_pushed(self, clients: Clients, kind: str) -> None:
        with pytest.raises(NotFoundError, match=f"records of the kind {kind} are not pushed"):
            clients.add("lims", "push", (kind,))
        clients.add("reader", "read", (kind,))
        assert [client.name for client in clients.list()] == ["reader"]


class TestTokens:
    def test_a_token_says_who_it_is_also_after_a_restart(self, store: Store, clock: TurnedClock, clients: Clients) -> None:
        token = clients.add("lims", "push", ("result",))
        assert parse_token(token) == token
        for known in (clients, Clients(store.clients, kinds=kinds(), clock=clock)):
            assert known.authenticate(token) == Caller("lims", Role.PUSH, ("result",))

    def test_only_its_hash_is_kept(self, tmp_path: Path, store: Store, clients: Clients) -> None:
        token = clients.add("lims", "push", ())
        (client,) = store.clients.load_all()
        assert client.token_hash == hash_token(token)
        store.close()
        raw = b"".join(path.read_bytes() for path in (tmp_path / "home").iterdir())
        assert token.encode() not in raw
        assert token.removeprefix("labmesh_").encode() not in raw
        assert hash_token(token) in raw

    def test_tokens_are_of_their_own(self, clients: Clients) -> None:
        tokens = [clients.add(f"c{i}", "read", ()) for i in range(20)]
        assert len(set(tokens)) == 20
        assert [clients.authenticate(token).name for token in tokens] == [f"c{i}" for i in range(20)]

    @pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t + "A", str.upper, lambda t: "", lambda t: " " + t])
    def test_almost_the_token_is_nobodys(self, clients: Clients, change) -> None:
        token = clients.add("lims", "push", ())
        with pytest.raises(UnauthenticatedError, match="not known") as caught:
            clients.authenticate(change(token))
        assert token not in caught.value.message + caught.value.hint

    def test_every_client_is_compared_whoever_it_is(self, clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
        import hmac

        tokens = [clients.add(f"c{i}", "read", ()) for i in range(5)]
        compared: list[bytes] = []
        compare = hmac.compare_digest

        def counting(one: bytes, other: bytes) -> bool:
            compared.append(one)
            return compare(one, other)

        monkeypatch.setattr("node.clients.hmac.compare_digest", counting)
        for token in (tokens[0], tokens[-1], format_token(bytes(32))):
            compared.clear()
            try:
                clients.authenticate(token)
            except UnauthenticatedError:
                assert token not in tokens
            assert len(compared) == 5

    def test_what_is_no_text_at_all_is_nobodys(self, clients: Clients) -> None:
        for text in ("\udcff", "é" * 100, "\x00", "x" * 100_000):
            with pytest.raises(UnauthenticatedError):
                clients.authenticate(text)


class TestAdding:
    @pytest.mark.parametrize(
        ("name", "role", "wanted", "error"),
        [
            ("", "push", (), FormatError),
            ("Lims", "push", (), FormatError),
            ("a b", "push", (), FormatError),
            ("lims", "", (), UserError),
            ("lims", "PUSH", (), UserError),
            ("lims", "root", (), UserError),
            ("lims", "push", ("nokind",), NotFoundError),
            ("lims", "push", ("result", "Bad Kind"), FormatError),
            ("lims", "push", ("a,b",), FormatError),
            ("lims", "push", ("",), FormatError),
            ("lims", "admin", ("result",), UserError),
        ],
    )
    def test_what_is_refused_leaves_nothing(
        self, clients: Clients, store: Store, name: str, role: str, wanted: tuple[str, ...], error: type[LabmeshError]
    ) -> None:
        with pytest.raises(error) as caught:
            clients.add(name, role, wanted)
        assert caught.value.hint
        assert clients.list() == store.clients.load_all() == []

    def test_a_name_is_never_used_again(self, clients: Clients) -> None:
        token = clients.add("lims", "push", ())
        with pytest.raises(ConflictError):
            clients.add("lims", "read", ())
        clients.revoke("lims")
        with pytest.raises(ConflictError):
            clients.add("lims", "push", ())
        with pytest.raises(UnauthenticatedError):
            clients.authenticate(token)

    def test_kinds_are_kept_sorted_and_once(self, clients: Clients) -> None:
        clients.add("lims", "read", ("result", "capability", "result"))
        assert clients.list()[0].kinds == ("capability", "result")

    def test_all_are_listed_by_name(self, clients: Clients) -> None:
        for name in ("b", "c", "a"):
            clients.add(name, "read", ())
        clients.revoke("b")
        assert [(client.name, client.revoked_ms is None) for client in clients.list()] == [
            ("a", True),
            ("b", False),
            ("c", True),
        ]


class TestRevoking:
    def test_a_revoked_client_is_told_so_and_stays_revoked(self, store: Store, clock: TurnedClock, clients: Clients) -> None:
        token = clients.add("lims", "push", ())
        caller = clients.authenticate(token)
        clients.require_active(caller)
        clients.revoke("lims")
        for known in (clients, Clients(store.clients, kinds=kinds(), clock=clock)):
            with pytest.raises(UnauthenticatedError, match="lims was revoked"):
                known.authenticate(token)
            with pytest.raises(UnauthenticatedError, match="lims was revoked"):
                known.require_active(caller)

    def test_it_is_done_once(self, clients: Clients) -> None:
        clients.add("lims", "push", ())
        clients.revoke("lims")
        with pytest.raises(NotFoundError, match="was revoked before"):
            clients.revoke("lims")
        with pytest.raises(NotFoundError, match="there is no client"):
            clients.revoke("nobody")

    def test_the_socket_cannot_be_revoked(self, clients: Clients) -> None:
        clients.require_active(SOCKET)
        with pytest.raises(NotFoundError):
            clients.revoke("")

    def test_another_caller_without_a_name_is_not_the_socket(self, clients: Clients) -> None:
        with pytest.raises(UnauthenticatedError):
            clients.require_active(Caller("", Role.PUSH))
        with pytest.raises(UnauthenticatedError):
            clients.require_active(Caller("stranger", Role.ADMIN))

    def test_a_push_that_was_collected_before_is_not_appended(self, tmp_path: Path) -> None:
        (lab,) = build_labs(1)
        jinan = SimulatedMember(lab, tmp_path / "jinan")
        clients = Clients(jinan.store.clients, kinds=jinan.kinds, clock=jinan.clock)
        clients.add("lims", "push", ())
        first = jinan.ledger.begin_push(PushOptions("result"))
        first.add([draft("A")])
        assert jinan.ledger.push(first, client="lims").accepted == 1
        second = jinan.ledger.begin_push(PushOptions("result"))
        second.add([draft("B")])
        clients.revoke("lims")
        before = jinan.ledger.log
        with pytest.raises(UnauthenticatedError):
            jinan.ledger.push(second, client="lims")
        assert jinan.ledger.log == before == jinan.store.logs.load_log(before.id)
        assert jinan.ledger.push_records(PushOptions("result"), [draft("C")]).accepted == 1
        pushes = [jinan.store.clients.find_push(before.id, index) for index in range(2)]
        assert [push and push.client for push in pushes] == ["lims", ""]
        jinan.store.close()

    def test_revoking_while_pushing_leaves_no_push_behind_it(self, tmp_path: Path) -> None:
        """Once `revoke` has returned, the log does not grow, however the threads meet."""
        (lab,) = build_labs(1)
        jinan = SimulatedMember(lab, tmp_path / "jinan")
        clients = Clients(jinan.store.clients, kinds=jinan.kinds, clock=jinan.clock)
        clients.add("lims", "push", ())
        refused = threading.Event()

        def push_on() -> None:
            for number in range(10_000):
                call = jinan.ledger.begin_push(PushOptions("result"))
                call.add([draft(f"K-{number}")])
                try:
                    jinan.ledger.push(call, client="lims")
                except UnauthenticatedError:
                    refused.set()
                    return

        pushing = threading.Thread(target=push_on)
        pushing.start()
        while jinan.ledger.log.head_size < 3:
            pass
        clients.revoke("lims")
        size = jinan.store.logs.load_log(jinan.ledger.log.id).head_size
        pushing.join(60)
        assert refused.is_set() and size >= 3
        assert jinan.store.logs.load_log(jinan.ledger.log.id).head_size == size
        jinan.store.close()


class TestUses:
    def test_a_use_is_noted_once_a_minute(self, clients: Clients, clock: TurnedClock, store: Store) -> None:
        caller = clients.authenticate(clients.add("lims", "push", ()))
        noted = []
        for _ in range(10):
            if clients.is_use_due(caller):
                clients.note_use(caller)
                noted.append(clock())
            clock.turn(20)
        assert [(later - earlier).total_seconds() for earlier, later in pairwise(noted)] == [60, 60, 60]
        (client,) = store.clients.load_all()
        assert client.last_used_ms == int(noted[-1].timestamp() * 1000) == clients.list()[0].last_used_ms

    def test_a_clock_that_was_set_back_stops_nothing(self, clients: Clients, clock: TurnedClock) -> None:
        caller = clients.authenticate(clients.add("lims", "push", ()))
        assert clients.is_use_due(caller)
        clock.turn(-3600)
        assert clients.is_use_due(caller)

    def test_a_use_does_not_undo_a_revocation(self, clients: Clients) -> None:
        caller = clients.authenticate(clients.add("lims", "push", ()))
        clients.revoke("lims")
        clients.note_use(caller)
        with pytest.raises(UnauthenticatedError):
            clients.require_active(caller)


NAMES = st.sampled_from(["a", "b", "c"])
STEPS = st.lists(st.tuples(st.sampled_from(["add", "revoke", "use", "reopen"]), NAMES), max_size=12)


@examples(40)
@given(STEPS)
def test_what_was_ever_done_holds_after_every_restart(tmp_path_factory, steps: list[tuple[str, str]]) -> None:
    store = new_store(tmp_path_factory.mktemp("clients") / "home")
    clients = Clients(store.clients, kinds=kinds(), clock=TurnedClock())
    tokens: dict[str, str] = {}
    revoked: set[str] = set()
    try:
        for step, name in steps:
            if step == "reopen":
                clients = Clients(store.clients, kinds=kinds(), clock=TurnedClock())
            elif step == "add" and name not in tokens:
                tokens[name] = clients.add(name, "read", ())
            elif step == "add":
                with pytest.raises(ConflictError):
                    clients.add(name, "read", ())
            elif step == "revoke" and name in tokens.keys() - revoked:
                clients.revoke(name)
                revoked.add(name)
            elif step == "revoke":
                with pytest.raises(NotFoundError):
                    clients.revoke(name)
            elif name in tokens:
                clients.note_use(Caller(name, Role.READ))
            for known, token in tokens.items():
                if known in revoked:
                    with pytest.raises(UnauthenticatedError):
                        clients.authenticate(token)
                else:
                    assert clients.authenticate(token) == Caller(known, Role.READ)
    finally:
        store.close()


@pytest.mark.parametrize(
    ("allowed", "kind", "fine"),
    [((), "result", True), (("result",), "result", True), (("capability",), "result", False), (("result",), "", False)],
)
def test_kinds(allowed: tuple[str, ...], kind: str, fine: bool) -> None:
    caller = Caller("lims", Role.PUSH, allowed)
    if fine:
        caller.require_kind(kind)
    else:
        with pytest.raises(DeniedError, match="the client lims is for the kinds"):
            caller.require_kind(kind)


def test_a_revoked_token_stays_so_after_a_restore(tmp_path: Path) -> None:
    """The backup was made while the stolen token was good, and nobody can tell the new home that it is not any more."""
    create_home(tmp_path / "old", member="jinan", alliance="a.example", name="N", region="R", address="h:1", listen="h:1")
    clock, revoked = TurnedClock(), list[RevokedClient]()

    def open_clients(store: Store) -> Clients:
        return Clients(store.clients, kinds=Kinds(load_schemas()), clock=clock)

    old = open_store(tmp_path / "old")
    stolen, good = open_clients(old).add("boss", "admin", ()), open_clients(old).add("lims", "push", ("result",))
    open_clients(old).add("gone", "read", ())
    open_clients(old).revoke("gone")
    create_backup(Home(tmp_path / "old"), tmp_path / "backup", keys=True, passphrase=b"correct horse", made=NOON)
    open_clients(old).revoke("boss")
    assert open_clients(old).authenticate(good).name == "lims"
    old.close()
    clock.turn(60)
    restore_backup(
        tmp_path / "backup",
        tmp_path / "new",
        keys_from=None,
        ask_passphrase=lambda: b"correct horse",
        on_revoked=revoked.append,
        clock=clock,
    )
    assert revoked == [RevokedClient("boss", "admin", ()), RevokedClient("lims", "push", ("result",))]
    new = open_store(tmp_path / "new")
    restored = open_clients(new)
    for token in (stolen, good):
        with pytest.raises(UnauthenticatedError, match="was revoked"):
            restored.authenticate(token)
    began_ms = restored.list()[1].revoked_ms
    assert [client.revoked_ms for client in restored.list()] == [began_ms + 60_000, began_ms, began_ms + 60_000]  # type: ignore[operator]
    # The names stay clear, and new tokens are good.
    with pytest.raises(ConflictError):
        restored.add("lims", "push", ())
    assert restored.authenticate(restored.add("lims-2", "push", ())).name == "lims-2"
    new.close()
