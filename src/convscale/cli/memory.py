"""`convscale memory`: the memory that a network needs, for inference and in training."""

from __future__ import annotations

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.values import optional_whole_number, whole_number
from convscale.errors import InputError
from convscale.input_sizes import parse_input_sizes
from convscale.quantities import parse_bytes, parse_resolution


def memory(
    network: options.Network,
    resolution: options.Resolution = None,
    batch_size: options.BatchSizeOrNone = None,
    optimizer: options.StepOptimizer = "sgd",
    precision: options.StepPrecision = None,
    checkpointing: options.Checkpointing = False,
    limit: options.MemoryLimit = None,
    num_classes: options.NumClasses = None,
    in_chans: options.InChans = None,
    input_size: options.InputSizes = None,
    json: options.Json = False,
) -> Answer:
    """Predict the peak memory of inference and of a training step, without running either.

    Example:
        >>> memory("resnet18", optimizer="none", json=True)["inference"]["weights_bytes"]
        46796608
    """
    side = None if resolution is None else parse_resolution(resolution)
    if limit is not None and batch_size is not None:
        raise InputError("A limit finds the batch size. Write --limit or --batch-size, not both.")
    inputs = parse_input_sizes(input_size)
    batch = 1 if batch_size is None else whole_number(batch_size, what="batch size")
    bound = None if limit is None else parse_bytes(limit, what="memory limit")
    classes = optional_whole_number(num_classes, what="number of classes")
    channels = optional_whole_number(in_chans, what="number of input channels")

    from convscale.report.memory import memory_table
    from convscale.scaling.memory import memory as memory_of

    found = memory_of(
        network,
        resolution=side,
        batch_size=batch,
        optimizer=None if optimizer == "none" else optimizer,
        precision=precision,
        checkpointing=checkpointing,
        limit=bound,
        num_classes=classes,
        in_chans=channels,
        example_inputs=inputs,
    )
    return found.as_document() if json else [memory_table(found)]
