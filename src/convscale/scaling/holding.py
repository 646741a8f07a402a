"""Hold what of a network does not follow its widths, so that the rest can be scaled."""

from __future__ import annotations

from dataclasses import replace

from convscale.errors import UnscalableNetworkError
from convscale.scaling.control import Control
from convscale.scaling.settling import Settlement

_MOST = 16  # calls that may fail one after the other, each of which is tried again
_NAMED = 32  # sizes that one call may name


class WrittenError(UnscalableNetworkError):
    """Refuse a network whose code does not follow its widths; what is held then may help.

    Args:
        message: The refusal, where nothing helps.
        settlement: What the run of the widened network showed.

    Example:
        >>> found = Settlement({}, "ValueError", (("stem", 0, 1),))
        >>> WrittenError("It does not follow.", found).held(Control()).literals
        (('stem', 0, 1),)
    """

    def __init__(self, message: str, settlement: Settlement) -> None:
        super().__init__(message)
        self._settlement = settlement

    def held(self, control: Control) -> Control | None:
        """Return a control under which more stays; None where that is no help.

        What the code writes out stays, and all that the call names where that is no help; else
        what is read by the call that failed.
        """
        written, known = set(self._settlement.literals), set(control.literals)
        every = {(path, at, dim) for path, at, _ in written for dim in range(_NAMED)}
        if more := written - known or every - known:
            return replace(control, literals=(*control.literals, *sorted(more)))
        last, failed = self._settlement.last, control.unfollowed
        if self._settlement.failure is None or last is None or last in failed:
            return None
        return replace(control, unfollowed=(*failed, last)) if len(failed) < _MOST else None
