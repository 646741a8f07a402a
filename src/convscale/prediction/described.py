"""Workloads of the paper families in closed form: of one description, or of many candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from convscale.complexity.calls import KINDS, OperatorCall
from convscale.families.candidates import Candidates, read_candidates
from convscale.families.description import AnyNet, Description
from convscale.families.forms import Sizes, forms
from convscale.families.operators import terms
from convscale.families.terms import ONCE, Extent, Symbol, Term
from convscale.prediction.flow import Flow, flow
from convscale.prediction.workload import Floats, Workload, as_slice
from convscale.quantities import Resolution

Indices = npt.NDArray[np.intp]
_POSITION = {kind: position for position, kind in enumerate(KINDS)}


def described_workload(
    description: Description, *, resolution: Resolution | None = None
) -> Workload:
    """Return the operators of a description's network, without building it.

    They are those that a forward pass runs, in its order; the blocks of a stage that are alike
    stand there once, with their number as `repeats`.

    Args:
        description: The network.
        resolution: Input side, or all sides, in px; the description's own by default.

    Example:
        >>> from convscale.families import count, named
        >>> net = named("RegNetY-4.0GF")
        >>> found = described_workload(net)
        >>> int((found.repeats * found.flops).sum()) == count(net).flops
        True
    """
    one = _single(description, resolution)
    part = one.part(slice(0, 1))
    form, _ = next(forms(one, part, exact=True))
    return flat(Arithmetic(terms(form)).workload(Sizes(form, part)))


def _single(net: Description, resolution: Resolution | None) -> Candidates:
    own = net.bottleneck_multipliers if isinstance(net, AnyNet) else net.expansion_ratios
    return read_candidates(
        net,
        depths=[net.depths],
        widths=[net.widths],
        group_widths=[net.group_widths] if isinstance(net, AnyNet) else None,
        bottleneck_multipliers=[own],
        resolution=resolution,
    )


def flat(work: Workload) -> Workload:
    """Return the workload of a single candidate without the axis of candidates.

    Example:
        >>> from convscale.families import named
        >>> described_workload(named("ResNet-18")).flops.ndim
        1
    """
    arrays = {
        name: np.ascontiguousarray(value[:, 0])
        for name, value in vars(work).items()
        if isinstance(value, np.ndarray) and value.ndim == 2
    }
    return Workload(**{**vars(work), **arrays})


class Arithmetic:
    """The terms of a form as arrays of indices, by which sizes become a workload.

    `names` are those of the operators, `times` the symbols of repeats, and `counts` how often each
    operator runs for each of these; `core` are the operators of the place that is meant.

    Args:
        terms: The terms of a network.
        place: The stage whose terms are meant, or as `Term` says; all by default.
        margin: How many places before and after it are there beside it.
        merge: Whether terms that are equal for all candidates become one, so that there is less
            to compute; what reads what is then no longer known.
        held: How the tensors of the network are held, where that is known already.

    Example:
        >>> from convscale.families import named
        >>> one = _single(named("ResNet-18"), None)
        >>> form, _ = next(forms(one, one.part(slice(0, 1))))
        >>> Arithmetic(terms(form)).operators, Arithmetic(terms(form), merge=True).operators
        (75, 30)
    """

    def __init__(
        self,
        terms: Sequence[Term],
        *,
        place: int | None = None,
        margin: int = 0,
        merge: bool = False,
        held: Flow | None = None,
    ) -> None:
        held = held_in(terms) if held is None else held
        own = [
            number
            for number, term in enumerate(terms)
            if place is None or abs(term.place - place) <= margin
        ]
        found = _merged(terms, held, own) if merge else _alone(terms, own)
        lines = [terms[number] for number, _ in found]
        self.operators = len(lines)
        self.core = np.flatnonzero([place in (None, term.place) for term in lines])
        self._flow = held.only(np.array([number for number, _ in found], np.intp))
        self.names = self._flow.names
        self.kind = np.array([_POSITION[term.kind] for term in lines], np.intp)
        self.sources = () if merge else _sources(lines, own)
        self.copies = _column([term.copies for term in lines])
        self._channels, self._positions = _Names(), _Names()
        self._reads = self._extents([term.reads[0] for term in lines])
        self._again = as_slice(np.flatnonzero([len(term.reads) > 1 for term in lines]))
        self._reads_again = self._extents([term.reads[1] for term in lines if len(term.reads) > 1])
        self._writes = self._extents([term.writes for term in lines])
        self._vectors = self._channels.of([term.vectors[1] for term in lines])
        self._vector_count = _column([term.vectors[0] for term in lines])
        self._set_products(lines)
        self._set_repeats([times for _, times in found])

    def _extents(self, extents: Sequence[Extent]) -> tuple[Indices, Indices]:
        channels = self._channels.of([extent.channels for extent in extents])
        return channels, self._positions.of([extent.positions for extent in extents])

    def _set_products(self, lines: Sequence[Term]) -> None:
        self._products = as_slice(np.flatnonzero([term.product is not None for term in lines]))
        products = [term.product for term in lines if term.product is not None]
        self._inputs = self._channels.of([product.inputs for product in products])
        self._outs = self._channels.of([product.outs for product in products])
        self._groups = self._channels.of([product.groups for product in products])
        self._area = _column([product.kernel**2 for product in products])
        self.kernel, self.stride = np.ones((2, len(lines), 1))
        self.kernel[self._products] = self._area
        self.stride[self._products] = _column([product.stride**2 for product in products])

    def _set_repeats(self, times: Sequence[Counter[Symbol]]) -> None:
        self.times = _Names()
        self.times.of([symbol for counter in times for symbol in counter])
        self.counts = np.array([[one[symbol] for symbol in self.times] for one in times], float)

    def workload(self, sizes: Sizes) -> Workload:
        """Return the operators of candidates, arrays of the shape (operators, n) or narrower."""
        channels, positions = self._channels.values(sizes), self._positions.values(sizes)
        read = _elements(self._reads, channels, positions)
        read[self._again] += _elements(self._reads_again, channels, positions)
        written = _elements(self._writes, channels, positions)
        written *= self.copies
        weights = channels.take(self._vectors, axis=0)
        weights *= self._vector_count
        products, shape = self._products, written.shape
        rows = np.zeros((len(written), positions.shape[1]))
        rows[products] = positions[self._writes[1][products]]
        inner, outs, flops = np.zeros((3, *shape))
        groups = np.ones(shape)
        inner[products] = channels.take(self._inputs, axis=0)
        inner[products] *= self._area
        outs[products] = channels.take(self._outs, axis=0)
        groups[products] = channels.take(self._groups, axis=0)
        each = inner[products] * outs[products]
        weights[products] += each
        flops[products] = each * rows[products]
        return Workload(
            kind=self.kind,
            repeats=self.counts @ self.times.values(sizes),
            flops=flops,
            read=read,
            written=written,
            weights=weights,
            rows=rows,
            inner=inner,
            outs=outs,
            groups=groups,
            kernel=self.kernel,
            stride=self.stride,
            elements=written,
            launches=np.ones((len(written), 1)),
            sources=self.sources,
            flow=self._flow,
        )


class _Names:
    """Symbols by number, in the order in which they come."""

    def __init__(self) -> None:
        self._number: dict[Symbol, int] = {}

    def of(self, symbols: Sequence[Symbol]) -> Indices:
        numbers = [self._number.setdefault(symbol, len(self._number)) for symbol in symbols]
        return np.array(numbers, np.intp)

    def __iter__(self) -> Iterator[Symbol]:
        return iter(self._number)

    def values(self, sizes: Sizes) -> Floats:
        """Return the sizes, shape (symbols, n), or (symbols, 1) where all candidates agree."""
        return np.stack(np.broadcast_arrays(*map(sizes.of, self._number)))


def held_in(terms: Sequence[Term]) -> Flow:
    """Return how the tensors of a network's terms are held.

    Example:
        >>> from convscale.families import named
        >>> one = _single(named("ResNet-18"), None)
        >>> form, _ = next(forms(one, one.part(slice(0, 1))))
        >>> held_in(terms(form)).names[:3]
        ('convolution', 'native_batch_norm', 'relu')
    """
    return flow([_call(term) for term in terms])


def _call(term: Term) -> OperatorCall:
    """Return what of a call tells how its tensors are held."""
    weighted = term.product is not None or term.vectors[0] > 0
    return OperatorCall(
        "", term.operator, term.kind, bytes_read=2, weight_bytes=weighted, sources=term.sources
    )


def _sources(lines: Sequence[Term], own: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return what wrote what is read, of what is there, by the positions there."""
    position = {number: place for place, number in enumerate(own)}
    return tuple(
        tuple(position[source] for source in line.sources if source in position) for line in lines
    )


def _alone(terms: Sequence[Term], own: Sequence[int]) -> list[tuple[int, Counter[Symbol]]]:
    return [(number, Counter([terms[number].times])) for number in own]


def _merged(
    terms: Sequence[Term], held: Flow, own: Sequence[int]
) -> list[tuple[int, Counter[Symbol]]]:
    """Join terms that are the same operator on the same sizes, held in the same way."""
    shares = np.stack([getattr(held, entry.name) for entry in fields(held)[1:]], axis=1)
    first: dict[tuple[Term, tuple[float, ...]], int] = {}
    found: dict[int, Counter[Symbol]] = {}
    for number in own:
        term = terms[number]
        same = (term._replace(times=ONCE, sources=(), held=()), tuple(shares[number].tolist()))
        found.setdefault(first.setdefault(same, number), Counter())[term.times] += 1
    return sorted(found.items(), key=lambda item: _order(terms[item[0]]))


def _order(term: Term) -> tuple[object, ...]:
    """Return what puts products first, and operators of a kind beside each other."""
    own = (0, 0) if term.product is None else (-term.product.kernel, -term.product.stride)
    return term.product is None, term.kind, *own, term.operator


def _elements(at: tuple[Indices, Indices], channels: Floats, positions: Floats) -> Floats:
    found: Floats = channels.take(at[0], axis=0)
    found *= positions.take(at[1], axis=0)
    return found


def _column(values: Sequence[float]) -> Floats:
    return np.array(values, np.float64)[:, None]
