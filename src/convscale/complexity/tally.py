"""Add up what one run of a network executes, in a convention."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

from torch import nn

from convscale.complexity.complexity import Count, EdgeCount, LayerCount, Uncounted
from convscale.complexity.conventions import Convention, Edge, convention_named
from convscale.network.channels.contractions import RULES, Rule, rule_of
from convscale.network.channels.products import (
    OwnRule,
    bind,
    checked_rules,
    first_shape,
    is_free,
    may_multiply,
    name_of,
    own_product,
)
from convscale.network.modules.quantised import packed_elements
from convscale.network.running.execution import Handle, Observer
from convscale.quantities import Resolution


class _Meeting(NamedTuple):
    """What to do with the calls of an operator."""

    name: str
    rule: Rule | None
    own_rule: OwnRule | None
    edge: Edge | None
    free: bool
    multiplies: bool


class Listener(Protocol):
    """What counts in a convention, some functions as a whole.

    Example:
        >>> counting: Listener = Counting("pycls")
    """

    convention: Convention

    def begin(self) -> None:
        """Enter a function that is counted as a whole."""

    def end(self) -> None:
        """Leave it."""

    def add_function(self, function: str, bound: dict[str, Any], output: Any, path: str) -> None:
        """Add what the convention counts of it."""


class Counting(Observer):
    """Add up the products of one run, by module, and note what was not counted.

    Example:
        >>> import torch
        >>> from convscale.network.running.execution import run
        >>> net, counting = nn.Conv2d(3, 8, 3, device="meta"), Counting()
        >>> out = run(net, (torch.empty(1, 3, 8, 8, device="meta"),), counting)
        >>> counting.count(net, 8).acts
        288
    """

    def __init__(
        self, convention: str = "default", *, rules: Mapping[str, OwnRule] | None = None
    ) -> None:
        self.convention = convention_named(convention)
        self._rules = checked_rules(rules)
        self._meetings: dict[Any, _Meeting] = {}
        self.clear()

    def clear(self) -> None:
        """Forget a run."""
        self.flops: dict[str, int] = {}  # by module
        self.acts: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}  # in the order of execution
        self.edges: dict[str, tuple[int, int]] = {}  # what the convention adds
        self.excluded: Counter[str] = Counter()
        self.uncounted: Counter[tuple[str, str]] = Counter()
        self._inside = 0  # functions that the convention counts as a whole, and that are running

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        """Add up a call that multiplies, and note one that does not."""
        if not self.times:
            return
        meeting = self._meetings.get(func)
        if meeting is None:
            meeting = self._meetings[func] = self._meet(func)
        name, rule, own_rule, edge, free, multiplies = meeting
        if free:
            return
        if self._inside:
            edge = None
        counted = False
        if rule is not None or own_rule is not None or edge is not None:
            bound = bind(func, args, kwargs)
            if own_rule is not None:
                found = own_product(name, own_rule, bound, output)
                self._add(path, output, found.flops, found.acts)
                counted = True
            elif rule is not None:
                for one in rule(bound, output) or ():
                    self._add(path, output, one.flops, one.acts)
                    counted = True
            if edge is not None:
                counted = self._add_edge(edge, bound, output, path) or counted
        if counted:
            return
        if multiplies:
            self.uncounted[name.replace("::", "."), path] += self.times
        elif not self._inside:
            self.excluded[name.replace("::", ".")] += self.times

    def _meet(self, func: Any) -> _Meeting:
        name = name_of(func)
        own_rule = rule_of(name, self._rules)
        rule = rule_of(name, RULES) if own_rule is None else None
        return _Meeting(
            name=name,
            rule=rule,
            own_rule=own_rule,
            edge=self.convention.of_operator(name),
            free=own_rule is None and is_free(func),
            multiplies=may_multiply(func),
        )

    def _add(self, path: str, output: Any, flops: int, acts: int) -> None:
        self.flops[path] = self.flops.get(path, 0) + self.times * flops
        self.acts[path] = self.acts.get(path, 0) + self.times * acts
        if path not in self.shapes:
            self.shapes[path] = first_shape(output)

    def begin(self) -> None:
        """Enter a function that is counted as a whole."""
        self._inside += 1

    def end(self) -> None:
        """Leave it."""
        self._inside -= 1

    def add_function(self, function: str, bound: dict[str, Any], output: Any, path: str) -> None:
        """Add what the convention counts of a function."""
        edge = self.convention.of_function(function)
        if edge is not None:
            self._add_edge(edge, bound, output, path)

    def _add_edge(self, edge: Edge, bound: dict[str, Any], output: Any, path: str) -> bool:
        found = edge.rule(bound, output)
        if not found.flops and not found.acts:
            return False
        self._add(path, output, found.flops, found.acts)
        flops, acts = self.edges.get(edge.what, (0, 0))
        times = self.times
        self.edges[edge.what] = (flops + times * found.flops, acts + times * found.acts)
        return True

    def leave(self, path: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Note the shape that a module with parameters puts out."""
        del inputs
        if module._parameters or path in self.flops:
            self.shapes[path] = first_shape(output)

    def never_met(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of the names of operators that no run has called.

        Example:
            >>> Counting().never_met(["aten::mm"])
            ('aten::mm',)
        """
        met = {meeting.name.removesuffix("_") for meeting in self._meetings.values()}
        return tuple(name for name in names if name.removesuffix("_") not in met)

    def count(
        self,
        module: nn.Module,
        resolution: Resolution | None,
        *,
        name: str = "",
        notes: tuple[str, ...] = (),
    ) -> Count:
        """Return the count of the module that was run at a resolution (px)."""
        layers = _layers(module, self)
        return Count(
            flops=sum(layer.flops for layer in layers),
            params=sum(parameter.numel() for parameter in module.parameters())
            + sum(self._packed(module).values()),
            acts=sum(layer.acts for layer in layers),
            network=name,
            resolution=resolution,
            convention=self.convention.name,
            uncounted=tuple(
                Uncounted(operator, calls, path)
                for (operator, path), calls in self.uncounted.items()
            ),
            excluded=dict(self.excluded),
            layers=layers,
            notes=notes,
            edges=tuple(EdgeCount(what, *added) for what, added in self.edges.items()),
        )

    def _packed(self, module: nn.Module) -> dict[str, int]:
        """Return the packed elements that quantised parts hold, by path, if any of them ran."""
        if not any(func.namespace == "quantized" for func in self._meetings):
            return {}
        parts = ((path, packed_elements(part)) for path, part in module.named_modules())
        return {path: elements for path, elements in parts if elements}


# Arguments of functions that are built in, where no signature can be asked for.
_BUILT_IN = {
    "linear": ("input", "weight", "bias"),
    "adaptive_avg_pool2d": ("input", "output_size"),
    "instance_norm": ("input", "weight", "bias"),
}


def listen(counters: Sequence[Listener]) -> Handle | None:
    """Return what shows calls of functions to those whose conventions count them as a whole.

    Returns:
        What makes each call, for `execution.run`; None where no convention asks for it, since
        it costs time.

    Example:
        >>> listen([Counting("default")]) is None
        True
    """
    if not any(edge.functions for one in counters for edge in one.convention.edges):
        return None

    def handle(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: str) -> Any:
        name = getattr(func, "__name__", "")
        taking = [one for one in counters if one.convention.of_function(name) is not None]
        for one in taking:
            one.begin()
        try:
            output = func(*args, **kwargs)
        finally:
            for one in taking:
                one.end()
        if taking:
            bound = {**dict(zip(_parameters(func), args, strict=False)), **kwargs}
            for one in taking:
                one.add_function(name, bound, output, path)
        return output

    return handle


@cache
def _parameters(func: Any) -> tuple[str, ...]:
    if inspect.isbuiltin(func):
        return _BUILT_IN[func.__name__]
    return tuple(inspect.signature(func).parameters)


def _layers(module: nn.Module, counter: Counting) -> tuple[LayerCount, ...]:
    """List what each module executed itself, in the order of execution, and what it owns."""
    parts, packed = dict(module.named_modules()), counter._packed(module)
    unused = [
        path
        for path, part in parts.items()
        if (part._parameters or path in packed) and path not in counter.shapes
    ]
    seen: set[int] = set()
    layers = []
    for path in (*counter.shapes, *unused):
        own = [p for p in parts[path]._parameters.values() if p is not None and id(p) not in seen]
        seen.update(id(parameter) for parameter in own)
        layers.append(
            LayerCount(
                path=path,
                kind=type(parts[path]).__name__,
                output_shape=counter.shapes.get(path, ()),
                flops=counter.convention.flops_per_multiply_add * counter.flops.get(path, 0),
                params=sum(parameter.numel() for parameter in own) + packed.get(path, 0),
                acts=counter.acts.get(path, 0),
            )
        )
    return tuple(layers)
