"""How the device itself is doing: battery, temperature, memory."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Health:
    """A snapshot; what the device does not tell is None.

    Attributes:
        battery_percent: charge, 0..100.
        plugged: whether it is being charged.
        temperature_c: hottest sensor of the processor, degrees Celsius.
        memory_mb: resident memory of this process, 10^6 bytes.
        memory_free_mb: memory the system can still give, 10^6 bytes.
        uptime_s: seconds since this process started.
    """

    battery_percent: float | None
    plugged: bool | None
    temperature_c: float | None
    memory_mb: float
    memory_free_mb: float
    uptime_s: float


def health() -> Health:
    """Measure now; takes a few milliseconds."""
    process = psutil.Process()
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return Health(
        battery_percent=battery.percent if battery else None,
        plugged=battery.power_plugged if battery else None,
        temperature_c=_temperature(),
        memory_mb=process.memory_info().rss / 1e6,
        memory_free_mb=psutil.virtual_memory().available / 1e6,
        uptime_s=time.time() - process.create_time(),
    )


def _temperature() -> float | None:
    if not hasattr(psutil, "sensors_temperatures"):
        return None
    sensors = psutil.sensors_temperatures()
    readings = [reading.current for group in sensors.values() for reading in group if 0 < reading.current < 150]
    return max(readings, default=None)
