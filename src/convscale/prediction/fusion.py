"""The workload of compiled execution: which operators run as one kernel, and what that moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from convscale.complexity.calls import KINDS
from convscale.errors import InputError
from convscale.prediction.casts import without_casts
from convscale.prediction.execution import Execution
from convscale.prediction.workload import Floats, Workload

Places = npt.NDArray[np.intp]
_PLACE = {kind: place for place, kind in enumerate(KINDS)}
_STREAMS = frozenset(  # an element of the output needs few of the input, at places known beforehand
    _PLACE[kind]
    for kind in "norm activation softmax elementwise concatenation padding copy constant".split()
)
_WINDOWS = frozenset(_PLACE[kind] for kind in ("pooling", "resizing", "lookup"))
_REDUCTION, _CONCATENATION = _PLACE["reduction"], _PLACE["concatenation"]
_SINKS = _STREAMS - {_CONCATENATION, _PLACE["softmax"]}
_FUSED = _STREAMS | _WINDOWS | {_REDUCTION}


def kernels(work: Workload) -> tuple[tuple[int, ...], ...]:
    """Return the kernels that a compiler makes of a pass: the operators of each, by position.

    Products (convolutions, matrix products) stay kernels of their own. Pointwise operators,
    norms in evaluation, reductions, copies and concatenations that follow each other become one
    kernel. Pooling, resizing and looking up read an input at many places, so that it is written
    first; what follows a reduction at its own size belongs to it, and what is larger is another
    kernel. A pointwise operator runs as late as its readers allow: the norm of a shortcut
    becomes part of the addition.

    Args:
        work: The operators of a pass, with their sources.

    Returns:
        The kernels, in an order in which they can run.

    Raises:
        InputError: If the workload does not know what its operators read.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> norm = OperatorCall("bn", "aten.batch_norm", "norm")
        >>> relu = OperatorCall("act", "aten.relu", "activation", sources=(0,))
        >>> pool = OperatorCall("pool", "aten.max_pool2d", "pooling", sources=(1,))
        >>> kernels(workload([norm, relu, pool]))
        ((0, 1), (2,))
    """
    found: dict[int, list[int]] = {}
    for place, kernel in enumerate(_kernels(work)):
        found.setdefault(kernel, []).append(place)
    return tuple(tuple(found[kernel]) for kernel in sorted(found))


def fused(work: Workload) -> Workload:
    """Return the workload of compiled execution, in which chains of operators are one kernel.

    The operators stay, each with what it computes. A kernel (see `kernels`) reads what comes
    from outside once, and writes only what is read outside; what its operators hand to each
    other moves nothing. It is started once, by the operator that would move most alone.

    flops, weights and elements stay as they are; elements read and written become no more.

    Args:
        work: The operators of a pass, with their sources.

    Raises:
        InputError: If the workload does not know what its operators read.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> norm = OperatorCall("bn", "aten.batch_norm", "norm", bytes_read=8, bytes_written=8)
        >>> relu = OperatorCall("act", "aten.relu", "activation", 0, 0, 0, 8, 8, sources=(0,))
        >>> found = fused(workload([norm, relu]))
        >>> found.read.tolist(), found.written.tolist(), found.launches.tolist()
        ([8.0, 0.0], [0.0, 8.0], [1.0, 0.0])
    """
    owner = _kernels(work)
    read, written = _traffic(work, owner)
    launches = np.zeros_like(work.launches)
    launches[_leaders(work, owner)] = 1.0
    return replace(work, read=read, written=written, launches=launches)


def executed(work: Workload, execution: Execution) -> Workload:
    """Return a pass as it is executed: in kernels where it is compiled, else as it is.

    Casts that the network's own code makes under autocast are part of it under autocast alone.

    Example:
        >>> from convscale.complexity.calls import OperatorCall
        >>> from convscale.prediction.workload import workload
        >>> work = workload([OperatorCall("act", "aten.relu", "activation")])
        >>> executed(work, Execution()) is work
        True
    """
    if execution.dtype != "amp":
        work = without_casts(work)
    return fused(work) if execution.mode == "compiled" else work


def _edges(work: Workload) -> tuple[Places, Places]:
    """Return the writers and the readers of everything that is written and read."""
    writers = np.array([writer for sources in work.sources for writer in sources], dtype=np.intp)
    counts = [len(sources) for sources in work.sources]
    return writers, np.repeat(np.arange(len(counts)), counts)


def _kernels(work: Workload) -> list[int]:
    """Return the number of each operator's kernel.

    Operators get levels: an edge that cannot be fused goes to a higher one, none goes
    down. Operators of one level that edges connect are a kernel. On the way from a kernel to others
    and back a level would have to fall, so that kernels can run one after the other.
    """
    if len(work.sources) != work.operators:
        raise InputError(
            f"The workload has {work.operators} operators and the sources of "
            f"{len(work.sources)}; fusion needs those of each. Record the network to have them."
        )
    breaks = _breaks(work)
    levels = [0] * work.operators
    for (writer, reader), apart in breaks.items():
        least = levels[writer] + apart
        if levels[reader] < least:
            levels[reader] = least
    _sink(work, breaks, levels)
    parent = list(range(work.operators))
    for (writer, reader), apart in breaks.items():
        if not apart and levels[writer] == levels[reader]:
            first, second = _root(parent, writer), _root(parent, reader)
            parent[max(first, second)] = min(first, second)
    roots = [_root(parent, place) for place in range(work.operators)]
    ordered = sorted({(levels[root], root) for root in roots})
    order = {root: number for number, (_, root) in enumerate(ordered)}
    return [order[root] for root in roots]


def _root(parent: list[int], place: int) -> int:
    while parent[place] != place:
        parent[place] = place = parent[parent[place]]
    return place


def _breaks(work: Workload) -> dict[tuple[int, int], bool]:
    """Return, for each edge, whether its ends must be kernels apart."""
    kinds = work.kind.tolist()
    sizes, repeats = _column(work.written), _column(work.repeats)
    alone = [kind not in _FUSED for kind in kinds]
    first = [kind not in _FUSED or kind in _WINDOWS for kind in kinds]  # of a kernel
    reduced = [kind == _REDUCTION for kind in kinds]  # or what follows one in its kernel
    found = {}
    for reader, sources in enumerate(work.sources):
        for writer in sources:
            apart = (
                first[reader]
                or alone[writer]
                or (reduced[writer] and kinds[reader] == _REDUCTION)
                or (reduced[writer] and sizes[reader] > sizes[writer])
                or repeats[writer] != repeats[reader]
            )
            reduced[reader] |= reduced[writer] and not apart
            found[writer, reader] = apart
    return found


def _column(values: Floats) -> list[float]:
    """Return a value an operator: that of the first candidate."""
    found: list[float] = values.reshape(len(values), -1)[:, 0].tolist()
    return found


def _sink(work: Workload, breaks: dict[tuple[int, int], bool], levels: list[int]) -> None:
    """Move pointwise operators to the level of their first reader, if they fuse with all."""
    readers: list[list[int]] = [[] for _ in levels]
    apart = set()
    for (writer, reader), broken in breaks.items():
        if broken:
            apart.add(writer)
        else:
            readers[writer].append(reader)
    kinds = work.kind.tolist()
    for place in range(work.operators - 1, -1, -1):
        if kinds[place] in _SINKS and readers[place] and place not in apart:
            levels[place] = min([levels[reader] for reader in readers[place]])


def _traffic(work: Workload, owner: Sequence[int]) -> tuple[Floats, Floats]:
    """Return what operators read and write when only what crosses borders of kernels moves.

    A kernel reads a tensor once at most. What an operator reads is shared out to its sources by
    their size; what these have not written came from outside the network.
    """
    writers, readers = _edges(work)
    handed = np.zeros(work.operators, dtype=bool)
    handed[writers] = True
    sizes = work.written[writers]
    whole = _summed(sizes, readers, work.read)
    parts = np.minimum(1.0, work.read[readers] / np.maximum(whole[readers], 1.0)) * sizes
    read = np.maximum(0.0, work.read - _summed(parts, readers, work.read))
    kernel = np.array(owner, dtype=np.intp)
    outside = kernel[writers] != kernel[readers]
    writers, readers = writers[outside], readers[outside]
    keys = writers * work.operators + kernel[readers]
    taken = _once(parts[outside], work.written[writers], keys)
    read += _summed(taken, readers, work.read)
    written = work.written.copy()
    handed[writers] = False
    written[handed] = 0.0
    return read, written


def _summed(values: Floats, places: Places, like: Floats) -> Floats:
    """Add values up where they belong."""
    found = np.zeros_like(like)
    np.add.at(found, places, values)
    return found


def _once(parts: Floats, sizes: Floats, keys: Places) -> Floats:
    """Return what is taken of tensors when a kernel takes no more of one than there is."""
    found = np.minimum(parts, sizes)
    _, number, times = np.unique(keys, return_inverse=True, return_counts=True)
    taken: dict[int, Floats] = {}
    for place in np.flatnonzero(times[number] > 1).tolist():  # read by a kernel more than once
        key = int(number[place])
        before = taken.get(key, np.zeros_like(found[place]))
        found[place] = np.minimum(parts[place], sizes[place] - before)
        taken[key] = before + found[place]
    return found


def _leaders(work: Workload, owner: Sequence[int]) -> list[int]:
    """Return, for each kernel, the operator that moves most."""
    moves = _column(work.read + work.written)
    found: dict[int, int] = {}
    for place, kernel in enumerate(owner):
        if kernel not in found or moves[place] > moves[found[kernel]]:
            found[kernel] = place
    return list(found.values())
