"""The casts of a network's own code: calls of a pass under autocast, and of no other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convscale.prediction.workload import Workload


def without_casts(work: Workload) -> Workload:
    """Return a workload without casts: what reads their results reads what they read.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> relu = OperatorCall("a", "aten.relu", "activation")
        >>> cast = OperatorCall("a", "aten._to_copy", "copy", sources=(0,), cast="full")
        >>> mean = OperatorCall("a", "aten.mean", "reduction", sources=(1,))
        >>> without_casts(workload([relu, cast, mean])).sources
        ((), (0,))
    """
    if work.flow is None or "cast" not in work.flow.names:
        return work
    stays = np.array([name != "cast" for name in work.flow.names])
    if not work.sources:
        return work.only(stays)
    position = np.cumsum(stays) - 1
    writers: list[tuple[int, ...]] = []  # of each operator's result: itself, or a cast's sources
    sources = []
    for place, own in enumerate(work.sources):
        read = tuple(sorted({writer for source in own for writer in writers[source]}))
        writers.append((int(position[place]),) if stays[place] else read)
        if stays[place]:
            sources.append(read)
    return replace(work.only(stays), sources=tuple(sources))
