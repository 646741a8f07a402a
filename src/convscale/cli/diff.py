"""`convscale diff`: two networks stage by stage."""

from __future__ import annotations

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.values import optional_whole_number
from convscale.input_sizes import parse_input_sizes
from convscale.quantities import parse_resolution


def diff(
    network: options.Network,
    other: options.OtherNetwork,
    resolution: options.Resolution = None,
    num_classes: options.NumClasses = None,
    in_chans: options.InChans = None,
    input_size: options.InputSizes = None,
    json: options.Json = False,
) -> Answer:
    """Compare two networks stage by stage: depth, width, side and cost, with their ratios.

    Example:
        >>> diff("resnet18", "resnet34", json=True)["only_second"][:2]
        ['layer1.2', 'layer2.2']
    """
    side = None if resolution is None else parse_resolution(resolution)
    classes = optional_whole_number(num_classes, what="number of classes")
    channels = optional_whole_number(in_chans, what="number of input channels")
    inputs = parse_input_sizes(input_size)

    from convscale.report.staged import difference_table
    from convscale.study import diff as compare_stages

    found = compare_stages(
        network,
        other,
        resolution=side,
        num_classes=classes,
        in_chans=channels,
        example_inputs=inputs,
    )
    return found.as_document() if json else [difference_table(found)]
