"""Sizes of maps that follow a resolution, as attributes of a plan: those of added blocks too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from convscale.network.modules.numbers import Place
from convscale.network.stages.stages import join, within
from convscale.scaling.plans.plan import Attribute, DepthEdit, flat


def map_attributes(
    sizes: Mapping[Place, int], edits: Iterable[DepthEdit], paths: Iterable[str]
) -> tuple[Attribute, ...]:
    """Return what a plan says of sizes of maps, which added blocks have from their models.

    Args:
        sizes: The new values by their places in the base network.
        edits: The blocks that are added and removed.
        paths: The modules that are there then.

    Example:
        >>> more = DepthEdit("layers", added=("2",), after="1", template=("0",))
        >>> found = map_attributes({Place("layers.0", "side", None): 8}, [more], ["layers.2"])
        >>> [(one.module, one.value) for one in found]
        [('layers.2', 8)]
    """
    present = set(paths) if sizes else set()
    edits = tuple(flat(edits)) if sizes else ()
    return tuple(
        Attribute(path, place.attribute, place.index, value)
        for place, value in sizes.items()
        for path in (place.module, *_copies(place.module, edits))
        if path in present
    )


def _copies(path: str, edits: tuple[DepthEdit, ...]) -> Iterator[str]:
    for edit in edits:
        for position, name in enumerate(edit.added):
            model = join(edit.container, edit.template[position % len(edit.template)])
            if within(path, model):
                yield join(edit.container, name) + path.removeprefix(model)
