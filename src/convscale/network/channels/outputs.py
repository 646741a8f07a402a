"""Which outputs of a network are feature maps, so that their channels scale too.

A network without a classifier puts out feature maps; a segmentation network puts out maps of
scores, one channel a class, which stay. Both are maps. Scores come straight from a layer with
weights, resized, squashed or summed up by constants at most, and nothing reads them; a feature map
has been normalised, activated or added to others, or the network itself goes on with it and puts
out no scores of as many channels. What nothing reads beside scores is an answer too, whatever it
has passed. A sole map as large as the image, of a network that works on smaller ones, is what it
answers for every pixel, whatever it came from, and so is one of fewer channels than any map that is
read, where all are as large as the image, and one of no more channels than the image that is a
picture, or no smaller.
"""

from __future__ import annotations

from math import prod
from operator import ge
from typing import Any

import numpy as np
import torch
from torch import nn

from convscale.network.channels.classes import find_classes
from convscale.network.channels.labels import Label, distinct, find_along, varying
from convscale.network.channels.relations import STRUCTURAL, VIEWS
from convscale.network.channels.ties import Ties, tensors_in

_WEIGHTED = frozenset(("convolution", "mm", "addmm", "bmm", "baddbmm"))
# What scores may pass and stay scores. Operands that are weights, or constants, say nothing.
_KEEPING = frozenset(
    (
        *VIEWS,
        *STRUCTURAL,
        *("add sub mul div sigmoid tanh softmax _softmax _log_softmax clone _to_copy".split()),
        *("exp softplus clamp clamp_min clamp_max abs neg log sqrt rsqrt pow reciprocal".split()),
        *("hardsigmoid log_sigmoid_forward linalg_vector_norm".split()),
        *("alias detach native_dropout constant_pad_nd pixel_shuffle cat stack mean sum".split()),
    )
)
_SOFTMAX = ("_softmax", "_log_softmax")
_VIEWING = frozenset((*VIEWS, *STRUCTURAL, "exp", "clone", "alias", "detach", "_to_copy"))
_COLOURS = 4  # channels of a picture, at most
_RESIZING = ("upsample", "_upsample", "avg_pool", "max_pool", "_adaptive_avg_pool", "adaptive_")


class Scores:
    """Follow, through a run, what came straight from layers with weights, and what they read.

    Example:
        >>> scores, x = Scores(()), torch.zeros(1, 2, 3, 3)
        >>> scores.is_score(x)
        False
    """

    def __init__(self, weights: tuple[torch.Tensor, ...]) -> None:
        self._neutral = {id(tensor): tensor for tensor in weights}
        self._scores: dict[int, torch.Tensor] = {}
        self._used: set[int] = set()  # identities of what some operator took
        self._chances: dict[int, tuple[torch.Tensor, Label]] = {}  # and of what they are spread
        self._read: list[Label] = []
        self.embeddings: tuple[int, ...] = ()  # outputs that layers read too, and that stay
        self._sides: list[tuple[int, ...]] = []  # of what convolutions read, the image first
        self._widths: list[int] = []  # and its channels

    def visit(self, ties: Ties, operator: str, bound: dict[str, Any], output: Any) -> None:
        """See a call of an operator."""
        score = operator in _WEIGHTED or self._keeps(operator, bound)
        given = tensors_in(bound)
        self._used.update(map(id, given))
        self._see_chances(ties, operator, bound, given, output)
        constant = operator not in _WEIGHTED and all(map(self._is_constant, given))
        for tensor in tensors_in(output):
            if constant:
                self._neutral[id(tensor)] = tensor
            elif id(tensor) in self._neutral and not isinstance(tensor, nn.Parameter):
                del self._neutral[id(tensor)]  # something else was written to it
            self._used.discard(id(tensor))  # as another had, which is gone
            if score:
                self._scores[id(tensor)] = tensor
            else:
                self._scores.pop(id(tensor), None)  # changed in place
        if operator in _WEIGHTED:
            left = next(bound[n] for n in ("input", "mat1", "batch1", "self") if n in bound)
            dim = 1 if operator == "convolution" else left.ndim - 1
            if operator == "convolution":
                self._widths.append(left.shape[1])
                self._sides.append(tuple(left.shape[2:]))
            units = find_along(ties.labels(left), dim, left.shape[dim])
            if units is not None:
                self._read.append(units)

    def _is_constant(self, tensor: torch.Tensor) -> bool:
        """Tell whether a tensor is a buffer, or was made of buffers and numbers alone."""
        return id(tensor) in self._neutral and not isinstance(tensor, nn.Parameter)

    def _keeps(self, operator: str, bound: dict[str, Any]) -> bool:
        if operator.rstrip("_") not in _KEEPING and not operator.startswith(_RESIZING):
            return False
        operands = [t for t in tensors_in(bound) if id(t) not in self._neutral and t.ndim]
        return bool(operands) and all(id(tensor) in self._scores for tensor in operands)

    def _see_chances(
        self,
        ties: Ties,
        operator: str,
        bound: dict[str, Any],
        given: list[torch.Tensor],
        output: Any,
    ) -> None:
        """Note what chances are spread over, by a softmax, and follow it through other views."""
        units = None
        if operator in _SOFTMAX:
            dim = bound["dim"] % output.ndim
            units = find_along(ties.labels(output), dim, output.shape[dim])
        elif given and id(given[0]) in self._chances and operator in _VIEWING:
            units = self._chances[id(given[0])][1]
        if units is not None:
            self._chances |= {id(tensor): (tensor, units) for tensor in tensors_in(output)}

    def _are_chances(self, tensor: torch.Tensor, label: Label) -> bool:
        """Tell whether the channels of an output are what chances are spread over."""
        _, units = self._chances.get(id(tensor), (tensor, None))
        return units is not None and np.array_equal(distinct(label), distinct(units))

    def unread(self, results: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return what layers put out that nothing reads: heads that answer in training only.

        The positions that a pool took its values from are no answer: these are real numbers.

        Args:
            results: What the network puts out.

        Example:
            >>> Scores(()).unread([])
            []
        """
        known = self._used | {id(tensor) for tensor in results}
        answers = ((key, x) for key, x in self._scores.items() if x.is_floating_point())
        return [tensor for key, tensor in answers if key not in known]

    def is_score(self, tensor: torch.Tensor) -> bool:
        """Tell whether a tensor came straight from a layer with weights."""
        return id(tensor) in self._scores

    def _fills_image(self, tensor: torch.Tensor) -> bool:
        """Tell whether a map is as large as the image, where convolutions read smaller ones.

        Where all are as large, one that has fewer channels than any of them answers too.
        """
        sides = tuple(tensor.shape[2:])
        if not self._sides or sides != self._sides[0]:
            return False
        smaller = any(prod(sides) > prod(other) for other in self._sides)
        inside = self._widths[1:]
        return smaller or (len(inside) > 0 and tensor.shape[1] < min(inside))

    def _is_image(self, tensor: torch.Tensor) -> bool:
        """Tell whether a map has no more channels than the image, and is a picture or as large."""
        if tensor.ndim < 3 or not self._sides or tensor.shape[1] > self._widths[0]:
            return False
        image, sides = self._sides[0], tuple(tensor.shape[2:])
        large = len(sides) == len(image) and all(map(ge, sides, image))
        return large or self._widths[0] <= _COLOURS

    def settle(self, ties: Ties, results: list[torch.Tensor]) -> tuple[int | None, ...]:
        """Pin the outputs that are no feature maps.

        Returns:
            For each output the dimension of the channels that scale, None where none do.

        Example:
            >>> Scores(()).settle(Ties(), [torch.zeros(1, 10)])
            (None,)
        """
        axes = [_channel_axis(ties, tensor) for tensor in results]
        maps = [axis is not None for axis in axes]
        scores = [self.is_score(tensor) for tensor in results]
        flat = [
            not is_map and bool(ties.labels(tensor)) and not score
            for is_map, tensor, score in zip(maps, results, scores, strict=True)
        ]
        if len(results) == 1 and (self._fills_image(results[0]) or self._is_image(results[0])):
            axes, maps = [None], [False]
        for place, (tensor, axis) in enumerate(zip(results, axes, strict=True)):
            if axis is not None and self._are_chances(tensor, ties.labels(tensor)[0]):
                axes[place], maps[place] = None, False
        if any(maps) or any(flat):
            classes = find_classes(ties).of_unit
            read = distinct(classes[np.concatenate(self._read)]) if self._read else classes[:0]
            went_on = [
                (is_map or is_flat) and _is_read(ties, tensor, classes, read)
                for is_map, is_flat, tensor in zip(maps, flat, results, strict=True)
            ]
            ends = [
                is_map and not on and not _is_deepest(axes, results, place)
                for place, (is_map, on) in enumerate(zip(maps, went_on, strict=True))
            ]
            straight = [end and score for end, score in zip(ends, scores, strict=True)]
            if any(straight):  # then what ends beside them is an answer too
                axes = [None if end else axis for end, axis in zip(ends, axes, strict=True)]
            unsure = [is_map and score for is_map, score in zip(maps, scores, strict=True)]
            _as_many_classes(axes, results, unsure)
            self.embeddings = tuple(
                place for place, is_flat in enumerate(flat) if is_flat and went_on[place]
            )
        for axis, tensor in zip(axes, results, strict=True):
            if axis is None:
                ties.pin_tensor(tensor)
        return tuple(axes)


def _is_read(ties: Ties, tensor: torch.Tensor, classes: Label, read: Label) -> bool:
    """Tell whether layers read all units of an output."""
    own = classes[np.concatenate([label.reshape(-1) for label in ties.labels(tensor)])]
    return bool(np.isin(own, read).all())


def _as_many_classes(
    axes: list[int | None], results: list[torch.Tensor], unsure: list[bool]
) -> None:
    """Take for scores what has as many channels as scores that are put out beside it.

    Networks with several answers go on with the earlier ones.
    """
    known = {
        tensor.shape[1]
        for axis, tensor, score in zip(axes, results, unsure, strict=True)
        if axis is None and score and tensor.ndim > 2
    }
    for position, axis in enumerate(axes):
        if axis == 1 and unsure[position] and results[position].shape[1] in known:
            axes[position] = None


def _is_deepest(axes: list[int | None], results: list[torch.Tensor], position: int) -> bool:
    """Tell whether a map is the smallest of several of different sides, as features are.

    Scores are as large as the largest features, or larger.
    """
    sizes = [t.numel() // t.shape[a] for t, a in zip(results, axes, strict=True) if a is not None]
    return (
        len(set(sizes)) > 2
        and results[position].numel() // results[position].shape[axes[position] or 0] == min(sizes)
        and sizes.count(min(sizes)) == 1
    )


def _channel_axis(ties: Ties, tensor: torch.Tensor) -> int | None:
    """Return the dimension of the channels of a map: three dimensions, one label along one."""
    labels = ties.labels(tensor)
    if tensor.ndim < 3 or len(labels) != 1 or len(varying(labels[0])) != 1:
        return None
    (axis,) = varying(labels[0])
    return axis


def is_vector(ties: Ties, tensor: torch.Tensor) -> bool:
    """Tell whether an output holds one number a channel, and none for positions.

    Example:
        >>> is_vector(Ties(), torch.zeros(2, 1)), is_vector(Ties(), torch.zeros(2, 8, 8))
        (True, False)
    """
    if not 0 < tensor.ndim <= 2:
        return False
    size = tensor.shape[-1]
    units = find_along(ties.labels(tensor), tensor.ndim - 1, size)
    return size == 1 or (units is not None and len(distinct(units)) == size)
