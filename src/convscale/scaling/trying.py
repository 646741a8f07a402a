"""Try which stages run with a block more, in as few runs as can be."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from convscale.errors import ConvscaleError, UnscalableNetworkError
from convscale.network.execution import ForwardError
from convscale.network.stages import join, within
from convscale.network.trace import Trace
from convscale.scaling.deepening import Deepening
from convscale.scaling.plan import DepthEdit, flat

Run = Callable[[tuple[DepthEdit, ...], Deepening], object]


class IdleBlockError(UnscalableNetworkError):
    """Say that added blocks are not executed once, and which edits added them.

    Example:
        >>> IdleBlockError((DepthEdit("", added=("3",)),)).line[:43]
        'A block added to the network is not execute'
    """

    def __init__(self, edits: tuple[DepthEdit, ...]) -> None:
        self.edits = edits
        super().__init__(
            f"A block added to {edits[0].container or 'the network'} is not executed once. "
            "Let its forward pass iterate over the blocks."
        )


def idle_among(
    edits: tuple[DepthEdit, ...], module: nn.Module, *, before: Trace, after: Trace
) -> tuple[DepthEdit, ...]:
    """Return the edits whose added blocks do not run once, or push others out of their container.

    Args:
        edits: The edits that were made together.
        module: The module without them.
        before: A run of it.
        after: A run with the edits.

    Example:
        >>> from convscale.network import trace_module
        >>> net = nn.Sequential(nn.Conv2d(3, 3, 1, device="meta"))
        >>> trace = trace_module(net, 8)
        >>> len(idle_among((DepthEdit("", added=("1",)),), net, before=trace, after=trace))
        1
    """
    gone = {join(one.container, name) for one in flat(edits) for name in one.removed}

    def is_idle(edit: DepthEdit) -> bool:
        lists = {one.container: module.get_submodule(one.container) for one in flat((edit,))}
        new = (
            join(one.container, name)
            for one in flat((edit,))
            for name in one.added
            if not isinstance(lists[one.container], nn.ParameterList)
        )
        own = lists[edit.container].named_children()
        old = {join(edit.container, name) for name, _ in own} - gone
        lost = (path for path in old if path in before.calls and path not in after.calls)
        return any(after.calls.get(path) != 1 for path in new) or any(lost)

    return tuple(edit for edit in edits if is_idle(edit))


class Trials:
    """What adding one block to single stages showed, remembered over the sets of stages.

    Args:
        run: Runs the base network with edits of a deepening, and raises if it does not follow.

    Example:
        >>> from convscale.network import resolve_base, trace_module
        >>> from convscale.network.stages import find_stages
        >>> net = resolve_base("timm:resnet18").build("meta")
        >>> trace = trace_module(net, 64)
        >>> deepening = Deepening(net, trace, find_stages(net, trace))
        >>> Trials(lambda edits, deepening: None).able(deepening)
        (True, True, True, True)
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._failed: set[DepthEdit] = set()

    def able(self, deepening: Deepening) -> tuple[bool, ...]:
        """Tell for each stage whether an added block runs: tried, not assumed."""
        hopeful = [edit for edit in deepening.alone if edit is not None]
        good = self._good(tuple(e for e in hopeful if e not in self._failed), deepening)
        return tuple(edit in good for edit in deepening.alone)

    def _good(self, edits: tuple[DepthEdit, ...], deepening: Deepening) -> set[DepthEdit]:
        """Return the edits that run: all of them, or part by part those that do."""
        if not edits:
            return set()
        try:
            self._run(edits, deepening)
        except IdleBlockError as error:
            idle = set(error.edits)
            self._failed |= idle
            return self._good(tuple(edit for edit in edits if edit not in idle), deepening)
        except ConvscaleError as error:
            if len(edits) == 1:
                self._failed |= set(edits)
                return set()
            left, right = _parted(edits, error.__cause__)
            return self._good(left, deepening) | self._good(right, deepening)
        return set(edits)


def _parted(
    edits: tuple[DepthEdit, ...], cause: BaseException | None
) -> tuple[tuple[DepthEdit, ...], tuple[DepthEdit, ...]]:
    """Part the edits in the module that failed from the others, or else into halves."""
    if isinstance(cause, ForwardError):
        inside = tuple(edit for edit in edits if within(edit.container, cause.path))
        if 0 < len(inside) < len(edits):
            return tuple(edit for edit in edits if edit not in inside), inside
    half = len(edits) // 2
    return edits[:half], edits[half:]
