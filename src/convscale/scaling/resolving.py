"""Names that stand for scaled networks: NAME@STRATEGY:FACTOR, and saved folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import nn

from convscale.complexity import counting
from convscale.complexity.complexity import Count
from convscale.complexity.counting import check_convention, count_network
from convscale.errors import InputError
from convscale.network.channels.products import OwnRule
from convscale.network.resolution.sizing import fitted
from convscale.network.running.given import given_sides, resized
from convscale.network.sources.inputs import ExampleInputs, given_inputs, image_sides
from convscale.network.sources.naming import (
    NetworkLike,
    ScaledName,
    is_library_name,
    resolve_base,
    split_scaled,
)
from convscale.network.sources.network import Network
from convscale.quantities import Resolution, check_resolution, parse_number
from convscale.scaling.building.stepping import stepped
from convscale.scaling.family import is_by_rule, scaled_family
from convscale.scaling.plans.naming import rounding_of, scaled_name
from convscale.scaling.results.storage import is_saved, saved_network
from convscale.scaling.scaler import Scaler
from convscale.strategy import parse_strategy


def resolve(
    network: NetworkLike,
    *,
    resolution: Resolution | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
) -> Network:
    """Find the network that a user means; every form of the contract.

    Args:
        network: A name, `file.py:factory`, a saved folder, `NAME@STRATEGY:FACTOR`, a
            description of `convscale.families`, or a module.
        resolution: Base input side, or all sides, in px; the network's own by default.
        num_classes: Classes of the classifier, for names and factories.
        in_chans: Input channels, for names and factories.

    Returns:
        The network; its resolution is the one to use, or None where nothing tells it.

    Raises:
        InputError: If the name, the options or the resolution are wrong.

    Example:
        >>> resolve("resnet18@dWr:2").resolution
        232
    """
    if resolution is not None:
        resolution = check_resolution(resolution)
    if isinstance(network, str):
        if is_saved(Path(network)) and not is_library_name(network):
            if num_classes is not None or in_chans is not None:
                raise InputError("A saved folder has its classes and channels already.")
            return _fitted(saved_network(Path(network)), resolution)
        parts = split_scaled(network.strip())
        if parts is not None:
            base = resolve(
                parts.name, resolution=resolution, num_classes=num_classes, in_chans=in_chans
            )
            return _scaled(base, parts)
    base = resolve_base(network, num_classes=num_classes, in_chans=in_chans)
    return _fitted(base, resolution)


def count(
    network: NetworkLike,
    *,
    resolution: Resolution | None = None,
    convention: str = "default",
    num_classes: int | None = None,
    in_chans: int | None = None,
    rules: Mapping[str, OwnRule] | None = None,
    example_inputs: ExampleInputs | None = None,
) -> Count:
    """Count flops, params and acts of a network: one image, one forward pass.

    The network is run once on the meta device, and what it executes is counted.

    Args:
        network: A name, `file.py:factory`, a saved folder, `NAME@STRATEGY:FACTOR`, a
            description of `convscale.families`, or a module.
        resolution: Base input side, or all sides, in px; required for modules.
        convention: default, pycls, fvcore or torch; `convscale.complexity.conventions` says
            what each adds.
        num_classes: Classes of the classifier, for names and factories.
        in_chans: Input channels, for names and factories.
        rules: For operators of one's own, namespace::name to a function that takes a call's
            arguments by name and its result, and returns flops and acts.
        example_inputs: What the forward pass takes, in place of one image at a resolution: a
            tensor, a tuple of inputs or a dictionary of keyword arguments.

    Returns:
        The totals, each module's share, and what was met and not counted.

    Raises:
        InputError: If an argument is wrong, or the network cannot run at the resolution.

    Example:
        >>> found = count("resnet50", resolution=224)
        >>> found.flops, found.params, found.acts
        (4089184256, 25557032, 11114984)
    """
    check_convention(convention)
    found = resolve(network, resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    found = with_inputs(found, example_inputs, resolution)
    return count_network(found, convention=convention, rules=rules)


def count_conventions(
    network: NetworkLike,
    *,
    resolution: Resolution | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    rules: Mapping[str, OwnRule] | None = None,
    example_inputs: ExampleInputs | None = None,
) -> dict[str, Count]:
    """Count a network in every convention, in one run.

    Args:
        network: As `count` takes it.
        resolution: Base input side, or all sides, in px; required for modules.
        num_classes: Classes of the classifier, for names and factories.
        in_chans: Input channels, for names and factories.
        rules: Rules for operators of one's own, as `count` takes them.
        example_inputs: What the forward pass takes, as `count` takes it.

    Returns:
        The count in each convention, by its name.

    Raises:
        InputError: If an argument is wrong, or the network cannot run at the resolution.

    Example:
        >>> found = count_conventions("resnet18")
        >>> {name: one.flops - found["default"].flops for name, one in found.items()}
        {'default': 0, 'pycls': 1000, 'fvcore': 4992512, 'torch': 1814073344}
    """
    found = resolve(network, resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    found = with_inputs(found, example_inputs, resolution)
    return counting.count_conventions(found, rules=rules)


def with_inputs(
    network: Network, example: ExampleInputs | None, resolution: Resolution | None = None
) -> Network:
    """Return a network that is run on the inputs given; made for their size if it takes one.

    Args:
        network: The network.
        example: A tensor, a tuple of inputs or a dictionary of keyword arguments; None for one
            image, or for what a folder says.
        resolution: The resolution that was asked for beside them, if any.

    Raises:
        InputError: If both are given, or the inputs are of another form.

    Example:
        >>> from convscale.input_sizes import InputSize
        >>> with_inputs(resolve("levit_conv_128s"), InputSize((3, 256, 256))).origin.options
        {'img_size': 256}
    """
    if example is None:
        if network.inputs is None or resolution is None:
            return network
        own = given_sides(network.look(), network.inputs)
        return replace(network, inputs=resized(network.inputs, own, resolution))
    if resolution is not None:
        raise InputError(
            "A resolution and inputs were given. Give the inputs alone: their sizes tell the "
            "resolution."
        )
    size = image_sides(None, given_inputs(None, example), dims=network.dims)
    if network.remake is not None and network.dims is not None and size is not None:
        network = fitted(network, size)
    return replace(network, inputs=example)


def build(
    network: NetworkLike,
    *,
    resolution: Resolution | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    weights: bool = True,
) -> nn.Module:
    """Build the module of a network: of a paper family's description, or of any other form.

    Args:
        network: A description of `convscale.families`, a name, `file.py:factory`, a saved
            folder, or `NAME@STRATEGY:FACTOR`; a module is returned as it is.
        resolution: Base input side, or all sides, in px, for networks that depend on it.
        num_classes: Classes of the classifier, for all but modules and folders.
        in_chans: Input channels, for all but modules and folders.
        weights: Whether the module gets its own fresh weights, or a folder's; on the meta device if
            not.

    Raises:
        InputError: If an argument is wrong.

    Example:
        >>> from convscale.families import named
        >>> module = build(named("RegNetX-400MF"), weights=False)
        >>> [len(stage) for stage in module.stages]
        [1, 2, 7, 12]
    """
    found = resolve(network, resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    return found.build("cpu" if weights else "meta")


def _fitted(network: Network, resolution: Resolution | None) -> Network:
    return fitted(network, network.resolution if resolution is None else resolution)


def _scaled(base: Network, asked: ScaledName) -> Network:
    factor = None if asked.factor is None else parse_number(asked.factor, what="factor")
    rounding, multiple = rounding_of(asked.rounding)
    if is_by_rule(base, rounding):
        assert rounding is not None
        return scaled_family(base, parse_strategy(asked.strategy), factor, rounding=rounding)
    scaler = Scaler(base, width_multiple=multiple)
    scaled = scaler.scale(asked.strategy, factor=factor, rounding=rounding, weights=False)
    assert scaled.source is not None
    name = scaled_name(base.name, scaled.strategy, factor, asked.rounding)
    steps = [scaled.plan.as_document()]
    return stepped(scaled.source, steps, name=name, resolution=scaled.resolution)
