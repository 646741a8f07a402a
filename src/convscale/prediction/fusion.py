"""The workload of compiled execution: which operators run as one kernel, and what that moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convscale.complexity.calls import KINDS
from convscale.errors import InputError
from convscale.prediction.workload import Floats, Workload

_PLACE = {kind: place for place, kind in enumerate(KINDS)}
_STREAMS = frozenset(  # an element of the output needs few of the input, at places known beforehand
    _PLACE[kind]
    for kind in "norm activation softmax elementwise concatenation padding copy constant".split()
)
_WINDOWS = frozenset(_PLACE[kind] for kind in ("pooling", "resizing", "lookup"))
_REDUCTION, _CONCATENATION = _PLACE["reduction"], _PLACE["concatenation"]
_SINKS = _STREAMS - {_CONCATENATION, _PLACE["softmax"]}
_FUSED = _STREAMS | _WINDOWS | {_REDUCTION}


def fused(work: Workload) -> Workload:
    """Return the workload of a pass whose pointwise chains a compiler has fused.

    Products (convolutions, matrix products) stay kernels of their own. Pointwise operators,
    norms in evaluation, reductions, copies and concatenations that follow each other become one
    kernel, which reads what comes from outside once and writes only what is read outside; what
    the members hand to each other moves nothing. Pooling, resizing and looking up read an input
    at many places, so that it is written first; what follows a reduction at its own size belongs
    to it, and what is larger is another kernel. A pointwise operator runs as late as its readers
    allow: the norm of a shortcut becomes part of the addition.

    flops and weights add up to those of the workload, elements read and written to no more. A
    kernel has the kind of the member that moves most.

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
        >>> found.operators, float(found.read[0]), float(found.written[0])
        (1, 8.0, 8.0)
    """
    if len(work.sources) != work.operators:
        raise InputError(
            f"The workload has {work.operators} operators and the sources of "
            f"{len(work.sources)}; fusion needs those of each. Record the network to have them."
        )
    kernels = _kernels(work)
    moved = _traffic(work, kernels)
    return _merged(work, kernels, moved)


@dataclass(frozen=True)
class _Kernels:
    """The kernel of each operator, in an order in which they can run."""

    of: npt.NDArray[np.intp]
    count: int


def _edges(work: Workload) -> Iterator[tuple[int, int]]:
    """Yield the writer and the reader of everything that is written and read."""
    for reader, sources in enumerate(work.sources):
        for writer in sources:
            yield writer, reader


def _kernels(work: Workload) -> _Kernels:
    """Give operators levels: an edge that cannot be fused goes to a higher one, none goes down.

    Operators of one level that edges connect are a kernel. On the way from a kernel to others
    and back a level would have to fall, so that kernels can run one after the other.
    """
    breaks = _breaks(work)
    levels = [0] * work.operators
    for writer, reader in _edges(work):
        levels[reader] = max(levels[reader], levels[writer] + breaks[writer, reader])
    _sink(work, breaks, levels)
    parent = list(range(work.operators))
    for (writer, reader), apart in breaks.items():
        if not apart and levels[writer] == levels[reader]:
            first, second = sorted((_root(parent, writer), _root(parent, reader)))
            parent[second] = first
    roots = [_root(parent, place) for place in range(work.operators)]
    order = {
        root: number
        for number, root in enumerate(sorted(set(roots), key=lambda root: (levels[root], root)))
    }
    return _Kernels(np.array([order[root] for root in roots], dtype=np.intp), len(order))


def _root(parent: list[int], place: int) -> int:
    while parent[place] != place:
        parent[place] = place = parent[parent[place]]
    return place


def _breaks(work: Workload) -> dict[tuple[int, int], bool]:
    """Return, for each edge, whether its ends must be kernels apart."""
    kinds = work.kind.tolist()
    sizes, repeats = _column(work.written), _column(work.repeats)
    reduced = [kind == _REDUCTION for kind in kinds]  # or what follows one in its kernel
    found = {}
    for writer, reader in _edges(work):
        apart = (
            not {kinds[writer], kinds[reader]} <= _FUSED
            or kinds[reader] in _WINDOWS
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
    for writer, reader in _edges(work):
        readers[writer].append(reader)
    for place in range(work.operators - 1, -1, -1):
        free = int(work.kind[place]) in _SINKS and readers[place]
        if free and not any(breaks[place, reader] for reader in readers[place]):
            levels[place] = min(levels[reader] for reader in readers[place])


@dataclass(frozen=True)
class _Traffic:
    """What kernels read and write, and the kernels that wrote what each reads."""

    read: Floats
    written: Floats
    sources: tuple[tuple[int, ...], ...]


def _traffic(work: Workload, kernels: _Kernels) -> _Traffic:
    """Book what crosses the borders of kernels: a tensor is read once a kernel, and written once.

    What an operator reads is shared out to its sources by their size; what these have not
    written came from outside the network.
    """
    read, written = work.read.copy(), work.written.copy()
    kept = np.zeros(work.operators, dtype=bool)
    taken: dict[tuple[int, int], Floats | float] = {}
    for reader, sources in enumerate(work.sources):
        if sources:
            parts = _parts(work, reader, sources)
            read[reader] = np.maximum(0.0, read[reader] - sum(parts))
            for writer, part in zip(sources, parts, strict=True):
                inside = kernels.of[writer] == kernels.of[reader]
                kept[writer] |= not inside
                if not inside:
                    key = (writer, int(kernels.of[reader]))
                    taken[key] = taken.get(key, 0.0) + part
    kept[[place for place, last in enumerate(_last(work)) if last]] = True
    written[~kept] = 0.0
    result = _summed(read, kernels)
    sources_of: list[set[int]] = [set() for _ in range(kernels.count)]
    for (writer, kernel), amount in taken.items():
        result[kernel] += np.minimum(amount, work.written[writer])
        sources_of[kernel].add(int(kernels.of[writer]))
    return _Traffic(
        result, _summed(written, kernels), tuple(tuple(sorted(found)) for found in sources_of)
    )


def _parts(work: Workload, reader: int, sources: Sequence[int]) -> list[Floats]:
    """Return what an operator reads of each source."""
    sizes = [work.written[writer] for writer in sources]
    share = np.minimum(1.0, work.read[reader] / np.maximum(sum(sizes), 1.0))
    return [share * size for size in sizes]


def _last(work: Workload) -> list[bool]:
    """Tell, for each operator, whether nothing reads what it writes."""
    read = {writer for writer, _ in _edges(work)}
    return [place not in read for place in range(work.operators)]


def _summed(values: Floats, kernels: _Kernels) -> Floats:
    found = np.zeros((kernels.count, *values.shape[1:]))
    np.add.at(found, kernels.of, values)
    return found


def _merged(work: Workload, kernels: _Kernels, moved: _Traffic) -> Workload:
    """Return one operator a kernel: the member that moves most, with what all of them need."""
    moves = _column(work.read + work.written)
    lead = [-1] * kernels.count
    for place, kernel in enumerate(kernels.of.tolist()):
        if lead[kernel] < 0 or moves[place] > moves[lead[kernel]]:
            lead[kernel] = place
    return Workload(
        kind=work.kind[lead],
        repeats=work.repeats[lead],
        flops=_summed(work.flops, kernels),
        read=moved.read,
        written=moved.written,
        weights=_summed(work.weights, kernels),
        rows=work.rows[lead],
        inner=work.inner[lead],
        outs=work.outs[lead],
        groups=work.groups[lead],
        kernel=work.kernel[lead],
        stride=work.stride[lead],
        sources=moved.sources,
    )
