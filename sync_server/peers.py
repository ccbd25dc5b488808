"""How many connections come from one address: no single machine can take them all."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address, ip_address


class Peers:
    """Counts open connections by the address of their other end. For one event loop.

    Args:
        most: connections of one address at once; None where all come from a proxy, which has to count itself.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def enter(self, peer: str) -> bool:
        """Count one more connection of a peer (:func:`peer_of`); False, and not counted, where it has enough."""
        if self._most is not None and self._open[peer] >= self._most:
            return False
        self._open[peer] += 1
        return True

    def leave(self, peer: str) -> None:
        """A connection that was counted has ended."""
        self._open[peer] -= 1
        if not self._open[peer]:
            del self._open[peer]


def peer_of(host: str) -> str:
    """Whose connection it is: an IPv4 address, or the first half of an IPv6 address, whose second anybody chooses."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    mapped = address.ipv4_mapped
    return str(mapped) if mapped else f"{int(address) >> 64:016x}"
