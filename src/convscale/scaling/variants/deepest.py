"""Dense blocks at any depths from the run of a deeper network: what is not there has no width.

Among dense blocks the depth of a stage moves the widths of all that reads it, so that one added
block is no model of the others. In a run of a deeper network every block stands. Without some of
them, their calls stand no times, and what they put out has no channels, wherever it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import ceil

import numpy as np

from convscale.errors import UnscalableNetworkError
from convscale.network.modules.pausing import collector_at_rest
from convscale.network.stages.stages import within
from convscale.network.tracing.trace import Term, Trace
from convscale.quantities import Resolution
from convscale.scaling.variants.variant import Traced, Variant

Depths = tuple[int, ...]
Run = Callable[[Depths, Resolution], Traced]
Read = Callable[[Depths, Resolution, Traced], Variant]  # of depths in a run, its own or a deeper

_SPARE = 1.25  # how much deeper a run is than what it is made for
_WASTE = 1.6  # how much deeper a run may be, in all blocks, that tells depths
_FACTORS = (1.0, 1.7)  # of widths, at which what is derived is compared with what is run
_MOST = 2  # blocks more than the base network's that are tried: more of them are alike


@dataclass
class Deepest:
    """Runs of deeper networks, which tell those of less depth once runs have shown that they do.

    Stages that differ from the base network's in ways that none of the compared depths did are
    run, and compared: flops, params and acts must be those that were derived, at two widths. Where
    one is another, every choice of depths is run from there on.

    Args:
        base: The depths of the base network.
        able: The stages whose depth can change.
        least: The least depths that the stages may have.
        resolution: The base's.
        run: Runs the network at some depths and a resolution.
        read: Reads depths from a run.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.search.blueprint import Blueprint
        >>> net = Blueprint(resolve_base("timm:densenet121").build("meta"), 64)
        >>> told = net.planning().variant((6, 13, 24, 16), 64)
        >>> own = net.variant((6, 13, 24, 16), 64)
        >>> widths = own.rule.widths(1.5)
        >>> told.complexity(widths) == own.complexity(widths), told.traced.edits == own.traced.edits
        (True, False)
    """

    base: Depths
    able: tuple[bool, ...]
    least: Depths
    resolution: Resolution
    run: Run
    read: Read
    _deep: list[Depths] = field(default_factory=list)
    _proved: set[object] = field(default_factory=set)
    _holds: bool = True

    @property
    def holds(self) -> bool:
        """Whether runs of deeper networks tell depths, as far as was compared."""
        if not self._proved:
            self._compare()
        return self._holds

    def traced(self, depths: Depths, resolution: Resolution) -> Traced:
        """Return the run that tells some depths: of a deeper network, or its own.

        Raises:
            UnscalableNetworkError: If the network does not run.
        """
        ways = set(self._ways(depths))
        if self.holds and ways <= self._proved:
            found = self._deeper(depths, resolution)
            if found is not None:
                return found
        own = self.run(depths, resolution)
        if self._holds:
            self._holds = self._is_told(depths, resolution, own)
            self._proved |= ways
        return own

    def _ways(self, depths: Depths) -> Iterator[object]:
        for stage, (depth, own) in enumerate(zip(depths, self.base, strict=True)):
            if depth != own:
                yield stage, max(-1, min(depth - own, _MOST))

    @collector_at_rest()
    def _compare(self) -> None:
        """Change each stage alone, then all: stages that must be equally deep do not run."""
        self._proved.add(None)
        for depths in self._compared():
            try:
                own = self.run(depths, self.resolution)
            except UnscalableNetworkError:
                self._holds = False
            else:
                self._holds = self._is_told(depths, self.resolution, own)
                self._proved.update(self._ways(depths))
            if not self._holds:
                return

    def _compared(self) -> Iterator[Depths]:
        """Yield depths in which, taken together, stages differ in every way from the base's."""
        for stage, able in enumerate(self.able):
            for depth in (self.base[stage] - 1, self.base[stage] + 1):
                if able and depth >= self.least[stage]:
                    yield (*self.base[:stage], depth, *self.base[stage + 1 :])
        if any(self.able):
            yield self._more(_MOST)

    def _more(self, blocks: int) -> Depths:
        """Return the depths of the base network with some blocks more in each stage."""
        pairs = zip(self.base, self.able, strict=True)
        return tuple(own + blocks * able for own, able in pairs)

    def _is_told(self, depths: Depths, resolution: Resolution, own: Traced) -> bool:
        """Tell whether a deeper run tells what the run at some depths does."""
        deeper = self._deeper(depths, resolution)
        if deeper is None:
            return False
        told, run = (self.read(depths, resolution, one) for one in (deeper, own))
        return all(
            run.rule.widths(factor).of.items() <= told.rule.widths(factor).of.items()
            and run.complexity(run.rule.widths(factor)) == told.complexity(told.rule.widths(factor))
            for factor in _FACTORS
        )

    def _deeper(self, depths: Depths, resolution: Resolution) -> Traced | None:
        """Return the run of the least deep network that has all the blocks; None if none runs."""
        most = _WASTE * sum(map(max, depths, self._more(_MOST)))
        enough = [deep for deep in self._deep if _covers(deep, depths) and sum(deep) <= most]
        if not enough:
            even, own = self._even(depths), self._spared(depths)
            enough = [even if sum(even) <= most else own]
            self._deep += enough
        try:
            return self.run(min(enough, key=sum), resolution)
        except UnscalableNetworkError:
            return None

    def _even(self, depths: Depths) -> Depths:
        """Return depths that all stages have more blocks for, by one of few factors."""
        first, factor = self._more(_MOST + 1), 1.0
        while True:
            deep = tuple(
                max(least, ceil(own * factor)) if able else depth
                for least, own, depth, able in zip(first, self.base, depths, self.able, strict=True)
            )
            if _covers(deep, depths):
                return deep
            factor *= _SPARE

    def _spared(self, depths: Depths) -> Depths:
        """Return depths with a few blocks to spare in the stages that are deep."""
        return tuple(
            least if depth <= least else ceil(depth * _SPARE)
            for depth, least in zip(depths, self._more(_MOST + 1), strict=True)
        )


def _covers(deep: Depths, depths: Depths) -> bool:
    return all(most >= depth for most, depth in zip(deep, depths, strict=True))


def without(trace: Trace, gone: frozenset[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tell which channel groups modules put out that nothing else does.

    Args:
        trace: A run.
        gone: The paths of the modules.

    Example:
        >>> from torch import nn
        >>> from convscale.network import trace_module
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1), nn.Conv2d(5, 2, 1))
        >>> trace = trace_module(net, 4)
        >>> trace.channels.sizes[without(trace, frozenset({"1"}))].tolist()
        [5]
    """
    left: set[int] = set()
    lost: set[int] = set()
    for term in trace.terms:
        if len(term.flops_units) > 1:  # a depthwise convolution hands on what arrives
            away = any(within(term.path, path) for path in gone)
            (lost if away else left).update(_put_out(term, trace))
    found = np.zeros(len(trace.channels.sizes), dtype=bool)
    found[sorted(lost - left)] = True
    return found


def _put_out(term: Term, trace: Trace) -> Iterator[int]:
    for units in term.acts_units:
        yield from (group for group, _ in trace.channels.composition(units))
