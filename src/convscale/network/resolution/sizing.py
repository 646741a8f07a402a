"""Networks that are built for one input size: their constructor is told another."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import nn

from convscale.network.modules.copies import full_copy, meta_copy
from convscale.network.modules.numbers import Place, set_place
from convscale.network.resolution.map_sizes import (
    MOST_TRIED,
    BaseMaps,
    Followed,
    base_maps,
    cropped,
    follow,
    unmoved,
)
from convscale.network.resolution.resampling import Fates, carry, fates, grid_of, resample
from convscale.network.resolution.tables import Maps, maps_of, reshaped, table_of, with_moved_tables
from convscale.network.running.probing import runs, with_input
from convscale.network.sources.network import Device, Network
from convscale.quantities import Resolution, exact, like, sides

# What constructors call the side of the images they take. Whether it is that is told by trying.
SIZE_OPTIONS = (
    "img_size",
    "image_size",
    "input_size",
    "im_size",
    "in_size",
    "size",
    "img_resolution",
    "image_resolution",
    "input_resolution",
    "resolution",
)


@dataclass(frozen=True)
class Told:
    """A network made for a resolution: by an option of its constructor, and without weights.

    What `network` builds holds the base's weights; `fates` says what became of tables, `sizes` of
    sizes of maps in attributes, before and after. Where no option is, these alone were given
    another size. `failed` tells why it does not run, where that was seen.

    Example:
        >>> from convscale.network.sources.network import from_timm
        >>> Sizing(from_timm("levit_conv_128s", {}), 224).at(256).option
        'img_size'
    """

    network: Network
    module: nn.Module
    option: str | None
    fates: Fates
    sizes: Mapping[Place, tuple[int, int]] = field(default_factory=dict)
    failed: str | None = None


@dataclass(frozen=True)
class _Form:
    """The option that the size is told by, as one number or as a pair."""

    name: str
    paired: bool

    def options(self, resolution: Resolution) -> dict[str, Any]:
        lengths = sides(resolution)
        return {self.name: lengths if self.paired or len(set(lengths)) > 1 else lengths[0]}


class Sizing:
    """Make a network for other resolutions, where its constructor takes one.

    Args:
        network: The network.
        resolution: What it is built for, in px; None where nothing tells it.
        trial: A resolution to find out with, where nothing tells it.
        module: The network on the meta device, if it was built already.

    Where the network is given inputs of the user's, its constructor is told nothing; sizes of maps
    and position tables in it follow.

    Example:
        >>> from convscale.network.sources.network import from_timm
        >>> Sizing(from_timm("levit_conv_128s", {}), 224).bound
        True
        >>> Sizing(from_timm("resnet18", {}), 224).at(256) is None
        True
    """

    def __init__(
        self,
        network: Network,
        resolution: Resolution | None,
        *,
        trial: Resolution | None = None,
        module: nn.Module | None = None,
    ) -> None:
        self._network = network
        self._resolution = resolution
        self._trial = trial if resolution is None else resolution
        self._given = module
        self._told: dict[Resolution, Told | None] = {}
        self._tries = 3 * MOST_TRIED  # of single sizes of maps, in vain, at all resolutions

    @cached_property
    def _module(self) -> nn.Module:
        return self._network.build("meta") if self._given is None else self._given

    @cached_property
    def _maps(self) -> Maps | None:
        base = self._base_maps
        return None if base is None else maps_of(self._module, base.feed)

    @cached_property
    def _base_maps(self) -> BaseMaps | None:
        if self._resolution is None:
            return None
        network = self._network
        return base_maps(
            self._module, self._resolution, in_chans=network.in_chans, given=network.inputs
        )

    @cached_property
    def _found(self) -> tuple[_Form | None, bool]:
        """The form in which the constructor takes a size, and whether tensors depend on it.

        It takes a size if it builds the same layers at the doubled one; nothing but tables,
        and layers that see all positions at once, may have another shape there.
        """
        network = self._network
        if network.remake is None or self._trial is None or network.inputs is not None:
            return None, False
        doubled = like(self._trial, [2 * side for side in sides(self._trial)])
        for form in self._forms():
            module = self._made(form, doubled)
            if module is not None and (found := fates(self._module, module)) is not None:
                return form, found.any
        return None, False

    def _forms(self) -> Iterator[_Form]:
        assert self._network.remake is not None
        names = _options(self._network.remake.factory, type(self._module))
        for name in SIZE_OPTIONS:
            if name in names:
                yield from (_Form(name, paired=False), _Form(name, paired=True))

    def _made(self, form: _Form, resolution: Resolution) -> nn.Module | None:
        network = self._remade(form, resolution)
        try:
            return network.build("meta")
        except Exception:  # noqa: BLE001 - the constructor refuses the size, as it may
            return None

    def _remade(self, form: _Form, resolution: Resolution) -> Network:
        assert self._network.remake is not None
        return self._network.remake.make(form.options(resolution))

    @property
    def given(self) -> bool:
        """Whether the network is given inputs of the user's, whose size no constructor is told."""
        return self._network.inputs is not None

    @property
    def bound(self) -> bool:
        """Whether tensors of the network depend on the size that its constructor is told."""
        return self._found[1]

    def at(self, resolution: Resolution) -> Told | None:
        """Return the network made for a resolution, None where it cannot be.

        Where its constructor takes none, position tables and sizes of maps may follow.
        """
        if resolution not in self._told:
            self._told[resolution] = self._at(resolution)
        return self._told[resolution]

    def _at(self, resolution: Resolution) -> Told | None:
        form, _ = self._found
        if form is None:
            return self._by_running(resolution)
        module = self._made(form, resolution)
        if module is None:
            return None
        growth = (self._resolution, resolution) if self._resolution is not None else None
        found = fates(self._module, module, growth)
        if found is None:
            return None
        network, made = self._network, self._remade(form, resolution)

        def build(device: Device) -> nn.Module:
            built = made.build(device)
            return carry(network.build(device), built, found) if device == "cpu" else built

        told = replace(
            made,
            name=network.name,
            build=build,
            resolution=resolution,
            in_chans=network.in_chans,
            dims=network.dims,
        )
        return self._with_sizes(Told(told, module, form.name, found), resolution)

    def _with_sizes(self, told: Told, resolution: Resolution) -> Told:
        """Let sizes of maps follow that the constructor was told nothing of."""
        base, network = self._base_maps, told.network
        if base is None or not base.calls:
            return told
        done = self._follow(told.module, base, resolution)
        if not done.right or not done.sizes:
            return replace(told, failed=done.failed)
        sizes = {place: new for place, (_, new) in done.sizes.items()}

        def build(device: Device) -> nn.Module:
            return _with_places(network.build(device), sizes)

        moved = replace(network, build=build, sizes={**network.sizes, **sizes})
        return replace(told, network=moved, module=done.module, sizes=done.sizes)

    def _follow(self, module: nn.Module, base: BaseMaps, resolution: Resolution) -> Followed:
        """Let sizes of maps follow; single ones no more where many were tried in vain."""
        done = follow(module, base, resolution, tries=min(MOST_TRIED, self._tries))
        self._tries -= 0 if done.right else done.tried
        return done

    def _by_running(self, resolution: Resolution) -> Told | None:
        """Let sizes of maps and position tables follow that a run shows not to fit."""
        network, before, base, maps = self._network, self._resolution, self._base_maps, self._maps
        if before is None or base is None or (maps is None and not base.calls):
            return None
        done = self._follow(self._module, base, resolution)
        moved: nn.Module | None = done.module
        if maps is not None and (maps.lookups or not done.right):  # lookups fail for no shape
            moved = with_moved_tables(done.module, maps, base.feed_at(resolution))
        elif not done.right:
            return None
        found = None if moved is None else fates(self._module, moved, (before, resolution))
        if moved is not None and found is not None:
            found = _with_buffers(found, self._module, moved, (before, resolution))
        if moved is None or found is None or found.fresh or found.computed:
            return None
        if not found.any and not done.sizes:
            return None
        sizes = {place: new for place, (_, new) in done.sizes.items()}

        def build(device: Device) -> nn.Module:
            if device == "meta":
                return meta_copy(moved)
            built = full_copy(network.build("cpu"))
            tables = {
                name: resample(table_of(built, name), grid)
                for name, grid in found.resampled.items()
            }
            return _with_places(reshaped(built, tables), sizes)

        own = {**network.sizes, **sizes}
        told = replace(network, build=build, resolution=resolution, seen=None, sizes=own)
        return Told(told, moved, None, found, done.sizes)

    def unmoved(self, resolution: Resolution) -> str:
        """Say which window sees a whole map at the base's resolution alone; or nothing."""
        base = self._base_maps
        if base is None or not base.calls:
            return ""
        return unmoved(self._module, base, resolution)

    def cropped(self, resolution: Resolution) -> str:
        """Say which size in the code should have followed to a resolution; or nothing."""
        base = self._base_maps
        if base is None or not any(call.surely and not call.held for call in base.calls.values()):
            return ""
        return cropped(self._module, base, resolution)


def _with_places(module: nn.Module, sizes: Mapping[Place, int]) -> nn.Module:
    for place, value in sizes.items():
        set_place(module, place, value)
    return module


def _with_buffers(
    found: Fates, base: nn.Module, moved: nn.Module, growth: tuple[Resolution, Resolution]
) -> Fates:
    """Return fates in which buffers are resampled as parameters are: no constructor makes them."""
    grids = dict(found.resampled)
    for name in found.computed:
        old, new = table_of(base, name), table_of(moved, name)
        grid = grid_of(tuple(old.shape), tuple(new.shape), *growth)
        if grid is None:
            return found
        grids[name] = grid
    return replace(found, resampled=grids, computed=())


def _options(factory: Callable[..., Any], kind: type) -> set[str]:
    """Return the names of what a factory takes, and of what it may pass on to a class."""
    taken = _parameters(factory)
    names = {parameter.name for parameter in taken}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken):
        for each in kind.__mro__:
            made_by = vars(each).get("__init__", object.__init__)
            names.update(parameter.name for parameter in _parameters(made_by))
    return names


def _parameters(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    try:
        return tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return ()  # written in C: it tells nothing


def fitted(network: Network, resolution: Resolution | None) -> Network:
    """Return a network made for a resolution, where it takes one; its input channels are known.

    Args:
        network: The network.
        resolution: The sides in px; None leaves all as it is.

    Example:
        >>> from convscale.network.sources.network import from_timm
        >>> fitted(from_timm("levit_conv_128s", {}), 256).origin.options
        {'img_size': 256}
    """
    known = with_input(network, resolution)
    own = network.resolution
    if resolution is None or resolution == own:
        return known
    asked, dims = replace(known, resolution=resolution), known.dims or 2
    size = exact(resolution, dims)
    sizing = Sizing(known, None if own is None else exact(own, dims), trial=size)
    told = sizing.at(size)
    if told is None:
        return asked
    sure = sizing.bound or told.sizes  # other maps may be read without an error
    tried = (told.network, asked) if sure else (asked, told.network)
    found = (with_input(replace(each, resolution=resolution), resolution) for each in tried)
    return next((each for each in found if runs(each.build("meta"), size, each.in_chans)), asked)
