"""What a network would cost at factors that need no rounding, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convscale.network.channels.channels import Channels
from convscale.network.channels.grids import completed
from convscale.network.channels.labels import Label
from convscale.network.channels.products import ATTENTION as OF_ATTENTION
from convscale.network.stages.stages import join, within
from convscale.network.tracing.trace import Trace
from convscale.quantities import like, sides
from convscale.scaling.plans.parts import Parts
from convscale.scaling.plans.plan import flat
from convscale.scaling.search.blueprint import Blueprint
from convscale.scaling.variants.variant import Variant
from convscale.strategy import Factors

Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# The parts of a network that grow otherwise than the law's plain convolutions, and that:
HEAD, STEM, BETWEEN = "head", "stem", "between stages"
FIXED, FIRST = "stages of fixed depth", "first blocks"
LINEAR, ATTENTION, NORMS = "depthwise", "attention", "norms and biases"
SQUEEZE, PLAIN = "squeeze", "plain"
PARTS = (HEAD, STEM, BETWEEN, LINEAR, ATTENTION, NORMS, SQUEEZE)
PARTS_OF_DEPTH = (HEAD, STEM, BETWEEN, FIXED, FIRST, LINEAR, ATTENTION, NORMS, SQUEEZE)
# Operators that multiply activations by activations: attention's scores and mixtures.
_WITHOUT_WEIGHTS = frozenset(("bmm", "baddbmm", *OF_ATTENTION))


@dataclass(frozen=True)
class Costs:
    """Flops, params and acts at each of several factors, summed over some parts.

    Example:
        >>> Costs(np.ones(2), np.ones(2), np.ones(2)).flops.shape
        (2,)
    """

    flops: Values
    params: Values
    acts: Values


class Continuous:
    """Cost a network at any real factors of depth, width and resolution.

    Each stage gets n·(D − 1) more of its repeatable block, a fraction if need be; each free
    width is multiplied exactly; the positions of each map grow with the power of the side
    that shows when the side is doubled.

    Args:
        blueprint: The base network.

    Raises:
        UnscalableNetworkError: If the network does not run at twice the resolution.

    Example:
        >>> from convscale.network import resolve_base
        >>> model = Continuous(Blueprint(resolve_base("timm:resnet18").build("meta"), 64))
        >>> one = Factors(1.0, 1.0, 1.0, 1.0)
        >>> int(model.costs([one]).params[0])
        11689512
    """

    def __init__(self, blueprint: Blueprint) -> None:
        self._blueprint = blueprint
        self._base = self._more(1)
        self._channels: Channels = self._base.trace.channels
        self._inner = [g for g in self._base.rule.inner if not self._channels.fixed[g]]
        self._depths = np.array([stage.depth for stage in blueprint.stages], dtype=float)
        self.dense = False
        self._term_copies, self._tensor_copies = self._copies()
        parts = Parts(self._base.trace, blueprint.stages, self._base.traced.edits)
        self._term_stages = _stages(parts, [term.path for term in self._base.trace.terms])
        self._tensor_stages = _stages(parts, self._base.traced.form.tensor_names)
        self._flops_power, self._acts_power = self._powers()
        self._term_parts = np.array(_term_parts(blueprint, self._base.trace))
        self._tensor_parts = np.array(_tensor_parts(blueprint, self._base))
        self._no_positions()

    def _more(self, blocks: int, stage: int | None = None, *, times: int = 1) -> Variant:
        """Return the base with more blocks in one stage, or in all that can be deepened."""
        bp = self._blueprint
        able = any(bp.deepenable)
        depths = tuple(
            stage_.depth + (1 + (blocks if index == stage else 0)) * ok
            if stage is not None
            else stage_.depth + blocks * ok
            for index, (stage_, ok) in enumerate(zip(bp.stages, bp.deepenable, strict=True))
        )
        larger = like(bp.resolution, [side * times for side in sides(bp.resolution)])
        return bp.variant(depths if able else None, larger)

    def _copies(self) -> tuple[Values, Values]:
        """Return, for each stage, which calls and tensors make up an added block."""
        terms, tensors = [], []
        for index in range(len(self._depths)):
            more = self._more(1, index)
            if more.traced is not self._base.traced:  # dense blocks: each depth is another run
                self.dense = True
                terms.append(np.zeros(len(self._base.term_weights)))
                tensors.append(np.zeros(len(self._base.tensor_weights)))
                continue
            terms.append((more.term_weights - self._base.term_weights).astype(float))
            tensors.append((more.tensor_weights - self._base.tensor_weights).astype(float))
        shape = (-1, len(self._base.term_weights)), (-1, len(self._base.tensor_weights))
        return np.array(terms).reshape(shape[0]), np.array(tensors).reshape(shape[1])

    def _powers(self) -> tuple[Values, Values]:
        """Return the power of the side with which each call's flops and acts grow."""
        small, large = self._base.trace.terms, self._more(1, times=2).trace.terms
        if [term.path for term in small] != [term.path for term in large]:
            dims = float(len(sides(self._blueprint.resolution)))
            return np.full(len(small), dims), np.full(len(small), dims)
        flops = [(a.flops_scale, b.flops_scale) for a, b in zip(small, large, strict=True)]
        acts = [(a.acts_scale, b.acts_scale) for a, b in zip(small, large, strict=True)]
        return _power(flops), _power(acts)

    def _no_positions(self) -> None:
        """Set calls in blocks apart that have no positions: they do not grow with the side."""
        still = (self._flops_power < 0.5) & ~np.isin(self._term_parts, (HEAD, STEM))
        paths = {term.path for term, no in zip(self._base.trace.terms, still, strict=True) if no}
        self._term_parts[still] = SQUEEZE
        names = self._base.traced.form.tensor_names
        for index, name in enumerate(names):
            if name.rpartition(".")[0] in paths and self._tensor_parts[index] != NORMS:
                self._tensor_parts[index] = SQUEEZE

    def costs(self, factors: list[Factors], *, without: tuple[str, ...] = ()) -> Costs:
        """Return what the network costs at some factors, some of its parts left out.

        Args:
            factors: The factors of depth, width and resolution.
            without: Names of `PARTS_OF_DEPTH`. Without first blocks, each stage has as many
                repeatable ones instead.
        """
        terms = self._left(self._term_parts, self._term_stages, without)
        tensors = self._left(self._tensor_parts, self._tensor_stages, without)
        rows = []
        for f in factors:
            by = np.where(self._channels.fixed, 1.0, f.width)
            by[self._inner] = f.group_width
            sizes = completed(self._channels.grids, by * self._channels.sizes)
            flops, acts, params = self._base.traced.form.parts(sizes)
            added = self._depths * (f.depth - 1) - 1  # the base of the form has one block more
            calls = self._base.term_weights + added @ self._term_copies
            owned = self._base.tensor_weights + added @ self._tensor_copies
            if FIRST in without:
                whole = self._depths * f.depth
                calls = np.where(self._term_stages < 0, calls, whole @ self._term_copies)
                owned = np.where(self._tensor_stages < 0, owned, whole @ self._tensor_copies)
            rows.append(
                (
                    (flops * calls * f.resolution**self._flops_power)[terms].sum(),
                    (params * owned)[tensors].sum(),
                    (acts * calls * f.resolution**self._acts_power)[terms].sum(),
                )
            )
        table = np.array(rows, dtype=float)
        return Costs(table[:, 0], table[:, 1], table[:, 2])

    def _left(self, parts: Values, stages: Places, without: tuple[str, ...]) -> Mask:
        """Tell which calls or tensors are left without some parts."""
        left: Mask = ~np.isin(parts, without)
        if FIXED in without:
            fixed = np.flatnonzero(~self._term_copies.any(axis=1))
            left &= ~np.isin(stages, fixed)
        return left


def _stages(parts: Parts, paths: Sequence[str]) -> Places:
    """Return the index of each path's stage, -1 where it lies in none."""
    found = (parts.stage_of(path) for path in paths)
    return np.array([-1 if index is None else index for index in found], dtype=np.int64)


def _power(pairs: list[tuple[int, int]]) -> Values:
    small, large = np.array(pairs, dtype=float).reshape(-1, 2).T
    known = (small > 0) & (large > 0)
    power = np.zeros(len(small))
    power[known] = np.log2(large[known] / small[known])
    return power


def _term_parts(blueprint: Blueprint, trace: Trace) -> list[str]:
    """Return the part of the network that each call belongs to."""
    inside = [any(within(term.path, block) for block in _blocks(blueprint)) for term in trace.terms]
    first = inside.index(True) if any(inside) else 1
    last = len(inside) - 1 - inside[::-1].index(True) if any(inside) else len(inside) - 2
    parts = []
    for index, term in enumerate(trace.terms):
        free = sum(trace.channels.scalable(units) for units in term.flops_units)
        if index < first:
            parts.append(STEM)
        elif index > last:
            parts.append(HEAD)
        elif free < 2:
            parts.append(ATTENTION if term.operator in _WITHOUT_WEIGHTS else LINEAR)
        else:
            parts.append(PLAIN if inside[index] or not any(inside) else BETWEEN)
    return parts


def _tensor_parts(blueprint: Blueprint, variant: Variant) -> list[str]:
    """Return the part of the network that each parameter belongs to."""
    trace = variant.trace
    of_module: dict[str, str] = {}
    for term, part in zip(trace.terms, _term_parts(blueprint, trace), strict=True):
        of_module.setdefault(term.path, part)
    axes = {name: tensor for tensor in trace.tensors for name in tensor.names}
    parts = []
    for name in variant.traced.form.tensor_names:
        own = of_module.get(name.rpartition(".")[0])
        free = sum(_scalable(trace.channels, units) for units in axes[name].units)
        vector = sum(size > 1 for size in axes[name].shape) < 2
        if vector and own not in (HEAD, STEM):
            parts.append(NORMS)
        else:
            parts.append(own or (PLAIN if free > 1 else NORMS))
    return parts


def _scalable(channels: Channels, units: Label | None) -> bool:
    return units is not None and channels.scalable(units)


def _blocks(blueprint: Blueprint) -> list[str]:
    """Return the paths of all blocks, those that are added for the trace included."""
    own = [path for stage in blueprint.stages for path in stage.paths]
    traced = blueprint.variant(
        tuple(s.depth + ok for s, ok in zip(blueprint.stages, blueprint.deepenable, strict=True))
        if any(blueprint.deepenable)
        else None,
        blueprint.resolution,
    ).traced
    return own + [join(edit.container, name) for edit in flat(traced.edits) for name in edit.added]
