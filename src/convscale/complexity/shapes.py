"""The operators of a followed run as values of its widths: their calls at other sizes of channels.

Where a run is followed (`network.trace`), the units of a tensor tell which of its sizes are widths.
What is kept of each call is its tensors with sizes that follow; from these, the rules that recorded
the call tell what it multiplies, reads and writes at other widths, and nothing is run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from convscale.complexity.calls import MATRIX_PRODUCT, OperatorCall
from convscale.complexity.conventions import convention_named
from convscale.complexity.kinds import geometry_of, kind_of, reads_part
from convscale.complexity.recording import LateRecorder, Moved, Recorder
from convscale.network.channels.channels import Channels, Sizes
from convscale.network.channels.contractions import RULES, rule_of
from convscale.network.channels.labels import Label, Labels, distinct, find_along, varying
from convscale.network.channels.products import name_of
from convscale.network.channels.ties import Ties

_FOUND_BY_SHAPE = convention_named("default")


class Dim(NamedTuple):
    """The size of a dimension: a number, or a product of widths by their places.

    Of a width that is cut into parts, each has one `over` so many.

    Example:
        >>> Dim(7).at([64, 32]), Dim(1, (0, 1)).at([64, 32]), Dim(1, (0,), over=2).at([64, 32])
        (7, 2048, 32)
    """

    number: int
    widths: tuple[int, ...] = ()
    over: int = 1

    def at(self, widths: Sequence[int]) -> int:
        """Return the size for given widths."""
        return self.number * self.part(widths)

    def part(self, widths: Sequence[int]) -> int:
        """Return what the widths make of the size."""
        return prod([widths[place] for place in self.widths]) // self.over


class Sized(NamedTuple):
    """A tensor as its sizes: those that are repeated in memory, and the bytes of an element.

    Example:
        >>> Sized((Dim(1), Dim(1, (0,))), (False, False), 4, floating=True).shape([64])
        (1, 64)
    """

    dims: tuple[Dim, ...]
    repeated: tuple[bool, ...]
    item_bytes: int
    floating: bool

    def shape(self, widths: Sequence[int]) -> tuple[int, ...]:
        """Return the shape for given widths."""
        return tuple([dim.at(widths) for dim in self.dims])

    def held(self, shape: tuple[int, ...]) -> int:
        """Return how many elements lie in memory."""
        return prod([n for n, twice in zip(shape, self.repeated, strict=True) if not twice])


class _Slot(NamedTuple):
    """Stands for a tensor among arguments and results."""

    place: int


@dataclass(frozen=True)
class SizedCall:
    """A call whose tensors have sizes that follow the widths.

    `operands`, `results` and `params` are places among the tensors, `read` and `weights` places
    among the operands, as in `Moved`; arguments and result are kept where a rule counts products.
    """

    call: OperatorCall
    func: Any
    tensors: tuple[Sized, ...]
    operands: tuple[int, ...]
    results: tuple[int, ...]
    params: tuple[int, ...]
    read: tuple[int, ...]
    weights: frozenset[int]
    bound: dict[str, Any] | None
    output: Any

    def at(self, widths: Sequence[int]) -> OperatorCall:
        """Return the call for given widths, by the rules that recorded it."""
        shapes = [tensor.shape(widths) for tensor in self.tensors]
        first = prod(shapes[self.results[0]])
        read = {place: self._bytes(self.operands[place], shapes, first) for place in self.read}
        written = [self.tensors[at].item_bytes * prod(shapes[at]) for at in self.results]
        new = replace(
            self.call,
            params=sum(prod(shapes[at]) for at in self.params),
            bytes_read=sum(read.values()),
            bytes_written=sum(written),
            weight_bytes=sum(size for place, size in read.items() if place in self.weights),
            input_shapes=tuple([shapes[at] for at in self.operands if 0 not in shapes[at]]),
            output_shapes=tuple([shapes[at] for at in self.results]),
        )
        return new if self.bound is None else self._multiplied(new, shapes)

    def again(
        self, call: OperatorCall, moved: Moved, parameters: Mapping[int, torch.Tensor]
    ) -> tuple[SizedCall, tuple[torch.Tensor, ...]] | None:
        """Return this call as it was made in another run, and its tensors there.

        None where it is another.

        Args:
            call: The call in the other run.
            moved: Its tensors there.
            parameters: The parameters there, by identity.
        """
        places = _Places()
        found = _sized_call(call, moved, places, parameters)
        same = (self.func is found.func and self.call.path == call.path) and all(
            getattr(self, name) == getattr(found, name)
            for name in ("operands", "results", "params", "read", "weights")
        )
        tensors = tuple(places.tensors)
        return (found, tensors) if same and self.call.sources == call.sources else None

    def with_tensors(self, tensors: tuple[Sized, ...]) -> SizedCall:
        """Return this call with the sizes of its tensors."""
        return replace(self, tensors=tensors)

    def _bytes(self, at: int, shapes: Sequence[tuple[int, ...]], first: int) -> int:
        tensor = self.tensors[at]
        elements = tensor.held(shapes[at])
        if tensor.floating and reads_part(self.func):
            elements = min(elements, first)
        return elements * tensor.item_bytes

    def _multiplied(self, call: OperatorCall, shapes: Sequence[tuple[int, ...]]) -> OperatorCall:
        """Return the call with what it multiplies at these shapes."""
        blank = [torch.empty(shape, device="meta") for shape in shapes]
        bound = _mapped(self.bound, _Slot, lambda slot: blank[slot.place])
        output = _mapped(self.output, _Slot, lambda slot: blank[slot.place])
        if bound.get("groups", 1) != 1 and not bound["transposed"]:
            bound["groups"] = bound["input"].shape[1] // bound["weight"].shape[1]
        geometry = geometry_of(self.func, bound, output)
        found = _FOUND_BY_SHAPE.cost(self.func, bound, output)
        weights = call.kind != MATRIX_PRODUCT
        kind = kind_of(self.func, geometry, weights=weights)
        return replace(call, kind=kind, flops=found.flops, acts=found.acts, geometry=geometry)


class SizedCalls:
    """The calls of a followed run, at any sizes of its channel groups.

    Args:
        calls: The calls, in their order.
        widths: The units of every width that stands in them.
        channels: The channels of the run.

    Example:
        >>> from convscale.network import trace_module
        >>> recorder = ShapeRecorder(item_bytes=1)
        >>> trace = trace_module(nn.Conv2d(3, 8, 3, device="meta"), 8, watch=(recorder,))
        >>> found = recorder.sized(trace.channels)
        >>> trace.channels.sizes.tolist()  # the sides of the kernel stand for themselves
        [3, 3, 3, 8]
        >>> [call.flops for call in found.at(np.array([6, 3, 3, 16]))]
        [31104]
    """

    def __init__(
        self, calls: Sequence[SizedCall], widths: Sequence[Label], channels: Channels
    ) -> None:
        self.calls = tuple(calls)
        self._widths, self._channels = tuple(widths), channels
        self._told_by: tuple[SizedCalls, ...] = ()

    @cached_property
    def base(self) -> list[int]:
        """The widths of the run."""
        return [len(units) for units in self._widths]

    def reshaped(self, calls: Sequence[SizedCall]) -> SizedCalls:
        """Return the calls of the same network at another resolution, with the same widths.

        Args:
            calls: The calls there.
        """
        found = SizedCalls(calls, self._widths, self._channels)
        found.__dict__["_matrix"] = self._matrix
        return found

    def told_by(self, calls: Sequence[SizedCall], others: Sequence[SizedCalls]) -> SizedCalls:
        """Return the calls of the same network at another resolution, where it was not run.

        Args:
            calls: The calls there.
            others: The runs that tell them, beside this one.
        """
        found = self.reshaped(calls)
        found._told_by = (self, *others)
        return found

    def at(
        self, sizes: Sizes, *, without: Callable[[str], bool] | None = None
    ) -> list[OperatorCall] | None:
        """Return the calls for sizes of the channel groups.

        None where a part of a group is read, or channels do not divide into their groups.

        Args:
            sizes: Size of each channel group.
            without: Tells of the path of a module whether its calls may stay as they were.
        """
        if not self._hold:
            return None
        widths = np.rint(self._matrix @ sizes).astype(np.int64).tolist()
        found = []
        for call in self.calls:
            if without is not None and without(call.call.path):
                found.append(call.call)
                continue
            found.append(call.at(widths))
            if _uneven(found[-1]):
                return None
        return found

    @cached_property
    def _hold(self) -> bool:
        """Whether the sizes tell what was recorded: widths of whole groups, and all that moved."""
        if self._told_by:
            return all(one._hold for one in self._told_by)
        found = np.rint(self._matrix @ self._channels.sizes).tolist()
        return found == self.base and all(call.at(self.base) == call.call for call in self.calls)

    @cached_property
    def _matrix(self) -> npt.NDArray[np.float64]:
        """How often each group stands in each width."""
        matrix = np.zeros((len(self._widths), len(self._channels.sizes)))
        for row, units in enumerate(self._widths):
            for group, times in self._channels.composition(units):
                matrix[row, group] = times
        return matrix


def _uneven(call: OperatorCall) -> bool:
    """Tell whether a convolution has channels that do not divide into its groups."""
    own = call.geometry
    if own is None or own.groups == 1:
        return False
    x = call.input_shapes[0]
    into = x[1 - len(own.kernel) - 2] if len(x) > len(own.kernel) + 1 else own.in_channels
    return own.in_channels != into or own.out_channels % own.groups > 0


class ShapeRecorder(LateRecorder):
    """Record a run that is followed, with the widths among the sizes of its tensors.

    Example:
        >>> ShapeRecorder().calls
        []
    """

    _ties: Ties | None = None

    def follow(self, ties: Ties) -> None:
        """Learn what tells the units of tensors."""
        self._ties = ties

    def recorder(
        self, module: nn.Module, given: tuple[torch.Tensor, ...], item_bytes: int
    ) -> Recorder:
        """Return what records the run of a network."""
        ties, self._ties = self._ties, None  # they are many, and the run's alone
        assert ties is not None
        return _Recorder(module, given, item_bytes=item_bytes, ties=ties)

    def sized(self, channels: Channels) -> SizedCalls | None:
        """Return the calls of the run; None where the sizes of one do not tell what it moves.

        Args:
            channels: The channels of the run.
        """
        found = self._recorder
        if not isinstance(found, _Recorder) or len(found.sized) != len(found.calls):
            return None
        return SizedCalls(found.sized, found.widths, channels)


class _Recorder(Recorder):
    """Keep the sizes of the tensors of each call, while it is recorded."""

    def __init__(
        self,
        module: nn.Module,
        given: tuple[torch.Tensor, ...],
        *,
        item_bytes: int,
        ties: Ties,
    ) -> None:
        super().__init__(module, given, item_bytes=item_bytes)
        self.sized: list[SizedCall] = []
        self.widths: list[Label] = []
        self._rows: dict[bytes, int] = {}
        self._ties = ties
        self._parameters = {id(one): one for one in module.parameters()}
        self._known: dict[object, tuple[Sized, Labels, Labels]] = {}

    def noted(self, moved: Moved) -> None:
        """Keep the sizes of a call."""
        places = _Places()
        found = _sized_call(self.calls[-1], moved, places, self._parameters)
        tensors = tuple([self._as_sized(tensor) for tensor in places.tensors])
        self.sized.append(found.with_tensors(tensors))

    def _as_sized(self, tensor: torch.Tensor) -> Sized:
        """Return the sizes of a tensor, made once for all with the same units."""
        labels, merged = self._ties.labels(tensor), self._ties.merged(tensor)
        strides, shape = tensor.stride(), tensor.shape
        key = (id(labels), id(merged), shape, strides, tensor.dtype)
        if key not in self._known:
            dims = tuple([self._dim(n, at, labels, merged) for at, n in enumerate(shape)])
            repeated = tuple([not stride for stride in strides])
            floating = tensor.is_floating_point()
            found = Sized(dims, repeated, self._size(tensor), floating)
            self._known[key] = (found, labels, merged)
        return self._known[key][0]

    def _dim(self, size: int, dim: int, labels: Labels, merged: Labels) -> Dim:
        """Return the size of a dimension: that of its units, of axes laid into it, or a number."""
        if size == 1:
            return Dim(1)
        units = find_along(labels, dim, size)
        if units is not None:
            return Dim(1, (self._row(units),))
        axes = [distinct(label) for label in merged if varying(label) == {dim}]
        if axes and prod([len(own) for own in axes]) == size:
            return Dim(1, tuple([self._row(own) for own in axes]))
        return self._part(size, dim, labels) or Dim(int(size))

    def _part(self, size: int, dim: int, labels: Labels) -> Dim | None:
        """Return the size of what units have in each of several parts, where these stay.

        Of the dimensions that units are cut into, the one with most of them grows (`shaping`).
        """
        for label in labels:
            others = label.size // size
            spread = varying(label)
            if len(spread) == 2 and dim in spread and label.shape[dim] == size > others:
                return Dim(1, (self._row(label.reshape(-1)),), others)
        return None

    def _row(self, units: Label) -> int:
        """Return the place of units among the widths, where each stands once."""
        key = units.tobytes()
        if key not in self._rows:
            self._rows[key] = len(self.widths)
            self.widths.append(units)
        return self._rows[key]


class _Places:
    """The distinct tensors of a call, in the order in which they are named."""

    def __init__(self) -> None:
        self.tensors: list[torch.Tensor] = []
        self._known: dict[int, int] = {}

    def of(self, tensor: torch.Tensor) -> int:
        """Return the place of a tensor."""
        place = self._known.setdefault(id(tensor), len(self.tensors))
        if place == len(self.tensors):
            self.tensors.append(tensor)
        return place


def _sized_call(
    call: OperatorCall, moved: Moved, places: _Places, parameters: Mapping[int, torch.Tensor]
) -> SizedCall:
    """Return a call whose tensors stand as places, their sizes still to come."""
    operands = tuple([places.of(tensor) for tensor in moved.operands])
    results = tuple([places.of(tensor) for tensor in moved.results])
    params = tuple([places.of(parameters[one]) for one in moved.fresh])
    bound = output = None
    if rule_of(name_of(moved.func), RULES) is not None:
        bound = _mapped(moved.bound, torch.Tensor, lambda one: _Slot(places.of(one)))
        output = _mapped(moved.output, torch.Tensor, lambda one: _Slot(places.of(one)))
    return SizedCall(
        call=call,
        func=moved.func,
        tensors=(),
        operands=operands,
        results=results,
        params=params,
        read=tuple(moved.read),
        weights=frozenset(moved.weights),
        bound=bound,
        output=output,
    )


def _mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Return nested arguments or results with all of a kind exchanged."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(one, kind, change) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)([_mapped(one, kind, change) for one in value])
    return value
