"""The ways to a node: the socket in its home, or its remote port with a token.

gRPC waits, and does not say why it cannot connect. So each way can be tried by plain means, which tell what is wrong.
"""

from __future__ import annotations

import shlex
import socket
import ssl
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import grpc

from node.errors import HANGS, ConfigError, LabmeshError, PeerUnreachableError

MESSAGE_SIZE_MAX = 16 * 1024 * 1024
REQUEST_SIZE_MAX = 8 * 1024 * 1024
PROBE_S = 5.0
GREETING_S = 4.0
"""So long a node may take to greet a connection to its socket; a call may then take much longer."""

_OPTIONS = [
    ("grpc.max_send_message_length", MESSAGE_SIZE_MAX),
    ("grpc.max_receive_message_length", MESSAGE_SIZE_MAX),
    ("grpc.enable_http_proxy", 0),
]
_REMOTE_OPTIONS = [
    ("grpc.max_send_message_length", REQUEST_SIZE_MAX),
    ("grpc.max_receive_message_length", MESSAGE_SIZE_MAX),
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]

# RFC 9113, 3.4: a client's preface and an empty SETTINGS frame. A server answers with a frame, whatever is asked later.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))

# What X509_verify_cert says; Python's ssl does not name them.
_EXPIRED, _NOT_YET, _NAME_MISMATCH = 10, 9, {62, 64}


class Connection(Protocol):
    """A way to a node."""

    def probe(self) -> LabmeshError | None:
        """Try it; what is wrong, or None."""

    def open(self) -> grpc.Channel:
        """A channel, opened lazily."""


@dataclass(frozen=True, slots=True)
class SocketConnection:
    """The node whose socket this is."""

    path: Path

    def probe(self) -> PeerUnreachableError | None:
        """Greet who listens on the socket; what is wrong, or None."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(GREETING_S)
            try:
                probe.connect(str(self.path))
                probe.sendall(_GREETING)
                if probe.recv(1):
                    return None
            except PermissionError:
                return PeerUnreachableError(
                    f"this account may not use {self.path}",
                    hint="work as the account that the node runs under, or name a group in the setting socket_group",
                )
            except (TimeoutError, BlockingIOError):  # the latter where too many wait already to be let in
                return self._hanging(_listener(probe))
            except OSError:
                pass  # nobody listens
        return PeerUnreachableError(f"the node is not running (no answer on {self.path})", hint=self._hint())

    def open(self) -> grpc.Channel:
        """A channel to the socket."""
        # gRPC reads the target as a URI: a '%' or '#' in the home's path must be escaped.
        return grpc.insecure_channel("unix:" + quote(str(self.path)), options=_OPTIONS)

    def _hanging(self, pid: int) -> PeerUnreachableError:
        number, kill = (f" (pid {pid})", f" (kill {pid}; if it stays: kill -9 {pid})") if pid else ("", "")
        return PeerUnreachableError(
            f"a process{number} {HANGS}: no greeting on {self.path} in {GREETING_S:.0f} s",
            hint=f"it is stopped, or stuck; end it{kill}, then type: {self._command()} run",
        )

    def _command(self) -> str:
        return f"labmesh --home {shlex.quote(str(self.path.parent))}"

    def _hint(self) -> str:
        home, command = self.path.parent, self._command()
        try:
            exists = any(home.iterdir())
        except OSError:
            exists = False
        return f"type: {command} run" if exists else f"there is no node in {home} yet; type: {command} init …"


def _listener(probe: socket.socket) -> int:
    """The process that listens where `probe` is connected to; 0 when that is not known."""
    try:
        raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return 0
    pid: int = struct.unpack("3i", raw)[0]
    return pid


@dataclass(frozen=True, slots=True)
class RemoteConnection:
    """The remote port of a node on another machine. `roots` are certificates in PEM, from the file `roots_name`."""

    address: str
    token: str = field(repr=False)
    roots: bytes = field(repr=False)
    roots_name: str

    def probe(self) -> LabmeshError | None:
        """Try a TLS handshake; what is wrong, or None."""
        try:
            context = self._tls_context()
        except (ssl.SSLError, ValueError):
            return ConfigError(
                f"{self.roots_name} is no file of certificates in PEM",
                hint="--ca wants remote.crt from the node's home, or the certificate of the lab's own authority",
            )
        try:
            self._shake_hands(context)
        except ssl.SSLCertVerificationError as error:
            return self._distrust(error)
        except (OSError, UnicodeError) as error:
            return self._unreachable(error)
        return None

    def open(self) -> grpc.Channel:
        """A channel to the port. Each call carries the token; gRPC sends it only after the handshake."""
        credentials = grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(self.roots), grpc.access_token_call_credentials(self.token)
        )
        return grpc.secure_channel(f"dns:///{self.address}", credentials, options=_REMOTE_OPTIONS)

    @property
    def _host(self) -> str:
        return self.address.rpartition(":")[0].strip("[]")

    def _tls_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=self.roots.decode("ascii"))
        context.set_alpn_protocols(["h2"])
        # The node's own certificate is trusted itself, although it is no authority.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    def _shake_hands(self, context: ssl.SSLContext) -> bytes:
        """Connect and greet; the node's certificate in DER."""
        target = (self._host, int(self.address.rpartition(":")[2]))
        with (
            socket.create_connection(target, timeout=PROBE_S) as plain,
            context.wrap_socket(plain, server_hostname=self._host) as secure,
        ):
            return secure.getpeercert(binary_form=True) or b""

    def _unreachable(self, error: Exception) -> PeerUnreachableError:
        if isinstance(error, ssl.SSLError):
            return PeerUnreachableError(
                f"what answers on {self.address} does not speak TLS as a node does: {error.reason or error}",
                hint="--remote wants the address in remote.listen of the node's labmesh.toml, not the one for peers",
            )
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return PeerUnreachableError(
            f"no node can be reached on {self.address}: {reason}",
            hint="is the node running with remote.listen in its labmesh.toml, and does a firewall let this machine through?",
        )

    def _distrust(self, error: ssl.SSLCertVerificationError) -> ConfigError:
        if error.verify_code in _NAME_MISMATCH:
            names = ", ".join(self._shown_names()) or "no name"
            return ConfigError(
                f"the node on {self.address} shows a certificate for {names}, not for {self._host}",
                hint="use one of these names in --remote, or add this one to remote.names in the node's labmesh.toml",
            )
        if error.verify_code in (_EXPIRED, _NOT_YET):
            when = "has expired" if error.verify_code == _EXPIRED else "is not valid yet"
            return ConfigError(
                f"the certificate of the node on {self.address} {when}",
                hint="check this machine's clock; at the node: remove remote.crt, restart it, and pass the new one on",
            )
        return ConfigError(
            f"{self.roots_name} does not vouch for the certificate of {self.address}: {error.verify_message}",
            hint="get remote.crt from the node's home again, by a way you trust; until then do not send it anything",
        )

    def _shown_names(self) -> tuple[str, ...]:
        """The names in the certificate that was not trusted: only to be shown."""
        from cryptography import x509

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        try:
            certificate = x509.load_der_x509_certificate(self._shake_hands(context))
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.InvalidVersion):
            return ()
        addresses = map(str, names.get_values_for_type(x509.IPAddress))
        return (*names.get_values_for_type(x509.DNSName), *addresses)
