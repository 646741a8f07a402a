"""What a network says about its features, brought up to date: an adapter for published interfaces.

Backbones describe themselves, so that a head can be put on. timm keeps in `feature_info` the
channels and the module of every feature, in `feature_ends` where in a container these stand, in
`num_features` and `head_hidden_size` what a classifier takes, and in its configuration the input's
shape; torchvision reads `out_channels` and `inplanes`; both name in `return_layers` the modules
whose outputs are features. Encoders list the channels of their maps, `[3, 64, 128, 256]`, some by
the maps' names. No forward pass ties these to widths, so that nothing but their names tells what
they mean; lists that one reads stay as they are. The new values are those of the places that they
describe.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from torch import nn

from convscale.network.channels.channels import Sizes
from convscale.network.modules.walking import walk
from convscale.network.stages.stages import join, within
from convscale.network.tracing.trace import Trace
from convscale.quantities import sides
from convscale.scaling.plans.plan import Description
from convscale.scaling.search.blueprint import Blueprint
from convscale.scaling.variants.part_sizes import part_sizes
from convscale.scaling.variants.variant import Variant
from convscale.scaling.widths.sums import Width
from convscale.scaling.widths.widths import Widths

_WIDTHS = ("num_features", "head_hidden_size", "in_features", "out_channels", "inplanes")
_LISTS = ("channel", "chs", "dim", "feature", "filter", "hidden", "planes", "width")  # in names
_CONFIGURATIONS = ("pretrained_cfg", "default_cfg")


def described(blueprint: Blueprint, variant: Variant, widths: Widths) -> tuple[Description, ...]:
    """Return the new values of what the modules of a network say about their features.

    Args:
        blueprint: The base network.
        variant: Its depths and resolution.
        widths: Its new widths.

    Example:
        >>> from convscale.network import resolve_base
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 224)
        >>> found = described(base, base.base(), base.base().rule.widths(2.0))
        >>> [entry.value for entry in found if entry.path[0] == "num_features"]
        [1024]
    """
    places = _Places(blueprint.trace, variant, widths)
    parted = partial(
        part_sizes, base=blueprint.base(), variant=variant, sizes=variant.sizes(widths)
    )
    found: list[Description] = []
    lists: dict[tuple[str, str], list[Description]] = defaultdict(list)
    for path, part in walk(blueprint.module):
        if type(part).__module__.startswith("torch.nn.") or not variant.holds(path):
            continue  # PyTorch's own follow their weights
        found += _widths(part, path, path, places)
        for listed in _lists(part, path, path, places):
            lists[path, str(listed.path[0])].append(listed)
        found += parted(part, path, called=path)
        found += _features(blueprint.module, path, part, places)
        found += _ends(path, part, variant, renamed_in=blueprint.module)
        found += _returned(blueprint.module, path, part, variant)
        found += _inputs(blueprint, path, part, variant)
    for original, path in _copied(blueprint.module, variant):
        part = blueprint.module.get_submodule(original)
        found += _widths(part, original, path, places)
        for listed in _lists(part, original, path, places):
            lists[original, str(listed.path[0])].append(listed)
        found += parted(part, path, called=original)
    for attribute in blueprint.unread(tuple(lists)) if lists else ():
        found += lists[attribute]
    return tuple(found)


def _widths(part: nn.Module, original: str, path: str, places: _Places) -> Iterator[Description]:
    """Update what a module of the base, or a copy of it at another path, says of its widths."""
    for name in _WIDTHS:
        value = vars(part).get(name)
        if type(value) is int:
            new = places.last(original, path, value)
            if new is not None and new != value:
                yield Description(path, (name,), new)


def _lists(part: nn.Module, original: str, path: str, places: _Places) -> Iterator[Description]:
    """Update lists of the channels of maps, by index or name, as a module makes them in order."""
    for name, value in vars(part).items():
        if type(value) not in (list, tuple, dict) or not _is_of_channels(name):
            continue
        keys = list(value) if type(value) is dict else range(len(value))
        listed = [value[key] for key in keys]
        if len(set(map(str, listed))) < 2 or not all(type(entry) is int for entry in listed):
            continue
        new = places.along(original, path, listed)
        if new is None or new == listed:
            continue
        if type(value) is tuple:
            yield Description(path, (name,), tuple(new))
            continue
        for key, before, after in zip(keys, listed, new, strict=True):
            if after != before:
                yield Description(path, (name, key), after)


def _is_of_channels(name: str) -> bool:
    return any(word in name.lower() for word in _LISTS)


def _copied(module: nn.Module, variant: Variant) -> Iterator[tuple[str, str]]:
    """Yield each module in an added block: where its original stands, and its own path."""
    for change in variant.edits:
        made = change.repetition
        for position, name in enumerate(change.added):
            block = join(change.container, name)
            original = join(change.container, change.template[position % len(change.template)])
            pairs = [(original, block)]
            if made is not None and made.source == original:
                pairs += [(join(made.model or "", b), join(block, b)) for b in made.borrowed]
            lent = tuple(original for _, original in pairs[1:])
            for first, second in pairs:
                yield from _inside(module, first, second, lent if second == block else ())


def _inside(
    module: nn.Module, original: str, copy: str, lent: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Yield the modules of a block and of its copy side by side, without those it borrowed."""
    try:
        block = module.get_submodule(original)
    except AttributeError:
        return  # the model of a made block has no such part, so that nothing was borrowed
    for path, part in walk(block):
        own = join(copy, path) if path else copy
        if type(part).__module__.startswith("torch.nn.") or any(within(own, b) for b in lent):
            continue
        yield (join(original, path) if path else original), own


class _Places:
    """The channels at the borders of modules, in the base network and in the scaled one."""

    def __init__(self, base: Trace, variant: Variant, widths: Widths) -> None:
        self.variant = variant
        self.widths = widths
        self._base = _channels(base, base.channels.sizes)
        self._new = _channels(variant.trace, variant.sizes(widths))

    def at(self, path: str, moved: str, channels: int) -> int:
        """Return what the channels that a module puts out or takes become."""
        before = self._base.get(path, (None, None))
        after = self._new.get(self.variant.model_path(moved), (None, None))
        for old, new in zip(before, after, strict=True):
            if old == channels and new is not None:
                return new
        return self.widths.of.get(Width(channels), channels)

    def last(self, owner: str, moved: str, channels: int) -> int | None:
        """Return what channels become at the last module inside of an owner that has them.

        They are read where the owner or a copy of it stands in the scaled network.
        """
        for path, before in reversed(self._base.items()):
            if channels not in before or not (not owner or within(path, owner)):
                continue
            place = self.variant.model_path(moved + path.removeprefix(owner))
            after = self._new.get(place, (None, None))
            for old, new in zip(before, after, strict=True):
                if old == channels and new is not None:
                    return new
        return None

    def along(self, owner: str, moved: str, listed: Sequence[int]) -> list[int] | None:
        """Return what the channels of maps that modules put out one after the other become.

        The first may be those of what the owner takes. None where some module puts out other maps,
        or channels as many as listed become several numbers.
        """
        pairs: list[tuple[int | None, int | None]] = []
        for path, (before, taken) in self._base.items():
            if path != owner and (not owner or within(path, owner)):
                place = self.variant.model_path(moved + path.removeprefix(owner))
                after, takes = self._new.get(place, (None, None))
                pairs += [(before, after)] if pairs else [(taken, takes), (before, after)]
        order = iter(pairs)
        if not all(any(old == channels for old, _ in order) for channels in listed):
            return None
        become = {channels: {new for old, new in pairs if old == channels} for channels in listed}
        news = [become[channels] for channels in listed]
        if any(len(new) > 1 or None in new for new in news):
            return None
        return [new for own in news for new in own if new is not None]


def _channels(trace: Trace, sizes: Sizes) -> dict[str, tuple[int | None, int | None]]:
    """Return the channels that each module puts out and takes, in the order of execution."""

    def size(units: Any) -> int | None:
        return None if units is None else trace.channels.size(units, sizes)

    return {
        path: (size(border.output_units), size(border.input_units))
        for path, border in sorted(trace.borders.items(), key=lambda item: item[1].order)
    }


def _features(
    module: nn.Module, owner: str, part: nn.Module, places: _Places
) -> Iterator[Description]:
    """Update the channels and the module of every feature that `feature_info` lists."""
    info = vars(part).get("feature_info")
    listed = getattr(info, "info", info)
    way = ("feature_info",) if listed is info else ("feature_info", "info")
    for index, entry in enumerate(listed if isinstance(listed, list | tuple) else ()):
        if not isinstance(entry, dict) or type(entry.get("num_chs")) is not int:
            continue
        path = _located(module, owner, str(entry.get("module", "")))
        moved = renamed(module, path, places.variant)
        new = places.at(path, moved, entry["num_chs"])
        if new != entry["num_chs"]:
            yield Description(owner, (*way, index, "num_chs"), new)
        if moved != path:
            name = str(entry["module"])
            told = moved.removeprefix(path.removesuffix(name)) if path.endswith(name) else name
            yield Description(owner, (*way, index, "module"), told)


def _ends(
    owner: str, part: nn.Module, variant: Variant, *, renamed_in: nn.Module
) -> Iterator[Description]:
    """Update where features stand among the children of the container that holds them."""
    ends, info = vars(part).get("feature_ends"), vars(part).get("feature_info")
    if not isinstance(ends, list) or not isinstance(info, list) or len(ends) != len(info):
        return
    for name, container in part.named_children():
        children = list(container._modules)
        told = [str(entry.get("module", "")).split(".") for entry in info]
        if not any(
            keys[:2] == [name, children[end]]
            for keys, end in zip(told, ends, strict=True)
            if 0 <= end < len(children)
        ):
            continue
        after = _children(children, join(owner, name), variant)
        for index, end in enumerate(ends):
            if 0 <= end < len(children):
                path = renamed(renamed_in, join(join(owner, name), children[end]), variant)
                new = after.index(path.removeprefix(join(owner, name) + "."))
                if new != end:
                    yield Description(owner, ("feature_ends", index), new)


def _children(names: list[str], container: str, variant: Variant) -> list[str]:
    """Return the names of a container's children in a variant, in their order.

    Where blocks hand on, what is added stands in them, and what goes leaves one that passes on.
    """
    own = (edit for edit in variant.edits if edit.container == container)
    edits = [edit for edit in own if edit.mode != "chained"]
    gone = {name for edit in edits for name in edit.removed}
    added = {edit.after: edit.added for edit in edits}
    return [new for name in names if name not in gone for new in (name, *added.get(name, ()))]


def _returned(
    module: nn.Module, owner: str, part: nn.Module, variant: Variant
) -> Iterator[Description]:
    """Let features come from the last block of a stage where a block's name tells them."""
    told = vars(part).get("return_layers")
    if not isinstance(told, dict):
        return
    new = {
        renamed(module, join(owner, str(name)), variant).removeprefix(join(owner, "_")[:-1]): value
        for name, value in told.items()
    }
    if list(new) != list(told):
        yield Description(owner, ("return_layers",), new)


def _located(module: nn.Module, owner: str, name: str) -> str:
    """Return the path of a module that a feature names: as it is, or where it is wrapped."""
    paths = dict(walk(module))
    flat = name.replace(".", "_", 1)
    wrapped = [path for path in paths if path.endswith(f".{name}") and within(path, owner or path)]
    candidates = (join(owner, name), join(owner, flat), *wrapped[:1])
    return next((path for path in candidates if path in paths), join(owner, name))


def renamed(module: nn.Module, path: str, variant: Variant) -> str:
    """Return the path of the last block of a stage for that of its last block in the base.

    Example:
        >>> from convscale.network import resolve_base
        >>> base = Blueprint(resolve_base("timm:resnet18").build("meta"), 64)
        >>> renamed(base.module, "layer1.1.act2", base.variant((4, 2, 2, 2), 64))
        'layer1.3.act2'
    """
    for edit in variant.edits:
        if edit.mode == "chained":
            continue  # the block in the base's place hands on what those behind it put out
        last = join(edit.container, edit.after)
        if edit.added and within(path, last):
            return join(edit.container, edit.added[-1]) + path.removeprefix(last)
        for gone in edit.removed:
            if within(path, join(edit.container, gone)):
                names = list(module.get_submodule(edit.container)._modules)
                left = [own for own in names[: names.index(gone)] if own not in edit.removed]
                before = left[-1]
                return join(edit.container, before) + path.removeprefix(join(edit.container, gone))
    return path


def _inputs(
    blueprint: Blueprint, path: str, part: nn.Module, variant: Variant
) -> Iterator[Description]:
    """Tell the new input side where a configuration tells the base's."""
    base, new = sides(blueprint.resolution), sides(variant.resolution)
    for name in _CONFIGURATIONS:
        size = (vars(part).get(name) or {}).get("input_size") if name in vars(part) else None
        if size is not None and base != new and tuple(size[1:]) == base:
            yield Description(path, (name, "input_size"), (size[0], *new))
