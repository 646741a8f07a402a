"""Hold what of a network does not follow its widths or depths, so that the rest can be scaled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from convscale.errors import UnscalableNetworkError
from convscale.network.running.execution import ForwardError
from convscale.network.stages.stages import Stage, within
from convscale.scaling.building.settling import Settlement
from convscale.scaling.plans.control import Control
from convscale.scaling.variants.candidate import Candidate

_MOST = 16  # calls that may fail one after the other, each of which is tried again
_NAMED = 32  # sizes that one call may name


class WrittenError(UnscalableNetworkError):
    """Refuse a network whose code does not follow its widths; what is held then may help.

    Args:
        message: The refusal, where nothing helps.
        settlement: What the run of the widened network showed.
        wider: Whether widths changed at all.
        overrun: Stages in which it failed that have another depth (`overrun_in`).

    Example:
        >>> found = Settlement({}, "ValueError", (("stem", 0, 1),))
        >>> WrittenError("It does not follow.", found).held(Control()).literals
        (('stem', 0, 1),)
    """

    def __init__(
        self,
        message: str,
        settlement: Settlement,
        *,
        wider: bool = True,
        overrun: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self._settlement = settlement
        self._wider = wider
        self._overrun = overrun

    def held(self, control: Control) -> Control | None:
        """Return a control under which more stays; None where that is no help.

        What the code writes out stays, and all that the call names where that is no help; else
        what is read by the call that failed; else the depth of the stages in which it failed.
        """
        more = self._widths_held(control) if self._wider else None
        if more is not None:
            return more
        stages = tuple(path for path in self._overrun if path not in control.overrun)
        return replace(control, overrun=(*control.overrun, *stages)) if stages else None

    def _widths_held(self, control: Control) -> Control | None:
        written, known = set(self._settlement.literals), set(control.literals)
        every = {(path, at, dim) for path, at, _ in written for dim in range(_NAMED)}
        if more := written - known or every - known:
            return replace(control, literals=(*control.literals, *sorted(more)))
        last, failed = self._settlement.last, control.unfollowed
        if self._settlement.failure is None or last is None or last in failed:
            return None
        return replace(control, unfollowed=(*failed, last)) if len(failed) < _MOST else None


def overrun_in(error: BaseException, found: Candidate, stages: Iterable[Stage]) -> tuple[str, ...]:
    """Return the stages of another depth around the module in which a network failed, or in it.

    What fails in a block that the base has too does so for the widths or the resolution.

    Args:
        error: What was raised of it; it or its cause tells the module.
        found: What was built.
        stages: The stages of the base network.

    Returns:
        The paths of their first blocks.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ForwardError):
        cause = cause.__cause__
    if cause is None:
        return ()
    path, changed = cause.path, {edit.container for edit in found.variant.edits}
    stages = tuple(stages)
    if any(within(path, block) for stage in stages for block in stage.paths):
        return ()
    return tuple(
        stage.paths[0]
        for stage in stages
        if stage.container in changed
        and any(_nested(path, own) for own in (stage.container, *stage.beside))
    )


def _nested(path: str, other: str) -> bool:
    """Tell whether one of two modules lies in the other, or is the other."""
    return not path or within(path, other) or within(other, path)
