"""Numbers as people write them: 1.6G, 224, 256x128, 2.5x."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from operator import index

from convscale.errors import InputError

Resolution = int | tuple[int, ...]

# What a user may write, by the number of spatial dimensions.
EXAMPLES: dict[int, Resolution] = {1: 16000, 2: 224, 3: (16, 112, 112)}

MOST_PX, MOST_POSITIONS = 1 << 24, 1 << 48  # beyond, no tensor holds a map with its channels

_SUFFIX = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)([kmgt]?)", re.IGNORECASE)

_BYTES = re.compile(r"(\d+\.?\d*|\.\d+)\s*(?:([kmgt]?)(i?)b)?", re.IGNORECASE)


def parse_number(
    text: str, *, what: str = "number", write: str = "1600000000, 1.6e9 or 1.6G"
) -> float:
    """Read a positive number with an optional suffix K, M, G or T (powers of 1000).

    Args:
        text: The number as it was written.
        what: The noun of the error, such as ``"flops"``.
        write: What the error tells to write in place of a text that cannot be read.

    Raises:
        InputError: If the text is no number, or the number is not positive and finite.

    Example:
        >>> parse_number("1.6G") == parse_number("1.6e9") == parse_number("1600000000")
        True
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        word = text.strip().lower().lstrip("+-")
        if word in ("nan", "inf", "infinity"):
            raise InputError(f"The {what} is {text}; it must be positive and finite.")
        raise InputError(f"Cannot read {text!r} as {_one(what)}. Write {write}.")
    value = float(match[1]) * _SUFFIX[match[2].upper()]
    return check_positive(value, what=what)


def _one(what: str) -> str:
    """Return a noun with its article; quantities that are counts have none."""
    if what in ("flops", "params", "acts"):
        return what
    return f"{'an' if what[:1] in 'aeiou' else 'a'} {what}"


def parse_bytes(text: str, *, what: str = "memory") -> int:
    """Read an amount of memory: bytes, or with a unit kB, MB, GB (1000) or KiB, MiB, GiB (1024).

    Raises:
        InputError: If the text is none, the amount is below one byte, or below 1000 without a
            unit, which was forgotten.

    Example:
        >>> parse_bytes("8GB"), parse_bytes("1.5 GiB"), parse_bytes("4096")
        (8000000000, 1610612736, 4096)
    """
    match = _BYTES.fullmatch(text.strip())
    if match is None:
        raise InputError(f"Cannot read {text!r} as {what}. Write 8GB, 7.5GiB or 8000000000.")
    step = 1024 if match[3] else 1000
    size = float(match[1]) * step ** "_KMGT".index((match[2] or "_").upper())
    if size < 1000 and text.strip()[-1].isdigit():
        raise InputError(
            f"The {what} is {text.strip()} bytes, as no unit stands there. Write the unit: "
            f"{text.strip()}GB, {text.strip()}MB, or {text.strip()}B for bytes."
        )
    if not 1 <= size < 2**63:
        raise InputError(f"The {what} is {text}; it must be at least 1 byte and below 2^63.")
    return int(size)


def parse_ms(text: str, *, what: str = "latency") -> float:
    """Read a time with its unit, s, ms or us (also µs), in ms.

    Raises:
        InputError: If it has no unit, or is not positive and finite.

    Example:
        >>> parse_ms("8ms"), parse_ms("0.008s"), parse_ms("250 us")
        (8.0, 8.0, 0.25)
    """
    word = text.strip().lower().replace("µ", "u").replace("μ", "u")
    for unit, ms in (("ms", 1.0), ("us", 1e-3), ("s", 1e3)):
        if word.endswith(unit):
            return parse_number(word.removesuffix(unit).rstrip(), what=what) * ms
    raise InputError(
        f"Cannot read {text!r} as {_one(what)}. Write it with its unit: 8ms or 0.008s."
    )


def format_ms(value: float) -> str:
    """Write a time given in ms to three digits, in the unit that suits it.

    Example:
        >>> format_ms(8.126), format_ms(0.25), format_ms(12_345), format_ms(7.2e6)
        ('8.13 ms', '250 us', '12.3 s', '2.00 h')
    """
    for unit, ms in (("d", 86_400_000.0), ("h", 3_600_000.0), ("min", 60_000.0), ("s", 1e3)):
        if value >= ms:
            return f"{format_figure(value / ms)} {unit}"
    return f"{format_figure(value)} ms" if value >= 1 else f"{format_figure(1e3 * value)} us"


def format_figure(value: float) -> str:
    """Write a number to three digits, zeros included.

    Example:
        >>> format_figure(53), format_figure(6.7), format_figure(0.25)
        ('53.0', '6.70', '0.25')
    """
    return f"{value:.{max(0, 2 - int(math.log10(max(value, 1))))}f}"


def format_bytes(size: int) -> str:
    """Write an amount of memory in bytes, KiB, MiB or GiB (powers of 1024).

    Example:
        >>> format_bytes(102_441_032), format_bytes(8_000_000_000), format_bytes(0)
        ('97.7 MiB', '7.45 GiB', '0 bytes')
    """
    for power, unit, digits in ((3, "GiB", 2), (2, "MiB", 1), (1, "KiB", 1)):
        if size >= 1024**power:
            return f"{size / 1024**power:.{digits}f} {unit}"
    return f"{size} bytes"


def check_positive(value: float, *, what: str) -> float:
    """Return the value if it is a positive finite number.

    Raises:
        InputError: Otherwise.

    Example:
        >>> check_positive(2, what="factor")
        2.0
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"The {what} is {value!r}; it must be a positive number.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number <= 0:
        raise InputError(f"The {what} is {value}; it must be positive and finite.")
    return number


def check_count(value: int, *, what: str) -> int:
    """Return the value if it is an integer of at least 1.

    Raises:
        InputError: Otherwise.

    Example:
        >>> check_count(8, what="batch size")
        8
    """
    number = whole(value)
    if number is None:
        raise InputError(f"The {what} is {value!r}; it must be an integer of at least 1.")
    if number < 1:
        raise InputError(f"The {what} is {number}; it must be at least 1.")
    return number


def whole(value: object) -> int | None:
    """Return what is an integer, NumPy's too, as one; None for other values and truth values.

    Example:
        >>> whole(3), whole(3.0), whole(True)
        (3, None, None)
    """
    if isinstance(value, bool):
        return None
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def parse_resolution(text: str) -> Resolution:
    """Read an input resolution in px: one side, height x width, or depth x height x width.

    Raises:
        InputError: If the text is neither, or a side is below 1.

    Example:
        >>> parse_resolution("224"), parse_resolution("256x128"), parse_resolution("16x112x112")
        (224, (256, 128), (16, 112, 112))
    """
    parts = text.strip().lower().split("x")
    try:
        sides = [int(part) for part in parts]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2, 3):
        raise InputError(f"Cannot read {text!r} as a resolution. Write 224, 256x128 or 16x112x112.")
    return check_resolution(sides[0] if len(sides) == 1 else tuple(sides))


def check_resolution(value: Resolution, *, dims: int | None = None, of: str = "") -> Resolution:
    """Return the resolution (px) if every side is an integer of at least 1.

    Args:
        value: One side, or all of them.
        dims: The number of spatial dimensions that it must have, where that is known.
        of: The network that has them.

    Raises:
        InputError: Otherwise.

    Example:
        >>> check_resolution([256, 128])
        (256, 128)
        >>> check_resolution((256, 128), dims=1, of="net")
        Traceback (most recent call last):
        convscale.errors.InputError: The resolution 256x128 has 2 sides; net takes 1. Write 16000.
    """
    if isinstance(value, tuple | list):
        if len(value) not in (1, 2, 3):
            raise InputError(
                f"The resolution is {value!r}; write one side or (height, width), or (depth, "
                "height, width) for three dimensions."
            )
        value = tuple(check_count(side, what="resolution") for side in value)
        if dims is not None and len(value) != dims:
            plural = "" if len(value) == 1 else "s"
            raise InputError(
                f"The resolution {format_resolution(value)} has {len(value)} side{plural}; "
                f"{of or 'the network'} takes {dims}. Write {format_resolution(EXAMPLES[dims])}."
            )
        return _within_reach(value)
    return _within_reach(check_count(value, what="resolution"))


def _within_reach(value: Resolution) -> Resolution:
    given = sides(value, 1)
    if max(given) > MOST_PX or math.prod(given) > MOST_POSITIONS:
        raise InputError(
            f"The resolution is {format_resolution(value)}; a side must be at most {MOST_PX} px, "
            "and all sides together at most 2^48 positions."
        )
    return value


def sides(resolution: Resolution, dims: int = 2) -> tuple[int, ...]:
    """Return the sides in px: (height, width), or as many as there are spatial dimensions.

    Example:
        >>> sides(224), sides((256, 128)), sides(64, 3)
        ((224, 224), (256, 128), (64, 64, 64))
    """
    return resolution if isinstance(resolution, tuple) else (resolution,) * dims


def exact(resolution: Resolution, dims: int) -> Resolution:
    """Return a resolution that tells the number of spatial dimensions by itself: 2 if an integer.

    Example:
        >>> exact(224, 2), exact(16000, 1), exact(64, 3)
        (224, (16000,), (64, 64, 64))
    """
    return resolution if dims == 2 else sides(resolution, dims)


def like(resolution: Resolution, sides: Sequence[int]) -> Resolution:
    """Return sides in the form of the given resolution: one side, or all of them.

    Example:
        >>> like(224, (317, 317)), like((256, 128), (362, 181))
        (317, (362, 181))
    """
    return tuple(sides) if isinstance(resolution, tuple) else sides[0]


def format_resolution(resolution: Resolution) -> str:
    """Write a resolution as the command line reads it.

    Example:
        >>> format_resolution(224), format_resolution((256, 128)), format_resolution((16, 112, 112))
        ('224', '256x128', '16x112x112')
    """
    return "x".join(map(str, resolution)) if isinstance(resolution, tuple) else str(resolution)


def format_count(value: float, *, digits: int = 3) -> str:
    """Write a count with a suffix, to a few significant digits.

    Example:
        >>> format_count(4_089_184_256), format_count(950), format_count(25_557_032)
        ('4.09G', '950', '25.6M')
    """
    for suffix in ("T", "G", "M", "K"):
        unit = _SUFFIX[suffix]
        if value >= unit:
            scaled = value / unit
            decimals = max(0, digits - 1 - int(math.log10(scaled)))
            return f"{scaled:.{decimals}f}{suffix}"
    return f"{value:.{digits}g}"


def format_miss(got: float, wanted: float) -> str:
    """Write how far a value lies off another: in per cent, or how many times beyond tenfold.

    Example:
        >>> format_miss(1.02e9, 1e9), format_miss(3e9, 1e-20)
        ('+2.0%', '3e+29 times')
    """
    ratio = got / wanted
    return f"{ratio - 1:+.1%}" if ratio <= 10 else f"{ratio:.3g} times"
