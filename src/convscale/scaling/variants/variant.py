"""The base network at other depths and another resolution, as a value."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from convscale.complexity.complexity import Complexity
from convscale.complexity.shapes import SizedCalls
from convscale.network.channels.channels import Channels, Sizes
from convscale.network.channels.labels import Label
from convscale.network.resolution.sizing import Told
from convscale.network.stages.stages import join, within
from convscale.network.tracing.trace import Trace
from convscale.quantities import Resolution
from convscale.scaling.plans.joining import Joints
from convscale.scaling.plans.plan import Attribute, DepthEdit, Plan, flat
from convscale.scaling.variants.closed_form import ClosedForm, Weights
from convscale.scaling.widths.widths import WidthRule, Widths


@dataclass(frozen=True)
class Variant:
    """The base network at other depths and another resolution, widths still the base's.

    The trace may hold one added block a stage, the model of all that are added there; else they
    are counted as often as they stand there with the block that they are copies of. The weights
    say how often each call and each tensor stands in the network. `gone` are the channel groups
    that do not, as what puts them out does not: among dense blocks, others read them. `joints` are
    groups that are one where a made block of the trace does not stand.

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.search.blueprint import Blueprint
        >>> net = resolve_base("timm:resnet18")
        >>> variant = Blueprint(net.build("meta"), 224).variant((2, 2, 2, 2), 224)
        >>> variant.complexity(variant.rule.widths(1.0)).flops
        1814073344
    """

    depths: tuple[int, ...] | None
    resolution: Resolution
    edits: tuple[DepthEdit, ...]
    traced: Traced
    channels: Channels
    rule: WidthRule
    term_weights: Weights
    tensor_weights: Weights
    gone: npt.NDArray[np.bool_] | None = None
    joints: Joints = field(default_factory=Joints)

    @property
    def trace(self) -> Trace:
        """The run that the variant is read from."""
        return self.traced.trace

    def sizes(self, widths: Widths) -> Sizes:
        """Return the sizes of the channel groups for new widths."""
        sizes = self.rule.sizes(self.channels.sizes, widths)
        if self.gone is not None:
            sizes[self.gone] = 0
        return self.joints.settled(sizes)

    def complexity(self, widths: Widths) -> Complexity:
        """Return flops, params and acts for new widths in closed form, nothing being run."""
        return self.traced.form.complexity(
            self.sizes(widths), self.term_weights, self.tensor_weights
        )

    def shapes_key(self, widths: Widths) -> Hashable:
        """Return what tells networks of the same depths apart, whichever run they are read from.

        Args:
            widths: The widths.
        """
        elements = self.traced.form.parts(self.sizes(widths))[2][self.tensor_weights > 0]
        return tuple(np.rint(elements).astype(np.int64).tolist())

    def plan(self, widths: Widths) -> Plan:
        """Return what turns the base network into this variant with new widths."""
        sizes, channels = self.sizes(widths), self.channels
        shapes = {
            name: tuple(_size_of(units, sizes, channels) for units in axes.units)
            for axes in self.trace.tensors
            for first in axes.names
            if any(units is not None for units in axes.units)
            for name in self._copies(first)
        }
        groups = {
            name: channels.size(units, sizes) // _size_of(width, sizes, channels)
            for path, (units, width) in self.trace.grouped.items()
            for name in self._copies(path)
        }
        normalized = {
            name: channels.size(units, sizes)
            for path, units in self.trace.normalized.items()
            for name in self._copies(path)
        }
        attributes = tuple(
            Attribute(name, attribute, None, channels.size(units, sizes))
            for path, counted in self.trace.adapted.items()
            for attribute, units in counted.items()
            for name in self._copies(path)
        )
        return Plan(self.edits, shapes, groups, normalized, attributes)

    def holds(self, path: str) -> bool:
        """Tell whether a module of the base is in this variant: in no block that is removed."""
        return not any(
            within(path, join(change.container, name))
            for change in flat(self.edits)
            for name in change.removed
        )

    def _copies(self, path: str) -> Iterator[str]:
        """Yield the paths in this variant of a path in the trace: none, itself, or copies."""
        if not self.holds(path):
            return
        for model, (container, names) in self._models.items():
            if within(path, model):
                rest = path.removeprefix(model)
                yield from (join(container, name) + rest for name in names)
                return
        yield path

    def model_path(self, path: str) -> str:
        """Return the path in the trace that stands for a path in this variant."""
        for model, (container, names) in self._models.items():
            for name in names:
                if within(path, join(container, name)):
                    return model + path.removeprefix(join(container, name))
        return path

    @cached_property
    def _models(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Return, for each added module in the trace, where and under which names it stands."""
        edits = {(c.container, c.after): c for c in flat(self.edits) if c.added}
        models = {}
        for change in flat(self.traced.edits):
            own = edits.get((change.container, change.after))
            added = own.added if own is not None else ()
            period = len(change.added)
            for position, name in enumerate(change.added):
                names = added[position::period]
                models[join(change.container, name)] = (change.container, names)
        for change in repeating(edits.values(), self.traced.edits):
            for name, names in _with_copies(change).items():
                models[join(change.container, name)] = (change.container, names)
        return models


@dataclass(frozen=True)
class Traced:
    """A run at one resolution, with one added block in some stages, and what it costs.

    `told` is the base network made for the resolution, where it had to be made for it; `sized` its
    calls for any widths, where runs are recorded and tell them; `like` the run that was followed,
    where this one was not (`rerun`).

    Example:
        >>> from convscale.network import resolve_base
        >>> from convscale.scaling.search.blueprint import Blueprint
        >>> Blueprint(resolve_base("timm:resnet18").build("meta"), 224).base().traced.edits
        ()
    """

    trace: Trace
    edits: tuple[DepthEdit, ...]
    form: ClosedForm
    told: Told | None = None
    sized: SizedCalls | None = None
    like: Traced | None = None


def times_of(edits: tuple[DepthEdit, ...], models: tuple[DepthEdit, ...]) -> dict[str, int]:
    """Return how often blocks of a trace stand in a variant: all that do not stand there once.

    Args:
        edits: What makes the variant from the base network.
        models: What made the trace from it.

    Example:
        >>> more = DepthEdit("layer1", added=("2", "3"), after="1", template=("0",))
        >>> model = DepthEdit("layer1", added=("2",), after="1", template=("0",))
        >>> times_of((more,), (model,))
        {'layer1.2': 2}
        >>> times_of((more,), ())
        {'layer1.0': 3}
    """
    edits = tuple(flat(edits))
    times = {join(edit.container, name): 0 for edit in edits for name in edit.removed}
    added = {(edit.container, edit.after): edit.added for edit in edits}
    for model in flat(models):
        names = added.get((model.container, model.after), ())
        for position, name in enumerate(model.added):
            times[join(model.container, name)] = len(names[position :: len(model.added)])
    for edit in repeating(edits, models):
        for name, names in _with_copies(edit).items():
            times[join(edit.container, name)] = len(names)
    return times


def repeating(edits: Iterable[DepthEdit], models: tuple[DepthEdit, ...]) -> Iterator[DepthEdit]:
    """Yield the edits whose added blocks have no model in a trace, but what they are copies of.

    Args:
        edits: What makes a variant from the base network.
        models: What made the trace from it.

    Example:
        >>> more = DepthEdit("layer1", added=("2", "3"), after="1", template=("0",))
        >>> list(repeating((more,), ())) == [more], list(repeating((more,), (more,)))
        (True, [])
    """
    known = {(model.container, model.after) for model in flat(models)}
    return (one for one in edits if one.added and (one.container, one.after) not in known)


def _with_copies(edit: DepthEdit) -> dict[str, tuple[str, ...]]:
    """Return the modules that an edit copies, each with its copies."""
    period = len(edit.template)
    return {
        name: (name, *edit.added[position::period]) for position, name in enumerate(edit.template)
    }


def _size_of(units: Label | None, sizes: Sizes, channels: Channels) -> int:
    """Return the number of units under new channel sizes; 1 for an axis without units."""
    return 1 if units is None else channels.size(units, sizes)
