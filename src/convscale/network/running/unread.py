"""Which attributes a forward pass reads: it is run without them."""

from __future__ import annotations

from typing import Any

from torch import nn

from convscale.network.modules.copies import meta_copy
from convscale.network.running.execution import ForwardError, Observer, run
from convscale.network.running.feeding import Feed

Named = tuple[str, str]  # the path of a module, and of its attribute the name


class _Calls(Observer):
    """The operators of a run, and where they were called."""

    def __init__(self) -> None:
        self.listed: list[tuple[str, Any]] = []

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        """Note an operator."""
        del args, kwargs, output
        self.listed.append((path, func))


def unread(module: nn.Module, feed: Feed, attributes: tuple[Named, ...]) -> tuple[Named, ...]:
    """Return those attributes that no forward pass reads, in training neither: none if it fails.

    Args:
        module: The network.
        feed: What it is run on.
        attributes: Paths of modules, each with the name of an attribute.

    Example:
        >>> class Named(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.widths, self.sides = [3, 8], [4, 4]
        ...
        ...     def forward(self, x):
        ...         return nn.functional.interpolate(x, self.sides)
        >>> unread(Named(), Feed(8), (("", "widths"), ("", "sides")))
        (('', 'widths'),)
    """
    plain = _calls(module, feed, ())
    if plain is None:
        return ()  # nothing tells
    if not _is_read(module, feed, attributes, plain):
        return attributes
    return tuple(one for one in attributes if not _is_read(module, feed, (one,), plain))


def _is_read(
    module: nn.Module,
    feed: Feed,
    attributes: tuple[Named, ...],
    plain: list[tuple[str, Any]],
) -> bool:
    if _calls(module, feed, attributes) != plain:
        return True
    trains = _calls(module, feed, attributes, training=True)
    return trains is None and _calls(module, feed, (), training=True) is not None


def _calls(
    module: nn.Module, feed: Feed, without: tuple[Named, ...], *, training: bool = False
) -> list[tuple[str, Any]] | None:
    """Return what a run without some attributes calls; None where it fails."""
    copied, seen = meta_copy(module, run=True), _Calls()
    for path, name in without:
        vars(copied.get_submodule(path))[name] = object()  # with which nothing can be done
    inputs = feed.inputs(copied, batch=2 if training else 1)
    try:
        run(copied, inputs.args, seen, keywords=inputs.kwargs, training=training)
    except ForwardError:
        return None
    return list(seen.listed)
