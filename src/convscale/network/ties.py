"""What the operators of a run say about units: which are one, and which cannot change."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from convscale.network.labels import Label, Labels, aligned, varying


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
        self.same: list[tuple[Label, Label]] = []
        self.filling: list[Label] = []
        self._products: dict[int, torch.Tensor] = {}
        self._views: dict[int, torch.Tensor] = {}
        self._dropped: dict[int, Label] = {}
        self.units = 0
        self.lenient = 0  # while positive, an adapter tells what operators do not
        self.map_ndim = 4  # dimensions of a feature map: batch, channels and positions
        self._labels: dict[int, tuple[torch.Tensor, Labels]] = {}

    def fresh(self, size: int) -> Label:
        """Return new units."""
        start, self.units = self.units, self.units + size
        return np.arange(start, start + size, dtype=np.int64)

    def labels(self, tensor: torch.Tensor) -> Labels:
        """Return the labels of a tensor; none where nothing is known."""
        entry = self._labels.get(id(tensor))
        return entry[1] if entry is not None else ()

    def set_labels(self, tensor: torch.Tensor, labels: Labels) -> None:
        """Set the labels of a tensor, which is kept alive so that its identity stays its own."""
        self._labels[id(tensor)] = (tensor, labels)

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

    def pin(self, label: Label) -> None:
        """Say that the number of these units cannot change, unless an adapter tells of them."""
        if self.lenient:
            return
        self.pinned.append(label.reshape(-1))

    def drop(self, label: Label) -> None:
        """Pin units that stand for no channels; from here on the label says nothing."""
        self.pin(label)
        if not self.lenient:
            self._dropped[id(label)] = label

    def is_dropped(self, label: Label) -> bool:
        """Tell whether a label was dropped."""
        return id(label) in self._dropped

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


def classes_of(ties: Ties) -> Label:
    """Return the class of every unit: the connected components of the ties.

    Example:
        >>> ties = Ties()
        >>> ties.tie(ties.fresh(2), ties.fresh(2))
        >>> classes_of(ties).tolist()
        [0, 1, 0, 1]
    """
    if not ties.edges:
        return np.arange(ties.units)
    left = np.concatenate([edge[0] for edge in ties.edges])
    right = np.concatenate([edge[1] for edge in ties.edges])
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), (ties.units, ties.units))
    classes: Label = connected_components(graph, directed=False)[1].astype(np.int64)
    return classes


def tensors_in(values: Any) -> list[torch.Tensor]:
    """Return the tensors in nested arguments or results, in order.

    Example:
        >>> len(tensors_in([torch.zeros(1), {"a": torch.zeros(1)}, 3]))
        2
    """
    if isinstance(values, torch.Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return []
    return [tensor for value in values for tensor in tensors_in(value)]
