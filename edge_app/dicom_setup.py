"""The DICOM receiver's settings as they are remembered, and what to enter at the X-ray device."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

import psutil

from edge_app.capture.dicom import DicomSettings


def settings_json(settings: DicomSettings) -> dict[str, Any]:
    """The settings a person can change, as JSON values."""
    return {
        "host": settings.host,
        "port": settings.port,
        "ae_title": settings.ae_title,
        "calling_ae_titles": sorted(settings.calling_ae_titles),
        "peers": [str(network) for network in settings.peers],
    }


def settings_from_json(values: Mapping[str, Any]) -> DicomSettings:
    """The reverse of :func:`settings_json`; raises FirstRayError ``dicom_settings_invalid``, KeyError, ValueError."""
    return DicomSettings(
        host=values["host"],
        port=values["port"],
        ae_title=values["ae_title"],
        calling_ae_titles=frozenset(values["calling_ae_titles"]),
        peers=tuple(ip_network(network) for network in values["peers"]),
    )


def addresses() -> tuple[str, ...]:
    """This machine's IPv4 addresses but the loopback one, which the X-ray device cannot reach."""
    found = [
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == socket.AF_INET
    ]
    return tuple(sorted(address for address in set(found) if not address.startswith("127.")))
