"""Predictions of many candidates of a paper family by a device profile, at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convscale.complexity.calls import KINDS
from convscale.errors import InputError
from convscale.families.candidates import Candidates, read_candidates
from convscale.families.description import Description
from convscale.families.many import count_many
from convscale.prediction.execution import Execution
from convscale.prediction.many import many_times, survey
from convscale.prediction.predict import check_coverage
from convscale.prediction.profile import Profile
from convscale.prediction.scope import doublings
from convscale.prediction.store import ProfileLike, profile_of
from convscale.prediction.workload import Floats
from convscale.quantities import Resolution, check_count


@dataclass(frozen=True, eq=False)
class Predictions:
    """The times of one pass of a batch of each of many networks, arrays of the shape (n,).

    Args:
        batch_size: Images in the batch.
        profile: The name of the profile.
        execution: How the networks are run.
        latency_ms: Time of the whole batch.
        interval_ms: Its least and its most.
        coverage: The share of networks whose measured time the interval holds.
        widened: How many times as wide the interval is for what lies outside the range of the
            fit, in logarithms; 1 where nothing does.

    Example:
        >>> times = np.array([64.0, 128.0])
        >>> found = Predictions(256, "mine", Execution(), times, (times, times), 0.9, times / times)
        >>> found.images_per_second.tolist()
        [4000.0, 2000.0]
    """

    batch_size: int
    profile: str
    execution: Execution
    latency_ms: Floats
    interval_ms: tuple[Floats, Floats]
    coverage: float
    widened: Floats

    def __len__(self) -> int:
        return len(self.latency_ms)

    @property
    def images_per_second(self) -> Floats:
        """Throughput: images of the batch over its time."""
        found: Floats = 1e3 * self.batch_size / self.latency_ms
        return found


def predict_many(
    like: Description | Candidates,
    *,
    profile: ProfileLike,
    batch_size: int = 1,
    coverage: float = 0.9,
    depths: npt.ArrayLike | None = None,
    widths: npt.ArrayLike | None = None,
    group_widths: npt.ArrayLike | None = None,
    bottleneck_multipliers: npt.ArrayLike | None = None,
    strides: tuple[int, ...] | None = None,
    stem_widths: npt.ArrayLike | None = None,
    head_widths: npt.ArrayLike | None = None,
    resolution: Resolution | npt.NDArray[np.integer[Any]] | None = None,
) -> Predictions:
    """Predict the times of many networks of a paper family, as `predict` does of each.

    Args:
        like: Candidates, or what is around the stages of those that the arrays give, as
            `families.read_candidates` takes them.
        profile: The name of a profile, its JSON file, or a `Profile`.
        batch_size: Images in the batch.
        coverage: The share of networks whose measured time the interval shall hold.
        depths: Blocks, shape (n, stages).
        widths: Widths, likewise as all that follows.
        group_widths: Group widths.
        bottleneck_multipliers: Inner width over width; expansion ratios of an EfficientNet.
        strides: Strides of the stages; those of `like` by default.
        stem_widths: Widths of the stem, shape (n,).
        head_widths: Widths of the last 1×1 convolution, shape (n,).
        resolution: Input side, or all sides, in px, or an array with those of each.

    Raises:
        InputError: If an argument is wrong, or arrays do not fit each other.

    Example:
        >>> from convscale.families import named, read_candidates
        >>> from convscale.prediction.form import coefficients_of
        >>> from convscale.prediction.profile import Band, Seen
        >>> run, net = Execution(), named("RegNetX-400MF")
        >>> seen = Seen((1, 512), (64, 384), (1e8, 1e11), (8, 4096), KINDS)
        >>> mine = Profile("mine", run, coefficients_of(run), seen, (Band(0.9, 0.8, 1.25),))
        >>> found = predict_many(net, depths=[net.depths, (1, 2, 7, 20)], widths=net.widths,
        ...                      group_widths=net.group_widths, profile=mine, batch_size=256)
        >>> bool(found.latency_ms[1] > found.latency_ms[0]), found.widened.tolist()
        (True, [1.0, 1.0])
    """
    arrays = {
        "depths": depths,
        "widths": widths,
        "group_widths": group_widths,
        "bottleneck_multipliers": bottleneck_multipliers,
        "strides": strides,
        "stem_widths": stem_widths,
        "head_widths": head_widths,
        "resolution": resolution,
    }
    given = profile_of(profile)
    images = check_count(batch_size, what="batch size")
    share = check_coverage(coverage)
    low, high = given.factors(share)
    found = _candidates(like, arrays)
    seconds, widths = many_times(found, given, images)
    times = 1e3 * seconds
    _check_times(given, times)
    widened = _widened(found, given, images)
    wide = widths * widened
    return Predictions(
        batch_size=images,
        profile=given.name,
        execution=given.execution,
        latency_ms=times,
        interval_ms=(times * low**wide, times * high**wide),
        coverage=share,
        widened=widened,
    )


def _candidates(like: Description | Candidates, arrays: dict[str, Any]) -> Candidates:
    if not isinstance(like, Candidates):
        missing = [name for name in ("depths", "widths") if arrays[name] is None]
        if missing:
            raise InputError(f"Candidates need {' and '.join(missing)}: an array each.")
        return read_candidates(like, **arrays)
    twice = [name for name, array in arrays.items() if array is not None]
    if twice:
        raise InputError(f"The candidates have {' and '.join(twice)} already. Leave them out.")
    return like


def _check_times(profile: Profile, times: Floats) -> None:
    wrong = np.flatnonzero(~(np.isfinite(times) & (times > 0)))
    if len(wrong):
        raise InputError(
            f"The profile {profile.name} gives a time of {1e-3 * times[wrong[0]]:g} s for "
            f"candidate {wrong[0]}. Fit the profile again."
        )


def _widened(candidates: Candidates, profile: Profile, images: int) -> Floats:
    """Return how many times as wide intervals are, as `scope.outside` says of one network."""
    seen = profile.seen
    sides = np.sqrt(candidates.heights.astype(np.float64) * candidates.breadths)
    flops = count_many(candidates).flops.astype(np.float64)
    unlike = survey(candidates, frozenset(KINDS) - frozenset(seen.kinds))
    found: Floats = (
        1.0
        + doublings(float(images), seen.batch_sizes)
        + doublings(sides, seen.resolutions)
        + doublings(flops, seen.flops)
        + doublings(unlike.widest, (1.0, seen.channels[1]))
        + unlike.running
    )
    return found
