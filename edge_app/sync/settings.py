"""Which hospital this device belongs to, and what it must show to be believed."""

from __future__ import annotations

import base64
import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared.errors import FirstRayError
from shared.receipts import key_id

ENROL_AGAIN: Final = "Enrol this device again, or ask the hospital's IT."


@dataclass(frozen=True, slots=True)
class Hospital:
    """What a device learns at its enrolment. Refuses at once what would be unsafe later.

    Attributes:
        url: of the server, ``https://host[:port]``; plain ``http`` only on this machine or with ``allow_http``.
        ca_pem: certificates (PEM) of which one must have signed the server's; no other is believed, the operating
            system's least of all. Needed with ``https``.
        receipt_keys: key id -> base64 of the raw 32 bytes of an Ed25519 key that signs receipts.
        name: of the hospital, for the screen.
        allow_http: send patients' data unprotected to another machine: for a closed test network only.

    Raises:
        FirstRayError: ``hospital_url_invalid``, ``hospital_not_https``, ``hospital_ca_invalid`` or
            ``hospital_key_invalid``.
    """

    url: str
    ca_pem: str | None = None
    receipt_keys: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    allow_http: bool = False

    def __post_init__(self) -> None:
        parts = split_url(self.url)
        if parts.scheme == "http" and not (self.allow_http or is_loopback(parts.hostname or "")):
            raise FirstRayError(
                "hospital_not_https", "The hospital's address would send patients' data unprotected.", ENROL_AGAIN
            )
        self.tls()
        self.keys()

    @property
    def private(self) -> bool:
        """Nobody on the way can read or change what is said."""
        parts = split_url(self.url)
        return parts.scheme == "https" or is_loopback(parts.hostname or "")

    def tls(self) -> ssl.SSLContext | None:
        """A context that believes :attr:`ca_pem` only (RFC 9325: TLS 1.2 or later); None for plain ``http``."""
        if split_url(self.url).scheme == "http":
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(cadata=self.ca_pem or "")
        except (ssl.SSLError, ValueError):
            raise FirstRayError(
                "hospital_ca_invalid", "The hospital's certificate in the settings is missing or damaged.", ENROL_AGAIN
            ) from None
        return context

    def keys(self) -> dict[str, Ed25519PublicKey]:
        """The keys that sign receipts, by id."""
        try:
            keys = {
                name: Ed25519PublicKey.from_public_bytes(base64.b64decode(raw, validate=True))
                for name, raw in self.receipt_keys.items()
            }
        except ValueError:
            keys = {}
        if keys.keys() != self.receipt_keys.keys() or any(key_id(key) != name for name, key in keys.items()):
            raise FirstRayError(
                "hospital_key_invalid", "A key of the hospital in the settings is damaged.", ENROL_AGAIN
            )
        return keys


def split_url(url: str) -> SplitResult:
    """The parts of a hospital's address. Raises FirstRayError ``hospital_url_invalid``."""
    try:
        parts = urlsplit(url)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_right = urlsplit(""), False
    extras = parts.username or parts.password or parts.query or parts.fragment
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_right or extras:
        raise FirstRayError(
            "hospital_url_invalid",
            "This is no address of a hospital's server.",
            "Type it as the hospital's admin page shows it, such as https://er.hospital.example.",
        )
    return parts


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is that of this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
