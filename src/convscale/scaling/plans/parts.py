"""Which channel groups of a trace lie in the stem, the head, a stage, or frozen modules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from convscale.errors import UnscalableNetworkError
from convscale.network.channels.channels import Channels
from convscale.network.stages.stages import Stage, join
from convscale.network.tracing.trace import Term, Trace
from convscale.scaling.plans.control import Control
from convscale.scaling.plans.plan import DepthEdit, flat

_LINEAR = ("mm", "addmm")
_LITTLE = 0.25  # of the flops: what holds more is no stem


class Parts:
    """The parts of a traced network: stem, stages, head.

    Args:
        trace: The run, which may hold added blocks.
        stages: The stages of the base network.
        edits: The blocks that were added for the run.

    Example:
        >>> from convscale.network import resolve_base, trace_module
        >>> from convscale.network.stages.stages import find_stages
        >>> net = resolve_base("timm:resnet18").build("meta")
        >>> trace = trace_module(net, 64)
        >>> [term.path for term in Parts(trace, find_stages(net, trace)).stem]
        ['conv1']
    """

    def __init__(
        self, trace: Trace, stages: tuple[Stage, ...], edits: tuple[DepthEdit, ...] = ()
    ) -> None:
        self._channels = trace.channels
        self.containers = tuple(stage.container for stage in stages)
        self._paths = [_paths(stage, edits) for stage in stages]
        self._of = [self.stage_of(term.path) for term in trace.terms]
        inside = [index for index, stage in enumerate(self._of) if stage is not None]
        self._first, self._last = (inside[0], inside[-1]) if inside else (0, -1)
        self._terms = trace.terms
        self._depthwise = {path for path, (_, group) in trace.grouped.items() if group is None}

    @property
    def stem(self) -> tuple[Term, ...]:
        """The calls before the first stage.

        Where the first layer is one of a stage, those in the network's child that holds it, or it
        alone where much of the network lies there.
        """
        if self._first or not self._terms:
            return self._terms[: self._first]
        child = f"{self._terms[0].path.partition('.')[0]}."
        inside = tuple(term for term in self._terms if f"{term.path}.".startswith(child))
        little = sum(t.flops for t in inside) < _LITTLE * sum(t.flops for t in self._terms)
        return inside if little else self._terms[:1]

    @property
    def head(self) -> tuple[Term, ...]:
        """The calls after the last stage."""
        return self._terms[self._last + 1 :]

    def stage(self, index: int) -> tuple[Term, ...]:
        """Return the calls in a stage."""
        return tuple(t for t, own in zip(self._terms, self._of, strict=True) if own == index)

    def beside(self, stage: Stage) -> tuple[Term, ...]:
        """Return the calls in the container of a stage that lie in no stage."""
        own = f"{stage.container}."
        alone = stage.container and self.containers.count(stage.container) == 1
        terms = zip(self._terms, self._of, strict=True) if alone else ()
        return tuple(t for t, of in terms if of is None and f"{t.path}.".startswith(own))

    def written(self, terms: Iterable[Term]) -> set[int]:
        """Return the channel groups that some calls put out, depthwise ones apart.

        A depthwise convolution hands on the width that arrives. A linear layer does not, even
        where nothing is known of what it reads.
        """
        return {
            group
            for term in terms
            if (len(term.flops_units) > 1 or term.operator in _LINEAR)
            and term.path not in self._depthwise
            for units in term.acts_units
            for group, _ in self._channels.composition(units)
        }

    def stage_of(self, path: str) -> int | None:
        """Return the index of the stage in which a module or a parameter lies, if in any."""
        for index, paths in enumerate(self._paths):
            if f"{path}.".startswith(paths):
                return index
        return None


def _paths(stage: Stage, edits: tuple[DepthEdit, ...]) -> tuple[str, ...]:
    """Return the paths of a stage's modules, added ones too, with a dot at the end."""
    own = stage.paths
    added = [
        join(change.container, name)
        for change in flat(edits)
        if join(change.container, change.after) in own
        for name in change.added
    ]
    return tuple(f"{path}." for path in (*own, *added))


def held(
    trace: Trace, control: Control, stages: tuple[Stage, ...], edits: tuple[DepthEdit, ...]
) -> Channels:
    """Return the channels of a trace with what a control keeps and freezes held fixed.

    Args:
        trace: The run.
        control: What stays.
        stages: The stages of the base network.
        edits: The blocks that were added for the run.

    Example:
        >>> from convscale.network import resolve_base, trace_module
        >>> trace = trace_module(resolve_base("timm:resnet18").build("meta"), 64)
        >>> bool(held(trace, Control(freeze=("*",)), (), ()).fixed.all())
        True
    """
    channels, groups = trace.channels, set()
    if control.keep:
        parts = Parts(trace, stages, edits)
        for part in control.keep:
            groups |= parts.written(parts.stem if part == "stem" else parts.head)
    if control.freeze or control.stored:
        for axes in trace.tensors:
            if any(control.freezes(name) or name in control.stored for name in axes.names):
                for units in axes.units:
                    if units is not None:
                        groups |= {group for group, _ in channels.composition(units)}
    for path, position, dim in control.literals:
        calls = trace.shaped.get(path, [])
        call = calls[position] if position < len(calls) else None
        if call is None or dim >= len(call.dims):  # code that branches makes others there
            continue
        units = call.dims[dim]
        if units is not None:
            groups |= {group for group, _ in channels.composition(units)}
    for path, position in control.unfollowed:
        for read in trace.reads.get(path, [])[position : position + 1]:
            for label in read.labels:
                groups |= {group for group, _ in channels.composition(label.reshape(-1))}
    for grid in channels.grids:
        if grid.group in groups:  # it stays only if its factors do
            groups |= {group for factor in grid.factors for group, _ in factor}
    if not groups:
        return channels
    fixed = channels.fixed.copy()
    fixed[sorted(groups)] = True
    return replace(channels, fixed=fixed)


def bound_layers(
    trace: Trace, channels: Channels, control: Control, stages: tuple[Stage, ...]
) -> list[str]:
    """Return the layers that keep their width because something that stays shares it.

    Args:
        trace: The run of the base network.
        channels: Its channels, with what stays held fixed.
        control: What stays.
        stages: The stages of the base network.

    Example:
        >>> from convscale.network import resolve_base, trace_module
        >>> trace = trace_module(resolve_base("timm:resnet18").build("meta"), 64)
        >>> control = Control(freeze=("conv1",))
        >>> bound_layers(trace, held(trace, control, (), ()), control, ())
        ['layer1.0.conv2', 'layer1.1.conv2']
    """
    parts = Parts(trace, stages)
    own = {"stem": parts.stem, "head": parts.head}
    kept = {term.path for part in control.keep for term in own[part]}
    held_now = channels.fixed & ~trace.channels.fixed
    others = (t for t in trace.terms if t.path not in kept and not control.freezes(t.path))
    found = (term.path for term in others if held_now[list(parts.written([term]))].any())
    return list(dict.fromkeys(found))


def shares(
    trace: Trace, control: Control, stages: tuple[Stage, ...], edits: tuple[DepthEdit, ...]
) -> dict[int, float]:
    """Return what the width factor is multiplied by, for the channel groups of stages.

    Raises:
        UnscalableNetworkError: If stages with different factors share a width.

    Example:
        >>> from convscale.network import resolve_base, trace_module
        >>> trace = trace_module(resolve_base("timm:resnet18").build("meta"), 64)
        >>> shares(trace, Control(), (), ())
        {}
    """
    found: dict[int, tuple[float, Stage]] = {}
    parts = Parts(trace, stages, edits)
    for index, (stage, share) in enumerate(zip(stages, control.stage_width, strict=False)):
        for group in parts.written(parts.stage(index)):
            before, other = found.get(group, (share, stage))
            if before != share and not trace.channels.fixed[group]:
                raise UnscalableNetworkError(
                    f"The stages at {other.name} and {stage.name} share a width (their outputs "
                    f"are added), so {before:g} and {share:g} cannot both hold. Give them one "
                    "factor in --stage-width."
                )
            found[group] = (share, stage)
    for stage, share in zip(stages, control.stage_width, strict=False):
        for group in parts.written(parts.beside(stage)):  # other blocks amid those of the stage
            found.setdefault(group, (share, stage))
    return {group: float(share) for group, (share, _) in found.items()}
