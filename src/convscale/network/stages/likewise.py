"""What a run with blocks added shows at another resolution, from the base network's run there.

A copy of a block runs the code of that block. Where it took maps of the same sides at one
resolution, and all maps of one side that the block handles have one side again at another, the
copy does there what the block does. So the run with blocks added at one resolution and the runs
without them at both tell the fourth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from convscale.network.channels.shaping import Shaped
from convscale.network.stages.stages import upwards
from convscale.network.tracing.rerun import kept_there
from convscale.network.tracing.trace import Border, Term, Trace

Shape = tuple[int, ...]
_Of = TypeVar("_Of")


class Copies:
    """The blocks of which others are copies, and so where in the base network their parts lie.

    Args:
        blocks: For the path of each copy that of its block.

    Example:
        >>> Copies({"layer1.3": "layer1.2"}).own("layer1.3.conv1")
        'layer1.2.conv1'
    """

    def __init__(self, blocks: Mapping[str, str]) -> None:
        self.blocks = frozenset(blocks.values())
        self._known = dict(blocks)

    def own(self, path: str) -> str:
        """Return the path in the base network of what a module is, or is a copy of."""
        if path not in self._known:
            found = path
            for around in upwards(path):
                if around != path and around in self._known:
                    found = self._known[around] + path.removeprefix(around)
                    break
            self._known[path] = found
        return self._known[path]

    def block(self, path: str) -> str | None:
        """Return the block that has copies and that a path of the base network lies in."""
        return next((around for around in upwards(path) if around in self.blocks), None)


@dataclass(frozen=True)
class Pair:
    """The base network's runs at its own resolution and at another."""

    here: Trace
    there: Trace


def likewise(known: Trace, pair: Pair, copies: Copies) -> Trace | None:
    """Return what following a run with blocks added would show at another resolution.

    Args:
        known: The run with blocks added, at the base network's resolution.
        pair: The base network's runs.
        copies: What the added blocks are copies of.

    Returns:
        The trace; None where the runs do not tell.

    Example:
        >>> from torch import nn
        >>> from convscale.network import trace_module
        >>> net = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))).to("meta")
        >>> deep, base, there = (trace_module(net[:n], px) for n, px in ((3, 8), (2, 8), (2, 9)))
        >>> found = likewise(deep, Pair(base, there), Copies({"2": "1"}))
        >>> [term.flops for term in found.terms], found.output_shapes
        ([6561, 6561, 6561], ((1, 3, 9, 9),))
    """
    terms = _terms(known.terms, pair, copies)
    borders = _borders(known.borders, pair, copies)
    shaped = _shaped(known.shaped, pair, copies)
    compared = _compared(known.compared, pair, copies)
    outputs = _outputs(known, pair)
    if terms is None or borders is None or shaped is None or compared is None or outputs is None:
        return None
    return replace(
        known,
        resolution=pair.there.resolution,
        terms=terms,
        borders=borders,
        output_shapes=outputs,
        shaped=shaped,
        compared=compared,
        kept=kept_there(known, terms),
    )


def follow(own: _Of, here: _Of, there: _Of) -> _Of | None:
    """Return what something is at another resolution that stands in a copy of a block.

    Args:
        own: What it is here.
        here: What it is in the block here.
        there: What it is in the block there.

    Returns:
        What the block's is there, where its own is as the block's, or its own where the block's
        stays; None elsewhere.

    Example:
        >>> follow(14, 14, 16), follow(96, 64, 64), follow(96, 64, 72)
        (16, 96, None)
    """
    if here == there:
        return own
    return there if own == here else None


def shape_there(own: Shape, here: Shape, there: Shape) -> Shape | None:
    """Return the shape of a tensor at another resolution, dimension by dimension.

    Args:
        own: Its shape here.
        here: That of the tensor in the block here.
        there: That of the tensor in the block there.

    Example:
        >>> shape_there((1, 96, 14, 14), (1, 64, 14, 14), (1, 64, 16, 16))
        (1, 96, 16, 16)
    """
    if not len(own) == len(here) == len(there):
        return None
    found = [follow(*sizes) for sizes in zip(own, here, there, strict=True)]
    known = tuple(size for size in found if size is not None)
    return known if len(known) == len(own) else None


def _terms(known: tuple[Term, ...], pair: Pair, copies: Copies) -> tuple[Term, ...] | None:
    """Give products the constants that those of the blocks have there."""
    runs: dict[str, list[tuple[Term, Term]]] = {}
    for here, there in zip(pair.here.terms, pair.there.terms, strict=True):
        runs.setdefault(here.path, []).append((here, there))
    often: Counter[str] = Counter()
    found = []
    for term in known:
        like = runs.get(copies.own(term.path), [])
        at, often[term.path] = often[term.path], often[term.path] + 1
        if at >= len(like):
            return None
        here, there = like[at]
        flops = follow(term.flops_scale, here.flops_scale, there.flops_scale)
        acts = follow(term.acts_scale, here.acts_scale, there.acts_scale)
        if flops is None or acts is None or term.operator != here.operator:
            return None
        found.append(replace(term, flops_scale=flops, acts_scale=acts))
    return tuple(found)


def _borders(known: Mapping[str, Border], pair: Pair, copies: Copies) -> dict[str, Border] | None:
    """Give modules the shapes of maps that those of the blocks have there."""
    found = {}
    for path, border in known.items():
        here, there = (run.borders.get(copies.own(path)) for run in (pair.here, pair.there))
        if here is None or there is None:
            return None
        taken = shape_there(border.input_shape, here.input_shape, there.input_shape)
        put_out = shape_there(border.output_shape, here.output_shape, there.output_shape)
        if taken is None or put_out is None:
            return None
        found[path] = replace(border, input_shape=taken, output_shape=put_out)
    return found


def _shaped(
    known: Mapping[str, list[Shaped | None]], pair: Pair, copies: Copies
) -> dict[str, list[Shaped | None]] | None:
    """Give calls that name sizes those that they name in the blocks there."""
    found: dict[str, list[Shaped | None]] = {}
    for path, calls in known.items():
        heres, theres = (run.shaped.get(copies.own(path), []) for run in (pair.here, pair.there))
        if not len(calls) == len(heres) == len(theres):
            return None
        found[path] = []
        for call, here, there in zip(calls, heres, theres, strict=True):
            if call is None or here is None or there is None:
                if not call is here is there:
                    return None
                found[path].append(None)
                continue
            sizes = shape_there(call.sizes, here.sizes, there.sizes)
            if sizes is None or not call.function == here.function == there.function:
                return None
            found[path].append(replace(call, sizes=sizes))
    return found


def _compared(
    known: Mapping[str, list[bool]], pair: Pair, copies: Copies
) -> dict[str, list[bool]] | None:
    """Give comparisons with attributes the outcomes that they have in the blocks there."""
    found = {}
    for path, answers in known.items():
        heres, theres = (run.compared.get(copies.own(path), []) for run in (pair.here, pair.there))
        there = follow(answers, heres, theres)
        if there is None:
            return None
        found[path] = there
    return found


def _outputs(known: Trace, pair: Pair) -> tuple[Shape, ...] | None:
    """Return the shapes of the outputs there."""
    here, there = pair.here.output_shapes, pair.there.output_shapes
    if not len(known.output_shapes) == len(here) == len(there):
        return None
    shapes = [shape_there(*own) for own in zip(known.output_shapes, here, there, strict=True)]
    found = tuple(shape for shape in shapes if shape is not None)
    return found if len(found) == len(shapes) else None
