"""Choose networks to time for a profile of another device, before anything is timed."""

from __future__ import annotations

from collections.abc import Sequence

from convscale.errors import InputError
from convscale.prediction.adaptation import Moves
from convscale.prediction.design import Candidate, choose
from convscale.prediction.execution import Execution
from convscale.prediction.fitting import predicted_seconds
from convscale.prediction.law import COSTS, law_of
from convscale.prediction.profile import Profile
from convscale.prediction.timing import Timing
from convscale.prediction.transfer import stack_of, starting_from
from convscale.study.default_networks import CANDIDATES
from convscale.study.recorded import family_of, recorded
from convscale.study.timing import Side
from convscale.study.trials import Progress


def choose_networks(
    source: Profile,
    execution: Execution,
    count: int,
    *,
    batch_size: int = 1,
    candidates: Sequence[Side] = CANDIDATES,
    progress: Progress | None = None,
) -> tuple[Side, ...]:
    """Return the networks whose times tell most about what differs from the source's device.

    Args:
        source: The profile to start from.
        execution: How the networks will run.
        count: How many.
        batch_size: Images a pass.
        candidates: What to choose from.
        progress: Called with candidates done and all.

    Returns:
        Networks, the most telling first.

    Raises:
        InputError: If there are fewer candidates, or one does not run.

    Example:
        >>> callable(choose_networks)
        True
    """
    if count > len(candidates):
        raise InputError(
            f"{count} networks cannot be chosen from {len(candidates)}. Name more by --networks, "
            f"or choose at most {len(candidates)}."
        )
    timings = []
    for done, side in enumerate(candidates, start=1):
        found, work = recorded(side)
        family = family_of(found.network)
        timings.append(Timing(found.network, family, work, batch_size, 1.0))
        if progress is not None:
            progress(done, len(candidates))
    start = starting_from(source.coefficients, execution)
    stack = stack_of(timings, execution)
    _, slopes = law_of(stack, execution)(start)
    seconds = predicted_seconds(stack, start, execution)
    listed = [
        Candidate(one.network, str(side.resolution), one.family, float(took))
        for one, side, took in zip(timings, candidates, seconds, strict=True)
    ]
    chosen = choose(listed, slopes, Moves(tuple(start), COSTS), count)
    return tuple(candidates[at] for at in chosen)
