"""What a constraint can be on: quantities with their units, read and written. No torch here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from convscale.errors import InputError, near_names
from convscale.quantities import (
    check_count,
    format_bytes,
    format_count,
    format_figure,
    format_ms,
    parse_bytes,
    parse_ms,
    parse_number,
)

_HOURS = {"min": 1 / 60, "s": 1 / 3600, "h": 1.0, "d": 24.0}
_KWH = {"MWh": 1e3, "kWh": 1.0, "Wh": 1e-3, "MJ": 1 / 3.6, "kJ": 1 / 3600, "J": 1 / 3.6e6}


@dataclass(frozen=True)
class Metric:
    """A quantity that a network has: its field's name, and how people read and write it.

    Args:
        name: As fields of tables and documents are called, with the unit.
        title: As a sentence calls it.
        read: From text, such as 5ms, to the value in the unit of the name.
        unit: What follows the value, where it is written exactly.
        show: The value to three digits, with its unit.
        at_least: Whether more is better.

    Example:
        >>> latency = metric("latency_ms")
        >>> latency.read("0.005s"), latency.write(5.0), latency.show(5.0)
        (5.0, '5ms', '5.00 ms')
    """

    name: str
    title: str
    read: Callable[[str], float]
    unit: str
    show: Callable[[float], str]
    at_least: bool = False

    def write(self, value: float) -> str:
        """Write a value so that `read` gives exactly it again."""
        whole = float(value).is_integer()
        return f"{int(value) if whole else float(value)!r}{self.unit}"


def parse_hours(text: str, *, what: str = "training time") -> float:
    """Read a long time, in hours: 24, 24h, 90min, 2d.

    Raises:
        InputError: If it is no positive time.

    Example:
        >>> parse_hours("24"), parse_hours("90min"), parse_hours("2d")
        (24.0, 1.5, 48.0)
    """
    return _with_unit(text, _HOURS, what=what)


def parse_kwh(text: str, *, what: str = "energy") -> float:
    """Read an energy, in kWh: 12, 12kWh, 500Wh, 7.2MJ.

    Raises:
        InputError: If it is no positive energy.

    Example:
        >>> parse_kwh("12"), parse_kwh("500Wh"), parse_kwh("7.2MJ")
        (12.0, 0.5, 2.0)
    """
    return _with_unit(text, _KWH, what=what)


def parse_rate(text: str, *, what: str = "throughput") -> float:
    """Read a throughput, in images a second: 2000, 2K, 2000/s.

    Raises:
        InputError: If it is no positive number.

    Example:
        >>> parse_rate("2000/s") == parse_rate("2K") == 2000.0
        True
    """
    return parse_number(re.sub(r"\s*(images)?\s*/\s*s$", "", text.strip()), what=what)


def _with_unit(text: str, units: dict[str, float], *, what: str) -> float:
    word = text.strip()
    for unit, factor in units.items():
        if word.endswith(unit):
            return parse_number(word.removesuffix(unit).rstrip(), what=what) * factor
    return parse_number(word, what=what)


def _whole(what: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = int(text.strip())
        except ValueError:
            said = f"Cannot read {text!r} as a {what}. Write an integer."
            raise InputError(said) from None
        return float(check_count(value, what=what))

    return read


def _count(what: str) -> Callable[[str], float]:
    return lambda text: parse_number(text, what=what)


def _bytes(what: str) -> Callable[[str], float]:
    return lambda text: float(parse_bytes(text, what=what))


def _size(value: float) -> str:
    return format_bytes(round(value))


METRICS: tuple[Metric, ...] = (
    Metric("latency_ms", "latency", parse_ms, "ms", format_ms),
    Metric(
        "images_per_second",
        "throughput",
        parse_rate,
        "/s",
        lambda rate: f"{format_count(rate)}/s",
        at_least=True,
    ),
    Metric("flops", "flops", _count("flops"), "", format_count),
    Metric("params", "params", _count("params"), "", format_count),
    Metric("acts", "acts", _count("acts"), "", format_count),
    Metric("memory_bytes", "memory of inference", _bytes("memory"), "B", _size),
    Metric("training_memory_bytes", "memory of training", _bytes("memory"), "B", _size),
    Metric("download_bytes", "download size", _bytes("download size"), "B", _size),
    Metric("training_h", "training time", parse_hours, "h", lambda h: f"{format_figure(h)} h"),
    Metric("energy_kwh", "energy", parse_kwh, "kWh", lambda kwh: f"{format_figure(kwh)} kWh"),
    Metric("resolution_px", "resolution", _whole("resolution"), "", lambda px: f"{px:g} px"),
    Metric("width_multiple", "multiple of the widths", _whole("multiple"), "", "{:g}".format),
)
_BY_NAME = {entry.name: entry for entry in METRICS}
_OPTIONS = {  # as the options of the command line are called, where titles are longer
    "memory": "memory_bytes",
    "training_memory": "training_memory_bytes",
    "download": "download_bytes",
    "train_hours": "training_h",
}


def metric(name: str) -> Metric:
    """Return a quantity by the name of its field, by its title, or as its option is called.

    Raises:
        InputError: If there is none.

    Example:
        >>> metric("params").title, metric("latency").name, metric("train-hours").name
        ('params', 'latency_ms', 'training_h')
    """
    if not isinstance(name, str):
        raise InputError(f"A quantity is {name!r}. Write its name, as in 'flops'.")
    titles = {entry.title: entry for entry in METRICS}
    option = name.replace("-", "_")
    found = _BY_NAME.get(_OPTIONS.get(option, option)) or titles.get(name)
    if found is None:
        raise InputError(
            f"Unknown quantity {name!r}. Use {', '.join(_BY_NAME)}.{near_names(name, _BY_NAME)}"
        )
    return found
