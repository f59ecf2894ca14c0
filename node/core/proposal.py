"""A proposal: the next roster, signed by fewer council members than it needs, with the cards that go with it.

It travels from one council member to the next as a file, canonical JSON:

    {"cards": [envelope, …], "refusals": [envelope, …], "roster": envelope}

Each adds a signature to the same payload; with the last one the roster is complete. Or a member adds a refusal
(`node.core.refusal`); when those who have not refused are too few, the proposal is dead. It is judged against the alliance
that its reader holds, never by what it says itself.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from node.core.alliance import Alliance
from node.core.canonical import Json, dumps_canonical, parse_canonical
from node.core.dsse import Envelope, format_envelope
from node.core.keys import Sign
from node.core.refusal import refusal_of, sign_refusal, verify_refusals
from node.core.roster import MEMBERS_MAX, Roster, parse_roster, require_follows
from node.core.times import format_seconds
from node.errors import FormatError, GovernanceError, InvalidRecordError, LabmeshError

PROPOSAL_SIZE_MAX = 8 * 1024 * 1024
REFUSALS_MAX = 200
"""Two councils of at most 100 seats."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The envelopes of the roster, of the cards that it takes in, and of its refusals; nothing is verified."""

    roster: bytes
    cards: tuple[bytes, ...] = ()
    refusals: tuple[bytes, ...] = ()

    def with_signature(self, sign: Sign) -> Proposal:
        """The same proposal with one more signature."""
        envelope, _ = parse_roster(self.roster)
        return replace(self, roster=format_envelope(envelope.with_signature(sign)))

    def with_refusal(self, sign: Sign) -> Proposal:
        """The same proposal with one more refusal of its roster."""
        return replace(self, refusals=(*self.refusals, sign_refusal(refusal_of(*parse_roster(self.roster)), sign)))


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
    refusals: tuple[bytes, ...] = ()
    refusers: frozenset[bytes] = frozenset()
    """Council keys, of either council, that have refused it."""

    @property
    def proposal(self) -> Proposal:
        """What was judged."""
        return Proposal(format_envelope(self.envelope), self.cards, self.refusals)

    @property
    def missing(self) -> int:
        """How many more signatures make it complete, when those sign who count most."""
        old, new = self.alliance.roster, self.roster
        old_missing = max(0, old.threshold - len(self.signers.intersection(old.council)))
        new_missing = max(0, new.threshold - len(self.signers.intersection(new.council)))
        both = len(set(old.council).intersection(new.council) - self.signers)
        return old_missing + new_missing - min(old_missing, new_missing, both)

    @property
    def needed(self) -> int:
        """How many signatures it needs, with those that it has."""
        return len(self.signers) + self.missing

    @property
    def refusals_missing(self) -> int:
        """How many more refusals make it dead: more of one council refuse than it can do without."""
        return self._refusing()[0]

    @property
    def dead(self) -> bool:
        """Whether so many have refused it that, as long as they keep their word, it can never be complete."""
        return not self.refusals_missing

    def awaited(self) -> list[str]:
        """Members whose signatures would count and are not there, and who have not refused, sorted."""
        keys: set[bytes] = set()
        for roster in (self.alliance.roster, self.roster):
            if len(self.signers.intersection(roster.council)) < roster.threshold:
                keys |= set(roster.council) - self.signers
        return self.named(keys - self.refusers)

    def refusing(self) -> list[str]:
        """Members whose refusals would count and are not there, sorted."""
        return self.named(self._refusing()[1])

    def signing(self) -> list[str]:
        """Members who have signed, sorted."""
        return self.named(self.signers)

    def _refusing(self) -> tuple[int, frozenset[bytes]]:
        """How many more must refuse, and of whom, in the council where the fewest are missing.

        In a council that has given what it must, too few are left.
        """
        ways: list[tuple[int, frozenset[bytes]]] = []
        for roster in (self.alliance.roster, self.roster):
            left = frozenset(roster.council) - self.signers - self.refusers
            missing = len(roster.council) - roster.threshold + 1 - len(self.refusers.intersection(roster.council))
            if missing <= len(left):
                ways.append((max(0, missing), left))
        return min(ways, key=lambda way: way[0], default=(len(self.alliance.roster.council), frozenset()))

    def named(self, keys: Collection[bytes]) -> list[str]:
        """Members to whom the held or the proposed roster gives these identity keys, sorted."""
        lines = {**self.alliance.roster.members, **self.roster.members}.items()
        held = self.alliance.roster.members
        return sorted(
            name for name, line in lines if line.identity_key in keys or (name in held and held[name].identity_key in keys)
        )


def format_proposal(proposal: Proposal) -> bytes:
    """The proposal as a file.

    Raises:
        FormatError: an envelope is not canonical JSON.
    """
    try:
        content: Json = {
            "cards": [parse_canonical(raw) for raw in proposal.cards],
            "refusals": [parse_canonical(raw) for raw in proposal.refusals],
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
    if not isinstance(content, dict) or set(content) != {"cards", "refusals", "roster"}:
        raise FormatError("a proposal has exactly the members cards, refusals and roster")
    cards = _parse_list(content["cards"], "cards", MEMBERS_MAX)
    refusals = _parse_list(content["refusals"], "refusals", REFUSALS_MAX)
    if not isinstance(content["roster"], dict):
        raise FormatError("a proposal's roster is a signed envelope")
    return Proposal(dumps_canonical(content["roster"]), cards, refusals)


def review_proposal(alliance: Alliance, proposal: Proposal) -> Review:
    """Judge a proposal against the alliance held here.

    1. it is a roster of this alliance;
    2. its version is the next one, and it names the held roster as the one before;
    3. it obeys the rules for a successor, the number of signatures aside;
    4. it has a signature, and every signature is by a key of the old or the new council;
    5. the cards are those of the members whose identity keys are new, and no others;
    6. each refusal is of this roster, by a key of the old or the new council that has not signed, each once.

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
    refusers = verify_refusals(proposal.refusals, refusal_of(envelope, roster), council)
    review = Review(envelope, roster, proposal.cards, alliance, signers, proposal.refusals, refusers)
    if liars := review.named(signers & refusers):
        raise GovernanceError(
            f"{', '.join(liars)} has signed this roster and refused it: nobody honest does both",
            hint="keep the file, it proves that to the council; go on with the file as it was before the second of the two",
        )
    return review


def require_may_sign(review: Review, member: str, key: bytes) -> None:
    """Refuse a proposal that is not for this identity key to sign.

    Raises:
        GovernanceError: it is complete or dead, signed or refused by this key already, or the key sits on neither council.
    """
    _require_incomplete(review)
    awaited = ", ".join(review.awaited())
    if review.dead:
        raise GovernanceError(
            f"this roster of version {review.roster.version} can never be in force: "
            f"{', '.join(review.named(review.refusers))} refused it",
            hint="propose the change again; who signed this one is free after typing: labmesh roster refuse FILE",
        )
    if key in review.refusers:
        raise GovernanceError(
            f"{member} has refused this proposal, and never signs it", hint="propose the change again in other words"
        )
    if key in review.signers:
        raise GovernanceError(
            f"{member} has signed this proposal already; {review.missing} more must sign it",
            hint=f"send the file to one of {awaited}, who type: labmesh roster sign FILE",
        )
    _require_seat(review, member, key, f"send the file to one of {awaited}, who type: labmesh roster sign FILE")


def require_may_refuse(review: Review, member: str, key: bytes) -> None:
    """Refuse a proposal that is not for this identity key to refuse.

    Raises:
        GovernanceError: it is complete, or the key sits on neither council.
    """
    _require_incomplete(review)
    awaited = ", ".join(review.refusing())
    _require_seat(review, member, key, f"send the file to one of {awaited}, who type: labmesh roster refuse FILE")


def require_dead(review: Review, member: str) -> None:
    """Refuse to let a member that has signed a proposal go before that can never be in force any more.

    Raises:
        GovernanceError: who must refuse it first.
    """
    if not review.dead:
        count = review.refusals_missing
        raise GovernanceError(
            f"{member} has signed this roster of version {review.roster.version}, and nobody takes a signature back: "
            f"{so_many_of(count, review.refusing())} must refuse it before {member} may sign another one",
            hint="send them the file, who type: labmesh roster refuse FILE; with the file that comes back type this again",
        )


def require_free(signed: Review | None, review: Review) -> None:
    """Refuse a roster while the home is bound to another one of its version, which it has signed before.

    Raises:
        GovernanceError: how to get on.
    """
    if signed is None or signed.envelope.hash == review.envelope.hash:
        return
    missing, count = signed.missing, signed.refusals_missing
    raise GovernanceError(
        f"this home has signed another roster of version {review.roster.version} already, made at "
        f"{format_seconds(signed.roster.issued)}; while that one can come into force it does not sign the one made at "
        f"{format_seconds(review.roster.issued)}",
        hint="write its file (labmesh roster proposal -o FILE) and send it: either "
        f"{so_many_of(missing, signed.awaited())} must sign it, or {so_many_of(count, signed.refusing())} refuse it "
        "(who type: labmesh roster refuse FILE) and send it back; then type here, too: labmesh roster refuse FILE",
    )


def _require_incomplete(review: Review) -> None:
    if not review.missing:
        raise GovernanceError(
            f"roster version {review.roster.version} carries every signature that it needs",
            hint="take it as it is: labmesh join FILE",
        )


def _require_seat(review: Review, member: str, key: bytes, hint: str) -> None:
    old, new = review.alliance.roster, review.roster
    if key not in old.council and key not in new.council:
        raise GovernanceError(
            f"{member} sits neither on the council of version {old.version} nor on that of version {new.version}",
            hint=hint,
        )


def so_many_of(count: int, names: list[str]) -> str:
    """Members in a sentence, of whom `count` are needed."""
    if count >= len(names) > 0:
        return " and ".join(names)
    return f"{count} of {', '.join(names) or 'nobody'}"


def _parse_list(content: Json, noun: str, most: int) -> tuple[bytes, ...]:
    if not isinstance(content, list) or not all(isinstance(envelope, dict) for envelope in content):
        raise FormatError(f"a proposal's {noun} are a list of signed envelopes")
    if len(content) > most:
        raise FormatError(f"a proposal with {len(content)} {noun}; at most {most} are possible")
    return tuple(dumps_canonical(envelope) for envelope in content)


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
