"""The training whose time and energy are limited, as people say it, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convscale.errors import InputError
from convscale.prediction.schedule import Schedule
from convscale.prediction.store import ProfileLike
from convscale.quantities import check_count, check_positive


@dataclass(frozen=True)
class Training:
    """A training: on which devices, of how many images, how often.

    Args:
        profile: A profile of training.
        images: Images of one epoch.
        epochs: How often all are seen.
        devices: Devices that train together.
        batch_size: Images on each device in a step; 256, or the nearest that the profile has seen.
        efficiency: What is left of a device's speed beside the others.
        power_w: Power of each device (W), for the energy.

    Example:
        >>> Training("rtx3090-train-amp-nhwc", images=1_281_167, epochs=100).devices
        1
    """

    profile: ProfileLike
    images: int
    epochs: int
    devices: int = 1
    batch_size: int | None = None
    efficiency: float = 1.0
    power_w: float | None = None


def schedule_of(training: Training) -> Schedule:
    """Check a training, and return it with its profile.

    Raises:
        InputError: If an argument is wrong, or the profile is one of inference.

    Example:
        >>> schedule_of(Training("rtx3090-train-amp-nhwc", images=50_000, epochs=90)).steps
        17640
    """
    from convscale.scaling.planning import check_efficiency, profile_of_training, training_batch

    profile = profile_of_training(training.profile)
    batch = training.batch_size
    power = training.power_w
    return Schedule(
        profile,
        check_count(training.images, what="number of images"),
        check_count(training.epochs, what="number of epochs"),
        training_batch(profile) if batch is None else check_count(batch, what="batch size"),
        check_count(training.devices, what="number of devices"),
        check_efficiency(training.efficiency),
        None if power is None else check_positive(power, what="power in watts"),
    )


def training_of(
    profile: ProfileLike | None,
    images: int | None,
    epochs: int | None,
    **others: int | float | None,
) -> Training | None:
    """Return the training that options describe; None where none of them came.

    Args:
        profile: A profile of training.
        images: Images of one epoch.
        epochs: How often all are seen.
        others: The further fields of a `Training`; None for the default.

    Raises:
        InputError: If what a training needs is missing.

    Example:
        >>> training_of(None, None, None, devices=None) is None
        True
    """
    needed = {"--train-profile": profile, "--images": images, "--epochs": epochs}
    given: dict[str, Any] = {name: value for name, value in others.items() if value is not None}
    missing = [name for name, value in needed.items() if value is None]
    if len(missing) == len(needed) and not given:
        return None
    if profile is None or images is None or epochs is None:
        raise InputError(
            "A training is described by --train-profile, --images and --epochs. Give "
            f"{' and '.join(missing)} too."
        )
    return Training(profile, images, epochs, **given)
