"""Sizes of maps that a network holds: at another resolution they become those of its maps there.

A pool with a window as large as its map, a resize to a size in an attribute: each names a size that
holds at one resolution alone. The base network's run shows which map a size is that of, and a run
at another resolution what that map has become; where the number came from (`network.numbers`) is
the attribute that must follow. Nothing but a run shows that all do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch
from torch import nn

from convscale.network.channels.ties import tensors_in
from convscale.network.modules.copies import meta_copy
from convscale.network.modules.numbers import Place, install, set_place
from convscale.network.resolution.map_calls import (
    CONVOLUTIONS,
    LARGE,
    RESHAPES,
    SIZED,
    Call,
    Shape,
    by_axis,
    in_attributes,
    is_held,
    slot_of,
    spanned,
    would_move,
)
from convscale.network.running.execution import ForwardError, Observer, run
from convscale.network.running.feeding import Feed
from convscale.network.running.given import resized
from convscale.network.sources.inputs import ExampleInputs
from convscale.quantities import Resolution, sides

_Key = tuple[str, int]  # a module, and the number of its call of a function
MOST_TRIED = 16  # runs in which sizes are tried one by one


@dataclass(frozen=True)
class BaseMaps:
    """What a run of the base network shows of its maps.

    `feed` is what it ran on; `calls` are those that name sizes, `shapes` what each call of a
    function gives, in the order in which they ran; `outputs` the shapes of what the network gives.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.AvgPool2d(8)).to("meta")
        >>> base_maps(net, 8).calls["1", 0].whole
        (True, True)
    """

    resolution: Resolution
    feed: Feed
    calls: dict[_Key, Call]
    shapes: dict[_Key, Shape]
    outputs: tuple[Shape, ...]

    def feed_at(self, resolution: Resolution) -> Feed:
        """Return what the network is run on at another resolution."""
        if self.feed.given is None:
            return replace(self.feed, resolution=resolution)
        return replace(self.feed, given=resized(self.feed.given, self.resolution, resolution))


@dataclass(frozen=True)
class Followed:
    """A network in which sizes of maps follow: the new values by their places, and the old ones.

    `right` tells whether it runs so, and gives as many classes; `tried` how many single sizes were
    tried; `failed` why the network does not run as it is, where that was tried.

    Example:
        >>> Followed(nn.Identity(), {}, True).sizes
        {}
    """

    module: nn.Module
    sizes: Mapping[Place, tuple[int, int]]
    right: bool
    tried: int = 0
    failed: str | None = None


class Sure(Observer):
    """See whether a pool has a window as large as its map, or a map becomes as large as the image.

    That such a size is in an attribute, and must follow, may show in no error.

    Example:
        >>> seen = Sure()
        >>> _ = run(nn.AvgPool2d(7), (torch.zeros(1, 8, 7, 7),), seen)
        >>> seen.found
        True
    """

    def __init__(self) -> None:
        self.found = False
        self._image: Shape | None = None

    def enter(self, path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """See a module before it runs; the first takes the image."""
        del path, module
        if self._image is None:
            image = next((one for one in inputs if isinstance(one, torch.Tensor)), None)
            self._image = () if image is None else tuple(image.shape[2:])

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        """See a call of an operator."""
        del kwargs, path
        if "upsample" in func._opname and self._image:
            self.found |= tuple(output.shape[2:]) == self._image != tuple(args[0].shape[2:])
        if "_pool" not in func._opname or func._opname.startswith(("_adapt", "adapt")):
            return
        if len(args) < 2 or not isinstance(args[1], list | tuple):
            return
        made = output[0] if isinstance(output, tuple) else output
        count = len(args[1])
        maps = zip(args[1], args[0].shape[-count:], made.shape[-count:], strict=False)
        self.found |= any(LARGE <= size == before and after == 1 for size, before, after in maps)


def base_maps(
    module: nn.Module,
    resolution: Resolution,
    *,
    in_chans: int | None = None,
    given: ExampleInputs | None = None,
) -> BaseMaps | None:
    """Run a network, and note the sizes of maps that its calls name; None if it does not run.

    Args:
        module: The network, on the meta device.
        resolution: The sides in px.
        in_chans: Input channels; read from the module if not given.
        given: What the user gives its forward pass, in place of one image.
    """
    feed = Feed(None if given is not None else resolution, in_chans=in_chans, given=given)
    noted = _Noted(_numbered(module), feed, resolution)
    if noted.failed is not None:
        return None
    return BaseMaps(resolution, feed, noted.calls, noted.shapes, noted.outputs)


def follow(
    module: nn.Module,
    base: BaseMaps,
    resolution: Resolution,
    *,
    tries: int = MOST_TRIED,
) -> Followed:
    """Give the sizes of maps that a network holds the values for another resolution.

    Windows that are meant to see a whole map follow it in any case, and so do sizes that are the
    image's; other sizes only where the
    network does not run, or gives other classes, without.

    Args:
        module: The network, on the meta device; it is not changed.
        base: What the base network's run shows.
        resolution: The other sides in px.
        tries: How many single sizes are tried, each in a run.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.AvgPool2d(8), nn.Flatten()).to("meta")
        >>> follow(net, base_maps(net, 8), 12).module[1].kernel_size
        12
    """
    numbered = _numbered(module)  # for all attempts: what they find is seen in a copy of its own

    def attempt(chosen: Iterable[_Key], seen: bool = False) -> _Attempt:
        return _Attempt(numbered, resolution, base, frozenset(chosen), seen)

    held = {key: call for key, call in base.calls.items() if call.held}
    surely = {key for key, call in held.items() if call.surely}
    now = attempt(surely)
    failed = None if surely else now.failed
    resized = {key for key, call in held.items() if call.resizes}
    if not now.right and not resized.isdisjoint(now.movable):
        every = attempt(surely | resized, seen=True)
        now = every if every.right else now
    tried = 0
    if not now.right:
        now, tried = _one_by_one(attempt, now, tries)
    return replace(_carried_out(module, now, resolution, base), tried=tried, failed=failed)


def _one_by_one(attempt: Callable[..., _Attempt], now: _Attempt, most: int) -> tuple[_Attempt, int]:
    """Let single sizes follow, the last that was named first, as long as more of it runs."""
    tried, furthered = 0, True
    while furthered and not now.right:
        furthered = False
        for key in reversed(now.movable):
            if tried >= most:
                break
            tried += 1
            then = attempt(now.chosen | {key})
            if then.right or len(then.shapes) > len(now.shapes):
                now, furthered = then, True
                break
    return now, tried


def _carried_out(
    module: nn.Module,
    now: _Attempt,
    resolution: Resolution,
    base: BaseMaps,
) -> Followed:
    """Write the new values, and see whether the network runs with nothing else changed."""
    new = {place: pair for place, pair in now.found.items() if pair[0] != pair[1]}
    changed = meta_copy(module)
    for place, (_, value) in new.items():
        set_place(changed, place, value)
    right = now.right and (not new or _Attempt(_numbered(changed), resolution, base).right)
    return Followed(changed, new, right)


def unmoved(module: nn.Module, base: BaseMaps, resolution: Resolution) -> str:
    """Say which window sees a whole map in the base network, and not at another resolution.

    Args:
        module: The network, on the meta device.
        base: What the base network's run shows.
        resolution: The other sides in px.

    Returns:
        A sentence, or nothing.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 8), nn.Flatten()).to("meta")
        >>> unmoved(net, base_maps(net, 8), 12)
        'What does not follow is the window of conv2d in 0, 8x8 as its whole map: it is a weight.'
    """
    attempt = _Attempt(_numbered(module), resolution, base)
    for path, position in (*attempt.shapes, *attempt.failing):
        call = base.calls.get((path, position))
        shape = attempt.shapes.get((path, position), ())  # none where the map is the smaller one
        if call is None or not call.spans or call.made == shape[-len(call.made) :]:
            continue
        window, where = _times(call.sizes), path or "the network"
        why = "it is a weight" if call.function in CONVOLUTIONS else (
            "the code writes it out; take it from the map's shape, or from an attribute"
        )  # fmt: skip
        return (
            f"What does not follow is the window of {call.function} in {where}, {window} as its "
            f"whole map: {why}."
        )
    return ""


def cropped(module: nn.Module, base: BaseMaps, resolution: Resolution) -> str:
    """Say which size in the code should have followed: a window sees a part of its map now.

    Args:
        module: The network, on the meta device.
        base: What the base network's run shows.
        resolution: The other sides in px.

    Returns:
        A sentence, or nothing.

    Example:
        >>> class Net(nn.Module):
        ...     def forward(self, x):
        ...         return nn.functional.avg_pool2d(x, 8)
        >>> cropped(Net(), base_maps(Net(), 8), 12)
        'The window of avg_pool2d in the network stays 8x8, as the code writes it out, in a map ...'
    """
    attempt = _Attempt(_numbered(module), resolution, base)
    for (path, position), read in attempt.read.items():
        call = base.calls[path, position]
        count = len(call.sizes)
        now, made = read[-count:], attempt.shapes[path, position][-count:]
        larger = any(a > b for a, b in zip(now, call.read, strict=True))
        stays = attempt.named.get((path, position)) == call.sizes and made == call.made
        if call.surely and not call.held and larger and stays:
            size, where = _times(call.sizes), path or "the network"
            if call.as_image:
                return (
                    f"What {call.function} gives in {where} stays {size}: the code writes it out."
                )
            return (
                f"The window of {call.function} in {where} stays {size}, as the code writes it "
                f"out, in a map of {_times(now)}."
            )
    return ""


def _times(sizes: Shape) -> str:
    return "x".join(map(str, sizes))


def _numbered(module: nn.Module) -> nn.Module:
    """Return a copy of a module whose integers keep their origin."""
    copied = meta_copy(module)
    install(copied)
    return copied


@dataclass
class _Runner:
    """A run of a module whose integers keep their origin (`_numbered`)."""

    module: nn.Module
    feed: Feed
    resolution: Resolution
    failed: str | None = field(default=None, init=False)
    outputs: tuple[Shape, ...] = field(default=(), init=False)
    shapes: dict[_Key, Shape] = field(default_factory=dict, init=False)
    failing: tuple[_Key, ...] = field(default=(), init=False)  # the call at work
    _calls_of: Counter[str] = field(default_factory=Counter, init=False)

    def start(self) -> None:
        inputs = self.feed.inputs(self.module)
        try:
            output = run(self.module, inputs.args, keywords=inputs.kwargs, handle=self.handle)
        except ForwardError as error:
            self.failed = error.reason
            return
        self.outputs = tuple(tuple(tensor.shape) for tensor in tensors_in(output))

    def handle(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: str) -> Any:
        name = getattr(func, "__name__", "").lstrip("_")
        key = (path, self._calls_of[path])
        self._calls_of[path] += 1
        if not args and "input" in kwargs:
            args, kwargs = (kwargs["input"],), {k: v for k, v in kwargs.items() if k != "input"}
        if name in RESHAPES and len(args) > 1 and isinstance(args[1], int):
            args = (args[0], args[1:])
        args, kwargs = self.before(key, name, args, kwargs)
        self.failing = (key,)
        output = func(*args, **kwargs)
        self.failing = ()
        made = output[0] if isinstance(output, tuple) and output else output
        if isinstance(made, torch.Tensor):
            self.shapes[key] = tuple(made.shape)
            self.after(key, name, args, kwargs, self.shapes[key])
        return output

    def before(
        self, key: _Key, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments that a call is made with."""
        del key, name
        return args, kwargs

    def after(
        self, key: _Key, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], made: Shape
    ) -> None:
        """See a call that was made, and the shape of what it gave."""


class _Noted(_Runner):
    """The base network's run: the calls that name sizes of maps."""

    def __init__(self, module: nn.Module, feed: Feed, resolution: Resolution) -> None:
        super().__init__(module, feed, resolution)
        self.calls: dict[_Key, Call] = {}
        self.start()

    def after(
        self, key: _Key, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], made: Shape
    ) -> None:
        slot = slot_of(name, args, kwargs)
        read = tuple(args[0].shape) if args and isinstance(args[0], torch.Tensor) else ()
        if slot is not None and read:
            given = slot.of(args, kwargs)
            count = len(given) if name in RESHAPES else slot.axes or len(read) - 2
            sizes = by_axis(given, count)
            if sizes is not None:
                whole = spanned(name, sizes, read, made)
                named = name in RESHAPES and any(map(is_held, given))
                if name in SIZED or named or any(whole):
                    self._note(key, name, sizes, read, made, whole, in_attributes(given, whole))
        elif name in CONVOLUTIONS and len(args) > 1 and read:
            count = CONVOLUTIONS[name]
            sizes = tuple(args[1].shape[2:])
            whole = tuple(
                1 < size == before and after == 1
                for size, before, after in zip(sizes, read[-count:], made[-count:], strict=True)
            )
            if any(whole):
                self._note(key, name, sizes, read, made, whole, False)

    def _note(
        self,
        key: _Key,
        name: str,
        sizes: Shape,
        read: Shape,
        made: Shape,
        whole: tuple[bool, ...],
        held: bool,
    ) -> None:
        count = len(sizes)
        maps = (read[-count:], made[-count:])
        as_image = name in SIZED and maps[1] == sides(self.resolution) != maps[0]
        self.calls[key] = Call(name, sizes, *maps, whole, held, as_image)


class _Attempt(_Runner):
    """A run at another resolution, in which chosen calls name the sizes of their maps there.

    A size that none of the maps before it has is in proportion to the image's, or stays where only
    what was seen counts: it may be a number of bins.
    """

    def __init__(
        self,
        module: nn.Module,
        resolution: Resolution,
        base: BaseMaps,
        chosen: frozenset[_Key] = frozenset(),
        seen: bool = False,
    ) -> None:
        super().__init__(module, base.feed_at(resolution), resolution)
        self.chosen = chosen
        self._seen = seen
        self.found: dict[Place, tuple[int, int]] = {}
        self._base = base
        pairs = zip(sides(base.resolution), sides(resolution), strict=True)
        self._sides = tuple(pairs)
        self.read: dict[_Key, Shape] = {}
        self.named: dict[_Key, Shape | None] = {}  # the sizes that calls name
        self.movable: list[_Key] = []  # calls that were not chosen, and could name other sizes
        self._grown: dict[tuple[int, int], int] = {}
        self._areas: dict[int, int] = {}
        self._grow(sides(base.resolution), sides(resolution))
        self.start()

    @property
    def right(self) -> bool:
        """Whether it ran, and gives vectors as long as the base network does."""
        if self.failed is not None or len(self.outputs) != len(self._base.outputs):
            return False
        pairs = zip(self._base.outputs, self.outputs, strict=True)
        return all(old == new for old, new in pairs if len(old) <= 2)

    def before(
        self, key: _Key, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        call, slot = self._base.calls.get(key), slot_of(name, args, kwargs)
        if call is None or slot is None or call.function != name or not call.held:
            return args, kwargs
        given = slot.of(args, kwargs)
        wanted = self._wanted(call, tuple(args[0].shape))
        if name in RESHAPES:
            wanted = self._reshaped(call, given, args[0].numel())
        if key not in self.chosen:
            if would_move(given, wanted):
                self.movable.append(key)
            return args, kwargs
        args, kwargs = slot.put(args, kwargs, self._moved(given, wanted))
        stride = slot.stride
        if stride is not None and call.spans and (given := stride.of(args, kwargs)):
            own = by_axis(given, len(call.sizes))
            if own is not None and all(
                not whole or a == b for a, b, whole in zip(own, call.sizes, call.whole, strict=True)
            ):
                args, kwargs = stride.put(args, kwargs, self._moved(given, wanted))
        return args, kwargs

    def _wanted(self, call: Call, read: Shape) -> tuple[int | None, ...]:
        """Return what the sizes of a call should be here; of a window what it sees."""
        count = len(call.sizes)
        if call.spans:
            now = read[-count:]
            return tuple(
                size if whole else None for size, whole in zip(now, call.whole, strict=True)
            )
        return tuple(self._size(size, at - count) for at, size in enumerate(call.sizes))

    def _reshaped(self, call: Call, given: Any, elements: int) -> tuple[int | None, ...]:
        """Return the positions that a reshape should name: those of maps, or what is left.

        Where an axis is cut (windows of a signal), no map is as long as its parts are many.
        """
        positions = tuple(self._positions(size) for size in call.sizes)
        before = [
            made if size < 0 else size for size, made in zip(call.sizes, call.made, strict=True)
        ]
        known = [
            new if new is not None and is_held(own) else old
            for old, new, own in zip(before, positions, given, strict=True)
        ]
        if call.function == "expand" or prod(known) == elements:
            return positions
        for at in reversed(range(1, len(before))):
            rest = prod(before) // before[at] if before[at] else 0
            if is_held(given[at]) and rest and elements % rest == 0:
                return tuple(elements // rest if dim == at else None for dim in range(len(before)))
        return positions

    def after(
        self, key: _Key, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], made: Shape
    ) -> None:
        call = self._base.calls.get(key)
        if call is not None:
            self.read[key] = tuple(args[0].shape)
            slot = slot_of(name, args, kwargs)
            given = None if slot is None else slot.of(args, kwargs)
            self.named[key] = by_axis(given, len(call.sizes))
        old = self._base.shapes.get(key, ())
        if len(old) == len(made) > 2 and old[:2] == made[:2]:
            self._grow(old[2:], made[2:])

    def _grow(self, old: Shape, new: Shape) -> None:
        for axis in range(-len(old), 0):
            self._grown[axis, old[axis]] = new[axis]
        self._areas[prod(old)] = prod(new)

    def _size(self, old: int, axis: int) -> int:
        """Return what the side of maps that were so long is here; of the last that were."""
        known = self._grown.get((axis, old))
        if known is not None or self._seen:
            return old if known is None else known
        before, after = self._sides[axis] if -axis <= len(self._sides) else self._sides[-1]
        return max(1, round(old * after / before))

    def _positions(self, old: int) -> int | None:
        """Return what has become of so many positions, of a side or a whole map."""
        if old in self._areas:
            return self._areas[old]
        return next((new for (_, own), new in self._grown.items() if own == old), None)

    def _moved(self, given: Any, wanted: tuple[int | None, ...]) -> Any:
        """Return the sizes that are wanted, and note which places must hold them."""
        if isinstance(given, list | tuple):
            if len(given) == 1 and len(set(wanted)) == 1:
                return (self._placed(given[0], wanted[0]),)
            if len(given) != len(wanted):
                return given
            return tuple(map(self._placed, given, wanted))
        return self._placed(given, wanted[0]) if len(set(wanted)) == 1 else given

    def _placed(self, value: Any, size: int | None) -> Any:
        if size is None or not is_held(value):
            return value
        now = {place: new for place, (_, new) in self.found.items()}
        if value.current(now) == size:
            if value.place is not None:
                self.found.setdefault(value.place, (int(value), size))
            return size
        solution = value.solved(size, frozenset(self.found), now)
        if solution is None:
            return value
        old = next(int(leaf) for leaf in value.leaves() if leaf.place == solution.place)
        self.found[solution.place] = (old, solution.value)
        return size
