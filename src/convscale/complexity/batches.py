"""The largest batch that fits: the memory of a batch is asked for as seldom as can be."""

from __future__ import annotations

from collections.abc import Callable

MOST = 1 << 20  # images; nobody's batch is larger


def largest(fits: Callable[[int], float], *, limit: float, least: int = 1) -> int | None:
    """Return the largest number of images whose memory is within a limit; None if none is.

    The memory must not shrink as the batch grows. It is nearly a straight line, so that a line
    through two batches, one that fits and one that does not, leads to the answer, which is
    proved: the next larger batch has been seen not to fit.

    Args:
        fits: The memory of a batch (bytes).
        limit: The limit (bytes).
        least: The smallest batch that runs.

    Example:
        >>> largest(lambda batch: 100 + 40 * batch, limit=1000)
        22
    """
    low, below = least, fits(least)
    if below > limit:
        return None
    high, above = 2 * least, fits(2 * least)
    while above <= limit:
        if high >= MOST:
            return high
        slope = max((above - below) / (high - low), 1.0)
        guess = high + int((limit - above) / slope) + 1
        low, below = high, above
        high = min(guess, MOST)
        above = fits(high)
    while high - low > 1:
        guess = low + int((high - low) * (limit - below) / (above - below))
        guess = min(max(guess, low + 1), high - 1)
        size = fits(guess)
        if size <= limit:
            low, below = guess, size
        else:
            high, above = guess, size
    return low
