"""Observe a run: every operator that moves something, with the bytes that it reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import torch
from torch import nn

from convscale.complexity.calls import OTHER_PRODUCT, OperatorCall
from convscale.complexity.conventions import convention_named
from convscale.complexity.kinds import geometry_of, kind_of, reads_part, written_only
from convscale.network.channels.contractions import rule_of
from convscale.network.channels.products import (
    OwnRule,
    Product,
    bind,
    checked_rules,
    name_of,
    own_product,
)
from convscale.network.channels.ties import tensors_in
from convscale.network.modules.quantised import unpacked
from convscale.network.running.autocast import Autocast
from convscale.network.running.execution import Observer


class Moved(NamedTuple):
    """The tensors of a call: its arguments and result, and which of them it reads and writes.

    `operands` and `results` are distinct; `read` are places among the operands, and so are
    `weights`, those made of weights alone; `fresh` the identities of the parameters that the call
    is the first to use.

    Example:
        >>> x = torch.zeros(2)
        >>> Moved(torch.ops.aten.relu.default, {"self": x}, x, [x], [x], [0], set(), []).read
        [0]
    """

    func: Any
    bound: dict[str, Any]
    output: Any
    operands: list[torch.Tensor]
    results: list[torch.Tensor]
    read: list[int]
    weights: set[int]
    fresh: list[int]


class Recorder(Observer):
    """Record the calls of one run.

    A tensor is made of weights alone if nothing that went into it came from the input:
    parameters, buffers, constants, and what is computed from these. Params count for the first
    call that brings them and the input together.

    Args:
        module: The module that is run.
        inputs: What it is run on.
        item_bytes: Bytes of a floating element.
        convention: The convention of flops and acts.
        rules: Rules for operators of the user's own.
        autocast: What the run is given for the precision of tensors under autocast.

    Example:
        >>> from convscale.network.running.execution import run
        >>> net, x = nn.Conv2d(3, 8, 3, device="meta"), torch.empty(1, 3, 8, 8, device="meta")
        >>> recorder = Recorder(net, (x,))
        >>> _ = run(net, (x,), recorder)
        >>> [(call.kind, call.bytes_read, call.weight_bytes) for call in recorder.calls]
        [('convolution kxk', 1664, 896)]
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: tuple[torch.Tensor, ...],
        *,
        item_bytes: int = 4,
        convention: str = "default",
        rules: Mapping[str, OwnRule] | None = None,
        autocast: Autocast | None = None,
    ) -> None:
        self._autocast = autocast
        self.calls: list[OperatorCall] = []
        self._rules = checked_rules(rules)
        self._item_bytes = item_bytes
        self.convention = convention_named(convention)
        self._inside = 0  # functions that the convention counts as a whole, and that are running
        self._data = {_storage(tensor) for tensor in inputs}
        self._writers: dict[int, int] = {}  # by storage: the call that wrote it last
        self._params: dict[int, dict[int, int]] = {}  # by storage: parameters that are in it
        for parameter in module.parameters():
            self._params.setdefault(_storage(parameter), {})[id(parameter)] = parameter.numel()
        self._given: set[int] = set()
        self._packed: set[str] = set()  # modules whose packed weights were counted

    def repeats(self, x: torch.Tensor, dim: int) -> bool:
        """Tell that every step of a recurrent layer is recorded."""
        del x, dim
        return False

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        """Record a call, unless it moves nothing: a view, or memory that nobody fills."""
        operands, results = _distinct((args, kwargs)), _distinct(output)
        if not results or (operands and is_view(func, operands, results)):
            return
        weights = {i for i, tensor in enumerate(operands) if _storage(tensor) not in self._data}
        of_weights = len(weights) == len(operands)
        fresh = self._follow(operands, results, of_weights=of_weights)
        if func._opname.removeprefix("new_").startswith("empty"):
            for tensor in results:  # the place may have been another's before
                self._writers.pop(_storage(tensor), None)
            return
        sources = self._written(operands, results)
        packed = sum(map(_packed_bytes, args))
        params = sum(fresh.values()) + (self._packed_params(path, args) if packed else 0)
        bound = bind(func, args, kwargs)
        geometry = geometry_of(func, bound, output)
        own = rule_of(name_of(func), self._rules)
        found = self._cost(func, own, bound, output)
        kind = kind_of(func, geometry, weights=self._has_weights(bound))
        read = {
            place: self._bytes(func, tensor, results)
            for place, tensor in enumerate(operands)
            if not is_target(func, tensor, args, kwargs)
        }
        self.calls.append(
            OperatorCall(
                path=path,
                operator=f"{func.namespace}.{func._opname}",
                kind=kind if own is None else OTHER_PRODUCT,
                flops=found.flops,
                params=params,
                acts=found.acts,
                bytes_read=sum(read.values()) + packed,
                bytes_written=sum(self._size(t) * t.numel() for t in results),
                weight_bytes=sum(read[place] for place in read if place in weights) + packed,
                input_shapes=tuple(tuple(t.shape) for t in operands),
                output_shapes=tuple(tuple(t.shape) for t in results),
                geometry=geometry,
                sources=sources,
                cast=_cast(func, operands, results) if self._autocast is not None else "",
                autocast=self._autocast is None or self._autocast.on,
            )
        )
        if not packed:
            self.noted(Moved(func, bound, output, operands, results, [*read], weights, [*fresh]))

    def noted(self, moved: Moved) -> None:
        """See the tensors of the call that was recorded last."""

    def _written(
        self, operands: list[torch.Tensor], results: list[torch.Tensor]
    ) -> tuple[int, ...]:
        """Return the calls that wrote what the next one reads, and note what that one writes."""
        writers = {self._writers.get(_storage(tensor)) for tensor in operands}
        self._writers |= {_storage(tensor): len(self.calls) for tensor in results}
        return tuple(sorted(writer for writer in writers if writer is not None))

    def _packed_params(self, path: str, args: tuple[Any, ...]) -> int:
        """Return the weights that a quantised layer holds packed, when it runs first."""
        first = path not in self._packed
        self._packed.add(path)
        return sum(map(_packed_elements, args)) if first else 0

    def _cost(self, func: Any, own: OwnRule | None, bound: dict[str, Any], output: Any) -> Product:
        """Return flops and acts of a call, by the user's rule where there is one."""
        if own is None:
            return self.convention.cost(func, bound, output, edges=not self._inside)
        found = own_product(name_of(func), own, bound, output)
        return Product(self.convention.flops_per_multiply_add * found.flops, found.acts)

    def begin(self) -> None:
        """Enter a function that the convention counts as a whole."""
        self._inside += 1

    def end(self) -> None:
        """Leave it."""
        self._inside -= 1

    def add_function(self, function: str, bound: dict[str, Any], output: Any, path: str) -> None:
        """Add what the convention counts of a function to the last call that it made."""
        del path
        edge = self.convention.of_function(function)
        if edge is not None and self.calls:
            last, more = self.calls[-1], edge.rule(bound, output)
            self.calls[-1] = replace(
                last, flops=last.flops + more.flops, acts=last.acts + more.acts
            )

    def _follow(
        self, operands: list[torch.Tensor], results: list[torch.Tensor], *, of_weights: bool
    ) -> dict[int, int]:
        """Note what results are made of; return the params that the call is the first to use.

        They are sizes by the identities of parameters.
        """
        pending: dict[int, int] = {}
        for tensor in operands:
            pending |= self._params.get(_storage(tensor), {})
        for tensor in results:
            place = _storage(tensor)
            if of_weights:
                self._data.discard(place)
                self._params[place] = pending
            else:
                self._data.add(place)
                self._params.pop(place, None)
        if of_weights:
            return {}
        fresh = {key: size for key, size in pending.items() if key not in self._given}
        self._given.update(fresh)
        return fresh

    def _bytes(self, func: Any, tensor: torch.Tensor, results: list[torch.Tensor]) -> int:
        """Return the bytes of the distinct elements that a call reads of a tensor."""
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        elements = prod(size for size, stride in steps if stride)
        if tensor.numel() == 0:
            return 0
        held = tensor.untyped_storage().nbytes() // tensor.element_size()
        elements = min(elements, held)
        if reads_part(func) and tensor.is_floating_point():
            elements = min(elements, results[0].numel())
        return elements * self._size(tensor)

    def _has_weights(self, bound: dict[str, Any]) -> bool:
        """Tell whether a matrix of a product is made of weights alone."""
        names = ["mat1", "mat2", "batch1", "batch2", "mat", "vec"]
        if not {"mat1", "batch1", "mat"} & bound.keys():  # else self is what is added
            names.append("self")
        matrices = tensors_in([bound[name] for name in names if name in bound])  # not 10000 ** x
        return any(_storage(matrix) not in self._data for matrix in matrices)

    def _size(self, tensor: torch.Tensor) -> int:
        """Return the bytes of an element at the asked dtype."""
        if tensor.is_complex():
            return 2 * self._item_bytes
        return self._item_bytes if tensor.is_floating_point() else tensor.element_size()


class LateRecorder(Observer):
    """Record a run whose inputs are not at hand before it: they are those of the whole network.

    Args:
        item_bytes: Bytes of a floating element.

    Example:
        >>> from convscale.network.running.execution import run
        >>> net, x = nn.Conv2d(3, 8, 3, device="meta"), torch.empty(1, 3, 8, 8, device="meta")
        >>> late = LateRecorder()
        >>> _ = run(net, (x,), late)
        >>> [call.kind for call in late.calls]
        ['convolution kxk']
    """

    def __init__(self, *, item_bytes: int = 4) -> None:
        self._item_bytes = item_bytes
        self._recorder: Recorder | None = None

    @property
    def calls(self) -> list[OperatorCall]:
        """What was recorded of the last run."""
        return [] if self._recorder is None else self._recorder.calls

    def forget(self) -> None:
        """Forget what was recorded."""
        self._recorder = None

    def repeats(self, x: torch.Tensor, dim: int) -> bool:
        """Tell that every step of a recurrent layer is recorded."""
        del x, dim
        return False

    def enter(self, path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Begin with the whole network."""
        if not path and self._recorder is None:
            given = tuple(tensors_in(inputs))
            self._recorder = self.recorder(module, given, self._item_bytes)

    def recorder(
        self, module: nn.Module, given: tuple[torch.Tensor, ...], item_bytes: int
    ) -> Recorder:
        """Return what records the run of a network."""
        return Recorder(module, given, item_bytes=item_bytes)

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        """Record a call."""
        if self._recorder is not None:
            self._recorder.visit(func, args, kwargs, output, path)


_PRECISIONS = {torch.float32: "full", torch.float16: "half"}


def _cast(func: Any, operands: list[torch.Tensor], results: list[torch.Tensor]) -> str:
    """Return the precision to which a call casts; nothing where it does something else."""
    if func._opname != "_to_copy" or not operands or operands[0].dtype is results[0].dtype:
        return ""
    known = operands[0].dtype in _PRECISIONS
    return _PRECISIONS.get(results[0].dtype, "") if known else ""


def _packed_elements(value: object) -> int:
    return sum(tensor.numel() for tensor in unpacked(value) or () if tensor is not None)


def _packed_bytes(value: object) -> int:
    return sum(
        tensor.numel() * tensor.element_size()
        for tensor in unpacked(value) or ()
        if tensor is not None
    )


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _distinct(values: Any) -> list[torch.Tensor]:
    """Return the tensors in values, each once, less those that hold nothing."""
    found = {id(tensor): tensor for tensor in tensors_in(values)}
    return [tensor for tensor in found.values() if tensor.numel()]


def is_view(func: Any, operands: list[torch.Tensor], results: list[torch.Tensor]) -> bool:
    """Tell whether a call only looks at memory: its results lie where its operands do.

    Example:
        >>> x = torch.zeros(2, 3)
        >>> is_view(torch.ops.aten.t.default, [x], [x.t()])
        True
    """
    if func._schema.is_mutable and torch.Tag.inplace_view not in func.tags:
        return False
    places = {_storage(tensor) for tensor in operands}
    return all(_storage(tensor) in places for tensor in results)


def is_target(
    func: Any, tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Tell whether a call writes a tensor that it does not read.

    Example:
        >>> x, y = torch.zeros(2), torch.ones(2)
        >>> is_target(torch.ops.aten.copy_.default, x, (x, y), {})
        True
    """
    return tensor is kwargs.get("out") or (written_only(func) and tensor is args[0])
