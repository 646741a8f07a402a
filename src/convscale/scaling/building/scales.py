"""Floats in attributes that a constructor computed from a width: they follow it by a power.

Such are the scale of an attention (1 / sqrt(head width)), that of weights which are standardised
(gain / sqrt(fan-in)), an equalised learning rate (sqrt(2 / fan-in)). Which power of which size it
is, several layers of one class tell where it is one constant times that power in all of them; of a
single one its value, where it is exactly the power of what a product there sums over. What no
tensor is multiplied with stays, but roots that only a computation gives: an attention that is
fused at times multiplies by them at others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isclose, prod, sqrt
from typing import Any, NamedTuple

from torch import nn

from convscale.network.channels.channels import Sizes
from convscale.network.modules.numbers import Place
from convscale.network.modules.reals import factors_of, mark
from convscale.network.modules.walking import walk
from convscale.network.tracing.trace import Trace

_POWERS = (-0.5, -1.0, 0.5, 1.0)
_GAINS = (1.0, sqrt(2))  # of initialisers for layers without and with a rectifier behind them
_LEAST = 4  # sizes up to it have powers that any number may be
_ROUND = 4  # digits: shorter decimals were more likely written than computed
_BETWEEN = ("bmm", "attention")  # in the names of operators

Kind = tuple[str, str, int]  # a product or an axis, by the module and the number, or the tensor


class _Size(NamedTuple):
    before: float
    after: float
    between: bool = False  # of a product of two maps, as attention has


@dataclass(frozen=True)
class _Law:
    """A float is a gain times a power of a size; the gain is None where layers have several."""

    kind: Kind
    power: float
    gain: float | None

    def at(self, value: float, size: _Size) -> float:
        """Return what a value becomes with a size."""
        if self.gain is None:
            return value * float((size.after / size.before) ** self.power)
        return self.gain * float(size.after**self.power)


class Scales:
    """The floats of a widened network that may follow its widths, seen through a run of it.

    Args:
        module: The widened network, a copy of our own; its floats are marked.
        trace: The trace of the base network.
        sizes: The new sizes of the channel groups.
        model_path: Maps a module's path to that of its model in the trace (added blocks).
        base: The base network, whose layers tell what follows.

    Example:
        >>> from convscale.network import trace_module
        >>> net = nn.Conv2d(3, 8, 1, device="meta")
        >>> Scales(net, trace_module(net, 8), trace_module(net, 8).channels.sizes, str, net).found
        {}
    """

    def __init__(
        self,
        module: nn.Module,
        trace: Trace,
        sizes: Sizes,
        model_path: Callable[[str], str],
        base: nn.Module,
    ) -> None:
        self._sure: dict[Place, float] = {}
        self._doubtful: dict[Place, str] = {}
        self._met: set[Place] = set()  # what tensors were multiplied with
        self._certain: set[Place] = set()  # what follows even so
        self._falling: set[Place] = set()
        self._weights: dict[str, set[Place]] = defaultdict(set)
        self._sizes, self._model_path = _Sizes(trace, sizes), model_path
        places = _floats(module)
        if places:
            self._find(places, self._sizes, model_path, _floats(base))
        mark(module, (*self._sure, *self._doubtful))
        self._names = {id(weight): name for name, weight in module.named_parameters()}

    def see(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """See a call of a function of PyTorch, which may multiply by a float."""
        if not self._sure and not self._doubtful:
            return
        places, weights = factors_of(name, args, kwargs)
        self._met |= places
        for weight in weights:
            if weight.ndim > 1 and id(weight) in self._names:
                self._weights[self._names[id(weight)]] |= places

    def between(self, path: str, size: int) -> int | None:
        """Return what becomes of the size that a product of two maps in a module sums over.

        Args:
            path: The module.
            size: The size in the base network; None is returned where no such product has it.
        """
        for kind, own in self._sizes.at(self._model_path(path)).items():
            if kind[:2] == ("product", "") and own.between and own.before == size > _LEAST:
                return round(own.after)
        return None

    @property
    def found(self) -> dict[Place, float]:
        """The new values of floats that follow."""
        known = self._met | self._certain
        return {place: value for place, value in self._sure.items() if place in known}

    @property
    def unscaled(self) -> tuple[str, ...]:
        """The names of weights that are multiplied by a float which falls with their fan-in."""
        falling = {place for place in self.found if place in self._falling}
        return tuple(sorted(n for n, places in self._weights.items() if falling & places))

    @property
    def doubtful(self) -> tuple[str, ...]:
        """The floats that may follow, or be what they are by chance: each with the reason."""
        return tuple(text for place, text in self._doubtful.items() if place in self._met)

    def _find(
        self,
        places: Mapping[Place, tuple[type, float]],
        sizes: _Sizes,
        model_path: Callable[[str], str],
        known: Mapping[Place, tuple[type, float]],
    ) -> None:
        alike: dict[tuple[type, str], list[tuple[str, float]]] = defaultdict(list)
        for place, (kind, value) in known.items():
            alike[kind, place.attribute].append((place.module, value))
        laws: dict[tuple[type, str], _Law | None] = {}
        for place, (kind, value) in places.items():
            own = sizes.at(model_path(place.module))
            if not any(size.before != size.after for size in own.values()):
                continue
            key = (kind, place.attribute)
            if key not in laws:
                laws[key] = _law([(one, sizes.at(path)) for path, one in alike[key]])
            law = laws[key]
            if law is not None and law.kind in own:
                self._follow(place, law, value, own[law.kind])
                continue
            others = (sizes.at(path) for path, one in alike[key] if one == value)
            self._take(place, value, own, others)

    def _follow(self, place: Place, law: _Law, value: float, size: _Size) -> None:
        new = law.at(value, size)
        if not isclose(new, value, rel_tol=1e-12):
            self._sure[place] = new
            if law.power == -0.5 and law.kind[0] == "product":
                self._falling.add(place)
                if law.kind[1] == "" and (size.between or _is_long(value)):
                    self._certain.add(place)

    def _take(
        self,
        place: Place,
        value: float,
        own: Mapping[Kind, _Size],
        others: Iterable[Mapping[Kind, _Size]],
    ) -> None:
        """Take a float for a power of a size, where it is exactly that."""
        found = list(_exact(value, own))
        beside = list(others) if found else []  # of most floats nothing is found
        for law, size in found:
            if any(other.get(law.kind, size).before != size.before for other in beside):
                continue  # it is the same beside other sizes
            plain = law.kind[:2] == ("product", "") and law.gain == 1 and abs(law.power) == 0.5
            if plain or _is_long(value):
                self._follow(place, law, value, size)
                return
            name = f"{place.module}.{place.attribute}".lstrip(".")
            self._doubtful.setdefault(place, f"{name} ({value:g}, beside {size.before:.0f})")


def _is_long(value: float) -> bool:
    """Tell whether a number has so many digits that it was computed rather than written."""
    return len(f"{value:.6g}".strip("-0.").replace(".", "")) >= _ROUND


def _floats(module: nn.Module) -> dict[Place, tuple[type, float]]:
    """Return the floats in the attributes of modules, each with the class of its module."""
    return {
        Place(path, name, None): (type(part), float(value))
        for path, part in walk(module)
        for name, value in vars(part).items()
        if isinstance(value, float) and value and not name.startswith("_")
    }


def _law(layers: list[tuple[float, Mapping[Kind, _Size]]]) -> _Law | None:
    """Return the law that the layers of a class show: a constant times a power of a size.

    Two sizes at least must have the same constant, as most of the layers do.
    """
    if len({value for value, _ in layers}) < 2:
        return None
    best: tuple[int, _Law] | None = None
    for kind in layers[0][1]:
        if not all(kind in sizes for _, sizes in layers):
            continue
        for power in _POWERS:
            gains: dict[float, set[float]] = defaultdict(set)
            counts: dict[float, int] = defaultdict(int)
            for value, sizes in layers:
                before = sizes[kind].before
                gain = float(f"{value / before**power:.9e}")
                gains[gain].add(before)
                counts[gain] += 1
            shown = sum(counts[gain] for gain, sizes_of in gains.items() if len(sizes_of) > 1)
            if 2 * shown > len(layers) and (best is None or shown > best[0]):
                value, sizes = layers[0]
                exact = value / sizes[kind].before ** power
                exact = round(exact) if isclose(exact, round(exact), rel_tol=1e-12) else exact
                best = shown, _Law(kind, power, exact if len(gains) == 1 else None)
    return None if best is None else best[1]


def _exact(value: float, own: Mapping[Kind, _Size]) -> Iterator[tuple[_Law, _Size]]:
    """Yield the laws that a single value may be by: those of products first."""
    for kind, size in own.items():
        if size.before == size.after or size.before <= _LEAST:
            continue
        for gain in _GAINS:
            for power in _POWERS[:3]:
                if isclose(value, gain * size.before**power, rel_tol=1e-12):
                    yield _Law(kind, power, gain), size


class _Sizes:
    """What products of a module sum over, and the axes of its weights, before and after."""

    def __init__(self, trace: Trace, sizes: Sizes) -> None:
        channels = trace.channels
        self._known: dict[str, dict[Kind, _Size]] = {}
        self._products: dict[str, list[_Size]] = defaultdict(list)
        self._axes: dict[str, dict[Kind, _Size]] = defaultdict(dict)
        self._children: dict[str, list[str]] = defaultdict(list)
        for term in trace.terms:
            before = term.flops / (term.acts_scale * prod(len(u) for u in term.acts_units) or 1)
            flops = term.flops_scale * prod(channels.size(u, sizes) for u in term.flops_units)
            acts = term.acts_scale * prod(channels.size(u, sizes) for u in term.acts_units)
            if term.path not in self._products:
                self._children[term.path.rpartition(".")[0]].append(term.path)
            between = any(part in term.operator for part in _BETWEEN)
            self._products[term.path].append(_Size(before, flops / (acts or 1), between))
        for axes in trace.tensors:
            for name in axes.names if axes.is_parameter else ():
                path, _, leaf = name.rpartition(".")
                for at, (size, units) in enumerate(zip(axes.shape, axes.units, strict=True)):
                    after = size if units is None else channels.size(units, sizes)
                    self._axes[path]["axis", leaf, at] = _Size(size, after)

    def at(self, path: str) -> dict[Kind, _Size]:
        """Return the sizes beside the attributes of a module: its own products first."""
        if path not in self._known:
            found: dict[Kind, _Size] = {
                ("product", "", at): size for at, size in enumerate(self._products.get(path, ()))
            }
            for child in self._children.get(path, ()) if path else ():
                rest = child.rpartition(".")[2]
                sizes = enumerate(self._products[child])
                found |= {("product", rest, at): size for at, size in sizes if child != path}
            self._known[path] = {**found, **self._axes.get(path, {})}
        return self._known[path]
