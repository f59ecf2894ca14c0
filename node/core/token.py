"""Tokens by which lab systems on other machines prove themselves, and those systems' names.

A token is `labmesh_` and 256 random bits in base64url without padding. Whoever checks it keeps only its hash.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from hashlib import sha256

from node.errors import FormatError

TOKEN_PREFIX = "labmesh_"
TOKEN_BYTES = 32

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_TOKEN = re.compile(TOKEN_PREFIX + r"[A-Za-z0-9_-]{43}")


def format_token(secret: bytes) -> str:
    """The token of 32 random bytes."""
    if len(secret) != TOKEN_BYTES:
        raise ValueError(f"a token is made of {TOKEN_BYTES} bytes")
    return TOKEN_PREFIX + urlsafe_b64encode(secret).decode().rstrip("=")


def parse_token(text: str) -> str:
    """Return `text` if it has the form of a token.

    Raises:
        FormatError: it has not. The message does not repeat it.
    """
    if not _TOKEN.fullmatch(text):
        raise FormatError(
            f"this is no token: a token is {TOKEN_PREFIX} and 43 further characters on one line",
            hint="labmesh client add NAME --role ROLE -o FILE, typed at the node, writes one",
        )
    return text


def hash_token(token: str) -> bytes:
    """What is kept of a token, 32 bytes. It has 256 random bits, so that a plain hash cannot be searched."""
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def parse_client_name(text: str) -> str:
    """Return `text` if it can name a client.

    Raises:
        FormatError: it cannot.
    """
    if not _NAME.fullmatch(text):
        raise FormatError(
            f"{text[:40]!r} is not a client's name",
            hint="use 1 to 31 characters of a-z, 0-9 and '-', not starting with '-', for example lims",
        )
    return text
