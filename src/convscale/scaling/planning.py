"""Plan the training of any network that a user can name, by a profile of training."""

from __future__ import annotations

from convscale.complexity.memory import MemoryBudget
from convscale.errors import InputError
from convscale.network.sources.naming import NetworkLike
from convscale.prediction.plan import TrainingPlan
from convscale.prediction.predict import check_coverage
from convscale.prediction.profile import Profile
from convscale.prediction.store import ProfileLike, profile_of, profiles
from convscale.quantities import Resolution, check_count, check_positive
from convscale.scaling.memory import check_budget, memory_of
from convscale.scaling.predicting import precision_of, predict_network
from convscale.scaling.resolving import resolve

_BATCH = 256  # the usual one of published recipes on a device
_NOT_IN_IT = (
    "In it are the steps alone: neither loading of images nor evaluation, and of the exchange "
    "between devices what the efficiency says."
)


def plan(
    network: NetworkLike,
    *,
    images: int,
    epochs: int,
    profile: ProfileLike,
    devices: int = 1,
    batch_size: int | None = None,
    efficiency: float = 1.0,
    power_w: float | None = None,
    optimizer: str = "sgd",
    resolution: Resolution | None = None,
    coverage: float = 0.9,
    num_classes: int | None = None,
    in_chans: int | None = None,
) -> TrainingPlan:
    """Plan a training: its step, epochs, device-hours, memory, and energy at a stated power.

    Args:
        network: A name, `file.py:factory`, a saved folder, `NAME@STRATEGY:FACTOR`, a
            description of `convscale.families`, or a module.
        images: Images of one epoch.
        epochs: How often all of them are seen.
        profile: The name, the file or the value of a profile of training.
        devices: Devices that train together, each on a batch of its own.
        batch_size: Images on each device in a step; by default 256, or the nearest that the
            profile has seen.
        efficiency: What is left of a device's speed beside the others: 1 is perfect scaling.
        power_w: Power (W) of each device, for the energy.
        optimizer: sgd or adamw, for the memory.
        resolution: Base input side, or all sides, in px; required for modules.
        coverage: The share of networks whose measured time the intervals shall hold.
        num_classes: Classes of the classifier, for names and factories.
        in_chans: Input channels, for names and factories.

    Raises:
        InputError: If an argument is wrong, or the profile is one of inference.
    """
    given = profile_of_training(profile)
    check_count(images, what="number of images"), check_count(epochs, what="number of epochs")
    check_count(devices, what="number of devices")
    check_coverage(coverage)
    left = check_efficiency(efficiency)
    watts = None if power_w is None else check_positive(power_w, what="power in watts")
    batch = training_batch(given) if batch_size is None else batch_size
    fitting = check_budget(MemoryBudget(0, batch, optimizer, precision_of(given)))
    found = resolve(network, resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    step = predict_network(found, given, batch_size=batch, coverage=coverage)
    return TrainingPlan(
        step=step,
        images=images,
        epochs=epochs,
        devices=devices,
        efficiency=left,
        power_w=watts,
        memory=memory_of(found, fitting),
        notes=(*step.notes, *_shared(devices, left), _NOT_IN_IT),
    )


def profile_of_training(profile: ProfileLike) -> Profile:
    """Return a profile, which must be one of training.

    Raises:
        InputError: If it is not.

    Example:
        >>> profile_of_training("rtx3090-train-amp-nhwc").execution.work
        'training'
    """
    given = profile_of(profile)
    if given.execution.work == "training":
        return given
    others = [
        entry.name
        for entry in profiles()
        if entry.profile is not None and entry.profile.execution.work == "training"
    ]
    known = f"Profiles of training: {', '.join(others)}." if others else "There is none yet."
    raise InputError(
        f"The profile {given.name} is one of {given.execution.work}, and a plan needs one of "
        f"training. {known}"
    )


def check_efficiency(efficiency: float) -> float:
    """Return the share of a device's speed that is left beside others.

    Raises:
        InputError: If it is none.

    Example:
        >>> check_efficiency(0.9)
        0.9
    """
    value = check_positive(efficiency, what="efficiency")
    if value > 1:
        raise InputError(f"The efficiency is {value:g}; it must be at most 1, such as 0.9.")
    return value


def training_batch(profile: Profile) -> int:
    """Return the batch size that is usual, or the nearest that a profile has seen.

    Example:
        >>> training_batch(profile_of_training("rtx3090-train-amp-nhwc"))
        256
    """
    least, most = profile.seen.batch_sizes
    return min(max(_BATCH, least), most)


def _shared(devices: int, efficiency: float) -> tuple[str, ...]:
    if devices == 1:
        return ()
    if efficiency == 1:
        return (f"Perfect scaling is taken for granted: {devices} devices, each at full speed.",)
    return (f"Each of {devices} devices is taken to keep {efficiency:.0%} of its speed.",)
