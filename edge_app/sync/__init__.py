"""The way to the hospital: events, images and the inbox over whatever link there is. See :mod:`shared.hospital`."""

from edge_app.sync.client import SyncClient
from edge_app.sync.link import LinkKind, LinkState, Problem, UploadProgress
from edge_app.sync.ports import Credentials, Outbox, StaticCredentials
from edge_app.sync.settings import Hospital

__all__ = [
    "Credentials",
    "Hospital",
    "LinkKind",
    "LinkState",
    "Outbox",
    "Problem",
    "StaticCredentials",
    "SyncClient",
    "UploadProgress",
]
