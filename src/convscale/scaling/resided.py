"""A run at another resolution from one that was followed: its units stay, its maps are measured.

Which channels are one does not follow from the resolution. Where a run makes the calls of the one
that was followed, only the sizes of maps differ, and nothing is followed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from torch import nn

from convscale.complexity.calls import ITEM_BYTES
from convscale.complexity.reshaped import ReshapingRecorder
from convscale.errors import UnscalableNetworkError
from convscale.network.contractions import RULES, rule_of
from convscale.network.execution import ForwardError, Observer, run
from convscale.network.feeding import Feed
from convscale.network.inputs import Inputs
from convscale.network.labels import Label
from convscale.network.lookups import Lookups
from convscale.network.products import bind, contractions, name_of
from convscale.network.trace import Term
from convscale.prediction.predict import ELEMENTS
from convscale.quantities import Resolution, sides
from convscale.scaling.plan import DepthEdit
from convscale.scaling.variant import Traced

Edits = tuple[DepthEdit, ...]


class _Products(Observer):
    """Note what calls multiply and put out."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str, int, int]] = []

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        if rule_of(name_of(func), RULES) is not None:
            self.found += [
                (path, func._opname, one.flops, one.acts)
                for one in contractions(func, bind(func, args, kwargs), output)
            ]


class Resided:
    """Runs at other resolutions from runs that were followed at the base's.

    The first runs at larger and at smaller sides are followed too. Where one shows something else,
    all are followed from there on.

    Args:
        resolution: The base's.
        follow: Follows a run of the network with edits.
        made: Returns the network with edits.
        feed: Returns what a network is run on at a resolution.
        lookups: The positions at which tables are read.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.blueprint import Blueprint
        >>> net = resolve_base("timm:resnet18").build("meta")
        >>> plans = Blueprint(net, 64, records=True).planning()
        >>> [plans.variant(None, side).traced.like is None for side in (96, 128)]
        [True, False]
    """

    def __init__(
        self,
        resolution: Resolution,
        follow: Callable[[Edits, Resolution], Traced],
        made: Callable[[Edits], nn.Module],
        feed: Callable[[Resolution], Feed],
        lookups: Any,
    ) -> None:
        self._resolution, self._follow, self._made = resolution, follow, made
        self._feed, self._lookups = feed, lookups
        self._modules: dict[Edits, tuple[Traced, nn.Module] | None] = {}
        self._found: dict[tuple[Edits, Resolution], Traced] = {}
        self._proved: set[object] = set()
        self._holds = True

    def traced(self, edits: Edits, resolution: Resolution) -> Traced | None:
        """Return what a run shows; None where it is to be followed.

        Raises:
            UnscalableNetworkError: If the network does not run.
        """
        if not self._holds or resolution == self._resolution:
            return None
        key = (edits, resolution)
        if key in self._found:
            self._found[key] = self._found.pop(key)  # the last used stand last
            return self._found[key]
        if self._known(edits) is None:
            return None
        way = self._way(edits, resolution)
        if way not in self._proved:
            own, found = self._follow(edits, resolution), self._run(edits, resolution)
            self._holds = found is not None and _is_like(found, own)
            self._proved.add(way)
            return own
        found = self._run(edits, resolution)
        if found is not None:
            self._found[key] = found
        return found

    def forget(self, most: int) -> set[int]:
        """Forget all but the runs that were used last; return the identities of those followed."""
        for key in list(self._found)[: max(len(self._found) - most, 0)]:
            del self._found[key]
        return {id(known[0]) for known in self._modules.values() if known is not None}

    def _way(self, edits: Edits, resolution: Resolution) -> object:
        pairs = zip(sides(resolution), sides(self._resolution), strict=True)
        return bool(edits), tuple((side > own) - (side < own) for side, own in pairs)

    def _known(self, edits: Edits) -> tuple[Traced, nn.Module] | None:
        """Return the run at the base's resolution, with the network; None where it does not run."""
        if edits not in self._modules:
            try:
                self._modules[edits] = (self._follow(edits, self._resolution), self._made(edits))
            except UnscalableNetworkError:  # it may run elsewhere, which following it tells
                self._modules[edits] = None
        return self._modules[edits]

    def _run(self, edits: Edits, resolution: Resolution) -> Traced | None:
        known = self._known(edits)
        assert known is not None
        traced, module = known
        inputs = self._feed(resolution).inputs(module)
        return resided(traced, module, inputs, resolution, (Lookups(self._lookups),))


def _is_like(one: Traced, other: Traced) -> bool:
    """Tell whether two runs show the same, for any widths."""
    pairs = (
        (one.trace.channels.sizes, other.trace.channels.sizes),
        (one.trace.channels.fixed, other.trace.channels.fixed),
    )
    if not one.form.is_like(other.form) or not all(np.array_equal(*pair) for pair in pairs):
        return False
    if one.sized is None or other.sized is None:
        return one.sized is other.sized
    return one.sized.is_like(other.sized)


def resided(
    known: Traced,
    module: nn.Module,
    inputs: Inputs,
    resolution: Resolution,
    watch: tuple[Observer, ...] = (),
) -> Traced | None:
    """Return what a run at another resolution shows, from one that was followed.

    None where the network does not run, or makes other calls.

    Args:
        known: The run that was followed.
        module: The module that was run, not followed yet.
        inputs: What it is run on now.
        resolution: The resolution of these.
        watch: Others who see the run.

    Example:
        >>> import torch
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.blueprint import Blueprint
        >>> net = resolve_base("timm:resnet18").build("meta")
        >>> blueprint = Blueprint(net, 64)
        >>> known, x = blueprint.base().traced, torch.empty(1, 3, 96, 96, device="meta")
        >>> found = resided(known, net, Inputs((x,)), 96)
        >>> found.form.is_like(blueprint.variant(None, 96).traced.form)
        True
    """
    if known.trace.trains or known.told is not None:
        return None
    products = _Products()
    again = None
    if known.sized is not None:
        again = ReshapingRecorder(known.sized, item_bytes=ITEM_BYTES[ELEMENTS])
        watch = (*watch, again)
    try:
        run(module, inputs.args, products, *watch, keywords=inputs.kwargs)
    except ForwardError:
        return None
    terms = _terms(known.trace.terms, products.found)
    sized = None if again is None else again.sized()
    if terms is None or (again is not None and sized is None):
        return None
    trace = replace(known.trace, resolution=resolution, terms=terms)
    form = known.form.with_scales(terms)
    return Traced(trace, known.edits, form, None, sized, known)


def _terms(
    known: Sequence[Term], found: Sequence[tuple[str, str, int, int]]
) -> tuple[Term, ...] | None:
    """Return calls with the constants of another run; None where it made others."""
    if [(term.path, term.operator) for term in known] != [one[:2] for one in found]:
        return None
    terms = []
    for term, (_, _, flops, acts) in zip(known, found, strict=True):
        multiplied, put_out = _size(term.flops_units), _size(term.acts_units)
        if flops % multiplied or acts % put_out:
            return None
        terms.append(replace(term, flops_scale=flops // multiplied, acts_scale=acts // put_out))
    return tuple(terms)


def _size(units: Sequence[Label]) -> int:
    return prod(len(own) for own in units)
