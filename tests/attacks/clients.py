"""Clients: a token that was guessed, stolen or revoked, or that is used for what its role does not say."""

from __future__ import annotations

import asyncio

from labmesh.v1 import node_pb2
from node.clients import Clients, Role
from node.core.token import format_token
from node.errors import LabmeshError
from node.rpc.access import SERVICE, Guesses, require_permitted
from tests.attacks.calling import caller, node_servicer
from tests.attacks.scene import Scene
from tests.attacks.surfaces import CALL, PROPERTY
from tests.attacks.table import attack

FAMILY = "clients"


def clients_of(scene: Scene) -> Clients:
    """jinan's clients."""
    member = scene.jinan
    return Clients(member.store.clients, kinds=member.kinds, clock=member.clock)


@attack(FAMILY, CALL, "UNAUTHENTICATED", "not known to this node.*labmesh client add")
def a_guessed_token(scene: Scene):
    with scene.undone():
        clients = clients_of(scene)
        clients.add("lims", "push", ())
        clients.authenticate(format_token(bytes(32)))


@attack(FAMILY, CALL, "UNAUTHENTICATED", "the client lims was revoked")
def a_revoked_token(scene: Scene):
    with scene.undone():
        clients = clients_of(scene)
        token = clients.add("lims", "push", ())
        clients.revoke("lims")
        clients.authenticate(token)


@attack(FAMILY, CALL, "UNAUTHENTICATED", "the client lims was revoked")
def a_client_revoked_while_it_pushes(scene: Scene):
    with scene.undone():
        clients = clients_of(scene)
        caller = clients.authenticate(clients.add("lims", "push", ()))
        clients.revoke("lims")
        clients.require_active(caller)


@attack(FAMILY, CALL, "CONFLICT", "lims")
def the_name_of_a_revoked_client(scene: Scene):
    """Old pushes name it, so nobody else may have it."""
    with scene.undone():
        clients = clients_of(scene)
        clients.add("lims", "push", ())
        clients.revoke("lims")
        clients.add("lims", "admin", ())


@attack(FAMILY, CALL, "DENIED", "role push, which does not include GetRecord.*takes the role read or admin")
def a_pushing_client_that_reads(scene: Scene):
    with scene.undone():
        clients = clients_of(scene)
        require_permitted(clients.authenticate(clients.add("lims", "push", ())), SERVICE + "GetRecord")


@attack(FAMILY, CALL, "DENIED", "at the node itself only")
def a_stolen_admin_token_that_makes_another(scene: Scene):
    with scene.undone():
        clients = clients_of(scene)
        require_permitted(clients.authenticate(clients.add("lims", "admin", ())), SERVICE + "AddClient")


@attack(FAMILY, CALL, "DENIED", "is for the kinds result, not for capability")
def a_kind_that_is_not_the_clients(scene: Scene):
    with scene.undone():
        clients = clients_of(scene)
        clients.authenticate(clients.add("lims", "push", ("result",))).require_kind("capability")


@attack(FAMILY, PROPERTY, "", "")
def a_token_read_from_the_disk(scene: Scene):
    """The database holds its hash; whoever copies it cannot call."""
    with scene.undone():
        token = clients_of(scene).add("lims", "admin", ())
        assert token.encode() not in scene.jinan.stored_bytes()
        assert clients_of(scene).authenticate(token).role is Role.ADMIN


@attack(FAMILY, PROPERTY, "", "")
def tokens_guessed_without_end(scene: Scene):
    """Each refusal to an address comes later, up to three seconds, and what is remembered of guessers is bounded."""
    guesses = Guesses()
    pauses = [guesses.note("198.51.100.7", 0.0)[1] for _ in range(20)]
    assert pauses == sorted(pauses) and pauses[-1] == Guesses.PAUSE_MAX_S
    for i in range(5000):
        guesses.note(f"198.51.100.{i}", 1.0)
    assert len(guesses._refused) <= Guesses.ADDRESSES_MAX


@attack(FAMILY, PROPERTY, "", "")
def a_call_that_nobody_admitted(scene: Scene):
    """A servicer that was reached without a guard appends nothing: it does not know for whom."""
    servicer = node_servicer(scene.jinan)

    async def push():
        async def messages():
            yield node_pb2.PushRequest(options=node_pb2.PushOptions(kind="result"))
            yield node_pb2.PushRequest(batch=node_pb2.PushBatch(records=[scene.draft("NOBODYS")]))

        await servicer.Push(messages(), caller())

    try:
        asyncio.run(push())
    except LabmeshError as error:
        assert error.reason == "INTERNAL"
    else:
        raise AssertionError("it was answered")
