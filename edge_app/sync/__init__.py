"""The way to the hospital: events, images and the inbox over whatever link there is. See :mod:`shared.hospital`."""

from edge_app.sync.client import SyncClient
from edge_app.sync.credentials import DeviceKey, EnrolledCredentials
from edge_app.sync.link import LinkKind, LinkState, Problem, UploadProgress
from edge_app.sync.ports import Credentials, Outbox, StaticCredentials
from edge_app.sync.settings import Hospital

__all__ = [
    "Credentials",
    "DeviceKey",
    "EnrolledCredentials",
    "Hospital",
    "LinkKind",
    "LinkState",
    "Outbox",
    "Problem",
    "StaticCredentials",
    "SyncClient",
    "UploadProgress",
]
