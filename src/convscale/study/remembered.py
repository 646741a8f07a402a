"""The memory of candidates from what parts of networks that were run dry do, without building."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from convscale.complexity.calls import OperatorCall
from convscale.complexity.dryrun import DryRun
from convscale.complexity.part_book import PartBook, PartedRun, Turn, most_bytes
from convscale.complexity.part_log import Ints, PartLog, Shape, UnlikeError, UnnamedError
from convscale.errors import InputError
from convscale.network.sources.network import Network
from convscale.study.layout import LEVELS, Layout, layout_of

if TYPE_CHECKING:
    from convscale.scaling.scaler import Scaler
    from convscale.scaling.variants.variant import Variant
    from convscale.study.costed import Conditions


@dataclass
class Remembered:
    """Tell the memory of candidates, once networks that were built have shown what parts do.

    Args:
        scaler: The base network, whose runs are recorded.
        how: The conditions.
        optimizer: Of the training; None for inference.
    """

    scaler: Scaler
    how: Conditions
    optimizer: str | None
    _runs: list[tuple[Layout, PartedRun]] = field(default_factory=list)
    _logs: dict[Hashable, PartLog] = field(default_factory=dict)
    _orders: dict[tuple[int, ...], tuple[Turn, ...]] = field(default_factory=dict)
    _base: int | None = None
    _level: int = 0
    _reduces: bool = False
    _holds: bool = True

    def of(self, variant: Variant, calls: Sequence[OperatorCall]) -> int | None:
        """Return the most bytes that live at once; None where that is not known.

        Args:
            variant: The candidate's depths and side.
            calls: Its operators of one image.
        """
        layout = self._layout(variant)
        order = self._order(layout)
        if order is None or not self._holds or self._is_single(calls):
            return None
        shapes = layout.shapes(calls)
        own = {part: _elements(shapes[part]) for part in shapes}
        reduced = {part: _elements(_reduced(shapes[part])) for part in shapes if self._reduces}
        parts = {}
        for part in shapes:
            around = layout.around(part)
            tensors = [one[near] for one in (own, reduced) if one for near in around]
            elements = np.concatenate(tensors)
            log = self._logs.get(self._key(layout, part, len(elements)))
            known = None if log is None else log.known(elements)
            if known is None:
                return None
            parts[part] = known
        return most_bytes(order, parts)

    def base(self) -> int:
        """Run the base network dry, once; return the most bytes that live at once.

        Raises:
            InputError: If it does not run.
        """
        if self._base is None:
            blueprint = self.scaler.blueprint
            variant = blueprint.base()
            sized = variant.traced.sized
            calls = None if sized is None else [one.call for one in sized.calls]
            self._base = self._run(variant, calls, self.scaler.network)
        return self._base

    def run(self, variant: Variant, calls: Sequence[OperatorCall] | None, network: Network) -> int:
        """Run a network dry, and learn from it; return the most bytes that live at once.

        Args:
            variant: Its depths and side.
            calls: Its operators of one image; None where they are not known.
            network: The network.

        Raises:
            InputError: If it does not run.
        """
        if calls is not None and self._holds and self._base is None:
            try:
                self.base()
            except InputError:  # others may run in this way
                self._holds = False
        return self._run(variant, calls, network)

    def _run(self, variant: Variant, calls: Sequence[OperatorCall] | None, network: Network) -> int:
        layout = self._layout(variant)
        run = DryRun(network, batch_size=self.how.batch_size, precision=self.how.precision)
        book = PartBook(layout.part, run.weights)
        if self.optimizer is None:
            run.watch(book)
        else:
            run.follow(self.optimizer, book)
        peak = book.peak().total_bytes
        if calls is not None and self._holds:
            self._learn(layout, book.parted(layout.shapes(calls)))
            self._holds = self._holds and self.of(variant, calls) in (None, peak)
        return peak

    def _learn(self, layout: Layout, parted: PartedRun | None) -> None:
        if parted is None:
            self._holds = False
            return
        self._runs.append((layout, parted))
        while self._holds:
            try:
                if self._level < LEVELS - 1 and self._order(layout) not in (None, parted.order):
                    raise UnlikeError("The parts do not run in the order of the base network.")
                self._orders[layout.depths] = parted.order
                self._note(layout, parted)
                return
            except UnlikeError as error:
                self._again(error)

    def _again(self, error: UnlikeError) -> None:
        """Learn all again: let more tensors give sizes, or take fewer parts to be alike."""
        while self._holds:
            if isinstance(error, UnnamedError) and not self._reduces:
                self._reduces = True
            else:
                self._level += 1
                self._holds = self._level < LEVELS
            self._logs.clear()
            try:
                for layout, parted in self._runs if self._holds else ():
                    self._note(layout, parted)
                return
            except UnlikeError as another:
                error = another

    def _note(self, layout: Layout, parted: PartedRun) -> None:
        """Learn from the parts of a network, with the tensors that may give what they bring."""
        for name, part in parted.parts.items():
            around = [shape for near in layout.around(name) for shape in parted.parts[near].shapes]
            if self._reduces:
                around += _reduced(around)
            key = self._key(layout, name, len(around))
            own = part.with_shapes(around)
            if key in self._logs:
                self._logs[key].learn(own)
            else:
                self._logs[key] = PartLog(own, self.how.batch_size)

    def _key(self, layout: Layout, part: str, tensors: int) -> Hashable:
        return layout.places[part].key(self._level, layout.depths), tensors

    def _order(self, layout: Layout) -> tuple[Turn, ...] | None:
        if layout.depths in self._orders or self._level == LEVELS - 1:
            return self._orders.get(layout.depths)
        base = self._orders.get(self._own)
        return None if base is None else layout.order(base)

    def _is_single(self, calls: Sequence[OperatorCall]) -> bool:
        """Tell whether a norm may see one value alone, with which it cannot be trained."""
        if self.optimizer is None:
            return False
        norms = (call.input_shapes[0] for call in calls if "batch_norm" in call.operator)
        return any(prod(shape[2:]) == 1 for shape in norms) and self.how.batch_size == 1

    def _layout(self, variant: Variant) -> Layout:
        return layout_of(self.scaler.blueprint.stages, variant)

    @property
    def _own(self) -> tuple[int, ...]:
        return tuple(stage.depth for stage in self.scaler.blueprint.stages)


def _elements(shapes: Sequence[Shape]) -> Ints:
    return np.array([prod(shape) for shape in shapes], np.int64)


def _reduced(shapes: Sequence[Shape]) -> list[Shape]:
    """Return the shapes of what is one for all channels: of statistics of norms, and the like."""
    return [own for shape in shapes for own in ((*shape[:1], 1, *shape[2:]), (*shape[:-1], 1))]
