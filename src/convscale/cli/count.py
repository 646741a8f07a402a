"""`convscale count`: flops, params and acts of a network."""

from __future__ import annotations

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.values import optional_whole_number
from convscale.quantities import parse_resolution


def count(
    network: options.Network,
    resolution: options.Resolution = None,
    convention: options.CountConvention = "default",
    layers: options.Layers = False,
    num_classes: options.NumClasses = None,
    in_chans: options.InChans = None,
    json: options.Json = False,
) -> Answer:
    """Count the flops (multiply-adds), params and acts of a network.

    Example:
        >>> count("resnet50", json=True)["flops"]
        4089184256
    """
    side = None if resolution is None else parse_resolution(resolution)
    classes = optional_whole_number(num_classes, what="number of classes")
    channels = optional_whole_number(in_chans, what="number of input channels")

    from convscale.report import conventions, tables
    from convscale.scaling import count as count_network
    from convscale.scaling import count_conventions

    if convention == "all":
        every = count_conventions(network, resolution=side, num_classes=classes, in_chans=channels)
        if json:
            return conventions.conventions_document(every, layers=layers)
        return [conventions.conventions_table(every, layers=layers)]
    found = count_network(
        network, resolution=side, convention=convention, num_classes=classes, in_chans=channels
    )
    return found.as_document(layers=layers) if json else [tables.count_table(found, layers=layers)]
