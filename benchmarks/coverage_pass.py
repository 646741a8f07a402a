"""A forward and a backward pass of a scaled network: with weights where memory allows it."""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from typing import Any

import torch
from torch import nn

from convscale.network.modules.copies import meta_copy
from convscale.network.running.execution import ForwardError, Observer, run
from convscale.network.sources.inputs import example_inputs
from convscale.quantities import Resolution, sides
from convscale.scaling import ScaledNetwork
from convscale.scaling.building.build import build

LIMIT_BYTES = 8 << 30
BATCH = 2  # so that a batch norm behind global pooling has a variance
# The sides (px) that are tried; most networks run at the least of them.
_SIDES = (32, 64, 96, 128, 160, 192, 224)
_HUGE = 1e20  # of a gradient in float32, which ends at 3.4e38: one that has run away
_VIEWS = frozenset(("view", "_unsafe_view", "permute", "transpose", "t", "expand", "slice"))


class FaultError(Exception):
    """Say what was wrong with a pass, in a line.

    Example:
        >>> str(FaultError("the output is not finite"))
        'the output is not finite'
    """


class _Bytes(Observer):
    """Add up the bytes of what operators put out: what a backward pass may need at most."""

    def __init__(self) -> None:
        self.total = 0

    def visit(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, path: str
    ) -> None:
        del args, kwargs, path
        if func._opname not in _VIEWS:
            self.total += sum(tensor.nbytes for tensor in _tensors(output))


def check_pass(scaled: ScaledNetwork, *, limit_bytes: int = LIMIT_BYTES) -> str:
    """Run a scaled network forward and backward in training mode, at the least side it runs at.

    Where gradients overflow there as the base's own do, by a batch of two on maps of one pixel, it
    is run at the next side.

    Args:
        scaled: The network, on the meta device.
        limit_bytes: Where training needs more memory, the pass is made on the meta device.

    Returns:
        "real" or "meta": which pass was made.

    Raises:
        FaultError: If an output or a gradient is not finite, or there is none.

    Example:
        >>> import convscale as cs
        >>> check_pass(cs.scale("timm:resnet10t", strategy="w", factor=2, weights=False))
        'real'
    """
    problem: FaultError | None = None
    for resolution, needed in _running(scaled):
        if needed > limit_bytes:
            _pass(meta_copy(scaled.module), resolution, scaled.in_chans)
            return "meta"
        try:
            _real_pass(scaled, resolution)
        except FaultError as error:
            if not _base_overflows(scaled, resolution):
                raise
            problem = error
        else:
            return "real"
    assert problem is not None
    raise problem


def _real_pass(scaled: ScaledNetwork, resolution: Resolution) -> None:
    assert scaled.source is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, _ = build(scaled.source.build("cpu"), scaled.plan)
        _pass(module, resolution, scaled.in_chans)


def _base_overflows(scaled: ScaledNetwork, resolution: Resolution) -> bool:
    """Tell whether gradients of the base, deepened, are near the end of what float32 holds.

    They grow by a factor with each block, so that their logarithm grows as the depth does.
    """
    assert scaled.source is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = scaled.source.build("cpu")
        try:
            _pass(base, resolution, scaled.in_chans)
        except FaultError:
            return True
    gradients = [p.grad for p in base.parameters() if p.grad is not None]
    most = max(float(gradient.abs().max()) for gradient in gradients)
    return most > 1 and log(most) * max(1, scaled.factors.depth) > log(_HUGE)


def _running(scaled: ScaledNetwork) -> Iterator[tuple[Resolution, int]]:
    """Yield the resolutions at which the network trains, and the bytes that this needs.

    These are at most what all operators put out, twice (with gradients), and weights and their
    gradients, and those of the base, which is there while the network is built.
    """
    weights = sum(p.nbytes for p in scaled.module.parameters())
    before = 4 * scaled.base.params
    for resolution in _resolutions(scaled):
        copied, counter = meta_copy(scaled.module), _Bytes()
        images = example_inputs(copied, resolution, in_chans=scaled.in_chans, batch=BATCH)
        try:
            run(copied, images, counter, training=True)
        except ForwardError:
            if resolution == scaled.resolution:
                raise
            continue
        yield resolution, 2 * counter.total + 2 * weights + before


def _resolutions(scaled: ScaledNetwork) -> Iterator[Resolution]:
    own = sides(scaled.resolution)
    if len(own) == 2:
        yield from (side for side in _SIDES if side < min(own))
    yield scaled.resolution


def _pass(module: nn.Module, resolution: Resolution, in_chans: int | None) -> None:
    module.train()
    module.requires_grad_()
    (image,) = example_inputs(module, resolution, in_chans=in_chans, batch=BATCH)
    outputs = list(_tensors(module(torch.randn_like(image))))
    _check_finite("an output", outputs)
    loss = torch.stack([output.float().square().mean() for output in outputs]).sum()
    torch.autograd.backward(loss)
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    if not gradients:
        raise FaultError("no parameter has a gradient")
    _check_finite("a gradient", gradients)


def _check_finite(what: str, tensors: list[torch.Tensor]) -> None:
    if not all(tensor.is_meta or bool(tensor.isfinite().all()) for tensor in tensors):
        raise FaultError(f"{what} is not finite")


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        if values.is_floating_point():
            yield values
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
