"""What a network is run on: images at a resolution, or the inputs that the user gives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from convscale.errors import InputError
from convscale.network.running.probing import with_input
from convscale.network.sources.inputs import (
    ExampleInputs,
    Inputs,
    convolution_inputs,
    example_inputs,
    given_inputs,
    image_sides,
)
from convscale.network.sources.network import Network
from convscale.quantities import EXAMPLES, Resolution, check_resolution, exact, format_resolution


@dataclass(frozen=True)
class Feed:
    """What a forward pass takes: the inputs that are given, or images at a resolution.

    The resolution is None where inputs are given.

    Example:
        >>> feed = Feed(32, in_chans=1)
        >>> feed.inputs(nn.Conv2d(1, 8, 3), batch=4).shapes
        ('4x1x32x32:float32',)
    """

    resolution: Resolution | None
    dims: int = 2
    in_chans: int | None = None
    given: ExampleInputs | None = None

    @property
    def asked(self) -> Resolution | None:
        """The resolution in a form that tells the number of spatial dimensions by itself."""
        return None if self.resolution is None else exact(self.resolution, self.dims)

    def inputs(self, module: nn.Module, *, batch: int = 1) -> Inputs:
        """Return the inputs of a module, on its device and in its dtype.

        Tensors that are given have a batch of their own; inputs given by their sizes and images
        have the one asked for.
        """
        asked = self.asked
        if asked is None:
            return given_inputs(module, self.given, batch=batch)
        return Inputs(example_inputs(module, asked, in_chans=self.in_chans, batch=batch))

    def sides(self, module: nn.Module) -> Resolution | None:
        """Return the resolution: of inputs given the sides of the first image, None without one."""
        return self.resolution if self.given is None else image_sides(module, self.inputs(module))

    def has_own_batch(self, module: nn.Module) -> bool:
        """Tell whether tensors are given, whose batch stays as it is."""
        if self.given is None:
            return False
        one, more = self.inputs(module).tensors, self.inputs(module, batch=2).tensors
        return any(a.shape == b.shape for a, b in zip(one, more, strict=True))

    def check_batch(self, module: nn.Module, batch: int) -> None:
        """Refuse a batch that tensors which are given do not have.

        Raises:
            InputError: If they have another.
        """
        if batch != 1 and self.has_own_batch(module):
            raise InputError(
                f"The batch size is {batch}, but tensors were given, which have a batch of their "
                "own. Leave the batch size out, or give sizes."
            )


def feed_of(network: Network, resolution: Resolution | None = None) -> Feed:
    """Return what a network is run on: what is given, or images at the asked or its own resolution.

    Raises:
        InputError: If nothing tells the resolution, or the network does not take it.

    Example:
        >>> from convscale.network.sources.naming import resolve_base
        >>> feed_of(resolve_base("timm:resnet18")).resolution
        224
    """
    if network.inputs is not None:
        return Feed(None, given=network.inputs)
    size = known_resolution(network, resolution)
    known = with_input(network, size)
    return Feed(size, known.dims or 2, known.in_chans)


def known_resolution(network: Network, resolution: Resolution | None) -> Resolution:
    """Return the asked resolution, or the network's own (px).

    Raises:
        InputError: If there is neither.

    Example:
        >>> from convscale.network import resolve_base
        >>> known_resolution(resolve_base("timm:resnet50"), None)
        224
    """
    size = resolution if resolution is not None else network.resolution
    if size is None:
        dims = network.dims or next(iter(convolution_inputs(network.look())), 2)
        form = EXAMPLES[dims]
        raise InputError(
            f"Nothing tells the input resolution of {network.name}. Give one: --resolution "
            f"{format_resolution(form)}, or resolution={form} in Python."
        )
    return check_resolution(size)
