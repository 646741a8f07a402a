"""Attributes that tell how large the equal parts are that a forward pass takes channels apart into.

`y.chunk(2, 1)` names no size. Another method of the module may (`split((self.c, self.c), 1)`, which
takes its place where a network is exported), so that the attribute follows the parts.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from convscale.network.channels.channels import Sizes
from convscale.network.channels.shaping import CUTS
from convscale.scaling.plans.plan import Description
from convscale.scaling.variants.variant import Variant

_BY_NUMBER = CUTS | {"chunk"}


def part_sizes(
    part: nn.Module, path: str, *, called: str, base: Variant, variant: Variant, sizes: Sizes
) -> Iterator[Description]:
    """Yield new values of attributes that are as large as the equal parts of a call.

    Args:
        part: A module of the base network.
        path: Where it, or a copy of it, stands in the scaled network.
        called: Where it stands in the base network.
        base: The base network.
        variant: The scaled network's depths and resolution.
        sizes: The new sizes of its channel groups.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.search.blueprint import Blueprint
        >>> own = Blueprint(resolve_base("timm:resnet18").build("meta"), 224).base()
        >>> list(part_sizes(nn.ReLU(), "act1", called="act1", base=own, variant=own, sizes=()))
        []
    """
    before = base.trace.shaped.get(called, [])
    after = variant.trace.shaped.get(variant.model_path(path), [])
    for old, new in zip(before, after, strict=False):
        if old is None or new is None or old.function not in _BY_NUMBER:
            continue
        known = [units for units in new.dims if units is not None]
        size, now = old.sizes[0], set(new.expected(variant.trace.channels, sizes))
        if len(known) < len(new.dims) or len(set(old.sizes)) > 1 or len(now) > 1:
            continue
        names = [name for name, value in vars(part).items() if type(value) is int and value == size]
        if len(names) == 1 and size > 1 and now != {size}:  # of several nothing tells which it is
            yield Description(path, (names[0],), now.pop())
