"""`convscale stages`: the stages of a network, and which of them can be deepened."""

from __future__ import annotations

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.values import optional_whole_number
from convscale.input_sizes import parse_input_sizes
from convscale.quantities import parse_resolution


def stages(
    network: options.Network,
    resolution: options.Resolution = None,
    num_classes: options.NumClasses = None,
    in_chans: options.InChans = None,
    input_size: options.InputSizes = None,
    json: options.Json = False,
) -> Answer:
    """Show the stages of a network: depth, width, side, cost, and which can be deepened.

    Example:
        >>> [row["depth"] for row in stages("resnet50", json=True)["stages"]]
        [3, 4, 6, 3]
    """
    side = None if resolution is None else parse_resolution(resolution)
    classes = optional_whole_number(num_classes, what="number of classes")
    channels = optional_whole_number(in_chans, what="number of input channels")
    inputs = parse_input_sizes(input_size)

    from convscale.report.staged import stage_table
    from convscale.scaling import stages as find_stages

    found = find_stages(
        network, resolution=side, num_classes=classes, in_chans=channels, example_inputs=inputs
    )
    return found.as_document() if json else [stage_table(found)]
