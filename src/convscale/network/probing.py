"""Find out what a network takes by trying it, where its layers do not tell."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from convscale.network.copies import meta_copy
from convscale.network.execution import ForwardError, run
from convscale.network.inputs import convolution_inputs, example_inputs, input_channels
from convscale.network.sources import Network
from convscale.quantities import Resolution, check_resolution, exact

# What images have: colours, gray, colours and transparency.
_IMAGES = (3, 1, 4)
# A batch that nobody takes for channels: layers run on inputs without a batch, too.
_BATCH = 5


def with_input(network: Network, resolution: Resolution | None) -> Network:
    """Return a network whose spatial dimensions and input channels are known.

    The first convolution that is registered need not be the first that runs, and what runs
    before it may add channels. Where all convolutions have one number of dimensions and the
    first takes three channels, as images have, they are believed; else they are tried.

    Args:
        network: The network.
        resolution: The sides in px to try it at; None leaves all as it is.

    Raises:
        InputError: If the resolution has another number of sides than the network takes.

    Example:
        >>> from convscale.network.sources import from_module
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
    module = network.build("meta")
    channels = convolution_inputs(module)
    order = [network.dims] if network.dims else _order(list(channels), resolution)
    first = next(iter(channels), order[0])
    alone = len(order) == 1 and (order[0] in channels or not channels)
    if alone and (network.in_chans or (order == [2] and channels.get(2, 3) == 3)):
        return replace(network, dims=order[0])
    for dims in order:
        likely = network.in_chans or channels.get(dims, 3)
        for chans in [likely] if network.in_chans else dict.fromkeys((likely, *_IMAGES)):
            size = exact(resolution, dims)
            if _runs(module, size, chans, batch=1 if alone else _BATCH):
                known = network.in_chans is not None or chans != input_channels(module)
                return replace(network, dims=dims, in_chans=chans if known else None)
    return replace(network, dims=order[0] if alone else first)


def _order(kinds: list[int], resolution: Resolution) -> list[int]:
    """Return the numbers of dimensions to try: the one given; or as registered, images before."""
    if isinstance(resolution, tuple):
        return [len(resolution)]
    images = [2] if 2 in kinds or not kinds else []
    return list(dict.fromkeys((*kinds[:1], *images, *kinds)))


def _runs(module: nn.Module, resolution: Resolution, chans: int, *, batch: int) -> bool:
    copied = meta_copy(module)
    try:
        run(copied, example_inputs(copied, resolution, in_chans=chans, batch=batch))
    except ForwardError:
        return False
    return True
