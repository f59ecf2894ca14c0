"""Who may shake hands, and who is answered."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from ssl import DER_cert_to_PEM_cert

import pytest

from node.core.alliance import Alliance
from node.rpc.tls import TrustedCertificates, certificate_pem
from tests.builders import START, Lab, build_alliance, build_card, build_labs, certificate, sign_roster

JINAN, QINGDAO, YANTAI = LABS = build_labs(3)


def removing(held: Alliance, lab: Lab) -> Alliance:
    gone = replace(held.roster.members[lab.member], status="removed", left=START + timedelta(days=1))
    members = {**held.roster.members, lab.member: gone}
    return held.accept_roster(
        sign_roster(replace(held.roster, version=held.roster.version + 1, previous=held.fingerprint, members=members), JINAN)
    )


def pem(lab: Lab) -> bytes:
    return certificate_pem(lab.certificate)


def test_a_removed_member_shakes_hands_and_is_nobody() -> None:
    held: list[Alliance | None] = [build_alliance(LABS)]
    trusted = TrustedCertificates(own_card=lambda: build_card(JINAN), alliance=lambda: held[0])
    before = trusted.state()
    assert [trusted.member_of(pem(lab)) for lab in LABS] == ["jinan", "qingdao", "yantai"]
    assert [trusted.removed_member_of(pem(lab)) for lab in LABS] == [None, None, None]
    assert held[0] is not None
    held[0] = removing(held[0], YANTAI)
    assert [trusted.member_of(pem(lab)) for lab in LABS] == ["jinan", "qingdao", None]
    assert [trusted.removed_member_of(pem(lab)) for lab in LABS] == [None, None, "yantai"]
    assert trusted.state() == before, "the same roots, so no handshake has to make the configuration anew"
    assert pem(YANTAI) in trusted.roots()
    stranger = certificate("stranger.invalid", label="stranger")
    assert trusted.member_of(certificate_pem(stranger)) is trusted.removed_member_of(certificate_pem(stranger)) is None
    assert trusted.removed_member_of(b"no certificate") is None


def test_before_an_alliance_only_the_own_certificate() -> None:
    trusted = TrustedCertificates(own_card=lambda: build_card(JINAN), alliance=lambda: None)
    assert trusted.roots() == pem(JINAN)
    assert trusted.member_of(pem(JINAN)) is None


@pytest.mark.parametrize("version", [9, 255])
def test_a_certificate_of_an_unknown_version_is_nobody_s(version: int) -> None:
    held = JINAN.certificate.replace(bytes.fromhex("a003020102"), bytes.fromhex("a0030201") + bytes([version]))
    assert held != JINAN.certificate
    alliance = build_alliance(LABS)
    trusted = TrustedCertificates(own_card=lambda: build_card(QINGDAO), alliance=lambda: alliance)
    odd = DER_cert_to_PEM_cert(held).encode()
    assert trusted.member_of(odd) is trusted.removed_member_of(odd) is None
