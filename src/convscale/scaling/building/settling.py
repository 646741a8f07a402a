"""Find the attributes that must change with the widths, by running the widened network.

The network is run once more with its new weights. Each call that names sizes is compared with the
call of the base network at the same place: where it would give other sizes than the widths ask
for, the attribute that told them is known (see `network.numbers`) and gets its new value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import nn

from convscale.network.channels.channels import Sizes
from convscale.network.channels.shaping import (
    CUTS,
    ENDS,
    FILLS,
    NARROWS,
    NORMS,
    PADS,
    RESHAPES,
    SHAPING,
    SLICES,
    TILES,
    slice_dimensions,
)
from convscale.network.channels.ties import tensors_in
from convscale.network.modules.numbers import FLOAT, Number, Place, Solution, install, set_place
from convscale.network.modules.walking import walk
from convscale.network.running.execution import ForwardError, Handle, Observer, run
from convscale.network.running.feeding import Feed
from convscale.network.sources.inputs import ExampleInputs
from convscale.network.tracing.trace import Trace
from convscale.quantities import Resolution
from convscale.scaling.building.alongside import Alongside
from convscale.scaling.building.scales import Scales
from convscale.scaling.building.slices import Slices

_CONVOLUTIONS = frozenset(("conv1d", "conv2d", "conv3d"))


def settle(
    module: nn.Module,
    trace: Trace,
    sizes: Sizes,
    resolution: Resolution,
    *,
    in_chans: int | None = None,
    given: ExampleInputs | None = None,
    model_path: Callable[[str], str],
    base: nn.Module | None = None,
    told: Collection[Place] = (),
    watch: tuple[Observer, ...] = (),
) -> Settlement:
    """Return the attributes that must change, and their values; the module gets them.

    Args:
        module: The widened network on the meta device, a copy of our own.
        trace: The trace of the base network.
        sizes: The new sizes of the channel groups.
        resolution: Input side, or all sides, in px.
        in_chans: Input channels; read from the module if not given.
        given: What the forward pass takes at the resolution, in place of one image.
        model_path: Maps a module's path to that of its model in the trace (added blocks).
        base: The base network, whose layers tell which floats follow; the module if not given.
        told: Attributes that the module has new values of, as they describe its widths.
        watch: Others who see the run.

    Example:
        >>> from convscale.network import trace_module
        >>> trace = trace_module(nn.Conv2d(3, 8, 1), 8)
        >>> net = nn.Conv2d(3, 8, 1, device="meta")
        >>> found = settle(net, trace, trace.channels.sizes, 8, in_chans=3, model_path=str)
        >>> found.found, found.failure, found.last
        ({}, None, ('', 0))
    """
    base = module if base is None else base
    scales = Scales(module, trace, sizes, model_path, base)
    settler = _Settler(module, trace, sizes, model_path, scales, _Told(base, told, model_path))
    feed = Feed(None if given is not None else resolution, in_chans=in_chans, given=given)
    inputs = feed.inputs(module)
    try:
        output = run(module, inputs.args, *watch, keywords=inputs.kwargs, handle=settler.handle)
        settler.finish()
        if trace.trains:
            pair = feed.inputs(module, batch=2)
            handle = settler.in_training()
            run(module, pair.args, keywords=pair.kwargs, handle=handle, training=True)
            settler.finish(trained=True)
    except ForwardError as error:
        literals = (*settler.literals, *settler.slices)
        return Settlement(settler.found, error.reason, literals, settler.last)
    return Settlement(
        settler.found,
        None,
        tuple(settler.literals),
        settler.last,
        settler.scales(),
        scales.doubtful,
        scales.unscaled,
        settler.slices,
        tuple(tuple(tensor.shape) for tensor in tensors_in(output)),
    )


@dataclass(frozen=True)
class Settlement:
    """New values of attributes, why the run failed if it did, and sizes that the code writes out.

    Of these the path of a module (in the trace), the number of its call that names sizes, and
    which of the sizes it is. `last` is the last call of a function that was made, the one that
    failed if one did: the path of a module (in the trace), and the number of its call. `scales` are
    floats that follow the widths and no size reads, `doubtful` those that stay, though they may be
    computed from widths, `unscaled` the weights that such a float multiplies by their fan-in.
    `slices` are sizes that the code writes out, by which slices take other channels than the widths
    ask for. `outputs` are the shapes of what it put out.

    Example:
        >>> Settlement({}, None).failure is None
        True
    """

    found: dict[Place, int | float]
    failure: str | None
    literals: tuple[tuple[str, int, int], ...] = ()
    last: tuple[str, int] | None = None
    scales: dict[Place, int | float] = field(default_factory=dict)
    doubtful: tuple[str, ...] = ()
    unscaled: tuple[str, ...] = ()
    slices: tuple[tuple[str, int, int], ...] = ()
    outputs: tuple[tuple[int, ...], ...] = ()


class _Told:
    """Attributes that describe the widths of their modules, and have new values of these."""

    def __init__(
        self, base: nn.Module, places: Collection[Place], model_path: Callable[[str], str]
    ) -> None:
        self.places = frozenset(places)
        self._base = base
        self._model_path = model_path

    def before(self, place: Place | None) -> int:
        """Return the value in the base network."""
        assert place is not None
        return int(
            getattr(self._base.get_submodule(self._model_path(place.module)), place.attribute)
        )


class _Settler:
    def __init__(
        self,
        module: nn.Module,
        trace: Trace,
        sizes: Sizes,
        model_path: Callable[[str], str],
        scales: Scales,
        told: _Told,
    ) -> None:
        self._told = told
        self._scales = scales
        self.found: dict[Place, int | float] = {}
        self._module = module
        self._trace = trace
        self._sizes = sizes
        self._model_path = model_path
        self._beside = Alongside(trace.shaped, model_path)
        self._comparisons: Counter[str] = Counter()
        self._settled = {  # the plan has given these their values
            Place(path, "groups", None)
            for path, _ in walk(module)
            if model_path(path) in trace.grouped
        }
        self.literals: list[tuple[str, int, int]] = []
        self._slices = Slices(trace)
        self._floated: list[Number] = []  # numbers that a float was made of
        self._at = ("", 0)
        self._sums: list[tuple[Number, int, tuple[str, int], int | None]] = []
        self._made: Counter[str] = Counter()
        self.last: tuple[str, int] | None = None
        install(module, self._compare)

    @property
    def slices(self) -> tuple[tuple[str, int, int], ...]:
        """The sizes by which slices take other channels than the widths ask for."""
        return self._slices.written()

    def scales(self) -> dict[Place, int | float]:
        """Return the new values of numbers that no size reads, but products with tensors do."""
        values = {**self._scales.found, **self.found}
        for number in self._floated:
            place = next((leaf.place for leaf in number.leaves() if leaf.place is not None), None)
            size = None if place is None else self._scales.between(place.module, int(number))
            if size is None or number.current(values) == size:
                continue
            solution = number.solved(size, frozenset(self._settled), values)
            if solution is not None:
                values[solution.place] = solution.value
        return {place: value for place, value in values.items() if place not in self.found}

    def in_training(self) -> Handle:
        """Return what makes the calls of a training pass, of which what is written out is left."""
        self._beside = Alongside(self._trace.trained, self._model_path)
        known = len(self.literals)

        def handle(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: str) -> Any:
            output = self.handle(func, args, kwargs, path)
            del self.literals[known:]
            return output

        return handle

    def handle(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: str) -> Any:
        """Make a call; where it names sizes, make it with those that the widths ask for."""
        name = getattr(func, "__name__", "")
        self.last = (self._model_path(path), self._made[path])
        self._made[path] += 1
        self._scales.see(name, args, kwargs)
        if name in _CONVOLUTIONS:
            args, kwargs = self._regroup(args, kwargs)
        if name not in SHAPING:
            return func(*args, **kwargs)
        entry, self._at = self._beside.next(path, name, (*args, *kwargs.values()))
        if entry is None:
            return func(*args, **kwargs)
        wanted = entry.expected(self._trace.channels, self._sizes)
        if name in RESHAPES or name in TILES:
            args, kwargs = self._reshape(args, kwargs, wanted)
        elif name in SLICES:
            args = self._slice(args, wanted)
        elif name in NARROWS:
            args, kwargs = self._narrow(args, kwargs, wanted)
        elif name in NORMS:
            args = (*args[:1], *(self._corrected(n, wanted[0], 0) for n in args[1:2]), *args[2:])
        elif name in FILLS:
            args = self._filled(args, wanted)
        elif name in PADS or name in ENDS:
            args, kwargs = self._listed(args, kwargs, wanted)
        elif name != "chunk":
            args, kwargs = self._split(args, kwargs, wanted, cut=name in CUTS)
        return func(*args, **kwargs)

    def _regroup(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Give a convolution the groups that its input and weight ask for."""
        given = kwargs.get("groups", args[6] if len(args) > 6 else 1)
        if not isinstance(given, Number) or len(args) < 2:
            return args, kwargs
        if given.place is not None:  # the convolution's own: its input and weight have the say
            self._settled.discard(given.place)
        groups, rest = divmod(args[0].shape[1], args[1].shape[1])
        if rest:
            return args, kwargs  # it fails as it is
        groups = self._corrected(given, groups, None)
        if "groups" in kwargs:
            return args, {**kwargs, "groups": groups}
        return (*args[:6], groups, *args[7:]), kwargs

    def _reshape(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], wanted: tuple[int, ...]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        packed = len(args) > 1 and isinstance(args[1], list | tuple)
        given = list(args[1] if packed else args[1:])
        if len(given) != len(wanted):
            return args, kwargs
        for dim, (value, size) in enumerate(zip(given, wanted, strict=True)):
            if isinstance(value, int) and int(value) != -1:
                given[dim] = self._corrected(value, size, dim)
        return (args[0], tuple(given)) if packed else (args[0], *given), kwargs

    def _slice(self, args: tuple[Any, ...], wanted: tuple[int, ...]) -> tuple[Any, ...]:
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        named = slice_dimensions(index, args[0].ndim)
        if 2 * len(named) != len(wanted):
            return args
        new = {}
        for place, (dim, entry) in enumerate(named):
            before, taken = wanted[2 * place : 2 * place + 2]
            start = self._corrected(entry.start, before, 2 * place)
            stop = self._corrected(entry.stop, before + taken, 2 * place + 1)
            new[id(entry)] = slice(start, stop)
            begin, end, _ = new[id(entry)].indices(args[0].shape[dim])
            moved = (begin, max(0, end - begin)) != (before, taken)
            self._slices.note(args[0], self._at, place, entry, moved)
        changed = tuple(new.get(id(entry), entry) for entry in index)
        return (args[0], changed if isinstance(args[1], tuple) else changed[0], *args[2:])

    def _narrow(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], wanted: tuple[int, ...]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = [*args, *kwargs.values()]
        new = [self._corrected(given[2 + i], size, i) for i, size in enumerate(wanted)]
        return (*given[:2], *new), {}

    def _split(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wanted: tuple[int, ...],
        *,
        cut: bool = False,
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = args[1] if len(args) > 1 else next(iter(kwargs.values()))
        if cut and isinstance(given, list | tuple):  # told where parts begin, the first apart
            return self._listed(args, kwargs, tuple(accumulate(wanted[:-1])))
        if isinstance(given, list | tuple):
            return self._listed(args, kwargs, wanted)
        if cut:
            return args, kwargs  # told how many parts there are
        new = self._corrected(given, wanted[0], 0)
        if self.literals[-1:] == [(*self._at, 0)]:  # one size for all parts
            self.literals += [(*self._at, part) for part in range(1, len(wanted))]
        return _with_second(args, kwargs, new)

    def _filled(self, args: tuple[Any, ...], wanted: tuple[int, ...]) -> tuple[Any, ...]:
        """Make constants of the sizes wanted; a tensor before them says of what kind."""
        kind = args[:1] if args and isinstance(args[0], torch.Tensor) else ()
        given = args[len(kind) :]
        packed = bool(given) and isinstance(given[0], list | tuple)
        listed = list(given[0] if packed else given)
        wanted = wanted[: len(listed)] if len(set(wanted)) == 1 else wanted  # an identity matrix
        if len(listed) != len(wanted):
            return args
        new = self._all_corrected(listed, wanted)
        return (*kind, new, *given[1:]) if packed else (*kind, *new)

    def _listed(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], wanted: tuple[int, ...]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = args[1] if len(args) > 1 else next(iter(kwargs.values()))
        if not isinstance(given, list | tuple) or len(given) != len(wanted):
            return args, kwargs
        new = self._all_corrected(given, wanted)
        return _with_second(args, kwargs, new)

    def _all_corrected(self, given: Sequence[Any], wanted: Sequence[int]) -> list[Any]:
        sizes = enumerate(zip(given, wanted, strict=True))
        return [self._corrected(value, size, dim) for dim, (value, size) in sizes]

    def _corrected(self, value: Any, size: int, dim: int | None) -> Any:
        """Return the size to use; change the attribute it came from where it was another."""
        if not isinstance(value, Number):
            self._note_literal(value, size, dim)
            return value
        if value.current(self.found) == size:
            self._settled.update(leaf.place for leaf in value.leaves() if leaf.place is not None)
            return size
        if value.adds_up(self._settled):
            self._sums.append((value, size, self._at, dim))
            return size  # what its parts are shows in other calls
        return self._solved(value, size, self._at, dim)

    def _solved(self, value: Number, size: int, at: tuple[str, int], dim: int | None) -> Any:
        """Change an attribute that a number was made of, so that it is the size."""
        solution = value.solved(size, frozenset(self._settled), self.found)
        if solution is None:
            self._note_literal(int(value), size, dim, at)
            return value
        self._apply(solution, value)
        return size

    def finish(self, *, trained: bool = False) -> None:
        """Settle sums of which calls did not show all parts.

        Args:
            trained: Whether they arose in a training pass, of which what is written out is left.
        """
        known = len(self.literals)
        for value, size, at, dim in self._sums:
            if value.current(self.found) != size:
                self._solved(value, size, at, dim)
        self._sums.clear()
        if trained:
            del self.literals[known:]

    def _note_literal(
        self, value: Any, size: int, dim: int | None, at: tuple[str, int] | None = None
    ) -> None:
        """Note a size that is another than the widths ask for, though nothing tells where from."""
        if isinstance(value, int) and value >= 0 and value != size and dim is not None:
            self.literals.append((*(at or self._at), dim))

    def _apply(self, solution: Solution, value: Number) -> None:
        place = solution.place
        before = next(int(leaf) for leaf in value.leaves() if leaf.place == place)
        self.found[place] = solution.value
        self._settled.add(place)
        set_place(self._module, place, Number.at(solution.value, place, self._compare))
        owner = self._module.get_submodule(place.module)
        for name, other in list(vars(owner).items()):  # attention scales follow the head width
            own = Place(place.module, name, None)
            inverse = type(other) is float and before > 0 and abs(other * before**0.5 - 1) < 1e-9
            if inverse and own not in self.found:
                self.found[own] = solution.value**-0.5
                setattr(owner, name, solution.value**-0.5)

    def _compare(self, number: Number, question: str, other: Any, answer: bool) -> bool:
        """Where the base network found an attribute equal to a size, it must be so here.

        Where it found one to divide a size, it will: the reshape behind tells to what it changes.
        Attributes that are compared with each other must be as they were to each other, so that a
        block has its shortcut, or none.
        """
        if question == FLOAT:
            self._floated.append(number)
        if number.place is None or question == FLOAT:
            return answer
        path = number.place.module
        outcomes = self._trace.compared.get(self._model_path(path), [])
        position = self._comparisons[path]
        self._comparisons[path] += 1
        before = outcomes[position] if position < len(outcomes) else answer
        if answer == before:
            return answer
        pair = isinstance(other, Number) and other.place is not None
        if question == "==" and before:
            own, value = (other, number) if pair and self._is_told(number) else (number, other)
            assert own.place is not None
            self._apply(Solution(own.place, int(value)), own)
            return True
        if pair:
            return before if self._part(number, other) else answer
        return answer or before

    def _is_told(self, number: Number) -> bool:
        """Tell whether a number has a new value, which another is to have too."""
        return number.place in self._told.places or number.place in self.found

    def _part(self, *numbers: Number) -> bool:
        """Let two attributes that compare otherwise than before have the values that they had.

        Those that describe widths can, where nothing else reads them.
        """
        apart = [
            (number, self._told.before(number.place))
            for number in numbers
            if number.place in self._told.places and number.place not in self.found
        ]
        for number, before in apart:
            assert number.place is not None
            self._apply(Solution(number.place, before), number)
        return bool(apart)


def _with_second(
    args: tuple[Any, ...], kwargs: dict[str, Any], value: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call with another second one, however it was given."""
    if len(args) > 1:
        return (args[0], value, *args[2:]), kwargs
    return args, {**kwargs, next(iter(kwargs)): value}
