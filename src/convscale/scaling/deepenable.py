"""Which stages of a network run with a block more: tried, not assumed."""

from __future__ import annotations

from torch import nn

from convscale.errors import UnscalableNetworkError
from convscale.network.schemes import find_schemes
from convscale.network.stages import join
from convscale.quantities import Resolution
from convscale.scaling.deepening import Deepening
from convscale.scaling.plan import DepthEdit, flat
from convscale.scaling.runs import Runs
from convscale.scaling.trying import Trials


class Deepenable:
    """Find the stages of a base network, and try once which of them run with a block more.

    Args:
        module: The base network on the meta device.
        runs: What is run of it.

    Example:
        >>> from convscale.network import resolve_base
        >>> net = resolve_base("timm:resnet18").build("meta")
        >>> Deepenable(net, Runs(net, 64)).found[1]
        (True, True, True, True)
    """

    def __init__(self, module: nn.Module, runs: Runs) -> None:
        self._module = module
        self._runs = runs
        self._expected = runs.resolution
        self._found: tuple[Deepening, tuple[bool, ...]] | None = None

    def expect(self, resolution: Resolution) -> None:
        """Say at which resolution a block more will be asked for, so that one run shows both.

        Args:
            resolution: Input side, or all sides, in px.
        """
        self._expected = resolution

    @property
    def found(self) -> tuple[Deepening, tuple[bool, ...]]:
        """A set of stages, and which of them run with a block more.

        It is the first set in which these hold a third of the flops, else the one in which
        they hold most.
        """
        if self._found is None:
            self._found = self._tried()
        return self._found

    def _tried(self) -> tuple[Deepening, tuple[bool, ...]]:
        best: tuple[Deepening, tuple[bool, ...]]
        trace = self._runs.trace
        best, most = (Deepening(self._module, trace, ()), ()), -1
        trials = Trials(self._run, self._runs.check)
        for stages in find_schemes(self._module, trace):
            deepening = Deepening(self._module, trace, stages)
            able = trials.able(deepening)
            ways = [(deepening, able)]
            if not all(able) and (other := deepening.otherwise(able)) is not None:
                ways.append((other, trials.able(other)))
            for way in ways:
                flops = way[0].flops(way[1])
                if flops > most:
                    best, most = way, flops
            if 3 * most >= trace.flops:
                break
        return best

    def _run(self, edits: tuple[DepthEdit, ...], deepening: Deepening) -> None:
        if self._expected == self._runs.resolution or not self._runs_there(edits, deepening):
            self._runs.run(edits, self._runs.resolution, deepening)

    def _runs_there(self, edits: tuple[DepthEdit, ...], deepening: Deepening) -> bool:
        """Tell whether blocks run at the resolution that is expected, and all keep their shape.

        Then they do so at the base's own, and nothing behind them changes.
        """
        if deepening.exact(edits):
            return False
        try:
            traced = self._runs.run(edits, self._expected, deepening)
        except UnscalableNetworkError:  # for the blocks or the resolution: the base's own tells
            return False
        if not traced.edits:  # they run as those that they are copies of
            return True
        borders = traced.trace.borders
        added = (join(edit.container, name) for edit in flat(edits) for name in edit.added)
        own = [borders.get(path) for path in added]
        return all(one is not None and one.input_shape == one.output_shape for one in own)
