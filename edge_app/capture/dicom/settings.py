"""Settings of the DICOM receiver, checked when made."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from edge_app.capture.dicom.errors import dicom_error
from shared.radiograph import Limits

Network = IPv4Network | IPv6Network

PRIVATE_NETWORKS: Final[tuple[Network, ...]] = tuple(
    map(
        ip_network,
        (
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "::1/128",
            "fc00::/7",
            "fe80::/10",
        ),
    )
)
"""This machine, private (RFC 1918, RFC 4193) and link-local (RFC 3927, RFC 4291) networks: a cable in the ambulance."""

MAX_AE_TITLE: Final = 16


@dataclass(frozen=True, slots=True)
class DicomSettings:
    """How the receiver listens, and to whom.

    Attributes:
        host: address to listen on; "0.0.0.0" is every IPv4 address of this machine, "::" every IPv6 one.
        port: TCP port, 1..65535; 11112 is registered for DICOM. 0 takes a free one (tests).
        ae_title: the AE title that devices must call, 1..16 characters.
        calling_ae_titles: the AE titles that may send; empty means any.
        peers: the networks that may connect, by default the private ones only.
        associations: most associations at once, 1..200. One more is rejected with 'local limit exceeded'.
        object_bytes: most bytes of one object as a file; the association of a longer one is aborted as it arrives.
        acse_seconds: how long a connection may wait before its A-ASSOCIATE-RQ, and an abort or release may take.
        idle_seconds: how long a peer may be silent, or take for one PDU, before the association is aborted.
        object_seconds: how long one object may take from its first to its last byte.

    Raises:
        FirstRayError: ``dicom_settings_invalid``.
    """

    host: str = "0.0.0.0"  # noqa: S104  the X-ray device is another machine; `peers` says who may connect
    port: int = 11112
    ae_title: str = "FIRSTRAY"
    calling_ae_titles: frozenset[str] = frozenset()
    peers: tuple[Network, ...] = PRIVATE_NETWORKS
    associations: int = 24
    object_bytes: int = Limits().file_bytes
    acse_seconds: float = 10.0
    idle_seconds: float = 30.0
    object_seconds: float = 300.0

    def __post_init__(self) -> None:
        numbers_valid = (
            0 <= self.port <= 65535
            and 1 <= self.associations <= 200
            and self.object_bytes > 0
            and min(self.acse_seconds, self.idle_seconds, self.object_seconds) > 0
        )
        if not numbers_valid or not all(map(is_ae_title, (self.ae_title, *self.calling_ae_titles))):
            raise dicom_error("dicom_settings_invalid")

    def allows(self, address: str) -> bool:
        """Whether a peer with this IP address may connect."""
        peer: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped:
            peer = peer.ipv4_mapped
        return any(peer in network for network in self.peers)


def is_ae_title(title: str) -> bool:
    """Whether this is an AE title as configured: PS3.5 6.2, without spaces at its ends, which never count."""
    return (
        1 <= len(title) <= MAX_AE_TITLE
        and title.isascii()
        and title.isprintable()
        and title == title.strip()
        and ("\\" not in title)
    )
