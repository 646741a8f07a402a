"""Many timings put together, so that a form is computed for all their operators at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from convscale.prediction.flow import Flow
from convscale.prediction.timing import Timing
from convscale.prediction.workload import QUANTITIES, Workload

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """The operators of several timed networks in one workload, equal ones of a network once.

    Args:
        work: The operators of all.
        owner: For each operator, the position of its timing.
        batches: For each operator, the images a step.
        seconds: For each timing, the seconds of a step.
        weights: For each timing, what it counts; they add up to 1.
        families: For each timing, its family.
        images: For each timing, the images a step.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.timing import Timing
        >>> from convscale.prediction.workload import workload
        >>> call = OperatorCall("a", "aten.relu", "activation", bytes_read=64, bytes_written=64)
        >>> stack = Stack.of([Timing("net", "nets", workload([call] * 3), 8, 1e-3)])
        >>> stack.work.operators, stack.work.repeats.tolist()
        (1, [3.0])
    """

    work: Workload
    owner: npt.NDArray[np.intp]
    batches: Floats
    seconds: Floats
    weights: Floats
    families: tuple[str, ...]
    images: Floats

    @staticmethod
    def of(timings: Sequence[Timing]) -> Stack:
        """Put timings together.

        Example:
            >>> Stack.of([]).size
            0
        """
        works = [merged(timing.workload) for timing in timings]
        sizes = [work.operators for work in works]
        families = tuple(timing.family for timing in timings)
        return Stack(
            work=joined(works),
            owner=np.repeat(np.arange(len(works)), sizes),
            batches=np.repeat([float(timing.batch_size) for timing in timings], sizes),
            seconds=np.array([timing.seconds for timing in timings]),
            weights=family_weights(families),
            families=families,
            images=np.array([float(timing.batch_size) for timing in timings]),
        )

    @property
    def size(self) -> int:
        """How many timings."""
        return len(self.seconds)

    def sum(self, places: npt.NDArray[np.intp], values: Floats) -> Floats:
        """Add values of some operators up, timing by timing."""
        found = np.bincount(self.owner[places], weights=values, minlength=self.size)
        return found.astype(np.float64)

    def only(self, which: npt.NDArray[np.bool_]) -> Stack:
        """Return some of the timings; weights are made anew."""
        kept = which[self.owner]
        renumbered = np.cumsum(which) - 1
        families = tuple(family for family, keep in zip(self.families, which, strict=True) if keep)
        return Stack(
            work=self.work.only(kept),
            owner=renumbered[self.owner[kept]],
            batches=self.batches[kept],
            seconds=self.seconds[which],
            weights=family_weights(families),
            families=families,
            images=self.images[which],
        )


def family_weights(families: Sequence[str], *, evenness: float = 0.5) -> Floats:
    """Return the weights of timings, which add up to 1.

    Networks of a family are alike: n of them say less than n networks of as many families.

    Args:
        families: The family of each.
        evenness: A family of n counts n^(1 - evenness): √n by default, all the same at 1.

    Example:
        >>> family_weights(["a", "b", "b", "b", "b"]).round(3).tolist()
        [0.333, 0.167, 0.167, 0.167, 0.167]
    """
    counts = Counter(families)
    found = np.array([counts[family] ** -evenness for family in families])
    return found / max(float(found.sum()), 1e-300)


def merged(work: Workload) -> Workload:
    """Return a workload in which equal operators stand once, with all their repeats.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> merged(workload([OperatorCall("a", "aten.relu", "activation")] * 2)).repeats.tolist()
        [2.0]
    """
    if not work.operators:
        return work
    flow = work.flow
    columns = [work.kind.astype(np.float64)]
    columns += [getattr(work, name) for name in QUANTITIES if name != "repeats"]
    if flow is not None:
        codes = {name: code for code, name in enumerate(dict.fromkeys(flow.names))}
        columns.append(np.array([codes[name] for name in flow.names], dtype=float))
        columns += [getattr(flow, entry.name) for entry in fields(flow)[1:]]
    table = np.array(columns).T
    _, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
    repeats = np.bincount(inverse.ravel(), weights=work.repeats, minlength=len(first))
    return replace(work.only(first), repeats=repeats.astype(np.float64))


def joined(works: Sequence[Workload]) -> Workload:
    """Return the operators of several workloads in one; their data flow is no longer known.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> one = workload([OperatorCall("a", "aten.relu", "activation")])
        >>> joined([one, one]).operators
        2
    """
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(work, name) for work in works] or [np.zeros(0)])
        for name in ("kind", *QUANTITIES)
    }
    arrays["kind"] = arrays["kind"].astype(np.intp)
    flows = [work.flow for work in works if work.flow is not None]
    names = tuple(name for flow in flows for name in flow.names)
    held: list[Floats] = [
        np.concatenate([getattr(flow, entry.name) for flow in flows] or [np.zeros(0)])
        for entry in fields(Flow)[1:]
    ]
    known = len(flows) == len(works)
    return Workload(**arrays, flow=Flow(names, *held) if known else None)
