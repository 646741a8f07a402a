"""Find out what a network takes by trying it, where its layers do not tell."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from convscale.network.copies import meta_copy
from convscale.network.execution import ForwardError, run
from convscale.network.inputs import example_inputs, input_channels
from convscale.network.sources import Network
from convscale.quantities import Resolution

# What images have: colours, gray, colours and transparency.
_IMAGES = (3, 1, 4)


def with_channels(network: Network, resolution: Resolution | None) -> Network:
    """Return a network whose input channels are known.

    The first convolution that is registered need not be the first that runs, and what runs
    before it may add channels. Three channels there are believed; other numbers are tried.

    Args:
        network: The network.
        resolution: The side or (height, width) in px to try it at; None leaves all as it is.

    Example:
        >>> from convscale.network.sources import from_module
        >>> net = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 8, 3))
        >>> with_channels(from_module(net), 8).in_chans
        3
    """
    if network.in_chans is not None or resolution is None:
        return network
    module = network.build("meta")
    likely = input_channels(module)
    if likely == 3 or runs(module, resolution, likely):
        return network
    found = [chans for chans in _IMAGES if chans != likely and runs(module, resolution, chans)]
    return replace(network, in_chans=found[0]) if found else network


def runs(module: nn.Module, resolution: Resolution, chans: int | None) -> bool:
    """Tell whether a module runs on images, tried on a copy.

    Args:
        module: The module.
        resolution: The side or (height, width) in px.
        chans: Input channels; read from the module if not given.

    Example:
        >>> runs(nn.Conv2d(3, 8, 3), 2, 3)
        False
    """
    copied = meta_copy(module)
    try:
        run(copied, example_inputs(copied, resolution, in_chans=chans))
    except ForwardError:
        return False
    return True
