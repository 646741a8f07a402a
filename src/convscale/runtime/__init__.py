"""Latency, measured with its conditions and its spread. torch is imported only to measure."""

from convscale.runtime.devices import Device, Pass, open_device
from convscale.runtime.interval import Interval, median_interval
from convscale.runtime.measure import check_setting, measure, measure_together
from convscale.runtime.measurement import Conditions, Failure, Measurement, Outcome, Part
from convscale.runtime.setting import Limits, Setting, SettingOptions
from convscale.runtime.spread import Spread, format_ms, spread
from convscale.runtime.subject import Recipe, Subject

__all__ = [
    "Conditions",
    "Device",
    "Failure",
    "Interval",
    "Limits",
    "Measurement",
    "Outcome",
    "Part",
    "Pass",
    "Recipe",
    "Setting",
    "SettingOptions",
    "Spread",
    "Subject",
    "check_setting",
    "format_ms",
    "measure",
    "measure_together",
    "median_interval",
    "open_device",
    "spread",
]
