"""What the operators of a run say about units: which are one, and which cannot change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from math import prod
from typing import Any

import numpy as np
import torch

from convscale.network.channels.grids import Laid, lay
from convscale.network.channels.labels import (
    Label,
    Labels,
    aligned,
    distinct,
    find_along,
    varying,
    vector,
)
from convscale.network.channels.norms import Norm
from convscale.network.modules.numbers import Place


class Ties:
    """Collect, during one run, the labels of tensors and the relations between units.

    Example:
        >>> ties = Ties()
        >>> a, b = ties.fresh(2), ties.fresh(2)
        >>> ties.tie(a, b)
        >>> ties.edges[0][1].tolist()
        [2, 3]
    """

    def __init__(self) -> None:
        self.edges: list[tuple[Label, Label]] = []
        self.pinned: list[Label] = []
        self.produced: list[Label] = []
        self.grouped: list[tuple[Label, Label, Label]] = []
        self.equal: list[list[Label]] = []
        self.cut: list[Label] = []  # first parts, where the rest is of another size
        self.same: list[tuple[Label, Label]] = []
        self.chunked: list[tuple[Label, Label, int]] = []
        self.divided: list[tuple[Label, int]] = []  # by what the code divides their number
        self.dealt: list[tuple[Label, int]] = []  # into how many equal parts, whose number stays
        self.shared: list[list[Label]] = []  # parts that are so many times one attribute
        self.filling: list[Label] = []
        self.laid: list[Laid] = []
        self.norms: list[Norm] = []
        self.given: list[Label] = []
        self.reasons: list[tuple[Label, str, str]] = []
        self.here: tuple[str, str] | None = None  # the module and the operator that is followed
        self._products: dict[int, torch.Tensor] = {}
        self._views: dict[int, torch.Tensor] = {}
        self._dropped: dict[int, Label] = {}
        self._rows: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._merged: dict[int, tuple[torch.Tensor, Labels]] = {}
        self.units = 0
        self.made: dict[int, Label] = {}
        self.lenient = 0  # while positive, an adapter tells what operators do not
        self.map_ndim = 4  # dimensions of a feature map: batch, channels and positions
        self._labels: dict[int, tuple[torch.Tensor, Labels]] = {}

    def fresh(self, size: int) -> Label:
        """Return new units."""
        start, self.units = self.units, self.units + size
        units = np.arange(start, start + size, dtype=np.int64)
        self.made[id(units)] = units
        return units

    def labels(self, tensor: torch.Tensor) -> Labels:
        """Return the labels of a tensor; none where nothing is known."""
        entry = self._labels.get(id(tensor))
        return entry[1] if entry is not None else ()

    def set_labels(self, tensor: torch.Tensor, labels: Labels) -> None:
        """Set the labels of a tensor, which is kept alive so that its identity stays its own."""
        self._labels[id(tensor)] = (tensor, labels)

    def is_known(self, tensor: torch.Tensor) -> bool:
        """Tell whether labels of a tensor, or none, were set."""
        return id(tensor) in self._labels

    def liken(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Say of a tensor what is known of one that holds the same elements, and return that."""
        for source, labels in reversed(self._labels.values()):
            if is_alias(tensor, source):
                self.set_labels(tensor, labels)
                self.merge(tensor, self.merged(source))
                self.pass_on_product([source], [tensor])
                self.pass_on_table(source, [tensor])
                return source
        return None

    def mark_product(self, tensor: torch.Tensor) -> None:
        """Note that a tensor comes from a product of matrices, whose batch is its heads."""
        self._products[id(tensor)] = tensor

    def is_product(self, tensor: torch.Tensor) -> bool:
        """Tell whether a tensor comes from a product of matrices."""
        return id(tensor) in self._products

    def pass_on_product(self, inputs: list[torch.Tensor], outputs: list[torch.Tensor]) -> None:
        """Let the results of an operator on a product count as one."""
        if any(id(tensor) in self._products for tensor in inputs):
            for tensor in outputs:
                self.mark_product(tensor)

    def is_table(self, tensor: torch.Tensor) -> bool:
        """Tell whether a tensor is a parameter, or a view of one."""
        return isinstance(tensor, torch.nn.Parameter) or id(tensor) in self._views

    def pass_on_table(self, source: torch.Tensor, views: list[torch.Tensor]) -> None:
        """Note that tensors are views of another, which may be a parameter."""
        if self.is_table(source):
            self._views.update((id(view), view) for view in views)

    def fill(self, size: int) -> Label:
        """Return new units of constants, of which there may be any number."""
        units = self.fresh(size)
        if size:
            self.filling.append(units)
        return units

    def tie(self, left: Label, right: Label) -> None:
        """Say that units are the same, element by element, after broadcasting."""
        if left is right:
            return
        left, right = np.broadcast_arrays(left, right)
        self.edges.append((left.reshape(-1), right.reshape(-1)))

    def tie_groups(self, units: Label, groups: int) -> None:
        """Say that the groups of a grouped axis keep their number and stay of equal size."""
        rows = units.reshape(groups, -1)
        if groups > 1:
            self.tie(rows[:1], rows[1:])

    def note_norm(self, units: Label, groups: int) -> None:
        """Note a norm over groups of channels."""
        self.norms.append(Norm(units, groups))

    def name_norm(self, units: Label, place: Place) -> None:
        """Note the attribute that tells the number of groups of the norm that was just noted."""
        if self.norms and np.array_equal(self.norms[-1].units, units):
            self.norms[-1] = self.norms[-1]._replace(place=place)

    def keep_undealt(self, units: Label) -> None:
        """Say that the parts that units were laid out in are only looked at: no shuffle."""
        self.dealt = [own for own in self.dealt if not np.array_equal(own[0], units)]

    def pin(self, label: Label) -> None:
        """Say that the number of these units cannot change, unless an adapter tells of them."""
        if self.lenient:
            return
        units = label.reshape(-1)
        self.pinned.append(units)
        if self.here is None:
            self.given.append(units)
        else:
            self.reasons.append((units, *self.here))

    def drop(self, label: Label) -> None:
        """Pin units that stand for no channels; from here on the label says nothing."""
        self.pin(label)
        if not self.lenient:
            self._dropped[id(label)] = label

    def is_dropped(self, label: Label) -> bool:
        """Tell whether a label was dropped."""
        return id(label) in self._dropped

    def merge(self, tensor: torch.Tensor, labels: Labels) -> None:
        """Note that several axes are laid into one dimension of a tensor, by a label each."""
        if labels:
            self._merged[id(tensor)] = (tensor, labels)

    @property
    def has_merged(self) -> bool:
        """Whether axes share a dimension of any tensor."""
        return bool(self._merged)

    def merged(self, tensor: torch.Tensor) -> Labels:
        """Return the labels of the axes that share a dimension of a tensor."""
        entry = self._merged.get(id(tensor))
        return entry[1] if entry is not None else ()

    def settle_merged(self, tensors: Iterable[torch.Tensor]) -> None:
        """Let axes of a product of matrices that share a dimension be a grid from here on.

        Else one of them stands for the dimension, and the others are pinned.
        """
        for tensor in tensors if self.has_merged else ():
            labels = self._merged.pop(id(tensor), (tensor, ()))[1]
            if labels and (laid := self._as_grid(tensor, labels)) is not None:
                self.set_labels(tensor, (*self.labels(tensor), laid))
                continue
            for label in labels:
                known = self.labels(tensor)
                if any(varying(label) & varying(other) for other in known):
                    self.pin(label)
                else:
                    self.set_labels(tensor, (*known, label))

    def _as_grid(self, tensor: torch.Tensor, labels: Labels) -> Label | None:
        """Return the label of a dimension that several axes are laid into, whole and alone."""
        shared = varying(labels[0])
        known = {dim for label in self.labels(tensor) for dim in varying(label)}
        factors = [distinct(label) for label in labels]
        size = tensor.shape[min(shared)]
        whole = all(varying(label) == shared for label in labels) and len(shared) == 1
        uneven = size % prod(len(own) for own in factors)
        if not (whole and self.is_product(tensor)) or shared & known or uneven:
            return None
        units = self.fresh(size)
        lay(self, units, factors)
        return vector(units, min(shared), tensor.ndim)

    def mark_rows(self, tensor: torch.Tensor, parameter: torch.Tensor) -> None:
        """Note that a tensor holds mixtures of the rows of a parameter."""
        self._rows[id(tensor)] = (tensor, parameter)

    def mixed_in(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the parameter whose rows a tensor holds mixtures of, if any."""
        entry = self._rows.get(id(tensor))
        return entry[1] if entry is not None else None

    def pin_tensor(self, tensor: torch.Tensor) -> None:
        """Pin every unit of a tensor."""
        for label in self.labels(tensor):
            self.pin(label)

    def joined(self, operands: list[Labels], ndim: int) -> Labels:
        """Tie the labels of operands of an elementwise operation; return those of its result."""
        result: list[Label] = []
        for labels in operands:
            before = len(result)  # labels of one operand are not tied to each other
            for label in labels:
                self._join(result, before, aligned(label, ndim))
        return tuple(result)

    def _join(self, result: list[Label], before: int, label: Label) -> None:
        dims = varying(label)
        if not dims:
            return
        for position, other in enumerate(result[:before]):
            if dims & varying(other):
                self.tie(label, other)
                if dims > varying(other):
                    result[position] = label
                return
        result.append(label)


def is_alias(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Tell whether two tensors are the same elements, of the same shape.

    Example:
        >>> x = torch.zeros(2, 3)
        >>> is_alias(x, x.detach()), is_alias(x, x.clone()), is_alias(x, x.view(3, 2))
        (True, False, False)
    """
    if left.shape != right.shape or left.stride() != right.stride():
        return False
    one = left.untyped_storage()._cdata == right.untyped_storage()._cdata
    return bool(one and left.storage_offset() == right.storage_offset())


_PLAIN = frozenset((int, float, bool, str, type(None)))


def tensors_in(values: Any) -> list[torch.Tensor]:
    """Return the tensors in nested arguments or results, in order.

    Example:
        >>> len(tensors_in([torch.zeros(1), {"a": torch.zeros(1)}, 3]))
        2
    """
    found: list[torch.Tensor] = []
    _gather(values, found)
    return found


def _gather(values: Any, found: list[torch.Tensor]) -> None:
    """Add the tensors in nested arguments to a list; it is asked at every call of an operator."""
    if isinstance(values, torch.Tensor):
        found.append(values)
        return
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        if not is_dataclass(values) or isinstance(values, type):
            return
        values = vars(values).values()
    for value in values:
        if type(value) not in _PLAIN:
            _gather(value, found)


def channel_units(ties: Ties, tensor: torch.Tensor, dim: int) -> Label | None:
    """Return the units along one dimension of a tensor; pin labels that mix it with others.

    Example:
        >>> channel_units(Ties(), torch.zeros(1, 3), 1) is None
        True
    """
    dim %= tensor.ndim
    labels = ties.labels(tensor)
    units = find_along(labels, dim, tensor.shape[dim])
    for label in labels:
        if dim in varying(label) and len(varying(label)) > 1:
            ties.pin(label)
            units = None
    return units


def take_values(ties: Ties, args: Sequence[Any]) -> None:
    """Tie the axes of a tensor to those of another whose values it takes (`weight.data = ...`).

    Example:
        >>> ties, one, two = Ties(), torch.zeros(2, 3), torch.zeros(2, 3)
        >>> take_values(ties, (one, two))
        >>> len(ties.edges)
        0
    """
    if len(args) != 2 or not all(isinstance(one, torch.Tensor) for one in args):
        return
    for dim, size in enumerate(args[0].shape if args[0].shape == args[1].shape else ()):
        own, other = (find_along(ties.labels(tensor), dim, size) for tensor in args)
        if own is not None:
            tie_or_pin(ties, own, other)


def tie_or_pin(ties: Ties, left: Label | None, right: Label | None) -> None:
    """Tie two sets of units, or pin the one whose counterpart is unknown.

    Example:
        >>> ties = Ties()
        >>> tie_or_pin(ties, ties.fresh(2), None)
        >>> len(ties.pinned)
        1
    """
    if left is not None and right is not None:
        ties.tie(left, right)
    elif left is not None:
        ties.pin(left)
    elif right is not None:
        ties.pin(right)
