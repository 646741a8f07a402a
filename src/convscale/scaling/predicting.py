"""The time of any network that a user can name, predicted by a device profile."""

from __future__ import annotations

from convscale.complexity.operators import record_network
from convscale.complexity.views import Operators
from convscale.errors import InputError
from convscale.network.sources.naming import NetworkLike
from convscale.network.sources.network import Network
from convscale.prediction.described import described_workload
from convscale.prediction.predict import ELEMENTS, check_coverage, predicted, workload_of
from convscale.prediction.prediction import Prediction
from convscale.prediction.profile import Profile
from convscale.prediction.store import ProfileLike, profile_of
from convscale.quantities import Resolution, check_count
from convscale.scaling.resolving import resolve


def predict(
    network: NetworkLike | Operators,
    *,
    profile: ProfileLike,
    batch_size: int = 1,
    resolution: Resolution | None = None,
    coverage: float = 0.9,
    num_classes: int | None = None,
    in_chans: int | None = None,
) -> Prediction:
    """Predict the time of a batch on the device of a profile, with an interval; nothing is run.

    Args:
        network: A name, `file.py:factory`, a saved folder, `NAME@STRATEGY:FACTOR`, a
            description of `convscale.families`, a module, or what `operators` recorded of one in
            float8, where bytes are elements.
        profile: The name of a profile, its JSON file, or a `Profile`.
        batch_size: Images in the batch.
        resolution: Base input side, or all sides, in px; required for modules.
        coverage: The share of networks whose measured time the interval shall hold.
        num_classes: Classes of the classifier, for names and factories.
        in_chans: Input channels, for names and factories.

    Returns:
        Latency, throughput, interval, the share of each kind of operator, and notes on what
        lies outside the range of the fit, for which the interval is wider.

    Raises:
        InputError: If an argument is wrong, or the network cannot run at the resolution.
    """
    given = profile_of(profile)
    check_count(batch_size, what="batch size"), check_coverage(coverage)
    if isinstance(network, Operators):
        _refuse(resolution=resolution, num_classes=num_classes, in_chans=in_chans)
        return _predicted(network, given, batch_size, coverage)
    found = resolve(network, resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    return predict_network(found, given, batch_size=batch_size, coverage=coverage)


def predict_network(
    network: Network, profile: Profile, *, batch_size: int = 1, coverage: float = 0.9
) -> Prediction:
    """Predict the time of a batch of a network that is resolved.

    Raises:
        InputError: If the network cannot run at its resolution.
    """
    if network.family is None or network.origin.steps or network.inputs is not None:
        recorded = record_network(network, dtype=ELEMENTS, autocast=True)
        return _predicted(recorded, profile, batch_size, coverage)
    return predicted(  # in closed form: the same operators, without building the network
        described_workload(network.family, resolution=network.resolution),
        profile,
        network=network.name,
        resolution=network.resolution,
        batch_size=batch_size,
        coverage=coverage,
    )


def precision_of(profile: Profile) -> str:
    """Return the precision of a network's memory where it is run as a profile says.

    Example:
        >>> precision_of(profile_of("rtx3090-amp-nchw"))
        'mixed'
    """
    dtype = profile.execution.dtype
    return {"amp": "mixed"}.get(dtype, dtype)


def _predicted(found: Operators, profile: Profile, batch_size: int, coverage: float) -> Prediction:
    return predicted(
        workload_of(found),
        profile,
        network=found.network,
        resolution=found.resolution,
        batch_size=batch_size,
        coverage=coverage,
        notes=found.notes,
    )


def _refuse(**given: object) -> None:
    """Refuse options that operators were recorded with already."""
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise InputError(
            f"Operators are of one network at one resolution. Leave {' and '.join(wrong)} out, or "
            "give it to operators(...)."
        )
