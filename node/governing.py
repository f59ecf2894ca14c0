"""Change the roster: found the alliance, propose, sign and withdraw.

What a home signs is written before the signature leaves it, so that nobody signs two rosters of one version.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from node.ballot import Ballot, require_good_heads, require_nothing_disowned
from node.core.alliance import Alliance, format_card, found_alliance
from node.core.amendment import (
    ROSTER_LIFETIME,
    AddMembers,
    Amendment,
    RemoveMember,
    build_successor,
    require_sound,
)
from node.core.dsse import build_envelope, format_envelope
from node.core.proposal import (
    Proposal,
    Review,
    format_proposal,
    parse_proposal,
    require_free,
    require_may_sign,
    review_proposal,
)
from node.core.roster import ROSTER_TYPE, Head, Member, Roster, quorum_default, roster_content
from node.current_alliance import CurrentAlliance
from node.errors import FormatError, GovernanceError
from node.store.membership import SignedVersion


class Governing(CurrentAlliance):
    """The alliance of the moment, and what a council member does to its roster. Any thread may call."""

    def found(self, title: str, threshold: int = 1) -> Alliance:
        """Sign roster version 1, with this member as its council.

        Raises:
            GovernanceError: there is an alliance already, or the threshold is impossible.
        """
        with self._lock:
            if self._alliance is not None:
                raise GovernanceError(
                    f"this node belongs to {self._alliance.name} already", hint="type: labmesh roster show"
                )
            if threshold != 1:
                raise GovernanceError(
                    f"a threshold of {threshold} is impossible: the founding council has one key, this member's",
                    hint="found with a threshold of 1",
                )
            now = self._clock().replace(microsecond=0)
            roster = Roster(
                alliance=self.alliance_name,
                title=title,
                version=1,
                previous=None,
                issued=now,
                expires=now + ROSTER_LIFETIME,
                council=(self._identity.public_key,),
                threshold=1,
                quorum=quorum_default(1),
                members=MappingProxyType({self.member: Member(self._identity.public_key, "active", now)}),
            )
            raw, card = self._sign_roster(roster), format_card(self._own_card)
            alliance = found_alliance(raw).accept_card(card)
            signed = SignedVersion(1, alliance.fingerprint, format_proposal(Proposal(raw, (card,))))
            return self._adopt(alliance, teller=None, pin=alliance.fingerprint, signed=signed)

    def add_members(self, cards: Iterable[bytes]) -> Alliance:
        """`amend` with the members of these cards added; returns the alliance as it is now."""
        return self.amend(AddMembers(tuple(cards))).alliance

    def remove_member(self, member: str, head: Head | None = None) -> Alliance:
        """`amend` with one member removed; returns the alliance as it is now."""
        return self.amend(RemoveMember(member, head)).alliance

    def amend(self, amendment: Amendment) -> Ballot:
        """Sign the next roster with a change. It is in force when one signature is enough, and a proposal otherwise.

        Raises:
            FormatError: a card is none.
            SignatureError: a card is not signed by the key it names.
            GovernanceError: the change is impossible, this member has no seat, or it has signed another such version.
        """
        with self._lock:
            alliance = self.joined
            if self._identity.public_key not in alliance.roster.council:
                raise GovernanceError(
                    f"{self.member} does not sit on the council of {alliance.name}, so it cannot change the roster",
                    hint=f"send the card or the wish to a member of the council: {', '.join(alliance.council_members())}",
                )
            roster, cards = build_successor(alliance, amendment, now=self._clock().replace(microsecond=0))
            require_nothing_disowned(self._objector, cards)
            self._require_good_heads(alliance, amendment, roster)
            review = review_proposal(alliance, Proposal(self._sign_roster(roster), cards))
            self._require_free(review)
            return self._settle(review)

    def sign_proposal(self, raw: bytes, *, head_size: int | None = None) -> Ballot:
        """Add this home's signature to a proposal; the one that completes it puts the roster in force.

        Of one version a home signs one roster; another one only after `withdraw_proposal`. `head_size` is where a person
        says that the log of the member who is removed ends, though a quorum has cosigned more, or that the history of one
        survives, though this home has verified another root there.

        Raises:
            FormatError: not a proposal.
            GovernanceError: it is stale, of another alliance, tampered with, or not for this home to sign.
        """
        proposal = parse_proposal(raw)
        with self._lock:
            alliance, key = self.joined, self._identity.public_key
            review = review_proposal(alliance, proposal)
            withdrawn = self._store.is_withdrawn(review.roster.version, review.envelope.hash)
            require_may_sign(review, self.member, key, withdrawn=withdrawn)
            self._require_free(review)
            require_sound(alliance, review.roster, proposal.cards, now=self._clock())
            require_nothing_disowned(self._objector, proposal.cards)
            command = "labmesh roster sign FILE"
            require_good_heads(self._objector, alliance.roster, review.roster, size=head_size, command=command)
            signed = proposal if key in review.signers else proposal.with_signature(self._identity.sign)
            return self._settle(review_proposal(alliance, signed))

    def withdraw_proposal(self, roster_hash: str) -> int:
        """Give up the proposal of the next version that this home has signed, so that it may sign another one of it.

        A person's word stands behind it that nobody keeps a copy: who does can still complete it, or prove with it that
        this member signed two rosters. Returns the version.

        Raises:
            GovernanceError: this home has signed none that is not in force, or it is not the one with this hash.
        """
        with self._lock:
            version = self.joined.roster.version + 1
            signed = self._store.load_signed(version)
            if signed is None:
                raise GovernanceError(
                    f"this home has signed no proposal of roster version {version}", hint="type: labmesh roster show"
                )
            if signed.hash != roster_hash:
                raise GovernanceError(
                    f"the proposal of roster version {version} that this home has signed is another one than was shown",
                    hint="type it again: labmesh roster withdraw",
                )
            self._store.save_withdrawn(signed)
            return version

    def open_proposal(self) -> Ballot | None:
        """The proposal of the next version that this home has signed, if there is one."""
        signed = self._store.load_signed(self.joined.roster.version + 1)
        if signed is None:
            return None
        review = review_proposal(self.joined, parse_proposal(signed.proposal))
        return Ballot(review.alliance, signed.proposal, len(review.signers), review.needed)

    def open_roster(self) -> Roster | None:
        """The roster of that proposal as it was signed, without judging it again; None before an alliance is joined."""
        if self._alliance is None:
            return None
        return self._store.load_open_roster(self._alliance.roster.version + 1)

    def _require_good_heads(self, alliance: Alliance, amendment: Amendment, roster: Roster) -> None:
        if isinstance(amendment, RemoveMember):
            size = amendment.head.size if amendment.head is not None and amendment.by_hand else None
            command = f"labmesh roster remove {amendment.member}"
            require_good_heads(self._objector, alliance.roster, roster, size=size, command=command)

    def _require_free(self, review: Review) -> None:
        """Refuse to sign a second roster of one version; the store does so again when it writes."""
        signed = self._store.load_signed(review.roster.version)
        require_free(None if signed is None else review_proposal(review.alliance, parse_proposal(signed.proposal)), review)

    def _settle(self, review: Review) -> Ballot:
        """Remember what was signed, and publish it when it is complete. Only then may the signature leave."""
        raw, version = format_envelope(review.envelope), review.roster.version
        proposal = format_proposal(Proposal(raw, review.cards))
        signed = SignedVersion(version, review.envelope.hash, proposal)
        if review.missing:
            self._store.save_signed(signed)
            return Ballot(review.alliance, proposal, len(review.signers), review.needed)
        alliance = review.alliance.accept_roster(raw)
        for card in review.cards:
            alliance = alliance.accept_card(card)
        return Ballot(self._adopt(alliance, teller="", signed=signed), proposal, len(review.signers), review.needed)

    def _sign_roster(self, roster: Roster) -> bytes:
        try:
            return format_envelope(build_envelope(roster_content(roster), ROSTER_TYPE, self._identity.sign))
        except FormatError as error:
            raise GovernanceError(error.message, hint=error.hint) from error
