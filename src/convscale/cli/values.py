"""Read the values of options: the parser hands over text, so that one voice refuses it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from convscale.errors import InputError
from convscale.quantities import parse_bytes, parse_ms, parse_number

_MULTIPLES = ("K", "M", "G", "T")
_POWER = re.compile(r"([0-9.eE+-]+) *([kKM]?) *[Ww]?")  # m is milli


def whole_number(text: str, *, what: str, minimum: int = 1) -> int:
    """Read an integer that is not below the minimum.

    Raises:
        InputError: If it is anything else.

    Example:
        >>> whole_number("8", what="batch size")
        8
    """
    try:
        value = int(text)
    except ValueError:
        raise InputError(f"Cannot read {text!r} as the {what}. Write an integer.") from None
    if value < minimum:
        raise InputError(f"The {what} is {value}; it must be at least {minimum}.")
    if value >= 2**63:
        raise InputError(f"The {what} is {value}; it must be below 2**63.")
    return value


def optional_whole_number(text: str | None, *, what: str, minimum: int = 1) -> int | None:
    """Read an integer as `whole_number` does, or keep the absence of one.

    Example:
        >>> optional_whole_number(None, what="number of threads") is None
        True
    """
    return None if text is None else whole_number(text, what=what, minimum=minimum)


def batch_of(text: str) -> int | Literal["max"]:
    """Read a batch size: an integer, or max.

    Raises:
        InputError: If it is anything else.

    Example:
        >>> batch_of("8"), batch_of("max")
        (8, 'max')
    """
    if text == "max":
        return "max"
    try:
        int(text)
    except ValueError:
        said = f"Cannot read {text!r} as the batch size. Write an integer, or max."
        raise InputError(said) from None
    return whole_number(text, what="batch size")


def share(text: str, *, what: str) -> float:
    """Read a share, as a number or in per cent.

    Raises:
        InputError: If it is no positive number.

    Example:
        >>> share("2%", what="precision"), share("0.02", what="precision")
        (0.02, 0.02)
    """
    if text.strip().endswith("%"):
        return parse_number(text.strip().removesuffix("%").rstrip(), what=what) / 100
    return parse_number(text, what=what)


def time_limits(repeats: str | None, time_limit: str | None, *, repeats_as: str) -> dict[str, Any]:
    """Read how often and how long to measure, as keywords; what was not given is left out.

    Example:
        >>> time_limits("5", "1.5", repeats_as="rounds")
        {'rounds': 5, 'time_limit_s': 1.5}
    """
    limits: dict[str, Any] = {}
    if repeats is not None:
        limits[repeats_as] = whole_number(repeats, what="number of repeats")
    if time_limit is not None:
        limits["time_limit_s"] = seconds_of(time_limit, what="time limit")
    return limits


def seconds_of(text: str, *, what: str) -> float:
    """Read a time with its unit, in seconds: 600, 600s, 10min, 1h or 500ms.

    Raises:
        InputError: If it is no positive time.

    Example:
        >>> seconds_of("10min", what="time limit"), seconds_of("90", what="time limit")
        (600.0, 90.0)
    """
    given = text.strip()
    for unit, factor in {"min": 60.0, "ms": 1e-3, "h": 3600.0, "s": 1.0}.items():
        if given.endswith(unit):
            return parse_number(given.removesuffix(unit).rstrip(), what=what) * factor
    if given[-1:].upper() in _MULTIPLES:  # 10m would be ten million seconds
        raise InputError(f"Cannot read {text!r} as a {what}. Write 90s, 10min or 1h.")
    return parse_number(given, what=f"{what} in seconds")


def listed(text: str, *, what: str, example: str) -> tuple[str, ...]:
    """Read a list whose entries are separated by commas.

    Raises:
        InputError: If an entry is empty, or there is none.

    Example:
        >>> listed("w, dwr,dWr", what="strategies", example="w,dWr")
        ('w', 'dwr', 'dWr')
    """
    entries = tuple(entry.strip() for entry in text.split(","))
    if not any(entries):
        raise InputError(f"The list of {what} is empty. Write at least one, as in {example}.")
    if not all(entries):
        raise InputError(
            f"An entry of the {what} in {text!r} is empty. Write one between any two commas, as in "
            f"{example}."
        )
    return entries


def numbers(text: str | None, *, what: str, example: str) -> tuple[float, ...]:
    """Read a list of numbers that are separated by commas; none where nothing was given.

    Raises:
        InputError: If an entry is no positive number.

    Example:
        >>> numbers("1,1,3,1", what="depth factors of stages", example="1,1,3,1")
        (1.0, 1.0, 3.0, 1.0)
    """
    entries = () if text is None else listed(text, what=what, example=example)
    entry = f"entry of the {what}"
    return tuple(parse_number(each, what=entry, write=example) for each in entries)


def watts(text: str) -> float:
    """Read a power in watts, with the unit W, kW or MW or none.

    Raises:
        InputError: If it is no positive number.

    Example:
        >>> watts("300W"), watts("0.3 kW"), watts("300")
        (300.0, 300.0, 300.0)
    """
    match = _POWER.fullmatch(text.strip())
    if match is None:
        raise InputError(f"Cannot read {text!r} as a power in watts. Write 300W, 0.3kW or 300.")
    value = parse_number(match[1], what="power in watts")
    return value * {"": 1.0, "M": 1e6}.get(match[2], 1e3)


def one_target(*, optional: bool = False, **given: str | None) -> dict[str, float]:
    """Return the one target that was given, by name; where it is optional, perhaps none.

    Raises:
        InputError: If none or several were given, or it is no positive number.

    Example:
        >>> one_target(factor=None, flops="1.6G", params=None, acts=None)
        {'flops': 1600000000.0}
    """
    options = [f"--{name}" for name in given]
    rule = f"Write exactly one of {', '.join(options[:-1])} and {options[-1]}"
    texts = {name: text for name, text in given.items() if text is not None}
    if not texts and optional:
        return {}
    if not texts:
        raise InputError(f"No target was given. {rule}, as in {options[0]} 2.")
    if len(texts) > 1:
        came = " and ".join(f"--{name} {text}" for name, text in texts.items())
        raise InputError(f"{len(texts)} targets were given: {came}. {rule}.")
    ((name, text),) = texts.items()
    if name == "latency":
        return {name: parse_ms(text, what="latency budget")}
    if name == "memory":
        return {name: parse_bytes(text, what="memory budget")}
    what = name if name == "factor" else f"{name} budget"
    return {name: parse_number(text, what=what)}


def new_folder(text: str) -> Path:
    """Return the path of a folder that can be made there.

    Raises:
        InputError: If something is there already, or nothing can be made there.

    Example:
        >>> new_folder("scaled/").name
        'scaled'
    """
    path = Path(text)
    if not text or os.path.lexists(path):
        what = f"{text!r} exists already" if text else "The name of the output folder is empty"
        raise InputError(f"{what}. Name a folder that does not exist yet, as in --out scaled/.")
    _check_parent(path)
    return path


def report_file(text: str, *, example: str = "--html report.html") -> Path:
    """Return the path of a file that can be written there, over an older one if need be.

    Raises:
        InputError: If a folder is there, or nothing can be written there.

    Example:
        >>> report_file("demo/report.html").suffix
        '.html'
    """
    path = Path(text)
    if not text or path.is_dir() or text.endswith(("/", os.sep)):
        raise InputError(f"{text!r} is no file name. Write one, as in {example}.")
    _check_parent(path)
    return path


def _check_parent(path: Path) -> None:
    """Refuse a path below something that is no folder, or where we may not write."""
    parent = path.absolute().parent
    while not os.path.lexists(parent) and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise InputError(f"Cannot write {str(path)!r}: {str(parent)!r} is not a folder.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"Cannot write {str(path)!r}: no permission to write in {str(parent)!r}.")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system refuses, such as a full disk, into a line for the user.

    Raises:
        InputError: If the system refuses to write.

    Example:
        >>> with writing(Path("report.html")):
        ...     pass
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"Cannot write {str(path)!r}: {error.strerror or error}.") from error
