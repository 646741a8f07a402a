"""Find out what a network takes by trying it, where its layers do not tell."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from convscale.errors import InputError
from convscale.network.modules.copies import meta_copy
from convscale.network.running.execution import ForwardError, Observer, run
from convscale.network.sources.inputs import (
    channels_read,
    convolution_inputs,
    example_inputs,
    input_channels,
)
from convscale.network.sources.network import Network
from convscale.quantities import Resolution, check_resolution, exact

# What images have: colours, gray, colours and transparency; signals may have no axis of channels.
_IMAGES = (3, 1, 4, 0)
# A batch that nobody takes for channels: layers run on inputs without a batch, too.
_BATCH = 5


def with_input(network: Network, resolution: Resolution | None) -> Network:
    """Return a network whose spatial dimensions and input channels are known.

    The first convolution that is registered need not be the first that runs, and what runs
    before it may add channels: after those of images, what other convolutions take is tried.
    Where all convolutions have one number of dimensions and the first takes three channels, as
    images have, they are believed; else they are tried.

    Args:
        network: The network.
        resolution: The sides in px to try it at; None leaves all as it is.

    Raises:
        InputError: If the resolution has another number of sides than the network takes.

    Example:
        >>> from convscale.network.sources.network import from_module
        >>> net = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 8, 3))
        >>> with_input(from_module(net), 8).in_chans
        3
        >>> with_input(from_module(nn.Conv1d(2, 8, 3)), 64).dims
        1
    """
    if resolution is None:
        return network
    if network.dims is None or network.in_chans is None:
        network = _found(network, resolution)
    check_resolution(resolution, dims=network.dims, of=network.name)
    return network


def _found(network: Network, resolution: Resolution) -> Network:
    module = network.look()
    channels = convolution_inputs(module)
    if not channels:
        _check_takes_images(network, module, resolution)
    order = [network.dims] if network.dims else _order(list(channels), resolution)
    first, given = order[0], network.in_chans
    told = len(channels) < 2 and first in (channels or order)
    if told and (given is not None or (first == 2 and channels.get(2, 3) == 3)):
        return _with(network, module, first, 3 if given is None else given)
    for dims in order:
        likely = channels.get(dims, 3)
        others = channels_read(module, dims)
        for chans in dict.fromkeys((likely, *_IMAGES, *others)) if given is None else [given]:
            batch = 1 if told and dims == first and chans else _BATCH
            if runs(module, exact(resolution, dims), chans, batch=batch):
                return _with(network, module, dims, chans)
    return replace(network, dims=first if told else 2 if 2 in channels else next(iter(channels)))


def _with(network: Network, module: nn.Module, dims: int, chans: int) -> Network:
    """Return a network that takes an input; channels that its layers tell are not repeated."""
    told = network.in_chans is None and chans == input_channels(module)
    return replace(network, dims=dims, in_chans=None if told else chans)


def _order(kinds: list[int], resolution: Resolution) -> list[int]:
    """Return the numbers of dimensions to try: the one given, else those of convolutions.

    The first that is registered comes first, then images, then the others, then what no
    convolution has: clips may be taken apart into images, and a signal become one.
    """
    if isinstance(resolution, tuple):
        return [len(resolution)]
    images = [2] if 2 in kinds else []
    return list(dict.fromkeys((*kinds[:1], *images, *kinds, 2, 3, 1)))


class _FirstLayer(Observer):
    """Note the path of a linear layer that takes the input as it is."""

    def __init__(self, shape: torch.Size) -> None:
        self.path: str | None = None
        self._shape, self._seen = shape, False

    def enter(self, path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._seen or not module._parameters:
            return
        self._seen = True
        if isinstance(module, nn.Linear) and inputs and inputs[0].shape == self._shape:
            self.path = path or "itself"


def _check_takes_images(network: Network, module: nn.Module, resolution: Resolution) -> None:
    """Refuse a network of linear layers, the first of which takes vectors.

    It runs on an image whose last side is as long as its vectors, but sees no image there.
    """
    copied = meta_copy(module)
    inputs = example_inputs(copied, resolution, in_chans=network.in_chans)
    first = _FirstLayer(inputs[0].shape)
    with suppress(ForwardError):
        run(copied, inputs, first)
    if first.path is not None:
        raise InputError(
            f"{network.name} takes vectors: its first layer, {first.path}, is linear, and it has "
            "no convolution. Give a convolutional network."
        )


def runs(module: nn.Module, resolution: Resolution, chans: int | None, *, batch: int = 1) -> bool:
    """Tell whether a module runs, tried on a copy.

    Args:
        module: The module.
        resolution: The sides in px, one for each spatial dimension.
        chans: Input channels; read from the module if not given.
        batch: Images at once.

    Example:
        >>> runs(nn.Conv2d(3, 8, 3), (2, 2), 3)
        False
    """
    copied = meta_copy(module)
    try:
        run(copied, example_inputs(copied, resolution, in_chans=chans, batch=batch))
    except ForwardError:
        return False
    return True
