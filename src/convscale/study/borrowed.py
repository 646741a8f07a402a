"""What to measure where no profile was given: that of another device tells what is worth it.

A shipped profile orders candidates, and a few networks that are timed here tell by how much its
times are shorter or longer than those of this machine. What is decided is decided by measuring.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import log
from typing import TYPE_CHECKING

from convscale.errors import ConvscaleError, InputError
from convscale.prediction.profile import Profile
from convscale.prediction.rescaled import rescaled
from convscale.prediction.store import profiles
from convscale.runtime import Failure, Measurement, check_setting, measure_together
from convscale.selection.constraints import Constraint
from convscale.study.costed import PREDICTED, Conditions, costs_of_network
from convscale.study.finals import Finals
from convscale.study.measured import Borrowed
from convscale.study.measured_choice import plain_setting, subject_of

if TYPE_CHECKING:
    from convscale.network.sources.network import Network
    from convscale.study.request import Request

_TRIED, _TIMED = 8, 3  # networks of a table: that are counted, and of these timed
_ROUNDS, _TIME_LIMIT_S = 3, 15.0


def with_profile(request: Request, budgets: Sequence[Constraint] = ()) -> Request:
    """Return a request with the profile of another device, where one is needed for measuring.

    That is where finalists are measured, times are limited or are the cost, and nothing tells
    those of the candidates.

    Args:
        request: What was asked for.
        budgets: The budgets of a series.

    Raises:
        InputError: If there is no such profile.

    Example:
        >>> from convscale.study.request import requested
        >>> with_profile(requested("resnet18", limits=["flops<=1G"], measure=2)).how.profile
    """
    if request.finals is None or request.how.profile is not None:
        return request
    if not _needs_times(request, budgets):
        return request
    setting = plain_setting(request.how, request.finals)
    check_setting(setting)
    source = nearest_profile(setting.device)
    how = replace(request.how, profile=source)
    limits = (*request.limits, *budgets)
    ratio, timed, failed = _ratio(_networks(request, how, limits), how, request.finals)
    own = Borrowed(source.name, ratio, _note(source, ratio, timed, failed))
    return replace(request, how=replace(how, profile=rescaled(source, ratio)), borrowed=own)


def _needs_times(request: Request, budgets: Sequence[Constraint]) -> bool:
    if request.bases:
        asked = {one.on for one in (*request.limits, *budgets)} | {request.cost}
        return bool(asked & PREDICTED)
    return bool(request.plan(*budgets).wanted & PREDICTED)


def nearest_profile(device: str) -> Profile:
    """Return the shipped profile of inference that is nearest to how finalists run on a device.

    Finalists run eagerly, in float32 and with contiguous channels.

    Args:
        device: cpu, cuda, cuda:1 or mps.

    Raises:
        InputError: If none is shipped.

    Example:
        >>> nearest_profile("cpu").name, nearest_profile("cuda:1").name
        ('i7-12700h-fp32-compiled', 'rtx3090-amp-nchw')
    """
    known = [one.profile for one in profiles() if one.shipped and one.profile is not None]
    own = [one for one in known if one.execution.work == "inference"]
    if not own:
        raise InputError(
            "The latency of the candidates is not known, and no profile tells about it. Make one "
            "of this machine by 'convscale calibrate', and name it: --profile NAME."
        )
    hardware = "cpu" if device.startswith("cpu") else "gpu"
    return min(own, key=lambda one: (_apart(one, hardware), one.name))


def _apart(profile: Profile, hardware: str) -> tuple[bool, ...]:
    run = profile.execution
    pairs = ((run.hardware, hardware), (run.layout, "nchw"), (run.mode, "eager"))
    return tuple(one != other for one, other in (*pairs, (run.dtype, "float32")))


def _networks(
    request: Request, how: Conditions, limits: Sequence[Constraint]
) -> Iterator[tuple[Network, float]]:
    """Yield what is to be timed, with the latency by the profile: bases, or some of a table."""
    from convscale.scaling import resolve

    space = request.space
    if request.bases:
        for base in request.bases[:_TIMED]:
            own = resolve(
                base,
                resolution=space.resolution,
                num_classes=space.num_classes,
                in_chans=space.in_chans,
            )
            yield own, _predicted(own, how)
        return
    rows = sorted({(row.model, row.resolution) for row in request.plan().rows}, key=str)
    known = []
    for model, side in rows[:: max(len(rows) // _TRIED, 1)]:
        try:
            own = resolve(model, resolution=side)
            known.append((own, _predicted(own, how)))
        except ConvscaleError:  # no candidate: the choice names it and says why
            continue
    yield from sorted(known, key=lambda pair: _far(pair[1], limits, how.batch_size))[:_TIMED]


def _predicted(network: Network, how: Conditions) -> float:
    return costs_of_network(network, frozenset(("latency_ms",)), how).values["latency_ms"]


def _far(latency_ms: float, limits: Sequence[Constraint], images: int) -> float:
    """Return how far a latency is from the limits, as the logarithm of a factor."""
    asked = [
        one.limit if one.on == "latency_ms" else 1e3 * images / one.limit
        for one in limits
        if one.on in PREDICTED
    ]
    return min((abs(log(latency_ms / one)) for one in asked), default=latency_ms)


def _ratio(
    networks: Iterator[tuple[Network, float]], how: Conditions, finals: Finals
) -> tuple[float, list[str], str]:
    """Return by what times here are longer, the networks that told it, and what did not run."""
    pairs = list(networks)
    setting = plain_setting(how, finals)
    outcomes = measure_together(
        [subject_of(network) for network, _ in pairs],
        rounds=_ROUNDS,
        time_limit_s=min(finals.time_limit_s, _TIME_LIMIT_S),
        batch_size=setting.batch_size,
        device=setting.device,
        threads=setting.threads,
    )
    ratios, names, failed = [], [], ""
    for (network, predicted), outcome in zip(pairs, outcomes, strict=True):
        if isinstance(outcome, Measurement):
            ratios.append(outcome.latency_ms.median / predicted)
            names.append(network.name)
        elif isinstance(outcome, Failure):
            failed = failed or outcome.failed
    return (statistics.median(ratios) if ratios else 1.0), names, failed


def _note(source: Profile, ratio: float, timed: Sequence[str], failed: str) -> str:
    """Say by what finalists were looked for."""
    told = (
        f"with its times multiplied by {ratio:.3g}, as {' and '.join(timed)} took here"
        if timed
        else f"as it is, since nothing that tells this machine's speed could be run: {failed}"
    )
    return (
        f"No profile was given: what to measure was looked for by that of another device, "
        f"{source.name} ({source.device}), {told.rstrip('.')}. Limits of latency and throughput "
        "are held to what was measured; a profile of this machine (convscale calibrate) finds "
        "better finalists."
    )
