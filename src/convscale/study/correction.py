"""By what predicted latencies are multiplied, once some networks were measured. No torch here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from convscale.selection.constraints import Floats

_APART = 1e-6  # of logarithms: longer predictions never come to shorter times


@dataclass(frozen=True)
class Correction:
    """What latencies are, by what was predicted: known of some, their ratio between them.

    Between two that are known the logarithm of the ratio follows that of the prediction, and
    beyond them it stays. Networks that are predicted to take longer never come to take less.

    Args:
        known: Latencies as predicted, ascending, and as they are taken to be (ms).

    Example:
        >>> mine = Correction(((1.0, 2.0), (4.0, 4.0)))
        >>> [round(float(mine.ratio(ms)), 3) for ms in (0.5, 1.0, 2.0, 8.0)]
        [2.0, 2.0, 1.414, 1.0]
    """

    known: tuple[tuple[float, float], ...] = ((1.0, 1.0),)

    @classmethod
    def by(cls, ratio: float) -> Correction:
        """Return the one by which all times are so many times as long.

        Example:
            >>> float(Correction.by(2.0).ratio(7.0))
            2.0
        """
        return cls(((1.0, ratio),))

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, float]]) -> Correction:
        """Return the one that follows what is known of some networks, in any order.

        Example:
            >>> Correction.of([(4.0, 4.0), (1.0, 2.0), (1.0, 1.5)]).known
            ((1.0, 2.0), (4.0, 4.0))
        """
        longest: dict[float, float] = {}
        for predicted, taken in pairs:
            longest[predicted] = max(taken, longest.get(predicted, 0.0))
        found: list[tuple[float, float]] = []
        for predicted, taken in sorted(longest.items()):
            least = found[-1][1] * (1 + _APART) if found else 0.0
            found.append((predicted, max(taken, least)))
        return cls(tuple(found))

    def ratio(self, predicted_ms: float | Floats) -> Floats:
        """Return by what latencies as predicted are multiplied."""
        known = np.log(np.array(self.known))
        apart = np.interp(np.log(predicted_ms), known[:, 0], known[:, 1] - known[:, 0])
        found: Floats = np.exp(apart)
        return found

    def predicted(self, taken_ms: float) -> float:
        """Return what was predicted where a latency is taken to be so long.

        Example:
            >>> mine = Correction(((1.0, 2.0), (4.0, 4.0)))
            >>> round(mine.predicted(2.0 * float(mine.ratio(2.0))), 9)
            2.0
        """
        known = np.log(np.array(self.known))
        apart = np.interp(np.log(taken_ms), known[:, 1], known[:, 1] - known[:, 0])
        return float(taken_ms / np.exp(apart))
