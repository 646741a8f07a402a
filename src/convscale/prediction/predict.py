"""From the operators of a network to a prediction. No torch here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from convscale.complexity.calls import ITEM_BYTES, KINDS
from convscale.complexity.views import Operators
from convscale.errors import InputError
from convscale.prediction.doubt import operator_shares
from convscale.prediction.form import operator_seconds, started, step_seconds
from convscale.prediction.fusion import executed
from convscale.prediction.known import known_factor
from convscale.prediction.prediction import OVERHEAD, Prediction
from convscale.prediction.profile import Profile
from convscale.prediction.scope import Outside, outside, untried, widened
from convscale.prediction.workload import Workload, workload
from convscale.quantities import Resolution, check_count, check_positive, sides

ELEMENTS = "float8"  # in it bytes are elements, which is what a workload has
_NEGLIGIBLE = 1e-9
_WIDE = 1.25  # times a typical interval, from which on it is said why


def workload_of(found: Operators) -> Workload:
    """Return the operators of a forward pass of one image as arrays.

    Raises:
        InputError: If they are those of several images, or not in elements.

    Example:
        >>> workload_of(Operators("net", 8, dtype=ELEMENTS)).operators
        0
    """
    if found.dtype != ELEMENTS:
        raise InputError(
            f"The operators are recorded in {found.dtype}; a prediction takes elements, which are "
            f"bytes of {ELEMENTS}. Record them with dtype={ELEMENTS!r}."
        )
    if found.batch_size != 1:
        raise InputError(
            f"The operators are those of {found.batch_size} images; a prediction takes those of "
            "one, and the batch size apart. Record them with batch_size=1."
        )
    return workload(found.calls, item_bytes=ITEM_BYTES[ELEMENTS])


def predicted(
    work: Workload,
    profile: Profile,
    *,
    network: str,
    resolution: Resolution | None = None,
    batch_size: int = 1,
    coverage: float = 0.9,
    notes: tuple[str, ...] = (),
) -> Prediction:
    """Predict the time of a batch from the operators of one image.

    Args:
        work: The operators.
        profile: The profile.
        network: The network's name.
        resolution: Its input side, or all sides, in px.
        batch_size: Images in the batch.
        coverage: The share of networks that the interval shall hold.
        notes: What else there is to say of the network.

    Raises:
        InputError: If an argument is wrong, or the profile has no such interval.
    """
    batch_size = check_count(batch_size, what="batch size")
    coverage = check_coverage(coverage)
    total, shares, classes = _seconds(work, profile, batch_size)
    width = float(profile.width(classes))
    total *= known_factor(profile.correction, network, resolution)
    given = None if resolution is None else sides(resolution)
    beyond = outside(profile, work, batch_size=batch_size, sides=given)
    low, high = profile.factors(coverage, widened=width * widened(beyond))
    return Prediction(
        network=network,
        resolution=resolution,
        batch_size=batch_size,
        profile=profile.name,
        execution=profile.execution,
        latency_ms=1e3 * total,
        interval_ms=(1e3 * total * low, 1e3 * total * high),
        coverage=coverage,
        shares=shares,
        notes=(*notes, *untried(profile), *_notes(beyond), *_unsure(profile, classes, width)),
    )


def _seconds(
    work: Workload, profile: Profile, batch_size: int
) -> tuple[float, dict[str, float], dict[str, float]]:
    """Return the time of a batch (s), and the share of each kind and each class of operators."""
    work = executed(work, profile.execution)
    given = (profile.coefficients, profile.execution, batch_size)
    single = operator_seconds(work, *given)
    kernels = started(work, profile.execution)
    total = float(step_seconds(single.sum(axis=0), profile.coefficients, kernels))
    if not work.operators or not np.isfinite(total) or total <= 0:
        raise InputError(
            f"The profile {profile.name} gives a time of {total:g} s for {work.operators} "
            "operators. Give a network that runs some, or fit the profile again."
        )
    by_kind = np.bincount(work.kind, weights=single, minlength=len(KINDS))
    alone = float(by_kind.sum())
    times = total / alone if alone > total else 1.0  # what a correction takes off all alike
    shares = {KINDS[i]: float(by_kind[i]) * times / total for i in np.flatnonzero(by_kind)}
    rest = 1.0 - sum(shares.values())
    if rest > _NEGLIGIBLE:
        shares[OVERHEAD] = rest
    return total, shares, operator_shares(work, single, total, profile.execution)


def _notes(beyond: tuple[Outside, ...]) -> list[str]:
    if not beyond:
        return []
    wide = f"Outside the range of the fit, the interval is {widened(beyond):.3g} times as wide."
    return [*(entry.note for entry in beyond), wide]


def _unsure(profile: Profile, classes: Mapping[str, float], width: float) -> list[str]:
    """Say of what little is known where that widens an interval much."""
    if profile.doubts is None or width < _WIDE:
        return []
    doubts = profile.doubts
    most = max(classes, key=lambda name: doubts.of(name) * classes[name])
    what = "what is needed once a pass" if most == OVERHEAD else most
    known = "Families disagree on" if most in doubts.classes else "The fit has not seen"
    return [
        f"{known} {what}, {100 * classes[most]:.0f} % of the time: the interval is {width:.2g} "
        "times as wide as a typical network's."
    ]


def check_coverage(coverage: float) -> float:
    """Return a coverage between 0 and 1.

    Raises:
        InputError: If it is none.

    Example:
        >>> check_coverage(0.9)
        0.9
    """
    value = check_positive(coverage, what="coverage")
    if value >= 1:
        raise InputError(f"The coverage is {value:g}; it must be below 1, such as 0.9.")
    return value
