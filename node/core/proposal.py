"""A proposal: the next roster, signed by fewer council members than it needs, with the cards that go with it.

It travels from one council member to the next as a file, canonical JSON:

    {"cards": [envelope, …], "roster": envelope}

Each adds a signature to the same payload; with the last one the roster is complete. A proposal is judged against the
alliance that its reader holds, never by what it says itself.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from node.core.alliance import Alliance
from node.core.canonical import Json, dumps_canonical, parse_canonical
from node.core.dsse import Envelope, format_envelope
from node.core.keys import Sign
from node.core.roster import MEMBERS_MAX, Roster, parse_roster, require_follows
from node.core.times import format_seconds
from node.errors import FormatError, GovernanceError, InvalidRecordError, LabmeshError

PROPOSAL_SIZE_MAX = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Proposal:
    """The roster's envelope and the envelopes of the cards that it takes in; nothing is verified."""

    roster: bytes
    cards: tuple[bytes, ...] = ()

    def with_signature(self, sign: Sign) -> Proposal:
        """The same proposal with one more signature."""
        envelope, _ = parse_roster(self.roster)
        return replace(self, roster=format_envelope(envelope.with_signature(sign)))


@dataclass(frozen=True, slots=True)
class Review:
    """A proposal that may follow the held roster, and how far it has come."""

    envelope: Envelope
    roster: Roster
    cards: tuple[bytes, ...]
    alliance: Alliance
    """What is held, and would be changed."""
    signers: frozenset[bytes]
    """Council keys, of either council, that have signed."""

    @property
    def missing(self) -> int:
        """How many more signatures make it complete, when those sign who count most."""
        return self._missing_with(self.signers)

    @property
    def needed(self) -> int:
        """How many signatures it needs at least, with those that it has."""
        return len(self.signers) + self.missing

    def awaited(self) -> list[str]:
        """Members whose signatures would count and are not there, sorted."""
        return sorted({name for _, names in self._lacks() for name in names})

    def next_signers(self) -> list[str]:
        """To whom it goes next, sorted: those of whom one signature is enough, or, where none is, all who count."""
        if self.missing != 1:
            return self.awaited()
        keys = {*self.alliance.roster.council, *self.roster.council} - self.signers
        return self._named({key for key in keys if not self._missing_with({*self.signers, key})})

    def format_count(self) -> str:
        """How far it has come, in words; each council's count where they differ."""
        old, new = self.alliance.roster, self.roster
        have, will = (len(self.signers.intersection(roster.council)) for roster in (old, new))
        if set(old.council) == set(new.council):
            return f"{len(self.signers)} of {self.needed} signatures"
        return f"{have} of {old.threshold} signatures of the council in force and {will} of {new.threshold} of the new one"

    def format_lack(self) -> str:
        """Who can make it complete, in words."""
        lacks = self._lacks()
        if self.missing == 1 or len({tuple(names) for _, names in lacks}) <= 1:
            return _so_many_of(self.missing, self.next_signers())
        (old, held), (new, proposed) = lacks
        return f"{_so_many_of(old, held)} (the council in force) with {_so_many_of(new, proposed)} (the new one)"

    def _lacks(self) -> list[tuple[int, list[str]]]:
        """Of each council that lacks signatures: how many, and whose would count."""
        return [
            (lack, self._named(set(roster.council) - self.signers))
            for roster in (self.alliance.roster, self.roster)
            if (lack := roster.threshold - len(self.signers.intersection(roster.council))) > 0
        ]

    def _missing_with(self, signers: Collection[bytes]) -> int:
        old, new = self.alliance.roster, self.roster
        old_missing = max(0, old.threshold - len(set(old.council).intersection(signers)))
        new_missing = max(0, new.threshold - len(set(new.council).intersection(signers)))
        both = len(set(old.council).intersection(new.council).difference(signers))
        return old_missing + new_missing - min(old_missing, new_missing, both)

    def _named(self, keys: Collection[bytes]) -> list[str]:
        """Members to whom the held or the proposed roster gives these identity keys, sorted."""
        lines = (self.alliance.roster.members.items(), self.roster.members.items())
        return sorted({name for members in lines for name, line in members if line.identity_key in keys})


def format_proposal(proposal: Proposal) -> bytes:
    """The proposal as a file.

    Raises:
        FormatError: an envelope is not canonical JSON.
    """
    try:
        content: Json = {
            "cards": [parse_canonical(raw) for raw in proposal.cards],
            "roster": parse_canonical(proposal.roster),
        }
    except InvalidRecordError as error:
        raise FormatError(f"not a signed envelope: {error.message}") from error
    return dumps_canonical(content)


def parse_proposal(raw: bytes) -> Proposal:
    """Read a proposal's envelopes; what they say is `review_proposal`'s business.

    Raises:
        FormatError: not a proposal in its one form.
    """
    if len(raw) > PROPOSAL_SIZE_MAX:
        raise FormatError(f"a proposal of {len(raw)} bytes; at most {PROPOSAL_SIZE_MAX} are taken")
    try:
        content = parse_canonical(raw)
    except InvalidRecordError as error:
        raise FormatError(f"not a proposal: {error.message}") from error
    if not isinstance(content, dict) or set(content) != {"cards", "roster"} or not isinstance(content["cards"], list):
        raise FormatError("a proposal has exactly the members cards, a list, and roster")
    if len(content["cards"]) > MEMBERS_MAX:
        raise FormatError(f"a proposal with {len(content['cards'])} cards; at most {MEMBERS_MAX} members are possible")
    envelopes = [content["roster"], *content["cards"]]
    if not all(isinstance(envelope, dict) for envelope in envelopes):
        raise FormatError("a proposal's roster and cards are signed envelopes")
    roster, *cards = (dumps_canonical(envelope) for envelope in envelopes)
    return Proposal(roster, tuple(cards))


def review_proposal(alliance: Alliance, proposal: Proposal) -> Review:
    """Judge a proposal against the alliance held here.

    1. it is a roster of this alliance;
    2. its version is the next one, and it names the held roster as the one before;
    3. it obeys the rules for a successor, the number of signatures aside;
    4. it has a signature, and every signature is by a key of the old or the new council;
    5. the cards are those of the members whose identity keys are new, and no others.

    Raises:
        FormatError: the roster or a card is not one.
        GovernanceError: which of these it breaks, and what to do.
    """
    envelope, roster = parse_roster(proposal.roster)
    _require_next(alliance, envelope, roster)
    require_follows(alliance.fingerprint, alliance.roster, roster)
    council = {*alliance.roster.council, *roster.council}
    signers = frozenset(envelope.signers(council))
    if not signers or len(set(envelope.signatures)) != len(signers) or len(envelope.signatures) != len(signers):
        raise GovernanceError(
            "the proposal carries a signature that no council member made: it was changed after it was signed",
            hint="ask the council member who sent it for the file again",
        )
    _require_cards(alliance, envelope, roster, proposal.cards)
    return Review(envelope, roster, proposal.cards, alliance, signers)


def require_may_sign(review: Review, member: str, key: bytes, *, withdrawn: bool = False) -> None:
    """Refuse a proposal that is not for this identity key to sign; one that its home has `withdrawn` may be signed again.

    Raises:
        GovernanceError: it is complete, signed by this key already, or the key sits on neither council; the member may, with
            another key.
    """
    old, new = review.alliance.roster, review.roster
    if not review.missing:
        raise GovernanceError(
            f"roster version {new.version} carries every signature that it needs",
            hint="take it as it is: labmesh join FILE",
        )
    awaited = " or ".join(review.next_signers())
    if key in review.signers and not withdrawn:
        raise GovernanceError(
            f"{member} has signed this proposal already; {review.missing} more must sign it",
            hint=f"send the file to {awaited}, who types: labmesh roster sign FILE",
        )
    if key not in old.council and key not in new.council:
        _require_no_seat_of_another_key(review, member)
        raise GovernanceError(
            f"{member} sits neither on the council of version {old.version} nor on that of version {new.version}",
            hint=f"send the file to {awaited}, who types: labmesh roster sign FILE",
        )


def _require_no_seat_of_another_key(review: Review, member: str) -> None:
    """A member whose key was lost sits on the council still, with a key that its home has not."""
    rosters = (review.alliance.roster, review.roster)
    if not any(member in roster.members and roster.members[member].identity_key in roster.council for roster in rosters):
        return
    others = " or ".join(name for name in review.next_signers() if name != member)
    raise GovernanceError(
        f"{member} sits on the council with another identity key than this home has, so this home cannot sign",
        hint="restore keys/identity.pem from a backup, or, where a roster in force names a new key, restart the node"
        + (f"; others can sign: send the file to {others}, who types: labmesh roster sign FILE" if others else ""),
    )


def require_free(signed: Review | None, review: Review) -> None:
    """Refuse a roster while the home is bound to another one of its version, which it has signed before.

    Raises:
        GovernanceError: both, and how to get on.
    """
    if signed is None or signed.envelope.hash == review.envelope.hash:
        return
    raise GovernanceError(
        f"this home has signed another roster of version {review.roster.version} already, made at "
        f"{format_seconds(signed.roster.issued)}, so it does not sign the one made at "
        f"{format_seconds(review.roster.issued)}: nobody signs two of one version",
        hint=f"{signed.format_lack()} can put the first in force (its file: labmesh roster "
        "proposal -o FILE); or, once everybody has deleted that file, give it up: labmesh roster withdraw",
    )


def _so_many_of(count: int, names: list[str]) -> str:
    if count >= len(names) > 0:
        return " and ".join(names)
    return f"{count} of {', '.join(names) or 'nobody'}"


def _require_next(alliance: Alliance, envelope: Envelope, roster: Roster) -> None:
    held = alliance.roster
    if roster.alliance != alliance.name:
        raise GovernanceError(
            f"the proposal is for {roster.alliance}, not for {alliance.name}", hint="is this the right home? use --home"
        )
    if roster.version > held.version + 1:
        raise GovernanceError(
            f"the proposal is for roster version {roster.version}, but this node holds version {held.version}",
            hint="first take the newer rosters: start the node, or labmesh join FILE",
        )
    if roster.version <= held.version:
        if alliance.rosters[roster.version - 1][0].hash == envelope.hash:
            raise GovernanceError(f"roster version {roster.version} is in force already", hint="nothing is left to do")
        raise GovernanceError(
            f"the proposal is stale: another roster of version {roster.version} is in force",
            hint="see what is in force now: labmesh roster show; then propose the change again",
        )
    if roster.previous != alliance.fingerprint:
        raise GovernanceError(
            f"the proposal follows another version {held.version} than the one held here",
            hint="compare the fingerprints (labmesh roster show) with whoever made it: they must be the same",
        )


def _require_cards(alliance: Alliance, envelope: Envelope, roster: Roster, cards: tuple[bytes, ...]) -> None:
    held = alliance.roster.members
    new = {name for name, item in roster.members.items() if name not in held or held[name].identity_key != item.identity_key}
    proposed = Alliance((*alliance.rosters, (envelope, roster)))
    try:
        for raw in cards:
            proposed = proposed.accept_card(raw)
    except LabmeshError as error:
        raise GovernanceError(
            f"a card in the proposal cannot be taken: {error.message}", hint="ask for the file again"
        ) from error
    if set(proposed.cards) != new or len(cards) != len(new):
        named = ", ".join(sorted(new)) or "nobody"
        raise GovernanceError(
            f"the proposal carries other cards than those of the members whose identity keys are new ({named})",
            hint="ask the council member who sent it for the file again",
        )
