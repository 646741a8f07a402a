"""Blocks that are lists of modules (`for attention, mlp in self.layers`): nobody calls them.

What such a block takes is what the first of its modules takes, what it puts out what the last one
puts out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from convscale.network.modules.walking import has_weights
from convscale.network.tracing.chains import own_children, own_walk

if TYPE_CHECKING:
    from convscale.network.tracing.trace import Border

_LISTS = (nn.ModuleList, nn.ModuleDict)


def list_borders(module: nn.Module, borders: Mapping[str, Border]) -> dict[str, Border]:
    """Return the borders of lists that stand in lists, each of the path of its first module.

    Args:
        module: The network.
        borders: Those of modules that are called.

    Example:
        >>> list_borders(nn.ModuleList([nn.ModuleList([nn.Conv2d(3, 3, 1)])]), {})
        {}
    """
    found = {}
    for path, block in _listed_lists(module):
        inside = [border for own in _children(path, block) if (border := borders.get(own))]
        if inside and has_weights(block):
            first, *_, last = sorted((inside[0], *inside), key=lambda border: border.order)
            found[path] = replace(
                first,
                output_id=last.output_id,
                output_shape=last.output_shape,
                output_units=last.output_units,
            )
    return found


def _listed_lists(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for path, container in own_walk(module):
        if isinstance(container, _LISTS):
            for name, child in own_children(container):
                if isinstance(child, _LISTS):
                    yield f"{path}.{name}".lstrip("."), child


def _children(path: str, block: nn.Module) -> list[str]:
    return [f"{path}.{name}" for name, _ in own_children(block)]
