"""Input tensors that a network takes, and whether it runs on them."""

from __future__ import annotations

import torch
from torch import nn

from convscale.quantities import Resolution, sides


def input_channels(module: nn.Module) -> int:
    """Read the input channels of a module from its first convolution; 3 where it has none.

    Example:
        >>> input_channels(nn.Sequential(nn.ReLU(), nn.Conv2d(1, 8, 3)))
        1
    """
    for part in module.modules():
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
    for part in module.modules():
        if isinstance(part, nn.modules.conv._ConvNd):
            found.setdefault(len(part.kernel_size), part.in_channels)
    return found


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
    weight = next((p for p in module.parameters() if p.is_floating_point()), None)
    device = weight.device if weight is not None else torch.device("cpu")
    dtype = weight.dtype if weight is not None else torch.float32
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
