"""Errors on families that a fit has not seen, and the baselines beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.stats import spearmanr

from convscale.complexity.calls import CONVOLUTIONS, FUSED_ATTENTION, KINDS, LINEAR, MATRIX_PRODUCT
from convscale.prediction.execution import Execution
from convscale.prediction.fitting import FitOptions, fit_stack, predicted_seconds
from convscale.prediction.stack import Stack

Floats = npt.NDArray[np.float64]
_COUNTED = (*CONVOLUTIONS, LINEAR, MATRIX_PRODUCT, FUSED_ATTENTION)
# Predicts the timings of the second stack from those of the first alone.
Model = Callable[[Stack, Stack], Floats]


@dataclass(frozen=True)
class Errors:
    """How predictions miss what was timed.

    Args:
        mape: Mean absolute error, percent of what was timed.
        within_10: Percent of the networks that are missed by at most 10 %.
        spearman: Rank correlation; not a number where all predictions are equal.
        networks: Timings.
        groups: Groups that were left out one at a time.

    Example:
        >>> Errors.of(np.array([1.0, 2.1]), np.array([1.0, 2.0]), groups=2)
        Errors(mape=2.5, within_10=100.0, spearman=1.0, networks=2, groups=2)
    """

    mape: float
    within_10: float
    spearman: float
    networks: int
    groups: int

    @staticmethod
    def of(predicted: Floats, timed: Floats, *, groups: int) -> Errors:
        """Compare predicted with timed seconds."""
        misses = np.abs(predicted / timed - 1.0)
        differ = min(np.ptp(predicted), np.ptp(timed)) > 0 if len(timed) else False
        ranks = float(spearmanr(predicted, timed).statistic) if differ else float("nan")
        return Errors(
            mape=round(100.0 * float(misses.mean()), 3),
            within_10=round(100.0 * float((misses <= 0.1 + 1e-12).mean()), 3),
            spearman=round(ranks, 5),
            networks=len(timed),
            groups=groups,
        )


def left_out(
    stack: Stack,
    groups: Sequence[str],
    model: Model,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Floats:
    """Predict every timing by a model that has seen no timing of its group.

    Args:
        stack: The timings.
        groups: The group of each.
        model: Predicts the second stack from the first.
        progress: Told the groups done, and all.

    Returns:
        Seconds a step.

    Example:
        >>> from convscale.prediction.timing import Timing
        >>> from convscale.prediction.workload import workload
        >>> timings = [Timing("net", family, workload([]), 1, 2.0) for family in "ab"]
        >>> stack = Stack.of(timings)
        >>> left_out(stack, stack.families, lambda seen, new: seen.seconds[: new.size])
        array([2., 2.])
    """
    found = np.zeros(stack.size)
    for done, (seen, new) in enumerate(splits(groups), start=1):
        found[new] = model(stack.only(seen), stack.only(new))
        if progress is not None:
            progress(done, len(set(groups)))
    return found


def splits(
    groups: Sequence[str],
) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
    """Yield, for every group, which timings are of other groups and which are of it.

    Example:
        >>> [(seen.tolist(), new.tolist()) for seen, new in splits(["a", "b"])]
        [([False, True], [True, False]), ([True, False], [False, True])]
    """
    own = np.asarray(groups)
    for group in sorted(set(groups)):
        yield own != group, own == group


def fitted(execution: Execution, options: FitOptions | None = None) -> Model:
    """Return the runtime model as what `left_out` takes.

    Example:
        >>> callable(fitted(Execution()))
        True
    """

    def model(seen: Stack, new: Stack) -> Floats:
        found = fit_stack(seen, execution, options=options)
        return predicted_seconds(new, found, execution)

    return model


def baseline(*features: str) -> Model:
    """Return a model whose time an image is a positive sum of flops, acts and a constant.

    Args:
        features: Of `flops`, `acts` and `constant`.

    Example:
        >>> callable(baseline("flops", "acts", "constant"))
        True
    """

    def model(seen: Stack, new: Stack) -> Floats:
        table = _features(seen, features)
        rates = _robust(table, seen.seconds, seen.weights)
        return np.asarray(_features(new, features) @ rates)

    return model


def _features(stack: Stack, names: Sequence[str]) -> Floats:
    """Return the features of a step of each timing, in billions."""
    work, everywhere = stack.work, np.arange(stack.work.operators)
    counted = np.isin(work.kind, [KINDS.index(kind) for kind in _COUNTED])
    each = {
        "flops": work.flops,
        "acts": work.written * counted,
        "constant": np.zeros(work.operators),
    }
    columns = [stack.sum(everywhere, each[name] * work.repeats * stack.batches) for name in names]
    found = np.array(columns).T.reshape(stack.size, len(names)) / 1e9
    for column, name in enumerate(names):
        if name == "constant":
            found[:, column] = stack.images / 1e9
    return found


def _robust(table: Floats, seconds: Floats, weights: Floats) -> Floats:
    """Return positive rates that minimise the weighted sum of relative misses (L1)."""
    relative = table / seconds[:, None]
    own = weights.copy()
    rates = np.zeros(table.shape[1])
    for _ in range(30):
        root = np.sqrt(own)
        rates, _ = nnls(relative * root[:, None], root)
        own = weights / np.maximum(np.abs(relative @ rates - 1.0), 1e-3)
    return np.asarray(rates)
