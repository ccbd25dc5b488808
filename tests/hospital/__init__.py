"""A real hospital for tests: on SQLite or a private PostgreSQL, and devices that speak to it as ambulances do."""

from tests.hospital.clusters import Cluster, cluster_or_skip
from tests.hospital.devices import TestDevice, enrolled_device
from tests.hospital.places import DATABASES, new_hospital, settings_for

__all__ = ["DATABASES", "Cluster", "TestDevice", "cluster_or_skip", "enrolled_device", "new_hospital", "settings_for"]
