"""What the people of a member are told: in words, with what to type, and only when there is something to tell."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from node.core.alliance import Alliance
from node.core.quorums import SIGNING
from node.core.roster import Head
from node.core.standing import EXPIRY_NOTICE, PROPOSAL_NOTICE, Notice, build_notices, build_push_warnings
from tests.builders import START, build_alliance, build_labs, public_key, sign_roster

JINAN, QINGDAO, YANTAI = LABS = build_labs(3)
HELD = build_alliance(LABS)
EXPIRES = HELD.roster.expires


def notices(member: str = "qingdao", held: Alliance = HELD, *, now: datetime = START, key: bytes = b"") -> list[Notice]:
    return build_notices(held, member, key or held.roster.members[member].identity_key, now=now)


def removed(head: Head | None = None) -> Alliance:
    gone = replace(HELD.roster.members["qingdao"], status="removed", left=START + timedelta(days=2), head=head)
    members = {**HELD.roster.members, "qingdao": gone}
    second = replace(HELD.roster, version=2, previous=HELD.fingerprint, members=members)
    held = HELD.accept_roster(sign_roster(second, JINAN))
    third = replace(second, version=3, previous=held.fingerprint, title="Later")
    return held.accept_roster(sign_roster(third, JINAN))


def test_nothing_to_tell() -> None:
    for member in ("jinan", "qingdao"):
        assert notices(member) == notices(member, now=EXPIRES - EXPIRY_NOTICE) == []
    assert notices("qingdao", removed(), now=START, key=QINGDAO.identity_key) != []
    assert notices("yantai", removed()) == []


def test_removed_by_which_version_and_from_where_nothing_counts() -> None:
    (notice,) = notices(held=removed(Head(812, bytes(32))))
    assert (notice.subject, notice.level) == ("membership", "error")
    assert notice.sentence == (
        "qingdao was removed from quality.jinan.example by roster version 2 on 2026-01-03; entries of its log from 812 on "
        "count nowhere"
    )
    assert "jinan" in notice.hint
    assert "count nowhere" not in notices(held=removed())[0].sentence


def test_another_identity_key() -> None:
    (notice,) = notices(key=public_key("another"))
    assert (notice.subject, notice.level) == ("membership", "error")
    assert "another identity key for qingdao" in notice.sentence
    assert "telephone the council (jinan)" in notice.hint
    assert notice.hint.endswith("types: labmesh roster rekey qingdao CARD")
    (notice,) = notices("jinan", key=public_key("another"))
    assert "the council (nobody else)" in notice.hint, "nobody is sent to telephone with himself"


@pytest.mark.parametrize(
    ("before", "level", "words"),
    [
        (EXPIRY_NOTICE, None, ""),
        (EXPIRY_NOTICE - timedelta(seconds=1), "warning", "the roster expires on 2027-01-01"),
        (timedelta(seconds=1), "warning", "the roster expires on"),
        (timedelta(0), "error", "nobody new can join"),
        (-timedelta(days=900), "error", "the roster expired on 2027-01-01"),
    ],
)
def test_expiry(before: timedelta, level: str | None, words: str) -> None:
    found = notices(now=EXPIRES - before)
    assert [notice.level for notice in found] == ([] if level is None else [level])
    assert all(words in notice.sentence and notice.subject == "expiry" for notice in found)


def test_who_has_to_type_what() -> None:
    assert notices("jinan", now=EXPIRES)[0].hint == "type: labmesh roster renew"
    assert notices("qingdao", now=EXPIRES)[0].hint == "ask a council member (jinan) to type: labmesh roster renew"
    assert str(notices("jinan", now=EXPIRES)[0]).endswith("; type: labmesh roster renew")


def test_both_at_once() -> None:
    assert [notice.subject for notice in notices(held=removed(), now=EXPIRES)] == ["membership", "expiry"]


def test_somebody_whom_the_roster_does_not_know() -> None:
    assert build_notices(HELD, "zibo", public_key("zibo"), now=START) == []


def test_what_is_told_with_every_push() -> None:
    """Only what keeps its records from the others: a roster that expires changes nothing between members."""
    key = QINGDAO.identity_key
    assert build_push_warnings(None, "qingdao", key) == build_push_warnings(HELD, "qingdao", key) == []
    (told,) = build_push_warnings(removed(Head(812, bytes(32))), "qingdao", key)
    assert "qingdao was removed" in told and "from 812 on count nowhere" in told and "ask the council (jinan)" in told
    # Another identity key says nothing of the log: peers take the records as before. The status tells it, not each push.
    assert build_push_warnings(HELD, "qingdao", public_key("another")) == []


def test_a_change_that_waits_for_a_week_is_named() -> None:
    """A warning: nothing is broken, but its signers can sign nothing else."""
    made = START + timedelta(days=30)
    proposed = replace(HELD.roster, version=2, issued=made, previous=HELD.fingerprint)

    def told(now: datetime) -> list[Notice]:
        return build_notices(HELD, "qingdao", QINGDAO.identity_key, now=now, proposed=proposed)

    assert told(made) == told(made + PROPOSAL_NOTICE - timedelta(seconds=1)) == []
    (notice,) = told(made + PROPOSAL_NOTICE)
    assert (notice.subject, notice.level) == ("proposal", "warning")
    assert "version 2 made at 2026-01-31T00:00:00Z, still lacks signatures" in notice.sentence
    assert "labmesh roster proposal" in notice.hint
    assert told(made + SIGNING) == [notice]
    (late,) = told(made + SIGNING + timedelta(seconds=1))
    assert late.sentence == notice.sentence
    assert "after 30 days nobody signs it" in late.hint and "labmesh roster withdraw" in late.hint
