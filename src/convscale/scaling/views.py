"""The operators of any network that a user can name, and the stages that they stand in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from convscale.complexity.calls import StageSpan
from convscale.complexity.counting import check_convention
from convscale.complexity.operators import check_dtype, record_network
from convscale.complexity.views import Operators
from convscale.errors import ConvscaleError
from convscale.network.channels.products import OwnRule
from convscale.network.running.execution import ForwardError
from convscale.network.running.feeding import feed_of
from convscale.network.sources.inputs import ExampleInputs
from convscale.network.sources.naming import NetworkLike
from convscale.network.sources.network import Network
from convscale.prediction.predict import ELEMENTS
from convscale.quantities import Resolution, check_count
from convscale.scaling.resolving import resolve, with_inputs
from convscale.scaling.scaler import Scaler, untraced
from convscale.scaling.search.blueprint import Blueprint
from convscale.scaling.staging import stage_names


def operators(
    network: NetworkLike,
    *,
    resolution: Resolution | None = None,
    convention: str = "default",
    dtype: str = "float32",
    batch_size: int = 1,
    stages: bool = False,
    num_classes: int | None = None,
    in_chans: int | None = None,
    rules: Mapping[str, OwnRule] | None = None,
    example_inputs: ExampleInputs | None = None,
) -> Operators:
    """Record every operator of a forward pass: flops, params, acts, and the bytes it moves.

    Args:
        network: A name, `file.py:factory`, a saved folder, `NAME@STRATEGY:FACTOR`, a
            description of `convscale.families`, or a module.
        resolution: Base input side, or all sides, in px; required for modules.
        convention: The convention of flops and acts.
        dtype: The dtype of every floating tensor, which gives its bytes.
        batch_size: Images in the forward pass.
        stages: Whether to look for the stages, for the view by stage.
        num_classes: Classes of the classifier, for names and factories.
        in_chans: Input channels, for names and factories.
        rules: Rules for operators of one's own, as `count` takes them.
        example_inputs: What the forward pass takes, as `count` takes it.

    Returns:
        The calls in the order in which they run, with their views.

    Raises:
        InputError: If an argument is wrong, or the network cannot run at the resolution.

    Example:
        >>> found = operators("resnet18", stages=True)
        >>> [part.name for part in found.by_stage()]
        ['stem', 'layer1', 'layer2', 'layer3', 'layer4', 'head']
        >>> sum(part.flops for part in found.by_kind())
        1814073344
    """
    check_convention(convention)
    check_dtype(dtype)
    check_count(batch_size, what="batch size")
    base = resolve(network, resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    base = with_inputs(base, example_inputs, resolution)
    found = record_network(
        base,
        convention=convention,
        dtype=dtype,
        batch_size=batch_size,
        rules=rules,
        autocast=dtype == ELEMENTS,  # for a prediction
    )
    if not stages:
        return found
    spans, missing = _stages_or_why(base)
    return replace(found, stages=spans, notes=(*found.notes, *missing))


def _stages_or_why(network: Network) -> tuple[tuple[StageSpan, ...], tuple[str, ...]]:
    """Return the stages, or a note on why there are none: the network itself runs."""
    try:
        spans = stage_spans(network)
    except ConvscaleError as error:
        return (), (f"The stages cannot be told: {error.line}",)
    missing = f"{network.name} has no stage of blocks that can be repeated."
    return spans, () if spans else (missing,)


def _blueprint(network: Network) -> Blueprint:
    """Return what knows the stages, whether the network takes one image or inputs given."""
    if network.inputs is None:
        return Scaler(network).blueprint
    feed, module = feed_of(network), network.build("meta")
    try:
        return Blueprint(module, feed.sides(module) or (), given=network.inputs)
    except ForwardError as error:
        raise untraced(network.name, error) from error


def stage_spans(network: Network) -> tuple[StageSpan, ...]:
    """Return the modules of each stage, in the order in which the stages run.

    Raises:
        UnscalableNetworkError: If the network cannot be traced.

    Example:
        >>> from convscale.network import resolve_base
        >>> stage_spans(resolve_base("timm:resnet18"))[0].paths
        ('layer1.0', 'layer1.1')
    """
    found = _blueprint(network).stages
    containers = [stage.container for stage in found]
    return tuple(
        StageSpan(
            name,
            s.paths,
            container=s.container if containers.count(s.container) == 1 else "",
        )
        for name, s in zip(stage_names(found), found, strict=True)
    )
