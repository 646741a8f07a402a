"""What of a network lies outside the range of a profile's fit, and how that widens intervals.

An interval holds for networks like those that were left out of the fit. For what lies outside its
range its width, in logarithms, is multiplied: once more for each doubling beyond the least or the
most that was seen, and once more for operators of a kind that was not. That is a rule and no
measurement: it warns, and is meant to be wide enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from convscale.complexity.calls import KINDS
from convscale.prediction.profile import Profile, Seen, output_channels
from convscale.prediction.workload import Floats, Workload
from convscale.quantities import format_count

# The condition of a profile that says where its intervals are from, if not from networks left out.
INTERVALS, IN_SAMPLE = "intervals", "of networks that were fitted"


@dataclass(frozen=True)
class Outside:
    """Something outside the range of a fit: a sentence, and what it adds to the width.

    Example:
        >>> Outside("Batch size 1 lies outside 256 to 512.", 8.0).more
        8.0
    """

    note: str
    more: float


def untried(profile: Profile) -> tuple[str, ...]:
    """Say of a profile whose intervals are of the networks that it was fitted to.

    Example:
        >>> from convscale.prediction.form import Execution
        >>> seen = Seen((1, 1), (224, 224), (0, 1e12), (1, 4096), ())
        >>> known = {INTERVALS: IN_SAMPLE}
        >>> untried(Profile("mine", Execution(), {}, seen, (), conditions=known))
        ('No families were left out of the fit of mine: the interval is too narrow for others.',)
    """
    if profile.conditions.get(INTERVALS) != IN_SAMPLE:
        return ()
    return (
        f"No families were left out of the fit of {profile.name}: the interval is too narrow for "
        "others.",
    )


def outside(
    profile: Profile, work: Workload, *, batch_size: int, sides: Sequence[int] | None
) -> tuple[Outside, ...]:
    """Return what lies outside the range of a profile's fit.

    Args:
        profile: The profile.
        work: The operators of the network, for one image.
        batch_size: Images in the batch.
        sides: The sides of the image in px; None where nothing tells them.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.form import Execution
        >>> from convscale.prediction.workload import workload
        >>> seen = Seen((64, 512), (128, 384), (0, 1e12), (1, 4096), ("linear",))
        >>> execution = Execution("gpu", "nchw", "eager", "inference", "amp")
        >>> profile = Profile("mine", execution, {}, seen, ())
        >>> work = workload([OperatorCall("a", "aten.relu", "activation")])
        >>> [found.note for found in outside(profile, work, batch_size=1, sides=(224, 224))]
        ['Batch size 1: the fit has seen 64 to 512.', 'Operators that the fit has not seen:
        activation.']
    """
    found = list(_beyond(profile.seen, work, batch_size, sides))
    kinds = [KINDS[kind] for kind in np.unique(work.kind)]
    unseen = [kind for kind in kinds if kind not in profile.seen.kinds]
    if unseen:
        found.append(Outside(f"Operators that the fit has not seen: {', '.join(unseen)}.", 1.0))
    if sides is not None and len(sides) != 2:
        found.append(Outside("The fit has seen images alone, of two dimensions.", 1.0))
    return tuple(found)


def _beyond(
    seen: Seen, work: Workload, batch_size: int, sides: Sequence[int] | None
) -> Iterator[Outside]:
    yield from _range("Batch size", batch_size, seen.batch_sizes, "")
    if sides is not None and len(sides) == 2:
        side = float(np.prod(sides, dtype=float) ** 0.5)
        yield from _range("Resolution", side, seen.resolutions, " px")
    flops = float((work.flops * work.repeats).sum())
    if flops > 0:
        yield from _range("Multiply-adds of an image", flops, seen.flops, "")
    outs = output_channels(work)
    if len(outs):
        widest = float(outs.max())
        yield from _range("Widest layer", widest, (1.0, seen.channels[1]), " channels")


def _range(what: str, value: float, pair: tuple[float, float], unit: str) -> Iterator[Outside]:
    more = float(doublings(value, pair))
    if more:
        least, most = (_written(each) for each in pair)
        between = f"{least} to {most}" if least != most else f"{most} alone"
        note = f"{what} {_written(value)}{unit}: the fit has seen {between}{unit}."
        yield Outside(note, more)


def doublings(value: float | Floats, pair: tuple[float, float]) -> Floats:
    """Return how many doublings values lie beyond the least or the most that was seen.

    Example:
        >>> doublings(np.array([2.0, 8.0, 40.0]), (4, 10)).tolist()
        [1.0, 0.0, 2.0]
    """
    low, high = pair
    beyond = np.maximum(low / value, value / high if high else 1.0)
    return np.where(beyond > 1 + 1e-9, np.log2(beyond), 0.0)


def _written(value: float) -> str:
    return f"{round(value, 1):g}" if value < 1e5 else format_count(value)


def widened(found: Sequence[Outside]) -> float:
    """Return how many times as wide an interval is, in logarithms.

    Example:
        >>> widened([]), widened([Outside("", 1.0), Outside("", 0.5)])
        (1.0, 2.5)
    """
    return 1.0 + sum(entry.more for entry in found)
