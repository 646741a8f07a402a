"""A blueprint: a base network understood once, from which any scaled version can be planned."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from torch import nn

from convscale.complexity.complexity import Complexity
from convscale.errors import ConvscaleError, UnscalableNetworkError
from convscale.network.channels import Sizes
from convscale.network.copies import meta_copy
from convscale.network.execution import ForwardError
from convscale.network.stages import Stage, find_stages, join
from convscale.network.trace import Trace, size_of, trace_module
from convscale.quantities import Resolution, format_resolution, like, sides
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
    trace: Trace
    rule: WidthRule

    def sizes(self, widths: Widths) -> Sizes:
        """Return the sizes of the channel groups for new widths."""
        return self.rule.sizes(self.trace.channels.sizes, widths)

    def complexity(self, widths: Widths) -> Complexity:
        """Return flops, params and acts for new widths in closed form, nothing being run."""
        return self._within(self.sizes(widths), None)

    def block_complexity(self, widths: Widths, path: str) -> Complexity:
        """Return the share of one block in the complexity."""
        return self._within(self.sizes(widths), f"{path}.")

    def _within(self, sizes: Sizes, prefix: str | None) -> Complexity:
        channels = self.trace.channels
        flops = params = acts = 0
        for term in self.trace.terms:
            if prefix is None or f"{term.path}.".startswith(prefix):
                flops += term.flops_scale * prod(channels.size(u, sizes) for u in term.flops_units)
                acts += term.acts_scale * prod(channels.size(u, sizes) for u in term.acts_units)
        for axes in self.trace.tensors:
            if axes.is_parameter and (prefix is None or axes.names[0].startswith(prefix)):
                params += prod(size_of(units, sizes, channels) for units in axes.units)
        return Complexity(flops, params, acts)

    def plan(self, widths: Widths) -> Plan:
        """Return what turns the base network into this variant with new widths."""
        sizes, channels = self.sizes(widths), self.trace.channels
        shapes = {
            name: tuple(size_of(units, sizes, channels) for units in axes.units)
            for axes in self.trace.tensors
            for name in axes.names
            if any(units is not None for units in axes.units)
        }
        groups = {
            path: channels.size(units, sizes) // size_of(width, sizes, channels)
            for path, (units, width) in self.trace.grouped.items()
        }
        normalized = {
            path: channels.size(units, sizes) for path, units in self.trace.normalized.items()
        }
        return Plan(self.edits, shapes, groups, normalized)


class Blueprint:
    """Trace a base network once; answer what it costs at any depths, widths and resolution.

    Args:
        module: The base network on the meta device, a copy of our own.
        resolution: Base resolution in px.
        in_chans: Input channels; read from the module if not given.
        width_multiple: The multiple that widths keep, as far as the base has it.

    Raises:
        UnscalableNetworkError: If the network cannot be followed.

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
    ) -> None:
        self.module = module
        self.resolution = resolution
        self._in_chans = in_chans
        self._multiple = width_multiple
        self._variants: dict[tuple[tuple[int, ...], Resolution], Variant] = {}
        self.trace = trace_module(meta_copy(module), resolution, in_chans=in_chans)

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
        alone = [[i == j and hope for j in range(len(hopeful))] for i, hope in enumerate(hopeful)]
        return tuple(
            hope and self._runs_deeper(tuple(one)) for hope, one in zip(hopeful, alone, strict=True)
        )

    def _runs_deeper(self, chosen: tuple[bool, ...]) -> bool:
        depths = tuple(s.depth + c for s, c in zip(self.stages, chosen, strict=True))
        try:
            self.variant(depths, self.resolution)
        except ConvscaleError:
            return False
        return True

    @cached_property
    def base_complexity(self) -> Complexity:
        """The complexity of the base network."""
        base = self.base()
        return base.complexity(base.rule.widths(1.0))

    def base(self) -> Variant:
        """Return the base itself as a variant."""
        return self.variant(tuple(stage.depth for stage in self.stages), self.resolution)

    def variant(self, depths: tuple[int, ...], resolution: Resolution) -> Variant:
        """Return the base at other depths and another resolution; each is traced once.

        Raises:
            UnscalableNetworkError: If it does not run, or an added block is not executed.
        """
        key = (depths, resolution)
        if key not in self._variants:
            self._variants[key] = self._make_variant(depths, resolution)
        return self._variants[key]

    def _make_variant(self, depths: tuple[int, ...], resolution: Resolution) -> Variant:
        edits = self._edits(depths)
        if not edits and resolution == self.resolution:
            trace = self.trace
        else:
            module = meta_copy(self.module)
            apply_depth(module, edits)
            self._shape_made(module, edits)
            trace = self._traced(module, resolution)
        for change in edits:
            for name in change.added:
                if not trace.calls.get(join(change.container, name)):
                    raise UnscalableNetworkError(
                        f"A block added to {change.container or 'the network'} is not executed. "
                        "Let its forward pass iterate over the blocks."
                    )
        rule = width_rule(trace.channels, width_multiple=self._multiple)
        return Variant(depths, resolution, edits, trace, rule)

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

    def _traced(self, module: nn.Module, resolution: Resolution) -> Trace:
        try:
            trace = trace_module(module, resolution, in_chans=self._in_chans)
        except ForwardError as error:
            raise UnscalableNetworkError(
                f"The network does not run at {format_resolution(resolution)} px: {error.reason}."
            ) from error
        if trace.output_shapes != self.trace.output_shapes and resolution == self.resolution:
            raise UnscalableNetworkError("The output changes its shape with the depth.")
        return trace

    def resolution_near(self, factor: float) -> tuple[Resolution, int]:
        """Return the resolution nearest to the base's times a factor at which the network runs.

        Returns:
            The resolution (px) and the step on which it lies.

        Raises:
            UnscalableNetworkError: If the network runs at none of the near ones.
        """
        depths = tuple(stage.depth for stage in self.stages)
        problem: UnscalableNetworkError | None = None
        for step in _STEPS:
            height, width = (
                max(1, round(side * factor / step)) * step for side in sides(self.resolution)
            )
            candidate = like(self.resolution, height, width)
            if candidate == self.resolution:
                return candidate, step
            try:
                self.variant(depths, candidate)
            except UnscalableNetworkError as error:
                problem = problem or error
            else:
                return candidate, step
        raise UnscalableNetworkError(
            f"The resolution cannot be scaled by {factor:.3g}: {problem} "
            "Use a strategy without r, such as w, d or dw."
        )


def _has(block: nn.Module, name: str) -> bool:
    """Tell whether a block still has a submodule or tensor (borrowed parts replace some)."""
    owner: object = block
    for part in name.split(".") if name else ():
        owner = getattr(owner, part, None)
    return owner is not None
