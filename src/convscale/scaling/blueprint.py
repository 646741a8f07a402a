"""A blueprint: a base network understood once, from which any scaled version can be planned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import nn

from convscale.complexity.complexity import Complexity
from convscale.errors import ConvscaleError, UnscalableNetworkError
from convscale.network.channels import Sizes
from convscale.network.copies import meta_copy
from convscale.network.execution import ForwardError, Observer
from convscale.network.stages import Stage, find_stages, join
from convscale.network.trace import Trace, size_of, trace_module
from convscale.quantities import Resolution, format_resolution, like, sides
from convscale.scaling.closed_form import ClosedForm, Weights
from convscale.scaling.depth import apply_depth, edit
from convscale.scaling.plan import DepthEdit, Plan
from convscale.scaling.repetition import MadeBlock, make_repeatable
from convscale.scaling.resizing import resize
from convscale.scaling.weights import Redraw
from convscale.scaling.widths import WidthRule, Widths, width_rule

_STEPS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Variant:
    """The base network at other depths and another resolution, widths still the base's.

    The trace may hold one added block a stage, the model of all that are added there; the
    weights say how often each call and each tensor stands in the network.

    Example:
        >>> from convscale.network import resolve_base
        >>> net = resolve_base("timm:resnet18")
        >>> variant = Blueprint(net.build("meta"), 224).variant((2, 2, 2, 2), 224)
        >>> variant.complexity(variant.rule.widths(1.0)).flops
        1814073344
    """

    depths: tuple[int, ...]
    resolution: Resolution
    edits: tuple[DepthEdit, ...]
    traced: Traced
    term_weights: Weights
    tensor_weights: Weights

    @property
    def rule(self) -> WidthRule:
        """The widths that can change."""
        return self.traced.rule

    @property
    def trace(self) -> Trace:
        """The run that the variant is read from."""
        return self.traced.trace

    def sizes(self, widths: Widths) -> Sizes:
        """Return the sizes of the channel groups for new widths."""
        return self.rule.sizes(self.trace.channels.sizes, widths)

    def complexity(self, widths: Widths) -> Complexity:
        """Return flops, params and acts for new widths in closed form, nothing being run."""
        return self.traced.form.complexity(
            self.sizes(widths), self.term_weights, self.tensor_weights
        )

    def plan(self, widths: Widths) -> Plan:
        """Return what turns the base network into this variant with new widths."""
        sizes, channels = self.sizes(widths), self.trace.channels
        shapes = {
            name: tuple(size_of(units, sizes, channels) for units in axes.units)
            for axes in self.trace.tensors
            for first in axes.names
            if any(units is not None for units in axes.units)
            for name in self._copies(first)
        }
        groups = {
            name: channels.size(units, sizes) // size_of(width, sizes, channels)
            for path, (units, width) in self.trace.grouped.items()
            for name in self._copies(path)
        }
        normalized = {
            name: channels.size(units, sizes)
            for path, units in self.trace.normalized.items()
            for name in self._copies(path)
        }
        return Plan(self.edits, shapes, groups, normalized)

    def _copies(self, path: str) -> Iterator[str]:
        """Yield the paths in this variant of a path in the trace: none, itself, or copies."""
        for change in self.edits:
            for name in change.removed:
                if within(path, join(change.container, name)):
                    return
        for model, (container, names) in self._models().items():
            if within(path, model):
                rest = path.removeprefix(model)
                yield from (join(container, name) + rest for name in names)
                return
        yield path

    def model_path(self, path: str) -> str:
        """Return the path in the trace that stands for a path in this variant."""
        for model, (container, names) in self._models().items():
            for name in names:
                if within(path, join(container, name)):
                    return model + path.removeprefix(join(container, name))
        return path

    def _models(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Return, for each added block in the trace, where and under which names it stands."""
        added = {(c.container, c.after): c.added for c in self.edits if c.added}
        return {
            join(c.container, c.added[0]): (c.container, added.get((c.container, c.after), ()))
            for c in self.traced.edits
        }


@dataclass(frozen=True)
class Traced:
    """A run at one resolution, with one added block in some stages, and what follows from it.

    Example:
        >>> from convscale.network import resolve_base
        >>> Blueprint(resolve_base("timm:resnet18").build("meta"), 224).base().traced.edits
        ()
    """

    trace: Trace
    edits: tuple[DepthEdit, ...]
    form: ClosedForm
    rule: WidthRule


def within(path: str, module: str) -> bool:
    """Tell whether a path is a module's or lies in it.

    Example:
        >>> within("layer1.0.conv1", "layer1.0"), within("layer1.01", "layer1.0")
        (True, False)
    """
    return path == module or path.startswith(f"{module}.")


class Blueprint:
    """Trace a base network once; answer what it costs at any depths, widths and resolution.

    Args:
        module: The base network on the meta device, a copy of our own.
        resolution: Base resolution in px.
        in_chans: Input channels; read from the module if not given.
        width_multiple: The multiple that widths keep, as far as the base has it.
        watch: Others who see the run of the base network.

    Raises:
        ForwardError: If the network does not run, or cannot be followed.

    Example:
        >>> from convscale.network import resolve_base
        >>> [s.depth for s in Blueprint(resolve_base("resnet50").build("meta"), 224).stages]
        [3, 4, 6, 3]
    """

    def __init__(
        self,
        module: nn.Module,
        resolution: Resolution,
        *,
        in_chans: int | None = None,
        width_multiple: int = 8,
        watch: tuple[Observer, ...] = (),
    ) -> None:
        self.module = module
        self.resolution = resolution
        self._in_chans = in_chans
        self._multiple = width_multiple
        self._runs: dict[object, Traced] = {}
        self.trace = trace_module(meta_copy(module), resolution, in_chans=in_chans, watch=watch)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the network, in the order in which they run."""
        return find_stages(self.module, self.trace)

    @cached_property
    def made(self) -> dict[str, MadeBlock]:
        """Repeatable blocks made for stages that have none, by the path of the last block."""
        found: dict[str, MadeBlock] = {}
        for stage in self.stages:
            if stage.repeatable is None:
                block = make_repeatable(self.module, self.trace, stage, self.stages)
                if block is not None:
                    found[join(stage.container, stage.blocks[-1])] = block
        return found

    @cached_property
    def deepenable(self) -> tuple[bool, ...]:
        """For each stage, whether an added block runs: tried, not assumed."""
        hopeful = tuple(
            stage.repeatable is not None or join(stage.container, stage.blocks[-1]) in self.made
            for stage in self.stages
        )
        if self._runs_deeper(hopeful):
            return hopeful
        alone = [tuple(i == j and h for j in range(len(hopeful))) for i, h in enumerate(hopeful)]
        return tuple(
            hope and self._runs_deeper(one) for hope, one in zip(hopeful, alone, strict=True)
        )

    def _runs_deeper(self, chosen: tuple[bool, ...]) -> bool:
        try:
            self._run(self._deeper(chosen), self.resolution)
        except ConvscaleError:
            return False
        return True

    def _deeper(self, chosen: tuple[bool, ...]) -> tuple[DepthEdit, ...]:
        """Return the edits that add one block to each chosen stage."""
        return self._edits(tuple(s.depth + c for s, c in zip(self.stages, chosen, strict=True)))

    @cached_property
    def base_complexity(self) -> Complexity:
        """The complexity of the base network."""
        base = self.base()
        return base.complexity(base.rule.widths(1.0))

    def width_growth(self, factor: float) -> float:
        """Return the growth of flops when every free width is multiplied exactly by a factor.

        It is the factor's square for a plain network, and less by the share of layers that
        grow with width once (depthwise, stem, classifier) or not at all.
        """
        base = self.base()
        channels = base.trace.channels
        sizes = np.where(channels.fixed, 1.0, factor) * channels.sizes
        form = base.traced.form
        return form.continuous_flops(sizes) / form.continuous_flops(channels.sizes.astype(float))

    def base(self) -> Variant:
        """Return the base itself as a variant."""
        return self.variant(tuple(stage.depth for stage in self.stages), self.resolution)

    def variant(self, depths: tuple[int, ...], resolution: Resolution) -> Variant:
        """Return the base at other depths and another resolution.

        Each resolution is run once, or twice where depths change.

        Raises:
            UnscalableNetworkError: If it does not run, or an added block is not executed.
        """
        edits = self._edits(depths)
        models = self._deeper(self.deepenable) if edits else ()
        traced = self._run(models, resolution)
        terms = [self._times(path, edits, models) for path in traced.form.term_paths]
        tensors = [self._times(name, edits, models) for name in traced.form.tensor_names]
        return Variant(
            depths,
            resolution,
            edits,
            traced,
            np.array(terms, dtype=np.int64),
            np.array(tensors, dtype=np.int64),
        )

    def _times(self, path: str, edits: tuple[DepthEdit, ...], models: tuple[DepthEdit, ...]) -> int:
        """Return how often a path of the trace stands in a variant."""
        for model in models:
            if within(path, join(model.container, model.added[0])):
                same = [
                    e for e in edits if (e.container, e.after) == (model.container, model.after)
                ]
                return len(same[0].added) if same else 0
        gone = (join(e.container, name) for e in edits for name in e.removed)
        return 0 if any(within(path, block) for block in gone) else 1

    def _run(self, models: tuple[DepthEdit, ...], resolution: Resolution) -> Traced:
        key = (tuple((m.container, m.added) for m in models), resolution)
        if key not in self._runs:
            self._runs[key] = self._traced(models, resolution)
        return self._runs[key]

    def _traced(self, models: tuple[DepthEdit, ...], resolution: Resolution) -> Traced:
        trace = self.trace
        if models or resolution != self.resolution:
            module = meta_copy(self.module)
            apply_depth(module, models)
            self._shape_made(module, models)
            trace = self._follow(module, resolution)
        for change in models:
            for name in change.added:
                if not trace.calls.get(join(change.container, name)):
                    raise UnscalableNetworkError(
                        f"A block added to {change.container or 'the network'} is not executed. "
                        "Let its forward pass iterate over the blocks."
                    )
        rule = width_rule(trace.channels, width_multiple=self._multiple)
        return Traced(trace, models, ClosedForm(trace), rule)

    def _edits(self, depths: tuple[int, ...]) -> tuple[DepthEdit, ...]:
        names = {stage.container: self._children(stage.container) for stage in self.stages}
        found = []
        for stage, depth in zip(self.stages, depths, strict=True):
            made = self.made.get(join(stage.container, stage.blocks[-1]))
            repetition = made.repetition if made is not None else None
            change = edit(stage, depth, repetition, taken=names[stage.container])
            if change is not None:
                found.append(change)
        return tuple(found)

    def _children(self, container: str) -> frozenset[str]:
        return frozenset(self.module.get_submodule(container)._modules)

    def _shape_made(self, module: nn.Module, edits: tuple[DepthEdit, ...]) -> None:
        """Give made blocks the widths that the base network would give them."""
        for change in edits:
            if change.repetition is not None and change.added:
                made = self.made[change.repetition.source]
                for name in change.added:
                    block = module.get_submodule(join(change.container, name))
                    present = {key: shape for key, shape in made.shapes.items() if _has(block, key)}
                    groups = {path: n for path, n in made.groups.items() if _has(block, path)}
                    resize(block, present, groups, {}, Redraw(0))

    def _follow(self, module: nn.Module, resolution: Resolution) -> Trace:
        try:
            trace = trace_module(module, resolution, in_chans=self._in_chans)
        except ForwardError as error:
            raise UnscalableNetworkError(
                f"The network does not run at {format_resolution(resolution)} px: {error.reason}."
            ) from error
        if trace.output_shapes != self.trace.output_shapes and resolution == self.resolution:
            raise UnscalableNetworkError("The output changes its shape with the depth.")
        return trace

    def resolution_near(self, factor: float, *, deeper: bool = False) -> tuple[Resolution, int]:
        """Return the resolution nearest to the base's times a factor at which the network runs.

        Args:
            factor: The factor of the sides.
            deeper: Whether blocks will be added or removed, so that one run shows both.

        Returns:
            The resolution (px) and the step on which it lies.

        Raises:
            UnscalableNetworkError: If the network runs at none of the near ones.
        """
        models = self._deeper(self.deepenable) if deeper else ()
        problem: UnscalableNetworkError | None = None
        for step in _STEPS:
            height, width = (
                max(1, round(side * factor / step)) * step for side in sides(self.resolution)
            )
            candidate = like(self.resolution, height, width)
            if candidate == self.resolution:
                return candidate, step
            try:
                self._run(models, candidate)
            except UnscalableNetworkError as error:
                problem = problem or error
            else:
                return candidate, step
        raise UnscalableNetworkError(
            f"The resolution cannot be scaled by {factor:.3g}: {problem} "
            "Leave it out: --keep r, or use a strategy without r, such as w or dw."
        )


def _has(block: nn.Module, name: str) -> bool:
    """Tell whether a block still has a submodule or tensor (borrowed parts replace some)."""
    owner: object = block
    for part in name.split(".") if name else ():
        owner = getattr(owner, part, None)
    return owner is not None
