"""Count a network by what it executes, on the meta device, without memory for weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from convscale.complexity.complexity import Count, LayerCount, Uncounted
from convscale.errors import InputError
from convscale.network.copies import full_copy
from convscale.network.execution import ForwardError, Observer, run
from convscale.network.inputs import convolution_inputs, example_inputs
from convscale.network.probing import with_input
from convscale.network.products import (
    Product,
    bind,
    edges,
    first_shape,
    is_free,
    may_multiply,
    product,
)
from convscale.network.sources import Network
from convscale.quantities import EXAMPLES, Resolution, check_resolution, exact, format_resolution

CONVENTIONS = ("default", "pycls")


class Counting(Observer):
    """Add up the products of one run, by module, and note what was not counted.

    Example:
        >>> import torch
        >>> net, counting = nn.Conv2d(3, 8, 3, device="meta"), Counting()
        >>> out = run(net, (torch.empty(1, 3, 8, 8, device="meta"),), counting)
        >>> counting.count(net, 8).acts
        288
    """

    def __init__(self, convention: str = "default") -> None:
        self.convention = convention
        self.products: dict[str, Product] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}  # in the order of execution
        self.excluded: Counter[str] = Counter()
        self.uncounted: Counter[tuple[str, str]] = Counter()

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        """Add up a call that multiplies, and note one that does not."""
        bound = bind(func, args, kwargs)
        found = product(func, bound, output)
        if self.convention == "pycls":
            added = edges(func, bound, output)
            if added != Product(0, 0):
                own = found or Product(0, 0)
                found = Product(own.flops + added.flops, own.acts + added.acts)
        operator = f"{func.namespace}.{func._opname}"
        if found is not None:
            before = self.products.get(path, Product(0, 0))
            self.products[path] = Product(before.flops + found.flops, before.acts + found.acts)
            self.shapes.setdefault(path, first_shape(output))
        elif may_multiply(func):
            self.uncounted[operator, path] += 1
        elif not is_free(func):
            self.excluded[operator] += 1

    def leave(self, path: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Note the shape that a module with parameters puts out."""
        del inputs
        if module._parameters or path in self.products:
            self.shapes[path] = first_shape(output)

    def count(
        self,
        module: nn.Module,
        resolution: Resolution,
        *,
        name: str = "",
        notes: tuple[str, ...] = (),
    ) -> Count:
        """Return the count of the module that was run at a resolution (px)."""
        layers = _layers(module, self)
        return Count(
            flops=sum(layer.flops for layer in layers),
            params=sum(parameter.numel() for parameter in module.parameters()),
            acts=sum(layer.acts for layer in layers),
            network=name,
            resolution=resolution,
            convention=self.convention,
            uncounted=tuple(
                Uncounted(operator, calls, path)
                for (operator, path), calls in self.uncounted.items()
            ),
            excluded=dict(self.excluded),
            layers=layers,
            notes=notes,
        )


def check_convention(convention: str) -> str:
    """Return the name of a convention that exists.

    Raises:
        InputError: Otherwise.

    Example:
        >>> check_convention("default")
        'default'
    """
    if convention not in CONVENTIONS:
        raise InputError(f"Unknown convention {convention!r}. Use {', '.join(CONVENTIONS)}.")
    return convention


def count_network(
    network: Network, *, resolution: Resolution | None = None, convention: str = "default"
) -> Count:
    """Count flops, params and acts of a network: one image, one forward pass.

    Args:
        network: The network.
        resolution: Input side, or all sides, in px; the network's own by default.
        convention: The convention of the count.

    Returns:
        The totals, each module's share, and what was met and not counted.

    Raises:
        InputError: If the resolution is missing, or the network cannot run at it.

    Example:
        >>> from convscale.network import resolve_base
        >>> count_network(resolve_base("timm:resnet50")).flops
        4089184256
    """
    check_convention(convention)
    size = known_resolution(network, resolution)
    network = with_input(network, size)
    module = network.build("meta")
    found = count_module(
        module,
        exact(size, network.dims or 2),
        name=network.name,
        in_chans=network.in_chans,
        weights=lambda: network.build("cpu"),
        convention=convention,
    )
    return replace(found, resolution=size)


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


def count_module(
    module: nn.Module,
    resolution: Resolution,
    *,
    name: str = "",
    in_chans: int | None = None,
    weights: Callable[[], nn.Module] | None = None,
    convention: str = "default",
) -> Count:
    """Count a module of our own (a copy); fall back to real tensors where meta ones fail.

    Args:
        module: The module; it is left in evaluation mode.
        resolution: Input side or all sides in px; an integer for images.
        name: Name to give in the count.
        in_chans: Input channels; read from the module if not given.
        weights: Builds the module with real weights, for networks that need them to run.
        convention: The convention of the count.

    Raises:
        InputError: If the network cannot run at the resolution.

    Example:
        >>> count_module(nn.Conv2d(3, 8, 3, device="meta"), 8).acts
        288
    """
    notes: tuple[str, ...] = ()
    try:
        counter = _run(module, resolution, in_chans, convention)
    except ForwardError as error:
        if weights is None:
            raise cannot_run(name, resolution, error, module) from error
        try:
            counter = _run(full_copy(weights()), resolution, in_chans, convention)
        except ForwardError as second:
            raise cannot_run(name, resolution, second, module) from second
        notes = (f"Counted by a real forward pass: the meta device fails ({error.reason}).",)
    return counter.count(module, resolution, name=name, notes=notes)


def _run(
    module: nn.Module, resolution: Resolution, in_chans: int | None, convention: str
) -> Counting:
    counter = Counting(convention)
    inputs = example_inputs(module, resolution, in_chans=in_chans)
    run(module, inputs, counter)
    return counter


def cannot_run(
    name: str, resolution: Resolution, error: ForwardError, module: nn.Module
) -> InputError:
    """Say in one line that a network cannot run at a resolution, and why.

    Example:
        >>> error = ForwardError("stem", "Conv2d", ValueError("too small"))
        >>> cannot_run("net", 3, error, nn.Conv2d(3, 8, 5)).line
        'net cannot run at 3 px: ValueError: too small (in stem, a Conv2d). Give another ...'
    """
    advice = "Give another resolution."
    if not convolution_inputs(module):
        advice = "It has no convolution; give a convolutional network."
    elif "required positional argument" in error.reason and not error.path:
        advice = "It must take one tensor: wrap it in a module that makes the others."
    elif "meta tensor" in error.reason:
        advice = "What its forward pass does must follow from shapes, not from values of tensors."
    return InputError(
        f"{name or 'The network'} cannot run at {format_resolution(resolution)} px: "
        f"{error.reason}. {advice}"
    )


def _layers(module: nn.Module, counter: Counting) -> tuple[LayerCount, ...]:
    """List what each module executed itself, in the order of execution, and what it owns."""
    parts = dict(module.named_modules())
    unused = [
        path for path, part in parts.items() if part._parameters and path not in counter.shapes
    ]
    seen: set[int] = set()
    layers = []
    for path in (*counter.shapes, *unused):
        own = [p for p in parts[path]._parameters.values() if p is not None and id(p) not in seen]
        seen.update(id(parameter) for parameter in own)
        found = counter.products.get(path, Product(0, 0))
        layers.append(
            LayerCount(
                path=path,
                kind=type(parts[path]).__name__,
                output_shape=counter.shapes.get(path, ()),
                flops=found.flops,
                params=sum(parameter.numel() for parameter in own),
                acts=found.acts,
            )
        )
    return tuple(layers)
