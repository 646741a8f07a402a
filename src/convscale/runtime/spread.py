"""Repeats summarised: median, interquartile range and the median's interval. No torch here."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from convscale.runtime.interval import Interval, median_interval

_WIDE = 0.2

# Times outside of this range are written with an exponent.
_PLAIN_FROM_MS, _PLAIN_BELOW_MS = 1e-3, 1e6


@dataclass(frozen=True)
class Spread:
    """The median and the interquartile range of repeats, in the unit of the repeats.

    lower is the first quartile where it is known; the third is lower + iqr. interval is the
    median's 95 % interval (`median_interval`), None below six repeats.

    Example:
        >>> Spread(median=12.5, iqr=0.4, repeats=3).as_document()
        {'median': 12.5, 'iqr': 0.4, 'repeats': 3, 'interval': None}
    """

    median: float
    iqr: float
    repeats: int
    lower: float | None = field(default=None, repr=False)
    interval: Interval | None = field(default=None, repr=False)

    def as_document(self) -> dict[str, object]:
        """Return median, iqr, repeats and interval as the command line's JSON has them."""
        return {
            "median": self.median,
            "iqr": self.iqr,
            "repeats": self.repeats,
            "interval": self.interval.as_document() if self.interval else None,
        }

    @property
    def arms(self) -> tuple[float, float]:
        """How far the quartiles lie below and above the median; half and half if not known."""
        below = self.iqr / 2 if self.lower is None else self.median - self.lower
        return below, self.iqr - below

    @property
    def wide(self) -> bool:
        """Whether half of the repeats scatter over more than a fifth of the median."""
        return self.iqr > _WIDE * self.median


def spread(values: Sequence[float]) -> Spread:
    """Summarise repeats, which must not be empty, by median and interquartile range.

    Quartiles interpolate linearly between the repeats, as numpy's do by default.

    Example:
        >>> spread([4.0, 1.0, 2.0, 3.0, 100.0])
        Spread(median=3.0, iqr=2.0, repeats=5)
        >>> spread([7.0])
        Spread(median=7.0, iqr=0.0, repeats=1)
    """
    if len(values) == 1:
        return Spread(values[0], 0.0, 1, lower=values[0])
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, upper - lower, len(values), lower, median_interval(values))


def format_ms(value: float, *, digits: int = 3) -> str:
    """Write milliseconds to a few significant digits, however small or large they are.

    Example:
        >>> format_ms(4.1234), format_ms(61.27), format_ms(1234.5), format_ms(61.27, digits=2)
        ('4.12', '61.3', '1230', '61')
        >>> format_ms(0.01234), format_ms(0.000001), format_ms(0.0)
        ('0.0123', '1.00e-06', '0')
    """
    if value == 0:
        return "0"
    # Rounding first: 9.999 has one digit before the point, and 10.0 has two.
    rounded = float(f"{value:.{digits - 1}e}")
    if not _PLAIN_FROM_MS <= abs(rounded) < _PLAIN_BELOW_MS:
        return f"{value:.{digits - 1}e}"
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{max(0, decimals)}f}"
