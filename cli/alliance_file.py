"""Files with signed envelopes: what a newcomer gets, a card, and a roster on its way through the council.

    {"rosters": [envelope, …], "cards": [envelope, …]}      roster export: the chain of rosters and the known cards
    {"roster": envelope, "cards": [envelope, …]}            a proposal: the next roster, and the cards that go with it
    envelope                                                one card

Nothing is believed here: whoever takes the envelopes verifies them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from node.errors import FormatError

ENVELOPE_MEMBERS = {"payload", "payloadType", "signatures"}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
EXPORT_HINT = "ask a member for the file that `labmesh roster export -o FILE` writes"
PROPOSAL_HINT = "name the file that `labmesh roster add`, or another change of the roster, wrote"
DAMAGED_HINT = "the file was changed or damaged on its way: ask whoever sent it for it again"
CARD_HINT = "ask the newcomer for the file that `labmesh card -o FILE` writes"


Json = Any


@dataclass(frozen=True, slots=True)
class AllianceFile:
    """Envelopes as canonical bytes: rosters in order of version, cards in any order."""

    rosters: list[bytes]
    cards: list[bytes]
    is_proposal: bool = False
    """Whether it is a proposal: one roster, of use only where the ones before are held."""
    is_card: bool = False
    """Whether it is a single card, of use only where the rosters are held."""


def format_alliance_file(content: AllianceFile) -> bytes:
    """The file as canonical JSON."""
    import orjson

    from node.core.canonical import dumps_canonical

    return dumps_canonical(
        {
            "rosters": [orjson.loads(raw) for raw in content.rosters],
            "cards": [orjson.loads(raw) for raw in content.cards],
        }
    )


def parse_alliance_file(raw: bytes, name: str) -> AllianceFile:
    """Read the envelopes; `name` is the file's, for messages.

    Raises:
        FormatError: it is another file.
    """
    from node.core.canonical import dumps_canonical

    content = _parse_json(raw, name, EXPORT_HINT)
    if _is_envelope(content) and _is_card(content):
        return AllianceFile([], [parse_card_file(raw, name)], is_card=True)
    if _is_envelope(content):
        _refuse(name, f"is {_envelope_noun(content)}, not the file of an alliance", EXPORT_HINT)
    if _is_proposal(content):
        return AllianceFile([dumps_canonical(content["roster"])], list(map(dumps_canonical, content["cards"])), True)
    if not isinstance(content, dict) or set(content) != {"rosters", "cards"}:
        _refuse(name, "is not the file of an alliance", EXPORT_HINT)
    rosters, cards = content["rosters"], content["cards"]
    if not _are_envelopes(rosters) or not _are_envelopes(cards) or not rosters:
        _refuse(name, "is damaged: its rosters or cards are not signed envelopes", EXPORT_HINT)
    return AllianceFile([dumps_canonical(one) for one in rosters], [dumps_canonical(one) for one in cards])


def parse_proposal_file(raw: bytes, name: str) -> bytes:
    """Read a proposal, and give it in its canonical form; `name` is the file's, for messages.

    Raises:
        FormatError: it is another file, or an envelope in it breaks the format.
    """
    from node.core.canonical import dumps_canonical
    from node.core.card import parse_card
    from node.core.roster import parse_roster

    content = _parse_json(raw, name, PROPOSAL_HINT)
    if isinstance(content, dict) and set(content) == {"rosters", "cards"}:
        _refuse(
            name, "is the file of an alliance, not a proposal", f"{PROPOSAL_HINT}; this one goes into: labmesh join FILE"
        )
    if _is_envelope(content):
        _refuse(name, f"is {_envelope_noun(content)}, not a proposal", PROPOSAL_HINT)
    if not _is_proposal(content):
        _refuse(name, "is not a proposal", PROPOSAL_HINT)
    try:
        parse_roster(dumps_canonical(content["roster"]))
        for card in content["cards"]:
            parse_card(dumps_canonical(card))
    except FormatError as error:
        raise FormatError(f"{name}: {error.message}", hint=error.hint or DAMAGED_HINT) from error
    return dumps_canonical(content)


def parse_card_file(raw: bytes, name: str) -> bytes:
    """Read one card's envelope; `name` is the file's, for messages.

    Raises:
        FormatError: it is another file, or a card that breaks the format.
    """
    from node.core.canonical import dumps_canonical
    from node.core.card import parse_card

    content = _parse_json(raw, name, CARD_HINT)
    if isinstance(content, dict) and set(content) == {"rosters", "cards"}:
        _refuse(name, "is the file of an alliance, not a card", CARD_HINT)
    if _is_proposal(content):
        _refuse(name, "is a proposal, not a card", CARD_HINT)
    if not _is_envelope(content):
        _refuse(name, "is not a card", CARD_HINT)
    envelope = dumps_canonical(content)
    try:
        parse_card(envelope)
    except FormatError as error:
        raise FormatError(f"{name}: {error.message}", hint=error.hint or CARD_HINT) from error
    return envelope


def _parse_json(raw: bytes, name: str, hint: str) -> Json:
    import orjson

    if raw.startswith(b"PK\x03\x04"):
        _refuse(name, "is a ZIP file (a bundle?), not JSON", hint)
    try:
        content = orjson.loads(raw.removeprefix(BYTE_ORDER_MARK))
        orjson.dumps(content)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        raise FormatError(f"{name} is not JSON: {error}", hint=hint) from error
    return content


def _is_envelope(content: Json) -> bool:
    return isinstance(content, dict) and set(content) == ENVELOPE_MEMBERS


def _is_proposal(content: Json) -> bool:
    if not isinstance(content, dict) or set(content) != {"roster", "cards"}:
        return False
    return _is_envelope(content["roster"]) and _are_envelopes(content["cards"])


def _are_envelopes(contents: Json) -> bool:
    return isinstance(contents, list) and all(map(_is_envelope, contents))


def _envelope_noun(content: dict[str, Json]) -> str:
    return "a member's card" if _is_card(content) else "a single signed envelope"


def _is_card(content: dict[str, Json]) -> bool:
    return ".card." in str(content["payloadType"])


def _refuse(name: str, what: str, hint: str) -> NoReturn:
    raise FormatError(f"{name} {what}", hint=hint)
