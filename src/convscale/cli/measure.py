"""`convscale measure`: the latency of a network on the machine at hand."""

from __future__ import annotations

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.progress import progress
from convscale.cli.values import optional_whole_number, time_limits, whole_number
from convscale.quantities import parse_resolution


def measure(
    network: options.Network,
    resolution: options.Resolution = None,
    batch_size: options.BatchSize = "1",
    device: options.Device = "cpu",
    threads: options.Threads = None,
    repeats: options.Repeats = None,
    time_limit: options.TimeLimit = None,
    num_classes: options.NumClasses = None,
    in_chans: options.InChans = None,
    json: options.Json = False,
) -> Answer:
    """Measure the latency of a network's forward pass on the machine at hand.

    Example:
        >>> measure("resnet18", batch_size="0")
        Traceback (most recent call last):
        convscale.errors.InputError: The batch size is 0; it must be at least 1.
    """
    side = None if resolution is None else parse_resolution(resolution)
    batch = whole_number(batch_size, what="batch size")
    cores = optional_whole_number(threads, what="number of threads")
    limits = time_limits(repeats, time_limit, repeats_as="repeats")
    classes = optional_whole_number(num_classes, what="number of classes")
    channels = optional_whole_number(in_chans, what="number of input channels")

    from convscale.report import tables
    from convscale.runtime import measure as measure_network

    with progress("Measuring") as report:
        found = measure_network(
            network,
            resolution=side,
            batch_size=batch,
            device=device,
            threads=cores,
            num_classes=classes,
            in_chans=channels,
            progress=report,
            **limits,
        )
    return found.as_document() if json else [tables.measurement_table(found)]
