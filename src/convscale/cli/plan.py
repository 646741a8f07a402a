"""`convscale plan`: what a training run would take, on devices that need not be at hand."""

from __future__ import annotations

from convscale.cli import options
from convscale.cli.answer import Answer
from convscale.cli.profiles import no_profile
from convscale.cli.values import optional_whole_number, share, watts, whole_number
from convscale.errors import InputError
from convscale.quantities import parse_number, parse_resolution


def plan(
    network: options.Network,
    images: options.Images = None,
    epochs: options.Epochs = None,
    profile: options.Profile = None,
    devices: options.Devices = "1",
    batch_size: options.DeviceBatch = None,
    efficiency: options.Efficiency = "1",
    power: options.Power = None,
    optimizer: options.Optimizer = "sgd",
    resolution: options.Resolution = None,
    coverage: options.Coverage = "0.9",
    num_classes: options.NumClasses = None,
    in_chans: options.InChans = None,
    json: options.Json = False,
) -> Answer:
    """Plan a training: the step, the epoch, device-hours, memory, and energy at a stated power.

    Example:
        >>> plan("resnet18", epochs="90")
        Traceback (most recent call last):
        convscale.errors.InputError: A plan needs the number of images: --images 1.28M.
    """
    if images is None:
        raise InputError("A plan needs the number of images: --images 1.28M.")
    if epochs is None:
        raise InputError("A plan needs the number of epochs: --epochs 100.")
    if profile is None:
        raise no_profile("A plan needs a profile of training")
    many = whole_images(images)
    times = whole_number(epochs, what="number of epochs")
    side = None if resolution is None else parse_resolution(resolution)
    count = whole_number(devices, what="number of devices")
    batch = optional_whole_number(batch_size, what="batch size")
    watt = None if power is None else watts(power)
    left = share(efficiency, what="efficiency")
    level = share(coverage, what="coverage")
    classes = optional_whole_number(num_classes, what="number of classes")
    channels = optional_whole_number(in_chans, what="number of input channels")

    from convscale.report.plans import plan_table
    from convscale.scaling.planning import plan as plan_training

    found = plan_training(
        network,
        images=many,
        epochs=times,
        profile=profile,
        devices=count,
        batch_size=batch,
        efficiency=left,
        power_w=watt,
        optimizer=optimizer,
        resolution=side,
        coverage=level,
        num_classes=classes,
        in_chans=channels,
    )
    return found.as_document() if json else [plan_table(found)]


def whole_images(text: str) -> int:
    """Read a number of images: an integer, or with a suffix as 1.28M.

    Raises:
        InputError: If it is none.

    Example:
        >>> whole_images("1.28M"), whole_images("50000")
        (1280000, 50000)
    """
    value = parse_number(text, what="number of images")
    if abs(value - round(value)) > 1e-9 * value or value >= 2**53:
        raise InputError(f"The number of images is {text}; it must be a whole number.")
    return round(value)
