"""Count a network by what it executes, on the meta device, without memory for weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from convscale.complexity.complexity import Count
from convscale.complexity.conventions import CONVENTIONS, convention_named
from convscale.complexity.failing import cannot_run, real_pass, several, unused_rules
from convscale.complexity.tally import Counting, listen
from convscale.network.channels.products import OwnRule, checked_rules
from convscale.network.modules.copies import full_copy, without_foreign_hooks
from convscale.network.running.execution import ForwardError, run
from convscale.network.running.feeding import Feed, feed_of
from convscale.network.sources.inputs import ExampleInputs, Inputs
from convscale.network.sources.network import Network
from convscale.quantities import Resolution


def check_convention(convention: str) -> str:
    """Return the name of a convention that exists.

    Raises:
        InputError: Otherwise.

    Example:
        >>> check_convention("default")
        'default'
    """
    return convention_named(convention).name


def count_network(
    network: Network,
    *,
    resolution: Resolution | None = None,
    convention: str = "default",
    rules: Mapping[str, OwnRule] | None = None,
) -> Count:
    """Count flops, params and acts of a network: one image, one forward pass.

    Args:
        network: The network.
        resolution: Input side, or all sides, in px; the network's own by default.
        convention: The convention of the count.
        rules: Rules for operators, beside those that the network brings.

    Returns:
        The totals, each module's share, and what was met and not counted.

    Raises:
        InputError: If the resolution is missing, or the network cannot run at it.

    Example:
        >>> from convscale.network import resolve_base
        >>> count_network(resolve_base("timm:resnet50")).flops
        4089184256
    """
    counted = _counted(network, resolution, (convention,), rules)
    return counted[0]


def count_conventions(
    network: Network,
    *,
    resolution: Resolution | None = None,
    rules: Mapping[str, OwnRule] | None = None,
) -> dict[str, Count]:
    """Count a network in every convention, in one run.

    Args:
        network: The network.
        resolution: Input side, or all sides, in px; the network's own by default.
        rules: Rules for operators, beside those that the network brings.

    Returns:
        The count in each convention, by its name.

    Raises:
        InputError: If the resolution is missing, or the network cannot run at it.

    Example:
        >>> from convscale.network import resolve_base
        >>> found = count_conventions(resolve_base("timm:resnet50"))
        >>> [(name, one.flops) for name, one in found.items()]
        [('default', 4089184256), ('pycls', 4089185256), ('fvcore', 4111512576),
         ('torch', 8178368512)]
    """
    counted = _counted(network, resolution, tuple(CONVENTIONS), rules)
    return {one.convention: one for one in counted}


def _counted(
    network: Network,
    resolution: Resolution | None,
    conventions: Sequence[str],
    rules: Mapping[str, OwnRule] | None,
) -> list[Count]:
    given = checked_rules(rules)
    every = {**network.rules, **given}
    counters = [Counting(name, rules=every) for name in conventions]
    feed, module = feed_of(network, resolution), network.build("meta")
    found = _count_module(
        module,
        feed.inputs,
        counters,
        resolution=feed.asked,
        name=network.name,
        weights=lambda: network.build("cpu"),
    )
    idle = unused_rules(counters[0].never_met(given))
    found = [replace(one, notes=(*one.notes, *idle)) for one in found]
    if feed.given is None:
        return [replace(one, resolution=feed.resolution) for one in found]
    inputs, size = feed.inputs(module), feed.sides(module)
    return [
        replace(one, resolution=size, inputs=inputs.shapes, notes=(*one.notes, *several(inputs)))
        for one in found
    ]


def count_module(
    module: nn.Module,
    resolution: Resolution,
    *,
    name: str = "",
    in_chans: int | None = None,
    weights: Callable[[], nn.Module] | None = None,
    convention: str = "default",
    rules: Mapping[str, OwnRule] | None = None,
    given: ExampleInputs | None = None,
) -> Count:
    """Count a module of our own (a copy); fall back to real tensors where meta ones fail.

    Args:
        module: The module; it is left in evaluation mode.
        resolution: Input side or all sides in px; an integer for images.
        name: Name to give in the count.
        in_chans: Input channels; read from the module if not given.
        weights: Builds the module with real weights, for networks that need them to run.
        convention: The convention of the count.
        rules: Rules for operators.
        given: What the forward pass takes at the resolution, in place of one image.

    Raises:
        InputError: If the network cannot run at the resolution.

    Example:
        >>> count_module(nn.Conv2d(3, 8, 3, device="meta"), 8).acts
        288
    """
    counters = [Counting(convention, rules=rules)]
    return _count_module(
        module,
        Feed(None if given is not None else resolution, in_chans=in_chans, given=given).inputs,
        counters,
        resolution=resolution,
        name=name,
        weights=weights,
    )[0]


def _count_module(
    module: nn.Module,
    feed: Callable[[nn.Module], Inputs],
    counters: Sequence[Counting],
    *,
    resolution: Resolution | None,
    name: str,
    weights: Callable[[], nn.Module] | None,
) -> list[Count]:
    """Let counters see one run; a second, with real tensors, where the first fails."""
    notes: tuple[str, ...] = ()
    try:
        _run(module, feed(module), counters)
    except ForwardError as error:
        if weights is None:
            raise cannot_run(name, resolution, error, module) from error
        for counter in counters:
            counter.clear()
        try:
            with torch.random.fork_rng():  # the user's numbers go on as if nothing had run
                real = without_foreign_hooks(full_copy(weights()))
                _run(real, feed(real), counters)
        except ForwardError as second:
            raise cannot_run(name, resolution, second, module) from second
        notes = (real_pass(error),)
    return [one.count(module, resolution, name=name, notes=notes) for one in counters]


def _run(module: nn.Module, inputs: Inputs, counters: Sequence[Counting]) -> None:
    handle = listen(counters)
    run(module, inputs.args, *counters, keywords=inputs.kwargs, handle=handle)
