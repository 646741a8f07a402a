"""A profile fitted to many timings, with its errors on families that were left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from convscale.errors import InputError
from convscale.prediction import heldout
from convscale.prediction.doubt import doubts_of, widths_of
from convscale.prediction.execution import Execution
from convscale.prediction.fitting import fit_stack, predicted_seconds
from convscale.prediction.heldout import baseline, left_out
from convscale.prediction.interval import COVERAGES, covered, intervals
from convscale.prediction.profile import (
    Band,
    Condition,
    Doubts,
    Errors,
    Excluded,
    Profile,
    seen_in,
)
from convscale.prediction.stack import Stack
from convscale.prediction.timing import Timing
from convscale.prediction.transfer import stack_of
from convscale.prediction.unseen import Unseen, unseen
from convscale.prediction.workload import Floats

FAMILIES = "families"
BASELINES = {
    "flops": ("flops",),
    "acts": ("acts",),
    "flops + acts + constant": ("flops", "acts", "constant"),
}
# Fewer families than this cannot show what a fit misses of another.
FEWEST = 5


def fitted_profile(
    timings: Sequence[Timing],
    execution: Execution,
    *,
    name: str,
    conditions: Mapping[str, Condition],
    excluded: Sequence[Excluded] = (),
    held_out: bool = True,
    groups: Mapping[str, Sequence[str]] | None = None,
    predictions: Mapping[str, Unseen] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """Fit a profile, and find its errors and intervals on families that were left out.

    Args:
        timings: The timings.
        execution: How the networks ran.
        name: The profile's name.
        conditions: What the times hold for.
        excluded: What was left out of the timings, and why.
        held_out: Whether families are left out one at a time, which takes a fit for each;
            else intervals come from the networks that were fitted, and are too narrow.
        groups: By protocol, the group of each timing, to leave out others than families too.
        predictions: By protocol, those for groups left out, where they are known.
        progress: Called with groups done and all.

    Raises:
        InputError: If the timings are of fewer than five families.

    Example:
        >>> fitted_profile([], Execution(), name="mine", conditions={})
        Traceback (most recent call last):
        convscale.errors.InputError: The timings are of 0 families; a fit needs 5 to know its
        errors. Adapt a profile instead: --adapt.
    """
    stack = stack_of(timings, execution)
    count = len(set(stack.families))
    if count < FEWEST:
        raise InputError(
            f"The timings are of {count} families; a fit needs {FEWEST} to know its errors. "
            "Adapt a profile instead: --adapt."
        )
    coefficients = fit_stack(stack, execution)
    doubts = doubts_of(stack, coefficients, execution)
    errors = []
    if held_out:
        protocols = {FAMILIES: stack.families, **(groups or {})}
        found = dict(predictions or {})
        for protocol, own in protocols.items():
            if protocol not in found:
                found[protocol] = unseen(stack, own, execution, progress=progress)
        missed = {name: _Missed.of(stack, one, doubts) for name, one in found.items()}
        misses = missed[FAMILIES].over_width
        for protocol, own in protocols.items():
            errors.append(_errors(protocol, stack, own, missed[protocol], misses))
    else:
        seconds = predicted_seconds(stack, coefficients, execution)
        widths = widths_of(stack, coefficients, execution, doubts)
        misses = np.log(seconds / stack.seconds) / widths
    return Profile(
        name=name,
        execution=execution,
        coefficients=coefficients,
        seen=seen_in(
            [one.workload for one in timings],
            [one.batch_size for one in timings],
            [one.resolution or 1 for one in timings],
        ),
        bands=tuple(
            Band(coverage, min(low, 1.0), max(high, 1.0))
            for coverage, (low, high) in intervals(misses).items()
        ),
        conditions=conditions,
        errors=tuple(errors),
        excluded=tuple(excluded),
        doubts=doubts,
    )


@dataclass(frozen=True, eq=False)
class _Missed:
    """What was predicted, and its misses in logarithms over the relative widths of intervals."""

    predicted: Floats
    over_width: Floats

    @staticmethod
    def of(stack: Stack, found: Unseen, doubts: Doubts) -> _Missed:
        misses = np.log(found.seconds / stack.seconds) / found.widths(doubts)
        return _Missed(found.seconds, misses)


def _errors(
    protocol: str, stack: Stack, groups: Sequence[str], missed: _Missed, known: Floats
) -> Errors:
    """Return the errors of predictions for groups left out, beside those of the baselines.

    What intervals cover is that of those made of the misses on families of other groups.
    """
    count = len(set(groups))
    images, predicted = stack.images, missed.predicted
    own = heldout.Errors.of(predicted / images, stack.seconds / images, groups=count)
    beside = {}
    for label, features in BASELINES.items():
        found = left_out(stack, groups, baseline(*features))
        beside[label] = heldout.Errors.of(found, stack.seconds, groups=count).mape
    inside = covered(missed.over_width, groups, COVERAGES, known=known)
    return Errors(
        protocol,
        mape_pct=own.mape,
        within_10_pct=own.within_10,
        spearman=own.spearman if isfinite(own.spearman) else None,
        networks=own.networks,
        groups=own.groups,
        covered_pct={f"{coverage:g}": round(100 * share, 2) for coverage, share in inside.items()},
        baselines_mape_pct=beside,
    )
