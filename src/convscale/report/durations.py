"""Durations as people read them."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """Write a duration: seconds, then minutes and hours.

    Example:
        >>> [format_duration(s) for s in (7.24, 75, 3_700, 90_000)]
        ['7.2 s', '1:15 min', '1:01:40 h', '25:00:00 h']
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
