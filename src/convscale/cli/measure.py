"""`convscale measure`: the time of a network on the machine at hand."""

from __future__ import annotations

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.progress import progress
from convscale.cli.values import batch_of, optional_whole_number, share, time_limits
from convscale.quantities import parse_bytes, parse_resolution


def measure(
    network: options.Network,
    resolution: options.Resolution = None,
    mode: options.Mode = "inference",
    batch_size: options.BatchSizeOrMax = "1",
    device: options.Device = "cpu",
    dtype: options.Dtype = None,
    channels_last: options.ChannelsLast = False,
    compile: options.Compile = False,
    threads: options.Threads = None,
    backend: options.Backend = "pytorch",
    optimizer: options.Optimizer = "sgd",
    precision: options.Precision = None,
    repeats: options.Repeats = None,
    time_limit: options.TimeLimit = None,
    isolate: options.Isolate = False,
    energy: options.Energy = False,
    memory_limit: options.Room = None,
    num_classes: options.NumClasses = None,
    in_chans: options.InChans = None,
    json: options.Json = False,
) -> Answer:
    """Measure the time of a network's forward pass or training step on the machine at hand.

    Example:
        >>> measure("resnet18", batch_size="0")
        Traceback (most recent call last):
        convscale.errors.InputError: The batch size is 0; it must be at least 1.
    """
    side = None if resolution is None else parse_resolution(resolution)
    batch = batch_of(batch_size)
    cores = optional_whole_number(threads, what="number of threads")
    limits = time_limits(repeats, time_limit, repeats_as="repeats")
    within = None if precision is None else share(precision, what="precision")
    room = None if memory_limit is None else parse_bytes(memory_limit, what="memory limit")
    classes = optional_whole_number(num_classes, what="number of classes")
    channels = optional_whole_number(in_chans, what="number of input channels")

    from convscale.report.measured import measurement_table
    from convscale.runtime import measure as measure_network

    with progress("Measuring") as report:
        found = measure_network(
            network,
            resolution=side,
            mode=mode,
            batch_size=batch,
            device=device,
            dtype=dtype,
            channels_last=channels_last,
            compile=compile,
            threads=cores,
            backend=backend,
            optimizer=optimizer,
            precision=within,
            isolate=isolate,
            energy=energy,
            memory_bytes=room,
            num_classes=classes,
            in_chans=channels,
            progress=report,
            **limits,
        )
    return found.as_document() if json else [measurement_table(found)]
