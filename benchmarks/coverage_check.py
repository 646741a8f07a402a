"""Scale one network by every strategy and factor, and check what comes out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.coverage_pass import check_pass
from benchmarks.coverage_rows import Case, Row
from benchmarks.zoos import base_of
from convscale.complexity.complexity import LayerCount
from convscale.complexity.tally import Counting
from convscale.errors import ConvscaleError
from convscale.network.modules.copies import meta_copy
from convscale.network.running.execution import run
from convscale.network.sources.inputs import example_inputs
from convscale.network.sources.network import Network
from convscale.quantities import Resolution
from convscale.scaling import ScaledNetwork, Scaler

Shape = tuple[int, ...]


def check_network(name: str, cases: Iterable[Case], *, with_pass: bool = False) -> Iterator[Row]:
    """Yield a row for each strategy and factor; the network is traced once for all of them.

    Args:
        name: The network's name, one of another library's too.
        cases: Strategies and factors.
        with_pass: Whether scaled networks are run forward and backward too.

    Example:
        >>> [row.outcome for row in check_network("timm:resnet18", [("w", 2.0)])]
        ['right']
    """
    cases = tuple(cases)
    started = time.process_time()
    try:
        network, resolution = base_of(name)
        module = network.build("meta")
        built = time.process_time()
        network = replace(network, build=partial(_built, network, module))
        scaler = Scaler(network, resolution=resolution)
        traced = time.process_time()
        counter = counter_seconds(module, scaler.resolution, scaler.network.in_chans)
        outputs, layers = _observed(module, scaler.resolution, scaler.network.in_chans)
    except Exception as error:  # noqa: BLE001 - a row, whatever it was
        yield from (_failed(name, case, error) for case in cases)
        return
    for case in cases:
        row = _scaled(scaler, module, case, outputs, layers, with_pass=with_pass)
        yield replace(
            row,
            network=name,
            build_seconds=built - started,
            trace_seconds=traced - built,
            counter_seconds=counter,
        )


def counter_seconds(
    module: nn.Module, resolution: Resolution, in_chans: int | None
) -> float | None:
    """Return the processor time (s) of one forward pass under PyTorch's counter of flops.

    It is what scaling is held against: the least that anybody takes to understand a network. None
    where the network does not run so on the meta device.

    Args:
        module: The network, on the meta device.
        resolution: Input side, or all sides, in px.
        in_chans: The channels of its input, where they are known.

    Example:
        >>> counter_seconds(nn.Conv2d(3, 8, 3, device="meta"), 32, 3) > 0
        True
    """
    copied = meta_copy(module).eval()
    images = example_inputs(copied, resolution, in_chans=in_chans)
    started = time.process_time()
    try:
        with torch.no_grad(), FlopCounterMode(display=False):
            copied(*images)
    except (RuntimeError, NotImplementedError):  # values are read, or an operator has no meta form
        return None
    return time.process_time() - started


def _built(network: Network, module: nn.Module, device: Literal["cpu", "meta"]) -> nn.Module:
    """Build a network, for the meta device from the one that is there."""
    return meta_copy(module) if device == "meta" else network.build(device)


def _failed(name: str, case: tuple[str, float], error: Exception) -> Row:
    if isinstance(error, ConvscaleError):
        return Row(name, *case, "refused", error.line)
    return Row(name, *case, "defect", f"{type(error).__name__}: {' '.join(str(error).split())}")


def _observed(
    module: nn.Module, resolution: Resolution, in_chans: int | None
) -> tuple[tuple[Shape, ...], dict[str, LayerCount]]:
    """Run a module on the meta device: the shapes of its outputs, and its layers by path."""
    copied, counting = meta_copy(module), Counting()
    output = run(copied, example_inputs(copied, resolution, in_chans=in_chans), counting)
    layers = counting.count(copied, resolution).layers
    return tuple(shapes(output)), {layer.path: layer for layer in layers}


def shapes(output: Any) -> Iterator[Shape]:
    """Yield the shapes of all tensors in an output, in order.

    Example:
        >>> list(shapes({"out": torch.zeros(1, 2), "aux": [torch.zeros(3)]}))
        [(1, 2), (3,)]
    """
    if isinstance(output, torch.Tensor):
        yield tuple(output.shape)
    elif isinstance(output, dict):
        for value in output.values():
            yield from shapes(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from shapes(value)


def _scaled(
    scaler: Scaler,
    base: nn.Module,
    case: tuple[str, float],
    outputs: tuple[Shape, ...],
    layers: dict[str, LayerCount],
    *,
    with_pass: bool,
) -> Row:
    strategy, factor = case
    started = time.process_time()
    try:
        scaled = scaler.scale(strategy, factor=factor, weights=False)
        seconds = time.process_time() - started
        found, after = _observed(scaled.module, scaled.resolution, scaled.in_chans)
    except Exception as error:  # noqa: BLE001 - a row, whatever it was
        return _failed("", case, error)
    classes = {shape[1] for shape in outputs if len(shape) > 1}
    share = width_share(base, scaled, layers, after, classes, _required(scaler, scaled))
    row = Row(
        network="",
        strategy=strategy,
        factor=factor,
        outcome="right",
        ratio=scaled.ratio["flops"],
        share=share,
        scale_seconds=seconds,
    )
    features = scaler.blueprint.trace.features
    faults = tuple(_faults(scaled, outputs, found, share, features))
    if faults:
        return replace(row, outcome="wrong", reason="; ".join(faults))
    if with_pass:
        try:
            row = replace(row, passed=check_pass(scaled))
        except Exception as error:  # noqa: BLE001 - a row, whatever it was
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            return replace(row, outcome="wrong", reason=f"forward and backward: {reason}")
    if factor == 2 and not _near(row.ratio):
        return replace(row, outcome="noted", reason=_cause(scaled))
    return row


def _near(ratio: float | None) -> bool:
    return ratio is not None and 1.8 <= ratio <= 2.2


def _cause(scaled: ScaledNetwork) -> str:
    return next((note for note in scaled.notes if note.startswith("Flops ")), "")


def _faults(
    scaled: ScaledNetwork,
    before: tuple[Shape, ...],
    after: tuple[Shape, ...],
    share: float | None,
    features: tuple[int | None, ...],
) -> Iterator[str]:
    same_size = scaled.resolution == scaled.base_resolution
    if not same_outputs(before, after, same_size=same_size, features=features):
        yield f"the output's shape is {after}, not {before}"
    if share is not None and share < 0.95:
        yield f"only {share:.0%} of the scalable flops lie in layers at the requested width"
    if scaled.factor == 2 and not _near(scaled.ratio["flops"]) and not _cause(scaled):
        yield f"flops grow by {scaled.ratio['flops']:.2f}, not 2, and no note says why"


def same_outputs(
    before: tuple[Shape, ...],
    after: tuple[Shape, ...],
    *,
    same_size: bool,
    features: tuple[int | None, ...] = (),
) -> bool:
    """Tell whether outputs are alike: all sizes, or, where the resolution changes, channels.

    Of feature maps, whose channels scale, `features` holds the dimension of the channels.

    Example:
        >>> same_outputs(((1, 21, 64, 64),), ((1, 21, 80, 80),), same_size=False)
        True
    """
    if len(features) == len(before) == len(after):
        before, after = (
            tuple(
                shape if dim is None else (*shape[:dim], 0, *shape[dim + 1 :])
                for shape, dim in zip(outputs, features, strict=True)
            )
            for outputs in (before, after)
        )
    if same_size:
        return before == after
    channels = [[shape[:2] for shape in outputs] for outputs in (before, after)]
    ranks = [[len(shape) for shape in outputs] for outputs in (before, after)]
    return channels[0] == channels[1] and ranks[0] == ranks[1]


def width_share(
    base: nn.Module,
    scaled: ScaledNetwork,
    before: dict[str, LayerCount],
    after: dict[str, LayerCount],
    classes: set[int],
    required: dict[int, int],
) -> float | None:
    """Return the part of the scalable flops in layers at the requested width to rounding.

    That is within one multiple: 8, the group width of grouped convolutions on the width, and what
    heads and the groups of norms require. A width that is put together from such widths (a
    packed projection, halves that are joined) is theirs put together. Layers that put out the
    classes do not count, nor do products without weights.

    Args:
        base: The base network.
        scaled: The scaled network.
        before: What the base's layers put out, by path.
        after: What the scaled network's layers put out, by path.
        classes: The sizes of the outputs' channels.
        required: The steps that widths of the base move by.

    Returns:
        A share of 0 to 1, or None where no layer counts.
    """
    parts = dict(base.named_modules())
    widths = {
        path: (_width(parts[path], layer), _width(parts[path], after[path]))
        for path, layer in before.items()
        if path in after and layer.flops and _weighted(parts[path])
    }
    widths = {path: (a, b) for path, (a, b) in widths.items() if a != b or a not in classes}
    groups = _group_steps(parts, scaled.module, widths)
    good = at_request(set(widths.values()), scaled.factors.width, groups, required)
    total = sum(before[path].flops for path in widths)
    there = sum(before[path].flops for path, pair in widths.items() if pair in good)
    return there / total if total else None


def at_request(
    pairs: set[tuple[int, int]],
    factor: float,
    steps: dict[int, int],
    required: dict[int, int] | None = None,
) -> set[tuple[int, int]]:
    """Return the pairs of old and new width that are at their request to rounding.

    Args:
        pairs: Old and new widths.
        factor: The requested factor.
        steps: New group widths on old widths.
        required: Steps that old widths move by for other reasons. They excuse a fifth of the
            request at most: what is farther off is not at its request, whatever the reason.

    Example:
        >>> sorted(at_request({(80, 56), (640, 448), (100, 90)}, 0.758, {}))
        [(80, 56), (640, 448)]
        >>> sorted(at_request({(100, 84), (90, 84)}, 0.7, {}, {100: 14, 90: 42}))
        [(100, 84)]
    """
    good: set[tuple[int, int]] = set()
    for old, new in sorted(pairs):
        request = factor * old
        excused = min((required or {}).get(old, 0), request / 5)
        near = abs(new - request) <= max(math.lcm(8, steps.get(old, 1)), excused)
        multiple = any(old % a == 0 and old // a * b == new for a, b in good)
        joined = any((old - a, new - b) in good for a, b in good)
        if near or multiple or joined:
            good.add((old, new))
    return good


def _required(scaler: Scaler, scaled: ScaledNetwork) -> dict[int, int]:
    """Return the steps that widths move by: of those put together, the steps of all parts."""
    rule = scaler.blueprint.base().rule
    steps = rule.widths(scaled.factors.width).steps
    required = {width.base: step for width, step in steps.items()}
    trace = scaler.blueprint.trace
    for units in (units for axes in trace.tensors for units in axes.units if units is not None):
        parts = [
            (times, rule.natural[group])
            for group, times in trace.channels.composition(units)
            if group in rule.natural
        ]
        together = sum(times * max(1, steps[width] / own) for times, (width, own) in parts)
        required[len(units)] = max(required.get(len(units), 1), round(together))
    return required


def _weighted(module: nn.Module) -> bool:
    return any(p.ndim > 1 for p in module.parameters(recurse=False))


def _width(module: nn.Module, layer: LayerCount) -> int:
    """Return the channels that a layer puts out: last in a linear layer, else second."""
    return layer.output_shape[-1 if isinstance(module, nn.Linear) else 1]


def _group_steps(
    parts: dict[str, nn.Module], scaled: nn.Module, widths: dict[str, tuple[int, int]]
) -> dict[int, int]:
    """Return the new group width on each width that a grouped convolution works on."""
    steps: dict[int, int] = {}
    for path, (old, _) in widths.items():
        groups = getattr(parts[path], "groups", 1)
        if 1 < groups < old:
            now = scaled.get_submodule(path)
            channels, count = getattr(now, "in_channels", 1), getattr(now, "groups", 1)
            steps[old] = math.lcm(steps.get(old, 1), channels // count)
    return steps
