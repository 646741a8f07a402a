"""Make a repeatable block for a stage that has only a block which changes the tensor's shape.

The block is a copy of the stage's own: strides become 1, and its input takes the width of its
output; convolutions that would make maps smaller then are padded, even kernels becoming odd. Of
modules in a row (a convolution, its norm, its activation) the first is made, and the others are
copies. Inner widths keep the proportion that a repeated block of the same class has elsewhere,
else the proportion to the input where all first blocks of that class have it. Flags that every
repeated block carries (a shortcut that is on), and submodules without weights where a repeated
block has them (an identity for a projection), are borrowed from that block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from convscale.errors import ConvscaleError
from convscale.network.channels.channels import Composition
from convscale.network.channels.ties import tensors_in
from convscale.network.modules.copies import part_copy
from convscale.network.modules.walking import has_weights
from convscale.network.running.execution import ForwardError, run
from convscale.network.sources.inputs import Inputs
from convscale.network.stages.stages import Stage, join
from convscale.network.tracing.trace import Border, TensorAxes, Trace
from convscale.scaling.building.adapting import adapt
from convscale.scaling.building.depth import repeatable
from convscale.scaling.building.resizing import resize
from convscale.scaling.building.weights import Redraw
from convscale.scaling.plans.plan import Repetition

_STRIDED = (nn.modules.conv._ConvNd, nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd)


@dataclass(frozen=True)
class MadeBlock:
    """A repetition and the shapes of the tensors that change in it, by their names in the block.

    Example:
        >>> MadeBlock(Repetition("s4.b1", None), {}, {}).groups
        {}
    """

    repetition: Repetition
    shapes: dict[str, tuple[int, ...]]
    groups: dict[str, int]


def make_repeatable(
    module: nn.Module, trace: Trace, stage: Stage, stages: tuple[Stage, ...]
) -> MadeBlock | None:
    """Plan a repeatable block for a stage, and try it; None where it does not keep the shape.

    Args:
        module: The base network on the meta device.
        trace: Its trace.
        stage: The stage without a repeatable block.
        stages: All stages of the network.

    Example:
        >>> from convscale.network import resolve_base, trace_module
        >>> from convscale.network.stages.stages import find_stages
        >>> net = resolve_base("timm:efficientnet_b0").build("meta")
        >>> trace = trace_module(net, 224)
        >>> stages = find_stages(net, trace)
        >>> make_repeatable(net, trace, stages[-1], stages).shapes["conv_pw.weight"]
        (1920, 320, 1, 1)
    """
    source = join(stage.container, stage.modules(stage.blocks[-1])[0])
    border = trace.borders.get(source)  # a list of modules has none: nobody calls it
    if border is None or border.input_units is None or border.output_units is None:
        return None
    if not _rest_keeps(trace, stage) or _narrows_to_output(module, trace, source):
        return None
    models = _models(stage, stages)
    same = [path for path, kind in models if kind == stage.kind]
    model = same[0] if same else None
    block = module.get_submodule(source)
    repetition = Repetition(
        source=source,
        model=model,
        unstrided=_unstrided(block),
        flags=_flags(module, block, [path for path, _ in models]),
        borrowed=_borrowed(block, module.get_submodule(model)) if model else (),
    )
    shapes = _Shapes(
        trace,
        source,
        model,
        [join(other.container, other.blocks[0]) for other in stages if other.kind == stage.kind],
    ).all()
    unpadded = _unpadded(block)
    centred = tuple(path for path in unpadded if _is_centred(block.get_submodule(path)))
    padded = tuple(
        path
        for path in unpadded
        if path not in centred and not block.get_submodule(path).transposed
    )
    off = _flags(module, block, same, on=False)  # as those that say that the input is projected
    for way in (repetition, replace(repetition, padded=padded, centred=centred)):
        for more in dict.fromkeys(((), _widths(block, border), off)):
            way = replace(way, flags=(*repetition.flags, *more))
            made = _made(module, way, shapes, border.output_shape)
            if made is not None:
                return made
    return None


def _rest_keeps(trace: Trace, stage: Stage) -> bool:
    """Tell whether of a block's modules in a row only the first changes the shape."""
    borders = [
        trace.borders.get(join(stage.container, name))
        for name in stage.modules(stage.blocks[-1])[1:]
    ]
    return all(one is not None and one.input_shape == one.output_shape for one in borders)


def _narrows_to_output(module: nn.Module, trace: Trace, source: str) -> bool:
    """Tell whether a layer puts out what the network does, such as colours or classes: no body."""
    border = trace.borders[source]
    parts = module.get_submodule(source).modules()
    if sum(isinstance(part, nn.modules.conv._ConvNd) for part in parts) != 1:
        return False
    assert border.output_units is not None
    fixed = not trace.channels.scalable(border.output_units)
    return fixed and border.output_shape[1] < border.input_shape[1]


def _widths(block: nn.Module, border: Border) -> tuple[tuple[str, int], ...]:
    """Return the attributes that repeat the block's input width, with its output width."""
    before, after = border.input_shape[1], border.output_shape[1]
    return tuple(
        (name, after)
        for name, value in vars(block).items()
        if type(value) is int and value == before
    )


def _made(
    module: nn.Module,
    repetition: Repetition,
    guess: dict[str, tuple[int, ...]],
    shape: tuple[int, ...],
) -> MadeBlock | None:
    """Make the block and run it; its layers take what arrives. None if it changes the shape."""
    block = part_copy(repeatable(module, repetition)).eval()
    present = _shapes(block)
    kernels = {f"{path}.weight".lstrip(".") for path in repetition.centred}
    shapes = {
        name: (*size[:2], *present[name][2:]) if name in kernels else size
        for name, size in guess.items()
        if name in present
    }
    groups = _groups(block, shapes)
    try:
        resize(block, shapes, groups, {}, Redraw(0))
        before, x = _shapes(block), torch.empty(shape, device="meta")
        output = adapt(block, Inputs((x,)))
        if _shapes(block) != before:  # a layer that runs twice may have taken two widths
            output = run(block, (x,))
    except (ForwardError, ConvscaleError, RuntimeError, TypeError, ValueError, AttributeError):
        return None  # it cannot be repeated: the stage keeps its depth, and the user is told
    results = tensors_in(output)
    if not results or tuple(results[0].shape) != shape:
        return None
    changed = {name: shape for name, shape in _shapes(block).items() if shape != present.get(name)}
    return MadeBlock(repetition, changed, _all_groups(block))


def _shapes(block: nn.Module) -> dict[str, tuple[int, ...]]:
    tensors = (
        *block.named_parameters(remove_duplicate=False),
        *block.named_buffers(remove_duplicate=False),
    )
    return {name: tuple(tensor.shape) for name, tensor in tensors}


def _all_groups(block: nn.Module) -> dict[str, int]:
    return {
        path: part.groups
        for path, part in block.named_modules()
        if isinstance(part, nn.modules.conv._ConvNd) and part.groups > 1
    }


def _models(stage: Stage, stages: tuple[Stage, ...]) -> list[tuple[str, str]]:
    """Return repeated blocks of other stages, the nearest stages first."""
    here = stages.index(stage)
    near = sorted(range(len(stages)), key=lambda position: abs(position - here))
    return [
        (join(stages[i].container, name), stages[i].kind)
        for i in near
        if (name := stages[i].repeatable) is not None
    ]


def _unstrided(block: nn.Module) -> tuple[str, ...]:
    return tuple(
        path
        for path, part in block.named_modules()
        if isinstance(part, _STRIDED) and part.stride not in (1, (1,), (1, 1), (1, 1, 1))
    )


def _unpadded(block: nn.Module) -> tuple[str, ...]:
    """Return the convolutions that, without a stride, do not keep the sides of a map."""
    return tuple(
        path
        for path, part in block.named_modules()
        if isinstance(part, nn.modules.conv._ConvNd)
        and not isinstance(part.padding, str)
        and part.padding_mode == "zeros"
        and any(
            2 * pad != dilation * (kernel - 1) + more
            for pad, dilation, kernel, more in zip(
                part.padding, part.dilation, part.kernel_size, part.output_padding, strict=True
            )
        )
    )


def _is_centred(layer: nn.Module) -> bool:
    """Tell whether only an odd kernel keeps sides: of a transposed layer, or as many on each side.

    A kernel that is computed, as by a spectral norm, stays as it is, and so does one of two rows,
    of which one would be left.
    """
    assert isinstance(layer, nn.modules.conv._ConvNd)
    even = any(size % 2 == 0 for size in layer.kernel_size)
    wide = all(size != 2 for size in layer.kernel_size)
    return "weight" in layer._parameters and wide and (layer.transposed or even)


def _flags(
    module: nn.Module, block: nn.Module, models: list[str], *, on: bool = True
) -> tuple[tuple[str, int], ...]:
    """Return the flags that are off here and on in every repeated block that has them.

    Or the other way round, where they are to be off.
    """
    repeated = [vars(module.get_submodule(path)) for path in models]
    flags = []
    for name, value in vars(block).items():
        others = [other[name] for other in repeated if name in other]
        differs = type(value) is bool and value is not on and name != "training"
        if differs and others and all(other is on for other in others):
            flags.append((name, on))
    return tuple(flags)


def _borrowed(block: nn.Module, model: nn.Module) -> tuple[str, ...]:
    """Return children with weights where the repeated block has none (projections)."""
    names = []
    for name, child in block.named_children():
        other = getattr(model, name, None)
        empty = not isinstance(other, nn.Module) or not has_weights(other)
        if empty and has_weights(child):
            names.append(name)
    return tuple(names)


class _Shapes:
    """Find the shape of each tensor of the made block."""

    def __init__(self, trace: Trace, source: str, model: str | None, alike: list[str]) -> None:
        self._trace = trace
        self._alike = alike
        self._axes = {name: axes for axes in trace.tensors for name in axes.names}
        self._source = source
        self._model = model
        border = trace.borders[source]
        assert border.input_units is not None
        assert border.output_units is not None
        self._inner = trace.channels.composition(border.input_units)
        self._outer = trace.channels.composition(border.output_units)
        self._before = len(border.input_units)
        self._after = len(border.output_units)
        self._model_width = 0
        if model is not None and (units := trace.borders[model].output_units) is not None:
            self._model_width = len(units)
        self._grouped = {
            f"{path}.weight" for path, (_, width) in trace.grouped.items() if width is not None
        }

    def all(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes by name within the block."""
        prefix = f"{self._source}."
        shapes: dict[str, tuple[int, ...]] = {}
        for name, axes in self._axes.items():
            if name.startswith(prefix):
                sizes = [self._size(name, axes, dim) for dim in range(len(axes.shape))]
                shapes[name.removeprefix(prefix)] = tuple(sizes)
        return shapes

    def _size(self, name: str, axes: TensorAxes, dim: int) -> int:
        units, size = axes.units[dim], axes.shape[dim]
        if units is None or not self._trace.channels.scalable(units):
            return size
        composition: Composition = self._trace.channels.composition(units)
        if composition in (self._inner, self._outer):
            return self._after
        if {group for group, _ in composition} <= {group for group, _ in self._outer}:
            return size  # a part of the output, which is put together as the last block's is
        if dim == 1 and name in self._grouped:
            return size
        model = self._axes.get(f"{self._model}.{name.removeprefix(self._source + '.')}")
        if model is not None and len(model.shape) == len(axes.shape) and self._model_width:
            return _proportion(model.shape[dim], self._after, self._model_width)
        if self._follows_input(name, dim) or self._is_squeezed(name):
            return _proportion(size, self._after, self._before)
        return size

    def _is_squeezed(self, name: str) -> bool:
        """Tell whether it lies in a part of the block that gives what it takes: the input."""
        parts = name.split(".")
        for end in range(self._source.count(".") + 2, len(parts)):
            border = self._trace.borders.get(".".join(parts[:end]))
            if border is None or border.input_units is None or border.output_units is None:
                continue
            around = (border.input_units, border.output_units)
            if all(self._trace.channels.composition(u) == self._inner for u in around):
                return True
        return False

    def _follows_input(self, name: str, dim: int) -> bool:
        """Tell whether an inner width is a multiple of the block's input, here and elsewhere."""
        rest, rank = name.removeprefix(self._source), len(self._axes[name].shape)
        ratios = set()
        for path in self._alike:
            axes, border = self._axes.get(path + rest), self._trace.borders[path]
            if axes is not None and len(axes.shape) == rank and border.input_units is not None:
                ratios.add(axes.shape[dim] / len(border.input_units))
        return len(ratios) == 1 and ratios.pop() > 1


def _proportion(size: int, numerator: int, denominator: int) -> int:
    """Return size · numerator / denominator to the nearest integer, at least 1."""
    return max(1, round(size * numerator / denominator))


def _groups(block: nn.Module, shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the groups of grouped convolutions whose group width stays."""
    groups = {}
    for path, part in block.named_modules():
        shape = shapes.get(f"{path}.weight".lstrip("."))
        if isinstance(part, nn.modules.conv._ConvNd) and part.groups > 1 and shape is not None:
            rows = part.in_channels if part.transposed else part.out_channels
            groups[path] = max(1, part.groups * shape[0] // rows)
    return groups
