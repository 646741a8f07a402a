"""Latency, measured with its conditions and its spread. torch is imported only to measure."""

from convscale.runtime.devices import Device, Pass, open_device
from convscale.runtime.measure import Subject, measure, measure_together
from convscale.runtime.measurement import Conditions, Measurement, Spread, format_ms, spread

__all__ = [
    "Conditions",
    "Device",
    "Measurement",
    "Pass",
    "Spread",
    "Subject",
    "format_ms",
    "measure",
    "measure_together",
    "open_device",
    "spread",
]
