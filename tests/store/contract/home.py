"""What every store remembers of its home, and what its errors tell."""

from __future__ import annotations

import pytest

from node.core.alliance import format_card
from node.core.canonical import dumps_canonical
from node.core.card import CARD_TYPE, parse_card
from node.errors import HomeError, StoreError
from node.store import Store
from node.store import logs as logs_module
from tests.builders import ALLIANCE, build_alliance, build_card, build_labs, record_bytes, record_content, sign_card
from tests.store.conftest import OpenStore
from tests.store.filling import JINAN, NOW_MS, OwnLog


class MembershipContract:
    """The identity, the alliance and the own card."""

    def test_identity_and_alliance_are_remembered(self, opened: OpenStore) -> None:
        labs = build_labs(3)
        membership = opened.store.membership
        with pytest.raises(HomeError, match="whose home this is"):
            membership.load_identity()
        membership.save_identity("jinan", ALLIANCE, created_ms=NOW_MS)
        assert (membership.load_alliance(), membership.load_own_card("jinan")) == (None, None)
        alliance = build_alliance(labs)
        membership.save_alliance(alliance, pin=alliance.fingerprint)
        membership.save_alliance(alliance)
        membership = opened.reopen().membership
        identity, loaded = membership.load_identity(), membership.load_alliance()
        assert (identity.member, identity.alliance, identity.fingerprint) == ("jinan", ALLIANCE, alliance.fingerprint)
        assert loaded is not None
        assert (loaded.rosters, dict(loaded.cards)) == (alliance.rosters, dict(alliance.cards))
        assert membership.load_own_card("jinan") == format_card(alliance.cards["jinan"])

    def test_the_newest_own_card_counts(self, opened: OpenStore) -> None:
        membership = opened.store.membership
        first = sign_card(build_card(JINAN), JINAN)
        second = sign_card(build_card(JINAN, seq=2, previous=parse_card(first)[0].hash, name="Another"), JINAN)
        membership.save_card("jinan", 1, first, CARD_TYPE)
        membership.save_card("jinan", 2, second, CARD_TYPE)
        membership.save_card("qingdao", 3, sign_card(build_card(JINAN, name="A third"), JINAN), CARD_TYPE)
        assert opened.reopen().membership.load_own_card("jinan") == second
        # By a new identity key, whose home had forgotten its newest card: of the same seq, or of a smaller one.
        membership = opened.store.membership
        for seq in (2, 1):
            rekeyed = sign_card(build_card(JINAN, seq=seq, previous="0" * 64 if seq > 1 else None, name=f"New {seq}"), JINAN)
            membership.save_card("jinan", seq, rekeyed, CARD_TYPE)
            assert opened.reopen().membership.load_own_card("jinan") == rekeyed
            membership = opened.store.membership


class MistakesContract:
    """An error tells nothing of a record."""

    def test_an_error_of_the_database_tells_nothing_of_a_record(self, store: Store) -> None:
        own = OwnLog(store)
        secret = "secret-of-a-patient"
        own.append(record_bytes(key=secret))
        with pytest.raises(StoreError) as caught:
            own.append(record_bytes(key=secret, body={"value": secret}))
        cause: BaseException | None = caught.value
        while cause is not None:
            assert secret not in str(cause)
            assert record_content(key=secret)["published"] not in str(cause)
            cause = cause.__cause__

    def test_unusable_values_tell_nothing_either(self, store: Store) -> None:
        own = OwnLog(store)
        raw = dumps_canonical({"secret": "of a patient"})
        own.memory.append(raw)
        with pytest.raises(StoreError) as caught, store.database.write() as connection:
            connection.execute(
                logs_module._CHECKPOINT.insert(), {"log_id": own.state.id, "size": raw.decode() + "x", "note": object()}
            )
        cause: BaseException | None = caught.value
        while cause is not None:
            assert "patient" not in str(cause)
            cause = cause.__cause__
