"""Run a network at another resolution, and keep what a run that was followed says of its channels.

What a run says of channels follows from the operators that run and from the axes of the weights.
Where another run calls the same operators in the same modules on the same weights, only the
numbers of positions differ: flops and acts of the calls, and the sizes that the code names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

from torch import nn

from convscale.network.channels.contractions import RULES, rule_of
from convscale.network.channels.keeping import Kept
from convscale.network.channels.labels import Label
from convscale.network.channels.products import Product, bind, contractions, name_of
from convscale.network.channels.shaping import SHAPING, Shaped, shaped_call
from convscale.network.channels.ties import Ties, tensors_in
from convscale.network.modules.numbers import FLOAT, Number, install
from convscale.network.modules.walking import walk
from convscale.network.running.execution import Observer, passed, run
from convscale.network.running.feeding import Feed
from convscale.network.tracing.trace import ELEMENTWISE, Border, Term, Trace, labelled
from convscale.quantities import Resolution

Shape = tuple[int, ...]


class Run(Observer):
    """What a run shows without labels: its operators, their products, and borders of modules.

    Example:
        >>> seen = Run(nn.Conv2d(3, 8, 3), Feed(8))
        >>> seen.output_shapes, [(path, product.flops) for path, product in seen.products]
        (((1, 8, 6, 6),), [('', 7776)])
    """

    def __init__(self, module: nn.Module, feed: Feed, watch: tuple[Observer, ...] = ()) -> None:
        self.script: list[tuple[str, Any]] = []
        self.products: list[tuple[str, Product]] = []
        self.shapes: dict[str, tuple[Shape, Shape]] = {}
        self.calls: dict[str, int] = {}
        self.functions: dict[str, list[str]] = {}
        self.shaped: dict[str, list[Shaped | None]] = {}
        self.compared: dict[str, list[bool]] = {}
        self._ties, self._paused = Ties(), False
        install(module, self._compare)
        self.tensors = named_shapes(module)
        inputs = labelled(self._ties, module, feed)
        output = run(module, inputs.args, self, *watch, keywords=inputs.kwargs, handle=self.handle)
        self.output_shapes = tuple(tuple(tensor.shape) for tensor in tensors_in(output))

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        """See a call of an operator, and note its products."""
        if self._paused:
            return
        self.script.append((path, func))
        if rule_of(name_of(func), RULES) is not None:
            found = contractions(func, bind(func, args, kwargs), output)
            times = self.times
            self.products += [(path, Product(times * o.flops, times * o.acts)) for o in found]

    def handle(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: str) -> Any:
        """Make a call, and note the sizes that it names."""
        name = getattr(func, "__name__", "")
        self.functions.setdefault(path, []).append(name)
        self._paused = name in ELEMENTWISE
        output = func(*args, **kwargs)
        self._paused = False
        if name in SHAPING:
            found = shaped_call(self._ties, name, (*args, *kwargs.values()), output)
            self.shaped.setdefault(path, []).append(found)
        return output

    def leave(self, path: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """See a module after it ran, and note the shapes at its border."""
        del module
        self.calls[path] = self.calls.get(path, 0) + 1
        if (ends := passed(inputs, output)) is not None:
            self.shapes[path] = (tuple(ends[0].shape), tuple(ends[1].shape))

    def _compare(self, number: Number, question: str, other: Any, answer: bool) -> bool:
        del other
        if question != FLOAT and number.place is not None:
            self.compared.setdefault(number.place.module, []).append(answer)
        return answer


def again(known: Trace, resolution: Resolution, seen: Run) -> Trace | None:
    """Return what following a run at another resolution would show, from a run that was followed.

    Args:
        known: The run that was followed.
        resolution: The resolution of another run, of the same tensors if anything is to be said.
        seen: What it showed.

    Returns:
        The trace; None where the run is of another kind, and must be followed itself.

    Example:
        >>> from convscale.network import trace_module
        >>> net = nn.Conv2d(3, 8, 3, device="meta")
        >>> known = trace_module(net, 8)
        >>> again(known, 10, Run(net, Feed(10))).terms[0].flops
        13824
    """
    if not _is_alike(known, seen):
        return None
    terms = _terms(known.terms, [product for _, product in seen.products])
    shaped = _shaped(known.shaped, seen.shaped)
    borders = _borders(known.borders, seen.shapes)
    if terms is None or shaped is None or borders is None:
        return None
    return replace(
        known,
        resolution=resolution,
        terms=terms,
        borders=borders,
        output_shapes=seen.output_shapes,
        shaped=shaped,
        compared=seen.compared,
        kept=kept_there(known, terms),
    )


def _is_alike(known: Trace, seen: Run) -> bool:
    """Tell whether the same operators ran in the same modules, on weights of the same shapes."""
    if known.script is None or known.script != tuple(seen.script) or known.calls != seen.calls:
        return False
    functions = {path: [read.function for read in reads] for path, reads in known.reads.items()}
    ranks = [
        [len(shape) for shape in shapes] for shapes in (known.output_shapes, seen.output_shapes)
    ]
    if functions != seen.functions or ranks[0] != ranks[1]:
        return False
    tensors = {axes.names: axes.shape for axes in known.tensors}
    return tensors == seen.tensors


def named_shapes(module: nn.Module) -> dict[tuple[str, ...], Shape]:
    """Return the shapes of all tensors of a module by all their names.

    Example:
        >>> named_shapes(nn.Linear(2, 3))
        {('weight',): (3, 2), ('bias',): (3,)}
    """
    names: dict[int, list[str]] = {}
    shapes: dict[int, Shape] = {}
    for path, part in walk(module):
        for group in (part._parameters, part._buffers):
            for name, tensor in group.items():
                if tensor is not None:
                    names.setdefault(id(tensor), []).append(f"{path}.{name}".lstrip("."))
                    shapes[id(tensor)] = tuple(tensor.shape)
    return {tuple(own): shapes[key] for key, own in names.items()}


def _terms(known: Sequence[Term], products: Sequence[Product]) -> tuple[Term, ...] | None:
    """Give the terms of a run the constants of another's products, of as many units each."""
    if len(known) != len(products):
        return None
    terms = []
    for term, product in zip(known, products, strict=True):
        flops, no_flops = divmod(product.flops, _number(term.flops_units))
        acts, no_acts = divmod(product.acts, _number(term.acts_units))
        if no_flops or no_acts:
            return None
        terms.append(replace(term, flops_scale=flops, acts_scale=acts))
    return tuple(terms)


def _number(factors: Sequence[Label]) -> int:
    return prod(len(units) for units in factors)


def _shaped(
    known: dict[str, list[Shaped | None]], found: dict[str, list[Shaped | None]]
) -> dict[str, list[Shaped | None]] | None:
    """Give the calls that name sizes those of another run; None where they name other channels."""
    if known.keys() != found.keys():
        return None
    merged: dict[str, list[Shaped | None]] = {}
    for path, calls in known.items():
        if len(calls) != len(found[path]):
            return None
        merged[path] = []
        for old, new in zip(calls, found[path], strict=True):
            if not _names_alike(old, new):
                return None
            own = None if old is None or new is None else replace(old, sizes=new.sizes)
            merged[path].append(own)
    return merged


def _names_alike(old: Shaped | None, new: Shaped | None) -> bool:
    """Tell whether two calls name the same sizes of channels, and as many sizes of others."""
    if old is None or new is None:
        return old is new
    if old.function != new.function or len(old.sizes) != len(new.sizes):
        return False
    pairs = zip(old.sizes, new.sizes, old.dims, strict=True)
    return all(units is None or before == after for before, after, units in pairs)


def _borders(
    known: dict[str, Border], shapes: dict[str, tuple[Shape, Shape]]
) -> dict[str, Border] | None:
    """Give the borders of modules the shapes of another run; None where others have channels."""
    if known.keys() != shapes.keys():
        return None
    borders = {}
    for path, border in known.items():
        before, after = shapes[path]
        if not _keep_units(border.input_shape, before, border.input_units):
            return None
        if not _keep_units(border.output_shape, after, border.output_units):
            return None
        borders[path] = replace(border, input_shape=before, output_shape=after)
    return borders


def _keep_units(old: Shape, new: Shape, units: Label | None) -> bool:
    """Tell whether a map has as many dimensions as another, and its channels where it had them."""
    if len(old) != len(new):
        return False
    if units is None:
        return True
    return any(a == b == len(units) for a, b in zip(old, new, strict=True))


def kept_there(known: Trace, terms: Sequence[Term]) -> tuple[Kept, ...]:
    """Give the layers that stay, which are listed as they ran, the flops of another run.

    Args:
        known: The run in which they stay.
        terms: The products of the other run.

    Example:
        >>> from convscale.network import trace_module
        >>> known = trace_module(nn.Conv2d(3, 8, 3, device="meta"), 8)
        >>> kept_there(known, known.terms)
        ()
    """
    kept, pairs = [], zip(known.terms, terms, strict=True)
    for layer in known.kept:
        own = next(new for old, new in pairs if (old.path, old.flops) == (layer.path, layer.flops))
        kept.append(replace(layer, flops=own.flops))
    return tuple(kept)
