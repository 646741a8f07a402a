"""Input tensors that a network takes: one image, or what the user says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from convscale.errors import InputError
from convscale.input_sizes import InputSize
from convscale.network.modules.copies import blank_like
from convscale.network.modules.walking import walk
from convscale.quantities import Resolution, sides

# A tensor, an InputSize in place of one, a tuple of inputs, or a dictionary of keyword arguments;
# inside a tuple or a dictionary anything that a forward pass takes.
ExampleInputs = torch.Tensor | InputSize | tuple[Any, ...] | Mapping[str, Any]


@dataclass(frozen=True)
class Inputs:
    """The arguments of a forward pass.

    Example:
        >>> Inputs((torch.zeros(1, 3, 8, 8),)).tensors[0].shape
        torch.Size([1, 3, 8, 8])
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The tensors among them, those in lists and dictionaries too."""
        leaves = pytree.tree_leaves((self.args, dict(self.kwargs)))
        return tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))

    def cast(self, old: torch.dtype, new: torch.dtype) -> Inputs:
        """Return the same with the tensors of one dtype in another.

        Example:
            >>> Inputs((torch.zeros(1, 3),)).cast(torch.float32, torch.float16).shapes
            ('1x3:float16',)
        """

        def cast(leaf: Any) -> Any:
            theirs = isinstance(leaf, torch.Tensor) and leaf.dtype == old
            return leaf.to(new) if theirs else leaf

        return Inputs(pytree.tree_map(cast, self.args), pytree.tree_map(cast, dict(self.kwargs)))

    @property
    def shapes(self) -> tuple[str, ...]:
        """The shape and the dtype of each tensor, as in 1x3x224x224:float32."""
        return tuple(
            f"{'x'.join(map(str, tensor.shape))}:{str(tensor.dtype).removeprefix('torch.')}"
            for tensor in self.tensors
        )


def input_channels(module: nn.Module) -> int:
    """Read the input channels of a module from its first convolution; 3 where it has none.

    Example:
        >>> input_channels(nn.Sequential(nn.ReLU(), nn.Conv2d(1, 8, 3)))
        1
    """
    for _, part in walk(module):
        if isinstance(part, nn.modules.conv._ConvNd):
            return part.in_channels
    return 3


def convolution_inputs(module: nn.Module) -> dict[int, int]:
    """Return the spatial dimensions of a module's convolutions, each with its input channels.

    They are in the order of registration; the channels are those of the first of each kind.

    Example:
        >>> convolution_inputs(nn.Sequential(nn.Conv3d(1, 8, 3), nn.Conv3d(8, 8, 3)))
        {3: 1}
    """
    found: dict[int, int] = {}
    for _, part in walk(module):
        if isinstance(part, nn.modules.conv._ConvNd):
            found.setdefault(len(part.kernel_size), part.in_channels)
    return found


def channels_read(module: nn.Module, dims: int) -> tuple[int, ...]:
    """Return how many channels convolutions take, in the order of registration, each once.

    Args:
        module: The module.
        dims: The spatial dimensions of the convolutions that are meant.

    Example:
        >>> channels_read(nn.Sequential(nn.Conv1d(16, 8, 1), nn.Conv1d(4, 16, 3)), 1)
        (16, 4)
    """
    found = (
        part.in_channels
        for _, part in walk(module)
        if isinstance(part, nn.modules.conv._ConvNd) and len(part.kernel_size) == dims
    )
    return tuple(dict.fromkeys(found))


def example_inputs(
    module: nn.Module, resolution: Resolution, *, in_chans: int | None = None, batch: int = 1
) -> tuple[torch.Tensor, ...]:
    """Return images of zeros, shape (batch, channels, height, width), as the module takes them.

    There are as many sides as the resolution has; two if it is an integer. With 0 channels there
    is no axis of channels. Device and floating dtype are the module's own.

    Example:
        >>> example_inputs(nn.Conv2d(1, 8, 3), 32)[0].shape
        torch.Size([1, 1, 32, 32])
        >>> example_inputs(nn.Conv1d(1, 8, 3), (32,))[0].shape
        torch.Size([1, 1, 32])
    """
    device, dtype = _place(module)
    channels = in_chans if in_chans is not None else input_channels(module)
    shape = input_shape(channels, sides(resolution), batch=batch)
    return (torch.zeros(shape, device=device, dtype=dtype),)


def input_shape(channels: int, lengths: tuple[int, ...], *, batch: int) -> tuple[int, ...]:
    """Return the shape of an input; with 0 channels it has no axis of channels.

    Example:
        >>> input_shape(3, (32, 32), batch=1), input_shape(0, (16000,), batch=2)
        ((1, 3, 32, 32), (2, 16000))
    """
    return (batch, channels, *lengths) if channels else (batch, *lengths)


def given_inputs(module: nn.Module | None, example: object, *, batch: int = 1) -> Inputs:
    """Return the inputs that the user says, on the module's device.

    Tensors keep their values where the module has values, and their shapes alone on the meta
    device; an `InputSize` becomes zeros, with an axis of the batch before its sizes.

    Args:
        module: The module; None stands for one on the meta device.
        example: A tensor, an `InputSize`, a tuple of inputs or a dictionary of keyword arguments.
        batch: Images at once, for inputs given by their size.

    Raises:
        InputError: If it is anything else.

    Example:
        >>> found = given_inputs(nn.Linear(2, 3), (torch.zeros(1, 2), InputSize((), "int64")))
        >>> [(tuple(tensor.shape), tensor.dtype) for tensor in found.tensors]
        [((1, 2), torch.float32), ((1,), torch.int64)]
    """
    device, dtype = (torch.device("meta"), torch.float32) if module is None else _place(module)

    def made(value: Any) -> Any:
        if isinstance(value, InputSize):
            kind = getattr(torch, value.dtype) if value.dtype else dtype
            return torch.zeros((batch, *value.sizes), dtype=kind, device=device)
        return _moved(value, device) if isinstance(value, torch.Tensor) else value

    args, kwargs = arguments(example)
    return Inputs(pytree.tree_map(made, args), pytree.tree_map(made, kwargs))


def arguments(example: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Part inputs into positional and keyword arguments.

    Raises:
        InputError: If they are no inputs.

    Example:
        >>> arguments((InputSize((3, 8, 8)), InputSize((), "int64", "step")))[1]
        {'step': InputSize(sizes=(), dtype='int64', name='step')}
    """
    if isinstance(example, Mapping) and all(isinstance(key, str) for key in example):
        return (), dict(example)
    entries = example if isinstance(example, tuple) else (example,)
    if not entries or not isinstance(example, torch.Tensor | InputSize | tuple):
        raise InputError(
            f"example_inputs is {type(example).__name__}; give a tensor, a tuple with one entry "
            "for each argument, as in (image, ids), or a dict of keyword arguments."
        )
    named = {e.name: e for e in entries if isinstance(e, InputSize) and e.name is not None}
    return tuple(e for e in entries if not (isinstance(e, InputSize) and e.name)), named


def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    if device.type == "meta":
        return blank_like(tensor)
    return (
        torch.zeros_like(tensor, device=device)
        if tensor.is_meta
        else tensor.detach().clone().to(device)
    )


def image_sides(
    module: nn.Module | None, inputs: Inputs, *, dims: int | None = None
) -> Resolution | None:
    """Return the sides of the first image among inputs (px), None where there is none.

    An image is a floating tensor with as many spatial dimensions as a convolution of the module
    has; as many as are given, or as an image has, two, where there is no convolution. Its channels
    stand where `channel_axis` says.

    Example:
        >>> image_sides(nn.Conv2d(3, 8, 3), Inputs((torch.zeros(1, 2), torch.zeros(1, 3, 8, 8))))
        8
    """
    image = first_image(module, inputs, dims=dims)
    if image is None:
        return None
    return sides_of(image, 1 if module is None else channel_axis(module, image))


def sides_of(image: torch.Tensor, axis: int = 1) -> Resolution:
    """Return the sides of an image (px): one number for a square.

    Args:
        image: A tensor with a batch, sides and channels.
        axis: Where its channels are.

    Example:
        >>> sides_of(torch.zeros(1, 3, 8, 8)), sides_of(torch.zeros(1, 200, 40), 2)
        (8, (200,))
    """
    return as_resolution((*image.shape[1:axis], *image.shape[axis + 1 :]))


def as_resolution(lengths: tuple[int, ...]) -> Resolution:
    """Return sides (px) as a resolution: one number for a square.

    Example:
        >>> as_resolution((8, 8)), as_resolution((8, 8, 8))
        (8, (8, 8, 8))
    """
    return lengths[0] if len(lengths) == 2 and len(set(lengths)) == 1 else lengths


def channel_axis(module: nn.Module, image: torch.Tensor) -> int:
    """Return the axis of an image's channels: the first behind the batch, or the last of all.

    It is the last where it is as long as a convolution takes channels, and shorter than all other
    axes: the forward pass permutes what it takes. A sequence may have fewer steps than features;
    there no convolution takes as many channels as there are steps.

    Args:
        module: The module that takes it.
        image: A tensor with a batch, as many sides as convolutions have, and channels.

    Example:
        >>> channel_axis(nn.Conv2d(3, 8, 3), torch.zeros(1, 64, 48, 3))
        3
        >>> channel_axis(nn.Conv1d(40, 8, 3), torch.zeros(1, 40, 200))
        1
    """
    first, *sides, last = image.shape[1:]
    read = channels_read(module, image.ndim - 2)
    short = last < min(first, *sides) if sides else first not in read
    return image.ndim - 1 if last in read and short else 1


def first_image(
    module: nn.Module | None, inputs: Inputs, *, dims: int | None = None
) -> torch.Tensor | None:
    """Return the first image among inputs, as `image_sides` tells it, None where there is none.

    Example:
        >>> found = first_image(None, Inputs((torch.zeros(1, 2), torch.zeros(1, 3, 8, 8))))
        >>> found.shape
        torch.Size([1, 3, 8, 8])
    """
    kinds = {} if module is None else convolution_inputs(module)
    kinds = kinds or {dims or 2: 3}
    images = (t for t in inputs.tensors if t.ndim - 2 in kinds and t.is_floating_point())
    return next(images, None)


def _place(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return the device and the floating dtype of a module."""
    weight = next((p for p in module.parameters() if p.is_floating_point()), None)
    if weight is None:
        return torch.device("cpu"), torch.float32
    return weight.device, weight.dtype
