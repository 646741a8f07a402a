"""The complexity of a traced network in closed form: sums of products of sizes of places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from convscale.complexity.complexity import Complexity
from convscale.errors import InputError
from convscale.network.channels.channels import Channels, Composition, Sizes
from convscale.network.channels.labels import Label
from convscale.network.stages.stages import within
from convscale.network.tracing.trace import Term, Trace

Weights = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Parts = npt.NDArray[np.float64]
_LIMIT = 2.0**62


class ClosedForm:
    """Flops, params and acts of a trace for any sizes of its channel groups.

    Flops and acts are sums over the calls of operators, params a sum over tensors; each
    summand is a constant times sizes of places, and a size is linear in the group sizes.
    Every summand has a weight, the number of times its module stands in the network.

    Example:
        >>> from torch import nn
        >>> from convscale.network import trace_module
        >>> trace = trace_module(nn.Conv2d(3, 8, 3), 8)
        >>> ClosedForm(trace).complexity(trace.channels.sizes).flops
        7776
    """

    def __init__(self, trace: Trace) -> None:
        self._rows: dict[Composition, int] = {(): 0}
        parameters = [axes for axes in trace.tensors if axes.is_parameter]
        self.term_paths = [term.path for term in trace.terms]
        self.tensor_names = [axes.names[0] for axes in parameters]
        channels = trace.channels
        self._flops = self._places([term.flops_units for term in trace.terms], channels)
        self._acts = self._places([term.acts_units for term in trace.terms], channels)
        self._params = self._places(
            [tuple(u for u in axes.units if u is not None) for axes in parameters], channels
        )
        self._flops_scale = np.array([term.flops_scale for term in trace.terms], dtype=np.int64)
        self._acts_scale = np.array([term.acts_scale for term in trace.terms], dtype=np.int64)
        self._matrix = self._linear(len(channels.sizes))
        self._as_floats = self._matrix.astype(float)  # whose products are much faster
        self._inside: dict[str, tuple[Mask, Mask]] = {}

    def _places(self, factors: Sequence[tuple[Label, ...]], channels: Channels) -> Weights:
        """Return the row of each factor's place, padded with the place of size 1."""
        longest = max((len(units) for units in factors), default=0)
        table = np.zeros((len(factors), longest), dtype=np.int64)
        for i, units in enumerate(factors):
            for j, label in enumerate(units):
                composition = channels.composition(label)
                table[i, j] = self._rows.setdefault(composition, len(self._rows))
        return table

    def _linear(self, groups: int) -> Weights:
        matrix = np.zeros((len(self._rows), groups), dtype=np.int64)
        for composition, row in self._rows.items():
            for group, times in composition:
                matrix[row, group] = times
        return matrix

    def weights(self, times: Mapping[str, int]) -> tuple[Weights, Weights]:
        """Return how often calls and parameters stand in a network, of which parts stand often.

        Args:
            times: How often modules stand in it, all that do not stand there once.
        """
        terms = np.ones(len(self.term_paths), dtype=np.int64)
        tensors = np.ones(len(self.tensor_names), dtype=np.int64)
        for path, number in times.items():
            if path not in self._inside:
                self._inside[path] = (
                    _inside(self.term_paths, path),
                    _inside(self.tensor_names, path),
                )
            calls, names = self._inside[path]
            terms[calls] *= number
            tensors[names] *= number
        return terms, tensors

    def with_scales(self, terms: Sequence[Term]) -> ClosedForm:
        """Return the form of a run with the same units and other constants.

        Args:
            terms: Its calls, those of this form.
        """
        found = copy(self)
        found._flops_scale = np.array([term.flops_scale for term in terms], dtype=np.int64)
        found._acts_scale = np.array([term.acts_scale for term in terms], dtype=np.int64)
        return found

    def complexity(
        self,
        sizes: Sizes,
        term_weights: Weights | None = None,
        tensor_weights: Weights | None = None,
    ) -> Complexity:
        """Return the complexity for the given sizes of the channel groups.

        Args:
            sizes: Size of each channel group.
            term_weights: How often each call stands in the network; once by default.
            tensor_weights: How often each parameter stands in it; once by default.

        Raises:
            InputError: If a metric exceeds 2^62.
        """
        place = np.rint(self._as_floats @ sizes).astype(np.int64)
        place[0] = 1
        return Complexity(
            flops=_total(self._flops_scale, place[self._flops], term_weights),
            params=_total(None, place[self._params], tensor_weights),
            acts=_total(self._acts_scale, place[self._acts], term_weights),
        )

    def continuous_flops(self, sizes: npt.NDArray[Any]) -> float:
        """Return the flops for sizes that need not be whole."""
        return float(self.parts(sizes)[0].sum())

    def parts(self, sizes: npt.NDArray[Any]) -> tuple[Parts, Parts, Parts]:
        """Return flops and acts of every call, and every parameter's size, for any sizes.

        Args:
            sizes: Size of each channel group, which need not be whole.
        """
        place = self._matrix @ sizes
        place[0] = 1
        return (
            self._flops_scale * place[self._flops].prod(axis=1),
            self._acts_scale * place[self._acts].prod(axis=1),
            place[self._params].prod(axis=1),
        )


def _inside(paths: Sequence[str], path: str) -> Mask:
    return np.array([within(own, path) for own in paths], dtype=bool)


def _total(scale: Weights | None, factors: npt.NDArray[Any], weights: Weights | None) -> int:
    """Sum products exactly; refuse sums that 64 bits cannot hold."""
    scales = [array for array in (scale, weights) if array is not None]
    about = factors.astype(float).prod(axis=1)
    exact = factors.prod(axis=1)
    for array in scales:
        about = about * array
        exact = exact * array
    if about.sum() > _LIMIT:
        raise InputError(f"The network would cost {about.sum():.3g}. Write a smaller target.")
    return int(exact.sum())
