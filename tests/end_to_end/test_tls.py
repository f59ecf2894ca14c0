"""Who may call: exactly the holder of the certificate in an active member's card, whatever names certificates carry."""

from __future__ import annotations

from datetime import datetime, timedelta

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from labmesh.v1 import node_pb2, peer_pb2, peer_pb2_grpc
from node.clock import utc_now
from node.core.certificate import certificate_name, certificate_subject
from node.core.names import log_origin
from node.keyfiles import build_certificate
from node.rpc.tls import certificate_pem
from tests.end_to_end.harness import (
    ALLIANCE,
    Mesh,
    Node,
    code_of,
    eventually,
    open_mesh,
    reason_of,
    result_record,
    result_records,
)

FOLLOW = peer_pb2.ReadLogRequest(origin=log_origin(ALLIANCE, "jinan"), follow=True, entries_max=1000)


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def build_authority(key: ec.EllipticCurvePrivateKey, alliance: str, member: str, now: datetime) -> bytes:
    """As `build_certificate`, but a certificate that may issue others."""
    return issue(key, key, member, authority=True)


def issue(
    key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey, member: str, *, authority: bool = False
) -> bytes:
    """A certificate (DER) of `key` in a member's name, issued by the holder of another."""
    now = utc_now()
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificate_subject(key.public_key()))
        .issuer_name(certificate_subject(issuer_key.public_key()))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(certificate_name(ALLIANCE, member))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def load_tls_key(node: Node) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(node.load_keys().tls_key_pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


@pytest.fixture(scope="module")
def mesh():
    with open_mesh() as mesh, pytest.MonkeyPatch.context() as patch:
        mesh.add_home("jinan")
        mesh.add_home("qingdao")
        # Weifang's certificate is an authority's: as a trusted root it can issue leaves that pass TLS.
        patch.setattr("node.home.build_certificate", build_authority)
        mesh.add_home("weifang")
        mesh.found()
        mesh.start("jinan", "qingdao")
        mesh["jinan"].push([result_record("SECRET", audience=["qingdao"])])
        mesh["qingdao"].await_log("jinan", 1)
        yield mesh


def require_refused(mesh: Mesh, credentials: grpc.ChannelCredentials) -> list[str]:
    """Every call of PeerService at jinan is refused; returns the reasons given."""
    requests = {
        "GetRoster": peer_pb2.GetRosterRequest(),
        "ExchangeCheckpoints": peer_pb2.ExchangeCheckpointsRequest(),
        "ReadLog": FOLLOW,
    }
    reasons = []
    for method, request in requests.items():
        with mesh.dial("jinan", credentials) as channel, pytest.raises(grpc.RpcError) as refusal:
            answer = getattr(peer_pb2_grpc.PeerServiceStub(channel), method)(request, timeout=20)
            list(answer)
        reason = reason_of(refusal.value)
        if not reason:
            assert code_of(refusal.value) is grpc.StatusCode.UNAVAILABLE
        reasons.append(reason)
    return reasons


def jinan_root(mesh: Mesh) -> bytes:
    return certificate_pem(mesh["jinan"].card.tls_certificates[0])


def test_a_member_is_answered(mesh: Mesh):
    for caller, openings in (("qingdao", 1), ("weifang", 0)):
        with mesh.call_as(caller, "jinan") as stub:
            assert stub.ExchangeCheckpoints(peer_pb2.ExchangeCheckpointsRequest(), timeout=30).roster_version == 2
            request = peer_pb2.ReadLogRequest(origin=FOLLOW.origin, entries_max=1000)
            assert sum(len(message.page.openings) for message in stub.ReadLog(request, timeout=30)) == openings


def test_a_caller_without_a_certificate_is_refused(mesh: Mesh):
    assert require_refused(mesh, grpc.ssl_channel_credentials(jinan_root(mesh))) == ["", "", ""]


def test_a_caller_without_tls_is_refused(mesh: Mesh):
    with grpc.insecure_channel(f"127.0.0.1:{mesh['jinan'].port}") as channel, pytest.raises(grpc.RpcError) as refusal:
        peer_pb2_grpc.PeerServiceStub(channel).GetRoster(peer_pb2.GetRosterRequest(), timeout=20)
    assert code_of(refusal.value) is grpc.StatusCode.UNAVAILABLE


def test_an_unknown_certificate_in_a_members_name_is_refused(mesh: Mesh):
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = build_certificate(key, ALLIANCE, "qingdao", utc_now())
    credentials = grpc.ssl_channel_credentials(jinan_root(mesh), key_to_pem(key), certificate_pem(certificate))
    assert require_refused(mesh, credentials) == ["", "", ""]


@pytest.mark.parametrize("named", ["weifang", "jinan", "qingdao"])
@pytest.mark.parametrize("issuer", ["qingdao", "weifang"])
def test_a_leaf_that_a_member_issued_is_nobody_whatever_its_name(mesh: Mesh, issuer: str, named: str):
    """Weifang's certificate is an authority's, so its leaves pass TLS; the certificate of qingdao may not issue any."""
    key, node = ec.generate_private_key(ec.SECP256R1()), mesh[issuer]
    leaf = issue(key, load_tls_key(node), named)
    chain = certificate_pem(leaf) + certificate_pem(node.card.tls_certificates[0])
    credentials = grpc.ssl_channel_credentials(jinan_root(mesh), key_to_pem(key), chain)
    reasons = require_refused(mesh, credentials)
    assert set(reasons) <= {"", "ACCESS_REFUSED"}
    if issuer == "weifang":
        assert reasons == ["ACCESS_REFUSED"] * 3


def test_another_key_behind_a_members_certificate_is_refused(mesh: Mesh):
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = certificate_pem(mesh["qingdao"].card.tls_certificates[0])
    credentials = grpc.ssl_channel_credentials(jinan_root(mesh), key_to_pem(key), leaf)
    with pytest.raises((grpc.RpcError, ValueError)), mesh.dial("jinan", credentials) as channel:
        peer_pb2_grpc.PeerServiceStub(channel).GetRoster(peer_pb2.GetRosterRequest(), timeout=20)


def test_a_server_with_another_members_certificate_is_not_believed(mesh: Mesh):
    with mesh.channel_as("weifang", "jinan") as channel:
        peer_pb2_grpc.PeerServiceStub(channel).GetRoster(peer_pb2.GetRosterRequest(), timeout=20)
    # The caller dials jinan's port, and wants qingdao there.
    weifang = mesh["weifang"]
    credentials = grpc.ssl_channel_credentials(
        certificate_pem(mesh["qingdao"].card.tls_certificates[0]),
        weifang.load_keys().tls_key_pem,
        certificate_pem(weifang.card.tls_certificates[0]),
    )
    with mesh.dial("jinan", credentials) as channel, pytest.raises(grpc.RpcError) as refusal:
        peer_pb2_grpc.PeerServiceStub(channel).GetRoster(peer_pb2.GetRosterRequest(), timeout=20)
    assert code_of(refusal.value) is grpc.StatusCode.UNAVAILABLE


def test_a_removed_member_is_refused_and_its_open_stream_ends(mesh: Mesh):
    jinan = mesh["jinan"]
    mesh.start("weifang")
    mesh["weifang"].await_log("jinan", jinan.status().size)
    with mesh.channel_as("weifang", "jinan") as channel:
        stub = peer_pb2_grpc.PeerServiceStub(channel)
        stream = stub.ReadLog(FOLLOW, timeout=60)
        assert next(stream).HasField("checkpoint")
        removed = jinan.stub.RemoveMember(node_pb2.RemoveMemberRequest(member="weifang"), timeout=30)
        assert removed.version == 3
        with pytest.raises(grpc.RpcError) as refusal:
            list(stream)
        assert reason_of(refusal.value) == "ACCESS_REFUSED"
        with pytest.raises(grpc.RpcError) as refusal:
            stub.GetRoster(peer_pb2.GetRosterRequest(), timeout=20)
        assert reason_of(refusal.value) == "ACCESS_REFUSED"
    with mesh.call_as("weifang", "jinan") as stub, pytest.raises(grpc.RpcError) as refusal:
        stub.GetRoster(peer_pb2.GetRosterRequest(), timeout=20)
    assert reason_of(refusal.value) in ("", "ACCESS_REFUSED")

    size = mesh["weifang"].peer("jinan").verified
    jinan.push(result_records("AFTER", 3))
    mesh["qingdao"].await_log("jinan", size + 3)
    eventually(lambda: [peer.member for peer in mesh["qingdao"].status().peers] == ["jinan"], "qingdao knows of it")
    eventually(lambda: mesh["weifang"].peer("jinan").state in ("refused", "retrying"), "weifang is told")
    assert mesh["weifang"].peer("jinan").verified == size
    assert not mesh["weifang"].sees("jinan/result/AFTER-000000")
