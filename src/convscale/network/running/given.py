"""Inputs that a user gives, at other sides: what of them is as large as the image grows with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from convscale.errors import InputError
from convscale.input_sizes import InputSize
from convscale.network.channels.ties import tensors_in
from convscale.network.modules.copies import meta_copy
from convscale.network.running.execution import ForwardError, Observer, run
from convscale.network.sources.inputs import (
    ExampleInputs,
    Inputs,
    arguments,
    as_resolution,
    channel_axis,
    convolution_inputs,
    first_image,
    given_inputs,
    image_sides,
    sides_of,
)
from convscale.quantities import Resolution, like, sides


def given_sides(module: nn.Module, example: ExampleInputs) -> Resolution:
    """Return the sides (px) of inputs that are given: of the first image, or the first sequence.

    Where no input is an image, the last axes of the first that has enough of them are its sides.
    Where the last axis is the shortest, and the network runs at twice the sides in front of it and
    not at twice the last ones, they are those. Where no input has enough axes, as with the vector
    that a generator takes, the sides are those of the first image that the network puts out, or
    else of the first map that a convolution takes.

    Raises:
        InputError: If there is none, or the network does not run.

    Example:
        >>> net = nn.Sequential(nn.Embedding(50, 8), nn.Conv1d(20, 4, 1))
        >>> given_sides(net, InputSize((20,), "int64"))
        (20,)
    """
    inputs = given_inputs(module, example)
    found = _last_sides(module, inputs)
    if found is not None:
        other = _sides_in_front(inputs, found)
        if other is None or _grows_by(module, example, found):
            return found
        return other if _grows_by(module, example, other) else found
    made = _sides_inside(module, inputs)
    if made is not None:
        return made
    raise InputError(
        f"None of the inputs has the sides of an image ({', '.join(inputs.shapes)}). Give one that "
        "has, such as --input-size 3x224x224."
    )


def _last_sides(module: nn.Module, inputs: Inputs) -> Resolution | None:
    """Return the sides of the first image, or the last axes of the first input with enough."""
    found = image_sides(module, inputs)
    if found is not None:
        return found
    for dims in convolution_inputs(module) or {2: 3}:
        for tensor in inputs.tensors:
            if tensor.ndim == dims + 2 and (axis := channel_axis(module, tensor)) > 1:
                return sides_of(tensor, axis)
            if tensor.ndim > dims:
                return tuple(tensor.shape[-dims:])
    return None


def _sides_in_front(inputs: Inputs, found: Resolution) -> Resolution | None:
    """Return the axes in front of the last one, where that is the shortest and may be channels."""
    own = sides(found)
    for tensor in inputs.tensors:
        shape = tuple(tensor.shape)
        front = shape[-len(own) - 1 : -1]
        if shape[-len(own) :] == own and tensor.ndim > len(own) + 1 and shape[-1] < min(front):
            return as_resolution(front)
    return None


def _grows_by(module: nn.Module, example: ExampleInputs, own: Resolution) -> bool:
    """Tell whether a network runs on inputs of twice the sides."""
    larger = resized(example, own, like(own, [2 * side for side in sides(own)]))
    try:
        _run_blank(module, given_inputs(module, larger))
    except ForwardError:
        return False
    return True


def staying(
    module: nn.Module, example: ExampleInputs, own: Resolution, there: Resolution
) -> tuple[str, ...]:
    """Return the inputs of three axes or more that are as large at other sides: number and shape.

    Args:
        module: The network.
        example: Its inputs.
        own: Their sides (px).
        there: The other sides.

    Example:
        >>> both = (torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 50))
        >>> staying(nn.Conv2d(3, 4, 1), both, (8, 8), (12, 12))
        ('2 (1x1x50)',)
    """
    before = given_inputs(module, example).tensors
    after = given_inputs(module, resized(example, own, there)).tensors
    return tuple(
        f"{place} ({'x'.join(map(str, old.shape))})"
        for place, (old, new) in enumerate(zip(before, after, strict=True), start=1)
        if old.ndim > 2 and old.shape == new.shape
    )


def _run_blank(module: nn.Module, inputs: Inputs, *watch: Observer) -> Any:
    blank = pytree.tree_map_only(
        torch.Tensor, lambda tensor: tensor.to("meta"), (inputs.args, inputs.kwargs)
    )
    return run(meta_copy(module, run=True), blank[0], *watch, keywords=blank[1])


class _FirstMap(Observer):
    """Note the sides of the first map that a convolution takes."""

    def __init__(self) -> None:
        self.sides: tuple[int, ...] | None = None

    def enter(self, path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        del path
        if self.sides is None and isinstance(module, nn.modules.conv._ConvNd):
            self.sides = tuple(inputs[0].shape[-len(module.kernel_size) :])


def _sides_inside(module: nn.Module, inputs: Inputs) -> Resolution | None:
    """Return the sides of the first image that a network puts out, or of the first map inside."""
    first = _FirstMap()
    try:
        output = _run_blank(module, inputs, first)
    except ForwardError:
        return None
    made = first_image(module, Inputs(tuple(tensors_in(output))))
    return first.sides if made is None else sides_of(made)


def grows(module: nn.Module, example: ExampleInputs, own: Resolution) -> bool:
    """Tell whether inputs are others at other sides: a vector stays as it is.

    Args:
        module: The network.
        example: The inputs.
        own: The sides (px).

    Example:
        >>> grows(nn.Conv2d(3, 8, 3), InputSize((3, 64, 64)), 64)
        True
        >>> grows(nn.Conv2d(3, 8, 3), InputSize((128,)), 64)
        False
    """
    larger = resized(example, own, like(own, [2 * side for side in sides(own)]))
    before, after = (given_inputs(module, one).shapes for one in (example, larger))
    return before != after


def resized(example: ExampleInputs, before: Resolution, after: Resolution) -> ExampleInputs:
    """Return inputs at other sides: each map grows as the image does, by its own sides.

    Maps are floating inputs with as many sides and an axis of channels, and all whose last axes
    are the image's, or those in front of the last.

    Args:
        example: The inputs.
        before: The sides of the image (px).
        after: Its new sides (px).

    Example:
        >>> given = (InputSize((3, 64, 64)), InputSize((1, 16, 16)), InputSize((10,), "int64"))
        >>> [size.sizes for size in resized(given, 64, 96)]
        [(3, 96, 96), (1, 24, 24), (10,)]
        >>> resized(InputSize((64, 64, 3)), 64, 96).sizes
        (96, 96, 3)
    """
    own, new = sides(before), sides(after)

    def at(shape: tuple[int, ...], *, floating: bool, batch: int) -> tuple[int, ...]:
        lengths = shape[-len(own) :]
        with_channels = len(shape) == len(own) + 1 + batch
        in_front = lengths != own and shape[-len(own) - 1 : -1] == own
        is_map = (floating and with_channels) or in_front or lengths == own
        if len(lengths) != len(own) or not is_map:
            return shape
        start = len(shape) - len(own) - in_front
        old = shape[start : start + len(own)]
        moved = (max(1, round(n * b / a)) for n, a, b in zip(old, own, new, strict=True))
        return (*shape[:start], *moved, *shape[start + len(own) :])

    def made(value: Any) -> Any:
        if isinstance(value, InputSize):
            floating = value.dtype is None or "float" in value.dtype
            return replace(value, sizes=at(value.sizes, floating=floating, batch=0))
        if isinstance(value, torch.Tensor):
            shape = at(tuple(value.shape), floating=value.is_floating_point(), batch=1)
            return value if shape == tuple(value.shape) else _repeated(value, shape)
        return value

    if own == new:
        return example
    moved: ExampleInputs = pytree.tree_map(made, example)
    return moved


def _repeated(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a tensor of other last sizes: its own values, each as often as the shape asks for."""
    for dim, size in enumerate(shape):
        if tensor.shape[dim] != size:
            chosen = torch.arange(size, device=tensor.device) * tensor.shape[dim] // size
            tensor = tensor.index_select(dim, chosen)
    return tensor


def as_sizes(example: ExampleInputs) -> tuple[InputSize, ...] | None:
    """Return inputs as sizes, without the batch; None where some are no tensors.

    Example:
        >>> as_sizes({"x": torch.zeros(1, 3, 8, 8)})
        (InputSize(sizes=(3, 8, 8), dtype='float32', name='x'),)
        >>> as_sizes((torch.zeros(1, 3, 8, 8), 5)) is None
        True
    """
    args, named = arguments(example)
    found = []
    for name, value in (*((None, value) for value in args), *named.items()):
        if isinstance(value, InputSize):
            found.append(replace(value, name=name))
        elif isinstance(value, torch.Tensor) and value.ndim:
            dtype = str(value.dtype).removeprefix("torch.")
            found.append(InputSize(tuple(value.shape[1:]), dtype, name))
        else:
            return None
    return tuple(found)
