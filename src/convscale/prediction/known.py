"""What is known of single networks: a correction of predictions by name and side.

Where a network was timed on the device that a profile was adapted from, what was missed there is
partly missed on the other device too. The correction holds the logarithm of each network's factor
there, and the share of it that holds here.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp

from convscale.errors import InputError
from convscale.quantities import Resolution

KIND = "networks"


def label_of(network: str, resolution: Resolution | None) -> str:
    """Return the name under which a network at a side is known.

    Example:
        >>> label_of("timm:resnet50", 224), label_of("resnet50", (224, 224))
        ('resnet50@224', 'resnet50@224')
    """
    name = network.removeprefix("timm:")
    if isinstance(resolution, tuple):
        same = len(set(resolution)) == 1
        side = str(resolution[0]) if same else "x".join(map(str, resolution))
    else:
        side = str(resolution)
    return f"{name}@{side}"


def known_networks(missed: Mapping[str, float], shared: float) -> dict[str, object]:
    """Return the correction as plain values, as a profile holds it.

    Args:
        missed: By label, the logarithm of measured over predicted time on the source's device.
        shared: The share of it that holds on this one.

    Example:
        >>> known_networks({"resnet50@224": 0.1}, 0.5)["kind"]
        'networks'
    """
    logs = {label: round(value, 4) for label, value in sorted(missed.items())}
    return {"kind": KIND, "shared": round(shared, 4), "logs": logs}


def known_factor(
    correction: Mapping[str, object] | None, network: str, resolution: Resolution | None
) -> float:
    """Return the factor of a network's time; 1 where nothing is known of it.

    Raises:
        InputError: If a correction by networks is damaged.

    Example:
        >>> correction = known_networks({"resnet50@224": 0.1}, 0.5)
        >>> round(known_factor(correction, "timm:resnet50", 224), 4)
        1.0513
        >>> known_factor(correction, "timm:resnet18", 224), known_factor(None, "a", 8)
        (1.0, 1.0)
    """
    if correction is None or correction.get("kind") != KIND:
        return 1.0
    logs, shared = correction.get("logs"), correction.get("shared")
    if not isinstance(logs, Mapping) or not isinstance(shared, int | float):
        raise InputError("The profile's correction by networks lacks logs or shared. Fit it again.")
    return exp(float(shared) * float(logs.get(label_of(network, resolution), 0.0)))
