"""Predictions for networks of groups that a fit has not seen, and how little it knows of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from convscale.prediction.doubt import class_shares, doubts_of
from convscale.prediction.execution import Execution
from convscale.prediction.fitting import FitOptions, fit_stack, predicted_seconds
from convscale.prediction.heldout import splits
from convscale.prediction.profile import Doubts
from convscale.prediction.stack import Stack
from convscale.prediction.workload import Floats


@dataclass(frozen=True, eq=False)
class Unseen:
    """What fits without the group of a timing say of it, a value a timing.

    Args:
        seconds: The time of a step.
        doubt: About the standard error of its logarithm, by the same fit.

    Example:
        >>> Unseen(np.array([2.0]), np.array([0.08])).widths(Doubts(0.02, {}))
        array([2.])
    """

    seconds: Floats
    doubt: Floats

    def widths(self, doubts: Doubts) -> Floats:
        """Return how many times as wide intervals are as those of a typical network."""
        return np.asarray((self.doubt / doubts.typical) ** 0.5)


def unseen(
    stack: Stack,
    groups: Sequence[str],
    execution: Execution,
    *,
    options: FitOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Unseen:
    """Predict every timing by a fit that has seen no timing of its group.

    Args:
        stack: The timings.
        groups: The group of each.
        execution: How the networks ran.
        options: How the fit weighs what.
        progress: Told the groups done, and all.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.timing import Timing
        >>> from convscale.prediction.workload import workload
        >>> call = OperatorCall("a", "aten.relu", "activation", bytes_read=64, bytes_written=64)
        >>> stack = Stack.of([Timing(f, f, workload([call]), 8, 1e-3) for f in "abc"])
        >>> unseen(stack, stack.families, Execution()).seconds.round(4)
        array([0.001, 0.001, 0.001])
    """
    seconds, doubt = np.zeros((2, stack.size))
    for done, (seen, new) in enumerate(splits(groups), start=1):
        known, asked = stack.only(seen), stack.only(new)
        found = fit_stack(known, execution, options=options)
        seconds[new] = predicted_seconds(asked, found, execution)
        doubts = doubts_of(known, found, execution, options=options)
        doubt[new] = doubts.doubt(class_shares(asked, found, execution))
        if progress is not None:
            progress(done, len(set(groups)))
    return Unseen(seconds, doubt)
